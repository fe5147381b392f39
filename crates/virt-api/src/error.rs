//! Answers that say no, in upstream's shapes: a `metav1.Status` with upstream's texts.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// A refusal or failure on its way to the user.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    details: Value,
}

/// The two kinds the subresources belong to, as upstream's messages write them.
pub const VM: &str = "virtualmachine";
pub const VMI: &str = "virtualmachineinstance";

impl ApiError {
    /// 404: `virtualmachine.kubevirt.io "x" not found`.
    pub fn not_found(kind: &str, name: &str) -> Self {
        let message = format!("{kind}.kubevirt.io \"{name}\" not found");
        Self { code: 404, reason: "NotFound", message, details: details(kind, name) }
    }

    /// 409: `Operation cannot be fulfilled on virtualmachine.kubevirt.io "x": <why>`.
    pub fn conflict(kind: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {kind}.kubevirt.io \"{name}\": {why}");
        Self { code: 409, reason: "Conflict", message, details: details(kind, name) }
    }

    /// 400 with the text as it is.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { code: 400, reason: "BadRequest", message: message.into(), details: Value::Null }
    }

    /// 403: `virtualmachineinstance.kubevirt.io "x" is forbidden: <why>`.
    pub fn forbidden(kind: &str, name: &str, why: &str) -> Self {
        let message = format!("{kind}.kubevirt.io \"{name}\" is forbidden: {why}");
        Self { code: 403, reason: "Forbidden", message, details: details(kind, name) }
    }

    /// 500: `Internal error occurred: <why>`.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {why}");
        let details = json!({"causes": [{"message": why.to_string()}]});
        Self { code: 500, reason: "InternalError", message, details }
    }

    /// 503: somebody else has it.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: 503, reason: "ServiceUnavailable", message: message.into(), details: Value::Null }
    }

    /// 504: who knows the answer does not give it.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self { code: 504, reason: "Timeout", message: message.into(), details: Value::Null }
    }

    /// What the API server said, passed on: a missing object, a conflict and a timeout keep their code, all else is an internal error
    /// with the server's own words.
    pub fn from_kube(error: kube::Error, kind: &str, name: &str) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 => Self::not_found(kind, name),
            kube::Error::Api(status) if status.code == 409 => Self::conflict(kind, name, &status.message),
            kube::Error::Api(status) if status.code == 504 => Self::timeout(status.message),
            kube::Error::Api(status) => Self::internal(status.message),
            other => Self::internal(other),
        }
    }
}

fn details(kind: &str, name: &str) -> Value {
    json!({"name": name, "group": "kubevirt.io", "kind": kind})
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details;
        }
        let mut response = status.to_string().into_response();
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
