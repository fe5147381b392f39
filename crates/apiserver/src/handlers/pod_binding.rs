//! `pods/binding`: how a scheduler puts a pod on a node.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Context, Part, modify, view};
use crate::kinds::pod::set_condition;
use crate::meta::{MetaExt as _, object_mut};
use crate::status::Status;

pub(super) async fn bind(context: &mut Context, body: Bytes) -> Result<Response, Status> {
    let binding = context.decode(&body)?.value;
    let text = |pointer: &str| binding.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, node) = (text("/target/kind"), text("/target/name"));
    if !kind.is_empty() && kind != "Node" {
        let detail = format!("Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\"");
        return Err(invalid_binding(context, "FieldValueNotSupported", "target.kind", &detail));
    }
    if node.is_empty() {
        return Err(invalid_binding(context, "FieldValueRequired", "target.name", "Required value"));
    }
    let name = binding.meta_str("name");
    if !name.is_empty() && name != context.target.name {
        return Err(Status::bad_request(format!(
            "name in URL does not match name in Binding object: {:?} and {name:?}",
            context.target.name
        )));
    }
    let uid = binding.meta_str("uid").to_owned();
    let annotations = binding.meta("annotations").and_then(Value::as_object).cloned().unwrap_or_default();
    let dry_run = context.dry_run()?;
    modify(context, Part::Binding, dry_run, &mut |context, old| {
        let target = &context.target;
        let refuse = |why: String| Err(Status::conflict(&target.resource.group, "pods/binding", &target.name, &why));
        if !uid.is_empty() && uid != old.meta_str("uid") {
            return refuse(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                old.meta_str("uid")
            ));
        }
        if old.deleting() {
            return refuse(format!("pod {} is being deleted, cannot be assigned to a host", target.name));
        }
        if let Some(bound) = old.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty()) {
            return refuse(format!("pod {} is already assigned to node {bound:?}", target.name));
        }
        let mut pod = old.clone();
        object_mut(object_mut(&mut pod).entry("spec").or_insert(Value::Null)).insert("nodeName".into(), json!(node));
        if !annotations.is_empty() {
            let all = object_mut(pod.meta_mut().entry("annotations").or_insert(Value::Null));
            all.extend(annotations.clone());
        }
        set_condition(&mut pod, "PodScheduled", "True", None);
        Ok(pod)
    })
    .await?;
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(view::finish(context, StatusCode::CREATED, done.to_string().into_bytes()))
}

fn invalid_binding(context: &Context, reason: &str, field: &str, detail: &str) -> Status {
    let causes = vec![crate::status::Cause::new(reason, detail, field)];
    Status::invalid("", "Binding", &context.target.name, causes)
}
