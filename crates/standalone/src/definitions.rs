//! Definitions of other projects that users expect to find.

use serde_json::{Value, json};

/// `NetworkAttachmentDefinition` (k8s.cni.cncf.io/v1): a CNI configuration by name, as the Network Plumbing Working Group defines it.
pub fn network_attachments() -> Value {
    let spec = json!({
        "description": "The desired state of a network attachment.",
        "type": "object",
        "properties": {
            "config": {"description": "A CNI configuration as JSON text.", "type": "string"},
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "network-attachment-definitions.k8s.cni.cncf.io"},
        "spec": {
            "group": "k8s.cni.cncf.io",
            "scope": "Namespaced",
            "names": {
                "plural": "network-attachment-definitions",
                "singular": "network-attachment-definition",
                "kind": "NetworkAttachmentDefinition",
                "shortNames": ["net-attach-def"],
            },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "description": "A network that pods and virtual machines can be attached to.",
                    "type": "object",
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                    },
                }},
            }],
        },
    })
}
