//! Namespaces.

use serde_json::{Value, json};

use crate::codec;
use crate::meta::{MetaExt as _, object_mut};
use crate::registry::Resource;
use crate::server::Core;
use crate::status::{Cause, Status};

/// Namespaces every cluster has.
pub(super) const STANDARD: [&str; 3] = ["default", "kube-system", "kube-public"];

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn prepare_create(object: &mut Value) {
    // A generated name is known only now.
    let name = object.meta_str("name").to_owned();
    object_mut(object.meta_mut().entry("labels").or_insert(Value::Null)).insert(NAME_LABEL.into(), json!(name));
    let map = object_mut(object);
    object_mut(map.entry("spec").or_insert(Value::Null)).insert("finalizers".into(), json!(["kubernetes"]));
    map.insert("status".into(), json!({"phase": "Active"}));
}

pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    let map = object_mut(new);
    match old.get("spec") {
        Some(spec) => map.insert("spec".into(), spec.clone()),
        None => map.remove("spec"),
    };
}

pub(super) fn on_deletion(object: &mut Value) {
    object_mut(object_mut(object).entry("status").or_insert(Value::Null)).insert("phase".into(), json!("Terminating"));
}

/// Whether the namespace still has to be emptied.
pub(super) fn held(object: &Value) -> bool {
    object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty())
}

pub(super) fn check_delete(name: &str) -> Result<(), Status> {
    if STANDARD.contains(&name) {
        return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// Whether objects may be created in a namespace.
pub(super) fn check_open(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<(), Status> {
    let tables = core.registry.tables();
    let Some(namespaces) = tables.resource("", "namespaces") else { return Ok(()) };
    let Some(stored) = core.store.get(&namespaces.storage, namespace) else {
        return Err(Status::not_found("", "namespaces", namespace));
    };
    if codec::decode(namespaces, "v1", &stored)?.deleting() {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(&resource.group, &resource.plural, name, &why);
        let message = format!("namespace {namespace} is being terminated");
        status.causes.push(Cause::new("NamespaceTerminating", message, "metadata.namespace"));
        return Err(status);
    }
    Ok(())
}
