//! Faults between the harness and our server. Each must be noticed by the comparison; the product knows nothing of them.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use clap::ValueEnum;
use futures::StreamExt as _;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};

/// A named fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mutation {
    /// Updates are taken as if they named no revision: a lost race goes unnoticed.
    DropConflict,
    /// Answers to writes of custom resources keep the fields that pruning removes.
    SkipPruning,
    /// Every second event of a watch is lost.
    LoseWatchEvent,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 3] = [Mutation::DropConflict, Mutation::SkipPruning, Mutation::LoseWatchEvent];

    /// The theme whose sequences must notice it.
    pub fn theme(self) -> &'static str {
        match self {
            Mutation::DropConflict => "update/",
            Mutation::SkipPruning => "crd_objects/",
            Mutation::LoseWatchEvent => "watch/",
        }
    }

    /// The router behind the fault.
    pub fn before(self, router: Router) -> Router {
        match self {
            Mutation::DropConflict => router.layer(axum::middleware::map_request(drop_conflict)),
            Mutation::SkipPruning => router.layer(axum::middleware::from_fn(skip_pruning)),
            Mutation::LoseWatchEvent => router.layer(axum::middleware::from_fn(lose_watch_event)),
        }
    }
}

async fn read(body: Body) -> Vec<u8> {
    body.collect().await.map(|b| b.to_bytes().to_vec()).unwrap_or_default()
}

async fn drop_conflict(request: Request) -> Request {
    if request.method() != Method::PUT {
        return request;
    }
    let (mut parts, body) = request.into_parts();
    let bytes = read(body).await;
    let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) else {
        return Request::from_parts(parts, Body::from(bytes));
    };
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.shift_remove("resourceVersion");
    }
    parts.headers.remove(http::header::CONTENT_LENGTH);
    Request::from_parts(parts, Body::from(value.to_string()))
}

async fn skip_pruning(request: Request, next: axum::middleware::Next) -> Response {
    let writes = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if !writes || !request.uri().path().starts_with("/apis/conformance.ferrovirt.io/") {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let sent = read(body).await;
    let response = next.run(Request::from_parts(parts, Body::from(sent.clone()))).await;
    let (mut parts, body) = response.into_parts();
    let mut bytes = read(body).await;
    if parts.status.is_success()
        && let Ok(Value::Object(sent)) = serde_json::from_slice(&sent)
        && let Ok(Value::Object(mut answer)) = serde_json::from_slice(&bytes)
    {
        restore(&mut answer, &sent);
        bytes = Value::Object(answer).to_string().into_bytes();
        parts.headers.remove(http::header::CONTENT_LENGTH);
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Puts back what the answer has lost.
fn restore(answer: &mut Map<String, Value>, sent: &Map<String, Value>) {
    for (key, value) in sent {
        match (answer.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(value)) => restore(below, value),
            (None, value) if !value.is_null() => {
                answer.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
}

async fn lose_watch_event(request: Request, next: axum::middleware::Next) -> Response {
    let watches = request.uri().query().is_some_and(|q| q.contains("watch=true"));
    let response = next.run(request).await;
    if !watches {
        return response;
    }
    let (parts, body) = response.into_parts();
    let lines = body.into_data_stream().enumerate().filter(|(at, _)| std::future::ready(at % 2 == 0)).map(|(_, l)| l);
    Response::from_parts(parts, Body::from_stream(lines))
}
