//! `list`: what it answers with.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::choose::{Chosen, Next, choose};
use super::respond::{self, Shape};
use super::{Context, view};
use crate::codec;
use crate::status::Status;
use crate::store::Object;

pub(super) fn list(context: &Context) -> Result<Response, Status> {
    let Chosen { page, revision, next } = choose(context)?;
    let target = &context.target;
    let meta = list_meta(context, revision, &next);
    let copied = codec::same_as_stored(&target.resource, &target.version)
        && page.iter().all(|object| codec::is_current(&target.resource, object));
    if context.format.shape != Shape::Object || !copied {
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
pub(super) fn values(context: &Context, items: Vec<Value>, revision: u64, next: &Next) -> Result<Response, Status> {
    shaped(context, items, list_meta(context, revision, next))
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
