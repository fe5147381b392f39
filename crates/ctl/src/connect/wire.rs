//! What happens to every request: `--request-timeout` limits it, `-v` shows it.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use kube::client::{Body, DynBody};
use tower::{BoxError, Layer, Service};

use super::config::timeout;
use crate::cli::Global;
use crate::output::complain;

/// From this verbosity on kubectl shows requests.
const SHOWS_REQUESTS: i32 = 6;

/// The layer.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    limit: Option<Duration>,
    /// The server's address, when requests are shown.
    server: Option<String>,
}

impl Wire {
    pub(super) fn new(global: &Global, server: &Uri) -> Self {
        let shown = global.verbosity >= SHOWS_REQUESTS;
        let server = shown.then(|| server.to_string().trim_end_matches('/').to_string());
        Self { limit: timeout(global), server }
    }
}

impl<S> Layer<S> for Wire {
    type Service = Wired<S>;

    fn layer(&self, inner: S) -> Wired<S> {
        Wired { inner, wire: self.clone() }
    }
}

/// A service under the layer.
#[derive(Clone, Debug)]
pub(super) struct Wired<S> {
    inner: S,
    wire: Wire,
}

impl<S> Service<Request<Body>> for Wired<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let line = self.wire.server.as_ref().map(|server| format!("{} {server}{}", request.method(), request.uri()));
        let limit = self.wire.limit;
        let answer = whole(self.inner.call(request));
        Box::pin(async move {
            let begun = Instant::now();
            let outcome = match limit {
                Some(limit) => tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(late(limit))),
                None => answer.await,
            };
            if let Some(line) = line {
                let end = match &outcome {
                    Ok(answer) => answer.status().to_string(),
                    Err(error) => error.to_string(),
                };
                complain(&format!("{line} {end} in {} milliseconds", begun.elapsed().as_millis()));
            }
            outcome
        })
    }
}

/// The answer with all of its body, which the limit is to hold for too. Nothing that virtctl asks has an answer without end: the
/// stream of a WebSocket is no body.
async fn whole<F>(answer: F) -> Result<Response<Body>, BoxError>
where
    F: Future<Output = Result<Response<Box<DynBody>>, BoxError>>,
{
    let (head, body) = answer.await?.into_parts();
    let bytes: Bytes = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, Body::from(bytes)))
}

fn late(limit: Duration) -> BoxError {
    format!("no answer from the API server within --request-timeout {limit:?}").into()
}
