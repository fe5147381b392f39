//! Admission webhooks, at upstream's paths. The decisions are `fv_admit`'s, the same as in the embedded mode; [`review`] is the form
//! the API server asks them in.
//!
//! Nobody needs to be known here: an answer tells no more than the rules, which are public, and changes nothing. (The one note that
//! the eviction webhook makes is bound to what the API server says about pod and VMI, not to what the request says.)

mod eviction;
mod review;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::BytesMut;
use futures::StreamExt;
use fv_runtime::settings::Settings;
use http::StatusCode;
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use uuid::Uuid;

use review::{Answer, Review};

/// A review holds an object twice, and an object may have 1.5 MiB in etcd.
const MAX_REVIEW: usize = 8 * 1024 * 1024;
/// Reviews at a time; more wait.
const AT_ONCE: usize = 64;
/// The time to send a review.
const BODY: Duration = Duration::from_secs(10);
/// Bytes of reviews that are being sent or wait; what goes beyond is not taken from its sender until there is room.
const WAITING: usize = AT_ONCE * MAX_REVIEW;

/// What the webhooks need.
#[derive(Clone)]
pub struct Webhooks {
    pub(crate) client: Client,
    settings: Settings,
    /// Where our service accounts live.
    namespace: Arc<str>,
    permits: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

impl Webhooks {
    /// Webhooks of an installation in `namespace`; `client` acts as virt-api.
    pub fn new(client: Client, settings: Settings, namespace: &str) -> Self {
        let [permits, memory] = [AT_ONCE, WAITING].map(|count| Arc::new(Semaphore::new(count)));
        Self { client, settings, namespace: namespace.into(), permits, memory }
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
    router.with_state(webhooks)
}

/// Neither allowed nor refused: the API server does what its `failurePolicy` says.
type Failure = (StatusCode, String);

/// A review, and the permit to answer it.
struct Asked {
    review: Review,
    permit: OwnedSemaphorePermit,
}

impl FromRequest<Webhooks> for Asked {
    type Rejection = Failure;

    /// The permit is the last thing that is waited for: whoever sends slowly, or never to the end, keeps nobody out.
    async fn from_request(request: Request, webhooks: &Webhooks) -> Result<Self, Failure> {
        let late = |_| (StatusCode::REQUEST_TIMEOUT, format!("the review was not here after {} s", BODY.as_secs()));
        let (body, _held) = timeout(BODY, whole(request.into_body(), &webhooks.memory)).await.map_err(late)??;
        let permit = webhooks.permits.clone().acquire_owned().await.map_err(closed)?;
        let review =
            Review::read(&body).map_err(|why| (StatusCode::BAD_REQUEST, format!("no AdmissionReview: {why}")))?;
        Ok(Self { review, permit })
    }
}

/// A body to its end, and its part of `memory`.
async fn whole(body: Body, memory: &Semaphore) -> Result<(BytesMut, SemaphorePermit<'_>), Failure> {
    let mut chunks = body.into_data_stream();
    let mut all = BytesMut::new();
    let mut held = memory.acquire_many(0).await.map_err(closed)?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| (StatusCode::BAD_REQUEST, format!("read the review: {error}")))?;
        let size =
            u32::try_from(chunk.len()).ok().filter(|_| all.len() + chunk.len() <= MAX_REVIEW).ok_or_else(|| {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("a review may have no more than {MAX_REVIEW} bytes"))
            })?;
        held.merge(memory.acquire_many(size).await.map_err(closed)?);
        all.extend_from_slice(&chunk);
    }
    Ok((all, held))
}

/// Nobody closes the semaphores.
fn closed(_: AcquireError) -> Failure {
    (StatusCode::SERVICE_UNAVAILABLE, "no more reviews are taken".to_owned())
}

fn answer(review: &Review, answer: Answer) -> Response {
    axum::Json::<Value>(review.response(answer)).into_response()
}

async fn mutate(State(webhooks): State<Webhooks>, Asked { review, permit: _permit }: Asked) -> Response {
    let config = webhooks.settings.borrow().clone();
    let verdict = review.mutate(&config, &webhooks.namespace, Timestamp::now(), &mut Uuid::new_v4);
    answer(&review, verdict)
}

async fn validate(State(webhooks): State<Webhooks>, Asked { review, permit: _permit }: Asked) -> Response {
    let config = webhooks.settings.borrow().clone();
    let verdict = review.validate(&config, &webhooks.namespace, Timestamp::now());
    answer(&review, verdict)
}

