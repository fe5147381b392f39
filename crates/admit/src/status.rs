//! A refusal as clients see it.

use serde_json::{Value, json};

use crate::request::{Cause, Kind, Operation, Request};

/// Most causes one refusal lists, as upstream's webhooks.
const LISTED: usize = 10;

/// The `metav1.Status` that a refused write answers with: code 422, reason `Invalid`, one cause per fault, in the form an
/// API server gives to the denial of upstream's webhook (kubectl prints it as `The request is invalid: <field>: <message>`).
pub fn denial(request: &Request<'_>, causes: &[Cause]) -> Value {
    let mut status = refusal(causes);
    let message = status["message"].as_str().unwrap_or_default();
    status["message"] = json!(format!("admission webhook \"{}\" denied the request: {message}", webhook_name(request)));
    status
}

/// [`denial`] as a webhook gives it to the API server, which adds the webhook's name.
pub fn refusal(causes: &[Cause]) -> Value {
    let listed = &causes[..causes.len().min(LISTED)];
    let mut message = listed.iter().map(|c| c.message.as_str()).collect::<Vec<_>>().join(", ");
    if causes.len() > LISTED {
        message.push_str(&format!(", and {} more validation errors", causes.len() - LISTED));
    }
    let details: Vec<Value> = listed
        .iter()
        .map(|cause| {
            let mut entry = json!({"reason": cause.reason.as_str(), "message": cause.message});
            if !cause.field.is_empty() {
                entry["field"] = json!(cause.field);
            }
            entry
        })
        .collect();
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Invalid",
        "details": {"causes": details},
        "code": 422
    })
}

/// The name of upstream's webhook for this kind of write.
fn webhook_name(request: &Request<'_>) -> &'static str {
    match (request.kind, request.operation) {
        (Kind::VirtualMachine, _) => "virtualmachine-validator.kubevirt.io",
        (Kind::VirtualMachineInstance, Operation::Create) => "virtualmachineinstances-create-validator.kubevirt.io",
        (Kind::VirtualMachineInstance, _) => "virtualmachineinstances-update-validator.kubevirt.io",
    }
}
