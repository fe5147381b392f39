//! The admission port.

use std::sync::Arc;

use fv_apiserver::{Admission, AdmissionRequest, Cause, Operation, Rejection, Status, Warnings};
use serde_json::{Value, json};

use crate::support::*;

/// Paints widgets, refuses size 13 and the field `color`, forbids the deletion of `keep`.
struct Painter;

impl Admission for Painter {
    fn inspect(&self, request: &AdmissionRequest<'_>) -> Result<(), Rejection> {
        let sent = request.object.is_some_and(|o| o["spec"]["color"].is_string());
        if request.resource != "widgets" || !request.subresource.is_empty() || !sent {
            return Ok(());
        }
        assert_eq!(request.operation == Operation::Update, request.old_object.is_some());
        let causes = vec![Cause::new("FieldValueNotSupported", "use spec.colour", "spec.color")];
        Err(Status::invalid(request.group, request.kind, request.name, causes).into())
    }

    fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<Warnings, Rejection> {
        if request.resource == "widgets" && request.subresource.is_empty() {
            object["spec"]["colour"] = json!("red");
            object["metadata"]["uid"] = json!("forged");
            object["metadata"]["name"] = json!("forged");
            return Ok(vec!["painted".into()]);
        }
        Ok(Warnings::new())
    }

    fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Warnings, Rejection> {
        if request.resource != "widgets" {
            return Ok(Warnings::new());
        }
        assert_eq!(request.user.username, "test");
        match request.operation {
            Operation::Delete if request.name == "keep" => {
                Err(Status::forbidden(request.group, request.resource, request.name, "kept").into())
            }
            _ if request.object.is_some_and(|o| o["spec"]["size"] == 13) => {
                let causes = vec![Cause::new("FieldValueInvalid", "unlucky", "spec.size")];
                Err(Status::invalid(request.group, request.kind, request.name, causes).into())
            }
            Operation::Update => {
                assert!(request.old_object.is_some());
                Ok(vec![format!("updated {}", request.subresource)])
            }
            _ => Ok(Warnings::new()),
        }
    }
}

#[tokio::test]
async fn admission_changes_warns_and_refuses() {
    let server = server_with(Arc::new(Painter)).await;
    let answer = post(&server, WIDGETS, &widget("a", 1)).await;
    assert_eq!(answer.warnings, ["299 - \"painted\""]);
    let made = answer.ok();
    assert_eq!((&made["spec"]["colour"], &made["metadata"]["name"]), (&json!("red"), &json!("a")));
    assert_ne!(made["metadata"]["uid"], "forged");
    let refused = post(&server, WIDGETS, &widget("b", 13)).await;
    assert_eq!(refused.body["details"]["causes"][0]["field"], "spec.size");
    refused.fails(422, "Invalid");
    merge(&server, &format!("{WIDGETS}/a"), &json!({"spec": {"size": 13}})).await.fails(422, "Invalid");
    let status = merge(&server, &format!("{WIDGETS}/a/status"), &json!({"status": {"phase": "p"}})).await;
    assert_eq!(status.warnings, ["299 - \"updated status\""]);
    post(&server, WIDGETS, &widget("keep", 1)).await.ok();
    delete(&server, &format!("{WIDGETS}/keep"), &Value::Null).await.fails(403, "Forbidden");
    delete(&server, &format!("{WIDGETS}/a"), &Value::Null).await.ok();
}

#[tokio::test]
async fn admission_sees_fields_before_they_are_dropped() {
    let server = server_with(Arc::new(Painter)).await;
    let mut old_spelling = widget("a", 1);
    old_spelling["spec"]["color"] = json!("red");
    for path in [WIDGETS.to_owned(), format!("{WIDGETS}?fieldValidation=Strict"), format!("{WIDGETS}?dryRun=All")] {
        let refused = post(&server, &path, &old_spelling).await;
        assert_eq!(refused.body["details"]["causes"][0]["field"], "spec.color");
        refused.fails(422, "Invalid");
    }
    post(&server, WIDGETS, &widget("a", 1)).await.ok();
    let path = format!("{WIDGETS}/a");
    put(&server, &path, &old_spelling).await.fails(422, "Invalid");
    merge(&server, &path, &json!({"spec": {"color": "red"}})).await.fails(422, "Invalid");
    let steps = json!([{"op": "add", "path": "/spec/color", "value": "red"}]).to_string();
    call(&server, http::Method::PATCH, &path, "application/json-patch+json", steps).await.fails(422, "Invalid");
    merge(&server, &path, &json!({"spec": {"size": 2}})).await.ok();
    put(&server, &format!("{WIDGETS}/none"), &widget("none", 1)).await.fails(404, "NotFound");
}
