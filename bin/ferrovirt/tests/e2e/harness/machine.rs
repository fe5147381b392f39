//! Manifests.

use serde_json::{Value, json};

/// The guest's image: what every instance of these tests imported, or what the cluster's registry has.
pub(crate) fn image() -> String {
    std::env::var("FERROVIRT_E2E_IMAGE").unwrap_or_else(|_| "ferrovirt/e2e-guest:latest".to_owned())
}

/// A small VirtualMachine with a web page on which commands can be run (`Namespace::sh`).
pub(crate) fn manifest(name: &str, run_strategy: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({
        "domain": {
            "memory": {"guest": "96Mi"},
            "devices": {
                "rng": {},
                "disks": [
                    {"name": "system", "disk": {"bus": "virtio"}},
                    {"name": "cloudinit", "disk": {"bus": "virtio"}},
                ],
                "interfaces": [{"name": "default", "masquerade": {}}],
            },
        },
        "networks": [{"name": "default", "pod": {}}],
        "terminationGracePeriodSeconds": 60,
        "volumes": [
            {"name": "system", "containerDisk": {"image": image(), "imagePullPolicy": "IfNotPresent"}},
            {"name": "cloudinit", "cloudInitNoCloud": {"userData": boot_commands(name, "")}},
        ],
    });
    change(&mut spec);
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": run_strategy, "template": {"metadata": {"labels": {"e2e": name}}, "spec": spec}},
    })
}

/// User data that makes the page `/cgi-bin/sh` run what is sent to it, at every boot, and further lines.
pub(crate) fn boot_commands(hostname: &str, more: &str) -> String {
    format!(
        "#cloud-config\nhostname: {hostname}\npassword: secret-{hostname}\nchpasswd: {{ expire: false }}\nbootcmd:\n\
         - printf '#!/bin/sh\\necho; exec sh 2>&1\\n' > /var/www/cgi-bin/sh\n- chmod 755 /var/www/cgi-bin/sh\n{more}"
    )
}
