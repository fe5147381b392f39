//! Which objects a request about a collection is about: selectors, paging, resource versions.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fresh::too_large;
use super::{Context, Target};
use crate::codec;
use crate::selectors::{FieldSelector, LabelSelector};
use crate::status::{Cause, Status};
use crate::store::Object;

/// Which objects of a collection a request is about.
pub(crate) struct Filter {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Filter {
    pub(crate) fn parse(context: &Context) -> Result<Filter, Status> {
        let target = &context.target;
        let labels = LabelSelector::parse(context.params.get("labelSelector")).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(context.params.get("fieldSelector"), &target.resource, &target.version)
            .map_err(Status::bad_request)?;
        Ok(Filter { labels, fields })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether objects have to be decoded to be chosen.
    pub(crate) fn decodes(&self) -> bool {
        !self.fields.only_by_key()
    }

    /// Whether a stored object is selected.
    pub(crate) fn matches(&self, target: &Target, object: &Object) -> Result<bool, Status> {
        if !self.labels.matches(&object.labels) || !self.fields.matches_key(&object.key) {
            return Ok(false);
        }
        if self.fields.only_by_key() {
            return Ok(true);
        }
        Ok(self.fields.matches(&codec::decode(&target.resource, &target.version, object)?))
    }
}

/// The state of a paged list, opaque to clients.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    /// Revision of the list; negative = whatever is current (an inconsistent continuation).
    rv: i64,
    /// The first key of the next page is above this one.
    start: String,
}

impl Continue {
    fn encode(rv: i64, start: &str) -> String {
        let token = json!({"v": "meta.k8s.io/v1", "rv": rv, "start": start});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let invalid = || Status::bad_request(format!("invalid continue token: continue key is not valid: {text}"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let token: Continue = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        if token.v != "meta.k8s.io/v1" || token.rv == 0 || token.start.is_empty() { Err(invalid()) } else { Ok(token) }
    }
}

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder \
    of the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
    modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Where a list starts: revision (`None` = now) and the key after which it goes on.
struct Start {
    at: Option<u64>,
    after: Option<String>,
}

/// `metadata.continue` and `metadata.remainingItemCount` of a page with more to come.
pub(super) type Next = Option<(String, Option<usize>)>;

/// What a request about a collection is about.
pub(super) struct Chosen {
    pub(super) page: Vec<Arc<Object>>,
    /// The moment that is shown.
    pub(super) revision: u64,
    pub(super) next: Next,
}

/// The objects that the selectors, the page and the revision of a request choose.
pub(super) fn choose(context: &Context) -> Result<Chosen, Status> {
    let params = &context.params;
    let limit = params.number::<i64>("limit")?.and_then(|l| usize::try_from(l).ok()).unwrap_or(0);
    let filter = Filter::parse(context)?;
    let start = start(context)?;
    let target = &context.target;
    let listing = context.core.store.list(&target.resource.storage, &target.prefix(), start.at).map_err(|_| {
        match &start.after {
            Some(after) => {
                let mut status = Status::expired(CONTINUE_EXPIRED);
                status.continue_token = Some(Continue::encode(-1, after));
                status
            }
            None => Status::expired("The resourceVersion for the provided list is too old."),
        }
    })?;

    let mut objects = listing.objects;
    if let Some(after) = &start.after {
        let from = objects.partition_point(|o| *o.key <= **after);
        objects.drain(..from);
    }
    let mut page: Vec<Arc<Object>> = Vec::new();
    let mut rest = 0;
    for object in objects {
        if !filter.is_everything() && !filter.matches(target, &object)? {
            continue;
        }
        if limit > 0 && page.len() == limit {
            rest += 1;
            // With a selector nobody counts on: one more is enough to know that there are more.
            if !filter.is_everything() {
                break;
            }
        } else {
            page.push(object);
        }
    }
    let next = match page.last() {
        Some(last) if rest > 0 => {
            let rv = i64::try_from(listing.revision).unwrap_or(i64::MAX);
            Some((Continue::encode(rv, &last.key), filter.is_everything().then_some(rest)))
        }
        _ => None,
    };
    Ok(Chosen { page, revision: listing.revision, next })
}

fn start(context: &Context) -> Result<Start, Status> {
    let params = &context.params;
    let (version, matching) = (params.get("resourceVersion"), params.get("resourceVersionMatch"));
    let current = context.core.store.revision();
    if params.flag("sendInitialEvents") {
        return Err(invalid_option("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"));
    }
    if params.has("continue") {
        if !matching.is_empty() {
            let detail = "Forbidden: resourceVersionMatch is forbidden when continue is provided";
            return Err(invalid_option("resourceVersionMatch", detail));
        }
        let token = Continue::decode(params.get("continue"))?;
        if !version.is_empty() && version != "0" {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let at = u64::try_from(token.rv).ok();
        if let Some(requested) = at.filter(|requested| *requested > current) {
            return Err(too_large(requested, current));
        }
        return Ok(Start { at, after: Some(token.start) });
    }
    let requested = match version {
        "" => None,
        text => Some(text.parse::<u64>().map_err(|_| {
            Status::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing \
                     {text:?}: invalid syntax"
            ))
        })?),
    };
    let at = match (matching, requested) {
        // By old custom a limit makes a revision exact.
        ("", Some(requested)) if requested > 0 && params.number::<i64>("limit")?.is_some_and(|l| l > 0) => {
            Some(requested)
        }
        ("", _) => None,
        (_, None) => {
            let detail = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(invalid_option("resourceVersionMatch", detail));
        }
        ("Exact", Some(0)) => {
            let detail = "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            return Err(invalid_option("resourceVersionMatch", detail));
        }
        ("Exact", Some(requested)) => Some(requested),
        ("NotOlderThan", Some(_)) => None,
        (other, _) => {
            let detail = format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\"");
            return Err(invalid_option("resourceVersionMatch", &detail));
        }
    };
    match requested {
        Some(requested) if requested > current => Err(too_large(requested, current)),
        _ => Ok(Start { at, after: None }),
    }
}

/// 422 about a list option.
pub(super) fn invalid_option(field: &str, detail: &str) -> Status {
    let reason = if detail.starts_with("Forbidden") { "FieldValueForbidden" } else { "FieldValueNotSupported" };
    Status::invalid("meta.k8s.io", "ListOptions", "", vec![Cause::new(reason, detail, field)])
}
