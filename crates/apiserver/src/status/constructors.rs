//! Kubernetes' own failures, in its words: clients and people match on them.

use super::{Cause, Status};
use crate::store::WriteError;

impl Status {
    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::new(400, "BadRequest", message)
    }

    /// 401: no identity.
    pub fn unauthorized() -> Self {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: `pods "x" is forbidden: why`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = match (qualified(group, resource), name) {
            (resource, "") => format!("{resource} is forbidden: {why}"),
            (resource, name) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Status::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 404: no such object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Status::new(404, "NotFound", format!("{} {name:?} not found", qualified(group, resource)))
            .about(group, resource, name)
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        let mut status = Status::new(404, "NotFound", "the server could not find the requested resource");
        status.bare_details = true;
        status
    }

    /// 405: the resource does not support the verb.
    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource));
        Status::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    /// 405: a path that is served, but not with this method.
    pub fn method_unknown() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut status = Status::new(405, "MethodNotAllowed", message);
        status.bare_details = true;
        status
    }

    /// 406: no acceptable representation.
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", offered.join(", "));
        Status::new(406, "NotAcceptable", message)
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Status::new(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(group, resource)))
            .about(group, resource, name)
    }

    /// 409: lost a race, or a precondition does not hold.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = format!("Operation cannot be fulfilled on {what} {name:?}: {why}");
        Status::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409: the resourceVersion of the request is not the current one.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(group, resource, name, why)
    }

    /// 410: the history a client asks for is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Status::new(410, "Expired", message)
    }

    /// 410: a watch from a forgotten resourceVersion.
    pub fn too_old(requested: u64, oldest: u64) -> Self {
        Status::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 413: the body is too large, or asks for too much.
    pub fn too_large(why: impl std::fmt::Display) -> Self {
        Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    /// 504: it took too long.
    pub fn timeout(why: &str) -> Self {
        let mut status = Status::new(504, "Timeout", format!("Timeout: {why}"));
        status.bare_details = true;
        status
    }

    /// 415: a body type which is not understood.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Status::new(415, "UnsupportedMediaType", message)
    }

    /// 422: `Kind.group "name" is invalid: …`, with the causes.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let what = qualified(group, kind);
        let texts: Vec<String> = causes
            .iter()
            .map(|c| if c.field.is_empty() { c.message.clone() } else { format!("{}: {}", c.field, c.message) })
            .collect();
        let message = match texts.as_slice() {
            [] => format!("{what} {name:?} is invalid"),
            [one] => format!("{what} {name:?} is invalid: {one}"),
            many => format!("{what} {name:?} is invalid: [{}]", many.join(", ")),
        };
        let mut status = Status::new(422, "Invalid", message).about(group, kind, name);
        status.causes = causes;
        status
    }

    /// 507 while the store cannot grow, else 500: the write did not happen.
    pub(crate) fn unwritten(error: &WriteError) -> Self {
        match error {
            WriteError::Full(_) => Status::new(507, "InsufficientStorage", error.to_string()),
            other => Status::internal(other),
        }
    }

    /// 500: our fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let mut status = Status::new(500, "InternalError", format!("Internal error occurred: {message}"));
        status.causes.push(Cause::new("", message.to_string(), ""));
        status
    }
}

/// `plural.group`, or `plural` in the core group.
fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}
