//! Roles of users, upstream's names: `kubevirt.io:admin`, `edit`, `view`, which the cluster's own roles of these names take in,
//! `kubevirt.io:migrate`, which must be bound by hand, and `kubevirt.io:default` for everybody who is authenticated.

use serde_json::{Value, json};

use super::super::Install;
use super::{cluster_role, rule};

const SUBRESOURCES: &str = "subresources.kubevirt.io";
const WRITE: &[&str] = &["get", "delete", "create", "update", "patch", "list", "watch", "deletecollection"];
const READ: &[&str] = &["get", "list", "watch"];

pub(super) fn objects(install: &Install<'_>) -> Vec<Value> {
    let configuration = install.kubevirt.spec.configuration.as_ref();
    let is_aggregated = configuration.and_then(|c| c.role_aggregation_strategy.as_deref()) != Some("Manual");
    let aggregated = |role: &str, rules| {
        let mut value = cluster_role(&format!("kubevirt.io:{role}"), rules);
        if is_aggregated {
            value["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{role}")] = json!("true");
        }
        value
    };
    let mut admin = edit_rules();
    admin.push(rule("kubevirt.io", &["virtualmachines", "virtualmachineinstances"], WRITE));
    vec![
        aggregated("admin", admin),
        aggregated("edit", {
            let mut rules = edit_rules();
            let verbs: Vec<&str> = WRITE.iter().copied().filter(|verb| *verb != "deletecollection").collect();
            rules.push(rule("kubevirt.io", &["virtualmachines", "virtualmachineinstances"], &verbs));
            rules
        }),
        aggregated("view", view_rules()),
        cluster_role("kubevirt.io:migrate", vec![rule(SUBRESOURCES, &["virtualmachines/migrate"], &["update"])]),
        cluster_role(
            "kubevirt.io:default",
            vec![
                rule(SUBRESOURCES, &["version", "guestfs"], &["get", "list"]),
                rule("kubevirt.io", &["kubevirts"], &["get", "list"]),
            ],
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "kubevirt.io:default"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kubevirt.io:default"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}]
        }),
    ]
}

/// Subresources that change something or look inside a guest.
fn edit_rules() -> Vec<Value> {
    vec![
        rule(
            SUBRESOURCES,
            &[
                "virtualmachineinstances/console",
                "virtualmachineinstances/filesystemlist",
                "virtualmachineinstances/guestosinfo",
                "virtualmachineinstances/objectgraph",
                "virtualmachineinstances/portforward",
                "virtualmachineinstances/usbredir",
                "virtualmachineinstances/userlist",
                "virtualmachineinstances/vnc",
                "virtualmachineinstances/vnc/screenshot",
                "virtualmachines/expand-spec",
                "virtualmachines/objectgraph",
                "virtualmachines/portforward",
            ],
            &["get"],
        ),
        rule(
            SUBRESOURCES,
            &[
                "virtualmachineinstances/addvolume",
                "virtualmachineinstances/evacuate/cancel",
                "virtualmachineinstances/freeze",
                "virtualmachineinstances/pause",
                "virtualmachineinstances/removevolume",
                "virtualmachineinstances/reset",
                "virtualmachineinstances/softreboot",
                "virtualmachineinstances/unfreeze",
                "virtualmachineinstances/unpause",
                "virtualmachines/addvolume",
                "virtualmachines/evacuate/cancel",
                "virtualmachines/memorydump",
                "virtualmachines/removememorydump",
                "virtualmachines/removevolume",
                "virtualmachines/restart",
                "virtualmachines/start",
                "virtualmachines/stop",
            ],
            &["update"],
        ),
        rule(SUBRESOURCES, &["expand-vm-spec"], &["update"]),
    ]
}

/// Looking, and nothing that reaches into a guest's screen or network.
fn view_rules() -> Vec<Value> {
    vec![
        rule(
            SUBRESOURCES,
            &[
                "virtualmachineinstances/filesystemlist",
                "virtualmachineinstances/guestosinfo",
                "virtualmachineinstances/objectgraph",
                "virtualmachineinstances/userlist",
                "virtualmachines/expand-spec",
                "virtualmachines/objectgraph",
            ],
            &["get"],
        ),
        rule(SUBRESOURCES, &["expand-vm-spec"], &["update"]),
        rule("kubevirt.io", &["virtualmachines", "virtualmachineinstances"], READ),
    ]
}
