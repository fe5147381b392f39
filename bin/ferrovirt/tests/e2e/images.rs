//! Images from a registry.

use std::sync::Arc;

use fv_testkit::registry::{Entry, Options, Packing, Registry, layer};
use serde_json::json;

use crate::harness::{Console, Instance, guest_image, manifest, needs};

#[test]
fn guest_boots_from_a_private_registry_with_the_secret_that_its_volume_names() {
    needs!(Daemon);
    let registry = Registry::start(Options { password: true, ..Options::default() });
    let disk = std::fs::read(guest_image()).unwrap();
    let layers = [layer(Packing::Gzip, &[Entry::Directory("disk/"), Entry::File("disk/demo.qcow2", &disk)])];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(registry.push("team/demo:1", &layers));

    let instance = Arc::new(Instance::prepared());
    instance.up_with(&["--insecure-registry", &registry.address]).success();
    let ns = instance.namespace();
    let machine = |name: &str, secret: Option<&str>| {
        manifest(name, "Always", |spec| {
            let disk = &mut spec["volumes"][0]["containerDisk"];
            *disk = json!({"image": registry.name("team/demo:1"), "imagePullPolicy": "Always"});
            if let Some(secret) = secret {
                disk["imagePullSecret"] = json!(secret);
            }
        })
    };
    let waits = |name: &str, why: &str| {
        ns.until("vm", name, why, |vm| vm["status"]["conditions"].to_string().contains(why));
        ns.delete("vm", name);
        ns.until_gone("vmi", name);
    };
    ns.apply(&machine("stranger", None)).success();
    waits("stranger", &registry.address);
    ns.apply(&machine("forgetful", Some("pull"))).success();
    waits("forgetful", "does not exist");

    let auth = json!({"auths": {&registry.address: {"username": "user", "password": "secret"}}}).to_string();
    ns.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": auth},
    }))
    .success();
    ns.run_vm(&machine("member", Some("pull")));
    Console::open(&ns, "member").login("demo", "secret-member");
}
