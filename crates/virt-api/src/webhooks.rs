//! Admission webhooks, at upstream's paths. The decisions are `fv_admit`'s, the same as in the embedded mode; [`review`] is the form
//! the API server asks them in.
//!
//! Nobody needs to be known here: an answer tells no more than the rules, which are public, and changes nothing. (The one note that
//! the eviction webhook makes is bound to what the API server says about pod and VMI, not to what the request says.)

mod eviction;
mod review;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use fv_runtime::settings::Settings;
use http::StatusCode;
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tower::limit::GlobalConcurrencyLimitLayer;
use uuid::Uuid;

use review::{Answer, Review};

/// A review holds an object twice, and an object may have 1.5 MiB in etcd.
const MAX_REVIEW: usize = 8 * 1024 * 1024;
/// Reviews at a time; more wait.
const AT_ONCE: usize = 64;

/// What the webhooks need.
#[derive(Clone)]
pub struct Webhooks {
    pub(crate) client: Client,
    settings: Settings,
    /// Where our service accounts live.
    namespace: Arc<str>,
}

impl Webhooks {
    /// Webhooks of an installation in `namespace`; `client` acts as virt-api.
    pub fn new(client: Client, settings: Settings, namespace: &str) -> Self {
        Self { client, settings, namespace: namespace.into() }
    }
}

/// The routes, by upstream's names.
pub fn router(webhooks: Webhooks) -> Router {
    let admission = ["virtualmachines-mutate", "virtualmachineinstances-mutate"];
    let validation = [
        "virtualmachines-validate",
        "virtualmachineinstances-validate-create",
        "virtualmachineinstances-validate-update",
    ];
    let mut router = Router::new().route("/pod-eviction-validate", post(evict));
    for name in admission {
        router = router.route(&format!("/{name}"), post(mutate));
    }
    for name in validation {
        router = router.route(&format!("/{name}"), post(validate));
    }
    router
        .layer(DefaultBodyLimit::max(MAX_REVIEW))
        .layer(GlobalConcurrencyLimitLayer::new(AT_ONCE))
        .with_state(webhooks)
}

/// Neither allowed nor refused: the API server does what its `failurePolicy` says.
type Failure = (StatusCode, String);

fn read(body: &Bytes) -> Result<Review, Failure> {
    Review::read(body).map_err(|why| (StatusCode::BAD_REQUEST, format!("no AdmissionReview: {why}")))
}

fn answer(review: &Review, answer: Answer) -> Response {
    axum::Json::<Value>(review.response(answer)).into_response()
}

async fn mutate(State(webhooks): State<Webhooks>, body: Bytes) -> Result<Response, Failure> {
    let review = read(&body)?;
    let config = webhooks.settings.borrow().clone();
    let verdict = review.mutate(&config, &webhooks.namespace, Timestamp::now(), &mut Uuid::new_v4);
    Ok(answer(&review, verdict))
}

async fn validate(State(webhooks): State<Webhooks>, body: Bytes) -> Result<Response, Failure> {
    let review = read(&body)?;
    let config = webhooks.settings.borrow().clone();
    let verdict = review.validate(&config, &webhooks.namespace, Timestamp::now());
    Ok(answer(&review, verdict))
}

async fn evict(State(webhooks): State<Webhooks>, body: Bytes) -> Result<Response, Failure> {
    let review = read(&body)?;
    match eviction::judge(&webhooks.client, &review).await {
        Ok(verdict) => Ok(answer(&review, verdict)),
        Err(error) => {
            let text = format!("judge the eviction of pod {}/{}: {error}", review.namespace(), review.name());
            tracing::warn!(error = &error as &dyn std::error::Error, "an eviction cannot be judged");
            Err((StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    }
}
