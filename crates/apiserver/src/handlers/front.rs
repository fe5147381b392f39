//! The door for clients outside the process: whoever comes in has a place and a time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::duration::parse_duration;
use super::request::{Params, Target};
use super::{health, respond, serve};
use crate::identity::UserInfo;
use crate::limits::{Class, Seat};
use crate::server::Core;
use crate::status::Status;

/// An answer of at most so many bytes is handed over at once; a larger one keeps its place until the client has taken it.
const SMALL: u64 = 64 << 10;

/// When a refused client should try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Answers a request from outside, once there is a place for it.
pub(crate) async fn admit(core: Arc<Core>, mut request: Request) -> Response {
    // Probes are always answered, and who is nobody is refused before anything is done for it.
    let probe = health::is_probe(request.uri().path());
    if probe || request.extensions().get::<UserInfo>().is_none() {
        return serve(core, request).await;
    }
    let class = classify(&core, &request);
    if class == Class::Streaming {
        let Some(seat) = core.flow.seat(class).await else { return too_many() };
        // Whatever streams keeps it.
        request.extensions_mut().insert(seat);
        return guarded(core, request).await;
    }
    let deadline = match time(&request, core.flow.time) {
        Ok(time) => Instant::now() + time,
        Err(status) => return respond::failure(&status, &[]),
    };
    let answer = async {
        let seat = core.flow.seat(class).await?;
        request.extensions_mut().insert(seat.clone());
        Some((guarded(Arc::clone(&core), request).await, seat))
    };
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Some((response, _))) if response.body().size_hint().upper().is_some_and(|size| size <= SMALL) => response,
        Ok(Some((response, seat))) => response.map(|body| keep_until(body, seat, deadline)),
        Ok(None) => too_many(),
        Err(_) => respond::failure(&Status::timeout("request did not complete within the allotted timeout"), &[]),
    }
}

/// A handler that panics ends its request, not the connection with all the others on it.
async fn guarded(core: Arc<Core>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    AssertUnwindSafe(serve(core, request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(%path, "a request panicked");
        respond::failure(&Status::internal("the request was not completed"), &[])
    })
}

fn classify(core: &Core, request: &Request) -> Class {
    let path = request.uri().path();
    let reading = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let upgrades = request.headers().contains_key(header::UPGRADE);
    if upgrades && core.aggregated.iter().any(|api| path.starts_with(&format!("/apis/{}/", api.group))) {
        return Class::Streaming;
    }
    if request.method() == Method::GET && streams(core, request) {
        return Class::Streaming;
    }
    if reading { Class::Reading } else { Class::Writing }
}

/// Whether a GET is a watch or reads a log.
fn streams(core: &Core, request: &Request) -> bool {
    let watching = || Params::parse(request.uri()).is_ok_and(|params| params.flag("watch"));
    match Target::parse(&core.registry.tables(), request.uri().path()) {
        Some(target) if target.subresource == "log" => true,
        Some(target) => target.name.is_empty() && watching(),
        None => false,
    }
}

/// The time a request has: what it asks for (`timeout=5s`), at most `longest`.
fn time(request: &Request, longest: Duration) -> Result<Duration, Status> {
    // What cannot be parsed is refused where its parameters are read.
    let params = Params::parse(request.uri()).unwrap_or_default();
    match params.get("timeout") {
        "" => Ok(longest),
        text => match parse_duration(text) {
            Ok(Some(asked)) if !asked.is_zero() => Ok(asked.min(longest)),
            // None asked for, or a negative one.
            Ok(_) => Ok(longest),
            Err(why) => Err(Status::bad_request(format!("invalid timeout specified in the request URL - time: {why}"))),
        },
    }
}

/// 429, in Kubernetes' form, which is not a Status.
fn too_many() -> Response {
    let text = "Too many requests, please try again later.\n";
    let mut response = respond::text(StatusCode::TOO_MANY_REQUESTS, text);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

/// Keeps the place as long as there is the body, or until `deadline`: a client that does not read takes nobody's place for ever.
fn keep_until(body: Body, seat: Seat, deadline: Instant) -> Body {
    let (taken, gone) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let _ = tokio::time::timeout_at(deadline, gone).await;
        drop(seat);
    });
    Body::new(body.map_err(move |error| {
        let _ = &taken;
        error
    }))
}
