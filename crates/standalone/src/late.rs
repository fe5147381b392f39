//! A router that is filled in after the server it is mounted in has started: the components it leads to are the server's own
//! clients.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use fv_apiserver::Status;
use tower::ServiceExt;

/// The place for the router to come.
#[derive(Clone, Default)]
pub(crate) struct Late(Arc<OnceLock<Router>>);

impl Late {
    /// What to mount: answers 503 until [`Late::fill`].
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(forward).with_state(self.clone())
    }

    /// Puts the router in its place; a second one is ignored.
    pub(crate) fn fill(&self, router: Router) {
        let _ = self.0.set(router);
    }
}

async fn forward(State(late): State<Late>, request: Request) -> Response {
    match late.0.get() {
        Some(router) => match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => {
            let status = Status::new(503, "ServiceUnavailable", "the component that serves this path is starting");
            (http::StatusCode::SERVICE_UNAVAILABLE, Body::from(status.to_json().to_string())).into_response()
        }
    }
}
