//! The parameters of a write that name its manager.

use http::header;

use crate::handlers::Context;
use crate::schema;
use crate::status::Status;

/// Longest name of a manager in bytes.
const MAX_LENGTH: usize = 128;

/// Which options a write has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptionsKind {
    /// Of a create.
    Create,
    /// Of an update.
    Update,
    /// Of a patch that is not an apply.
    Patch,
    /// Of an apply.
    Apply,
}

/// The name under which a request owns what it writes: what it says, or the beginning of its user agent.
pub(crate) fn manager(context: &Context) -> String {
    let given = context.params.get("fieldManager");
    if !given.is_empty() {
        return given.to_owned();
    }
    let agent = context.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let mut name = String::new();
    for c in agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MAX_LENGTH {
            break;
        }
        name.push(c);
    }
    name
}

/// Refuses names that cannot be kept, an apply without one, and force without an apply.
pub(crate) fn check_options(context: &Context, kind: OptionsKind) -> Result<(), Status> {
    let name = context.params.get("fieldManager");
    let mut causes = Vec::new();
    if kind == OptionsKind::Apply && name.is_empty() {
        causes.push(schema::Cause::required("fieldManager", "is required for apply patch"));
    }
    if kind == OptionsKind::Patch && context.params.has("force") {
        causes.push(schema::Cause::forbidden("force", "may not be specified for non-apply patch"));
    }
    if name.len() > MAX_LENGTH {
        causes.push(schema::Cause::too_long("fieldManager", MAX_LENGTH as u64));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        causes.push(schema::Cause::invalid("fieldManager", &serde_json::Value::from(name), &detail));
    }
    if causes.is_empty() {
        return Ok(());
    }
    let kind = match kind {
        OptionsKind::Create => "CreateOptions",
        OptionsKind::Update => "UpdateOptions",
        OptionsKind::Patch | OptionsKind::Apply => "PatchOptions",
    };
    Err(Status::invalid("meta.k8s.io", kind, "", causes.into_iter().map(Into::into).collect()))
}