async fn evict(
    State(webhooks): State<Webhooks>,
    Asked { review, permit: _permit }: Asked,
) -> Result<Response, Failure> {
    match eviction::judge(&webhooks.client, &review).await {
        Ok(verdict) => Ok(answer(&review, verdict)),
        Err(error) => {
            let text = format!("judge the eviction of pod {}/{}: {error}", review.namespace(), review.name());
            tracing::warn!(error = &error as &dyn std::error::Error, "an eviction cannot be judged");
            Err((StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::to_bytes;
    use bytes::Bytes;
    use futures::stream::{self, StreamExt as _};
    use fv_api::config::ClusterConfig;
    use fv_runtime::settings::fixed;
    use serde_json::json;
    use tokio::time::Instant;
    use tower::ServiceExt as _;

    use super::*;
    use crate::deadline::tests::silent;

    fn webhooks() -> Webhooks {
        Webhooks::new(silent(), fixed(ClusterConfig::default()), "kubevirt")
    }

    /// A review of a kind that there are no rules for.
    fn review() -> Bytes {
        let request = json!({"uid": "u", "kind": {"group": "", "kind": "Pod"}, "operation": "CREATE", "userInfo": {},
            "namespace": "default", "name": "demo"});
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string().into()
    }

    /// A body of which nothing comes after `begun`.
    fn unfinished(begun: Bytes) -> Body {
        Body::from_stream(stream::iter([Ok::<_, Infallible>(begun)]).chain(stream::pending()))
    }

    /// Code and text of the answer.
    async fn post(router: &Router, path: &str, body: Body) -> (StatusCode, String) {
        let response = router.clone().oneshot(Request::post(path).body(body).unwrap()).await.unwrap();
        let code = response.status();
        (code, String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_that_do_not_come_to_their_end_keep_no_other_waiting() {
        let router = router(webhooks());
        let began = Instant::now();
        let slow: Vec<_> = (0..2 * AT_ONCE)
            .map(|_| {
                let router = router.clone();
                tokio::spawn(async move {
                    post(&router, "/virtualmachines-mutate", unfinished(review().slice(..9))).await.0
                })
            })
            .collect();
        // They are under way before the other comes.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let whole = post(&router, "/virtualmachines-validate", review().into());
        let (code, text) = timeout(Duration::from_secs(1), whole).await.unwrap();
        assert_eq!(code, StatusCode::OK, "{text}");
        for slow in slow {
            assert_eq!(slow.await.unwrap(), StatusCode::REQUEST_TIMEOUT);
        }
        assert_eq!(began.elapsed().as_secs(), BODY.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_no_review_is_refused() {
        let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("cut off"))]));
        for (what, body, expected) in [
            ("broken", broken, StatusCode::BAD_REQUEST),
            ("no JSON", "x".into(), StatusCode::BAD_REQUEST),
            ("longest", vec![b' '; MAX_REVIEW].into(), StatusCode::BAD_REQUEST),
            ("too long", vec![b' '; MAX_REVIEW + 1].into(), StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            let (code, text) = post(&router(webhooks()), "/virtualmachines-validate", body).await;
            assert_eq!(code, expected, "{what}: {text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_that_wait_hold_no_more_memory_than_there_is_for_them() {
        let length = review().len();
        let webhooks = Webhooks { memory: Arc::new(Semaphore::new(length)), ..webhooks() };
        let memory = webhooks.memory.clone();
        let router = router(webhooks);
        let first = tokio::spawn({
            let router = router.clone();
            async move { post(&router, "/virtualmachines-mutate", unfinished(review().slice(..9))).await.0 }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(memory.available_permits(), length - 9);
        // There is no room for a second one until the first is given up.
        assert_eq!(post(&router, "/virtualmachines-validate", review().into()).await.0, StatusCode::OK);
        assert_eq!(first.await.unwrap(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(memory.available_permits(), length);
    }

    #[tokio::test(start_paused = true)]
    async fn an_eviction_is_not_judged_for_longer_than_the_api_server_may_take() {
        let router = router(webhooks());
        let asked = post(&router, "/pod-eviction-validate", review().into());
        let (code, text) = timeout(Duration::from_secs(30), asked).await.unwrap();
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text.contains("the API server did not answer within 10 s"), "{text}");
    }
}
