//! `list`: selectors, paging, resource versions.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::stream;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::respond::{self, Shape};
use super::{Context, Target, view};
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

pub(super) fn list(context: &Context) -> Result<Response, Status> {
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
    stored(context, page, listing.revision, next)
}

fn start(context: &Context) -> Result<Start, Status> {
    let params = &context.params;
    let (version, matching) = (params.get("resourceVersion"), params.get("resourceVersionMatch"));
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
        return Ok(Start { at, after: Some(token.start) });
    }
    let current = context.core.store.revision();
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

/// 504: the client knows a revision this server never reached.
fn too_large(requested: u64, current: u64) -> Status {
    let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
    let mut status = Status::new(504, "Timeout", message);
    status.causes.push(Cause::new("ResourceVersionTooLarge", "Too large resource version", ""));
    status.retry_after_seconds = 1;
    status
}

/// `metadata.continue` and `metadata.remainingItemCount` of a page with more to come.
type Next = Option<(String, Option<usize>)>;

fn list_meta(context: &Context, revision: u64, next: &Next) -> Value {
    let mut meta = json!({"resourceVersion": revision.to_string()});
    if !context.target.resource.builtin() && context.format.shape == Shape::Object {
        // Lists of custom resources always have the field in Kubernetes.
        meta["continue"] = json!("");
    }
    if let Some((token, remaining)) = next {
        meta["continue"] = json!(token);
        if let Some(remaining) = remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
    }
    meta
}

fn stored(context: &Context, page: Vec<Arc<Object>>, revision: u64, next: Next) -> Result<Response, Status> {
    let target = &context.target;
    let meta = list_meta(context, revision, &next);
    if context.format.shape != Shape::Object || !codec::same_as_stored(&target.resource, &target.version) {
        let decoded: Result<Vec<Value>, Status> =
            page.iter().map(|o| codec::decode(&target.resource, &target.version, o)).collect();
        return shaped(context, decoded?, meta);
    }
    // The common case: stored bytes are copied, nothing is parsed.
    let head = json!({
        "kind": target.resource.list_kind, "apiVersion": target.resource.api_version(&target.version), "metadata": meta,
    })
    .to_string();
    let copied = Copied {
        head: format!("{},\"items\":[", &head[..head.len() - 1]),
        // Built-in kinds have their type in the list only.
        lead: if target.resource.builtin() { lead(context) } else { String::new() },
        page,
        next: 0,
    };
    let size = copied.size();
    if context.format.yaml || size <= PIECE {
        return Ok(view::finish(context, StatusCode::OK, copied.flatten().collect()));
    }
    let mut response = respond::json_body(StatusCode::OK, copied.into_body(), &context.warnings);
    response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
    Ok(response)
}

/// About so much of a list is made at a time, when the client has taken what was before: a list of any size takes neither much
/// memory nor the processor for long.
const PIECE: usize = 64 << 10;

/// A list of stored objects, piece by piece.
struct Copied {
    /// Up to the first object.
    head: String,
    /// What objects begin with that lists leave out.
    lead: String,
    page: Vec<Arc<Object>>,
    /// The object that comes next; one more than there are when all is said.
    next: usize,
}

const TAIL: &[u8] = b"]}";

impl Copied {
    /// The size of the whole.
    fn size(&self) -> usize {
        let object = |object: &Arc<Object>| {
            let (start, rest) = untyped(&object.body, &self.lead);
            start.len() + rest.len()
        };
        let commas = self.page.len().saturating_sub(1);
        self.head.len() + self.page.iter().map(object).sum::<usize>() + commas + TAIL.len()
    }

    fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, |mut copied| async move {
            give_way().await;
            let piece = copied.next()?;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from(piece)), copied))
        }))
    }
}

/// Lets what is short go first: the other tasks of this thread, and the threads that wait for this processor. Without it they wait
/// until the kernel takes the processor away, which it looks at every few milliseconds.
async fn give_way() {
    tokio::task::yield_now().await;
    std::thread::yield_now();
}

impl Iterator for Copied {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.next > self.page.len() {
            return None;
        }
        let mut piece = std::mem::take(&mut self.head).into_bytes();
        piece.reserve(PIECE + (PIECE >> 3));
        while let Some(object) = self.page.get(self.next) {
            if piece.len() >= PIECE {
                return Some(piece);
            }
            if self.next > 0 {
                piece.push(b',');
            }
            let (start, rest) = untyped(&object.body, &self.lead);
            piece.extend_from_slice(start);
            piece.extend_from_slice(rest);
            self.next += 1;
        }
        piece.extend_from_slice(TAIL);
        self.next += 1;
        Some(piece)
    }
}

/// How a stored object of the resource begins: with its type.
fn lead(context: &Context) -> String {
    let resource = &context.target.resource;
    let (version, kind) = (json!(resource.api_version(&context.target.version)), json!(resource.kind));
    format!("{{\"apiVersion\":{version},\"kind\":{kind},")
}

/// The parts of a stored object without the lead.
fn untyped<'b>(body: &'b [u8], lead: &str) -> (&'b [u8], &'b [u8]) {
    match body.strip_prefix(lead.as_bytes()) {
        Some(rest) if !lead.is_empty() => (b"{", rest),
        _ => (b"", body),
    }
}

/// A list of values as the response.
pub(super) fn values(context: &Context, items: Vec<Value>, revision: u64) -> Result<Response, Status> {
    shaped(context, items, list_meta(context, revision, &None))
}

fn shaped(context: &Context, mut items: Vec<Value>, meta: Value) -> Result<Response, Status> {
    let resource = &context.target.resource;
    if resource.builtin() && context.format.shape == Shape::Object {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.shift_remove("apiVersion");
            item.shift_remove("kind");
        }
    }
    let body = match context.format.shape {
        Shape::Object => json!({
            "kind": resource.list_kind, "apiVersion": resource.api_version(&context.target.version),
            "metadata": meta, "items": items,
        }),
        Shape::PartialMetadata => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
            "items": items.iter().map(view::partial).collect::<Vec<_>>(),
        }),
        Shape::Table => view::table(context, &items.iter().collect::<Vec<_>>(), &meta, true)?,
    };
    Ok(view::finish(context, StatusCode::OK, body.to_string().into_bytes()))
}
