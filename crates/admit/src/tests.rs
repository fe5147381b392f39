//! Tests of admission as a whole.

use fv_api::config::ClusterConfig;
use fv_api::meta::users;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Cause, Kind, Operation, Request, Verdict, mutate, validate};

mod defaults;
mod examples;
mod instances;
mod props;
mod ratchet;
mod refusals;
mod volumes;

const USER: &str = "jane";

/// One write, admitted or not, as an engine does it.
struct Write<'a> {
    kind: Kind,
    user: &'a str,
    old: Option<&'a Value>,
    config: ClusterConfig,
}

impl<'a> Write<'a> {
    fn create(kind: Kind) -> Self {
        Self { kind, user: USER, old: None, config: ClusterConfig::default() }
    }

    fn update(kind: Kind, old: &'a Value) -> Self {
        Self { old: Some(old), ..Self::create(kind) }
    }

    fn by(mut self, user: &'a str) -> Self {
        self.user = user;
        self
    }

    fn request(&self) -> Request<'_> {
        Request {
            operation: if self.old.is_some() { Operation::Update } else { Operation::Create },
            kind: self.kind,
            subresource: None,
            namespace: "default",
            user: self.user,
            old: self.old,
            config: &self.config,
            now: "2026-11-21T10:00:00Z".parse::<Timestamp>().unwrap(),
        }
    }

    /// The object as it would be stored, and the verdict.
    fn admit(&self, mut object: Value) -> (Value, Verdict) {
        let request = self.request();
        let mut last = 0;
        mutate(&request, &mut object, &mut || {
            last += 1;
            Uuid::from_u128(last)
        });
        let verdict = validate(&request, &object);
        (object, verdict)
    }

    /// The stored object, which must be admitted.
    fn stored(&self, object: Value) -> Value {
        let (object, verdict) = self.admit(object);
        assert_eq!(verdict.causes, [], "{object:#}");
        object
    }

    fn causes(&self, object: Value) -> Vec<Cause> {
        self.admit(object).1.causes
    }
}

/// The plainest manifest of upstream's documentation.
fn plainest() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "testvm", "namespace": "default"},
        "spec": {
            "running": false,
            "template": {
                "metadata": {"labels": {"kubevirt.io/size": "small", "kubevirt.io/domain": "testvm"}},
                "spec": {
                    "domain": {
                        "devices": {"disks": [
                            {"name": "containerdisk", "disk": {"bus": "virtio"}},
                            {"name": "cloudinitdisk", "disk": {"bus": "virtio"}}
                        ]},
                        "resources": {"requests": {"memory": "64M"}}
                    },
                    "volumes": [
                        {"name": "containerdisk", "containerDisk": {"image": "registry.example/cirros-container-disk-demo"}},
                        {"name": "cloudinitdisk", "cloudInitNoCloud": {"userDataBase64": "SGkuXG4="}}
                    ]
                }
            }
        }
    })
}

/// The instance a controller makes of a VirtualMachine.
fn instance_of(vm: &Value) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": vm["metadata"]["name"], "namespace": "default",
            "labels": vm["spec"]["template"]["metadata"]["labels"],
            "annotations": vm["spec"]["template"]["metadata"]["annotations"]
        },
        "spec": vm["spec"]["template"]["spec"]
    })
}

/// A small instance, as a user writes it.
fn instance() -> Value {
    let mut vmi = instance_of(&plainest());
    vmi["metadata"]["annotations"] = json!({});
    vmi
}

/// Sets a value by JSON pointer, making objects on the way.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    if object.pointer(parent).is_none_or(Value::is_null) {
        set(object, parent, json!({}));
    }
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        parent => parent[key] = value,
    }
}

fn component() -> &'static str {
    users::VIRT_CONTROLLER
}
