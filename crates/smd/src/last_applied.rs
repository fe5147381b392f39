//! From client-side to server-side apply.

use serde_json::Value;

use crate::set::Set;
use crate::track::Versions;
use crate::typed::Duplicates;

/// The annotation in which `kubectl apply` keeps what it applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that a client-side apply wrote and nobody changed since: taking them over is no conflict. `None` when the object
/// was not applied by a client, or in another version.
pub fn allowed_conflicts(versions: &dyn Versions, live: &Value, api_version: &str) -> Option<Set> {
    let text = live.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last.get("apiVersion")?.as_str()? != api_version {
        return None;
    }
    let ty = versions.typed(api_version)?;
    ty.validate(&last, Duplicates::Refused).ok()?;
    let set = ty.fields(&last).ok()?;
    let since = ty.compare(&last, live).ok()?;
    Some(set.difference(&since.modified).difference(&since.added).difference(&since.removed))
}
