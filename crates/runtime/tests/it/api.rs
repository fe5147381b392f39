//! An API that answers as told and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A request as tests compare it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

#[derive(Clone, Default)]
pub(crate) struct ScriptedApi {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ScriptedApi {
    pub(crate) fn new(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    pub(crate) fn client(&self) -> Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let this = this.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect().await.expect("a body").to_bytes();
                this.asked.lock().push(Asked {
                    verb: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
                });
                let (code, answer) = this.answers.lock().pop_front().unwrap_or((500, json!({})));
                let text = serde_json::to_vec(&answer).expect("json");
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(code).body(Body::from(text)).expect("a response"),
                )
            }
        });
        Client::new(service, "default")
    }

    /// Everything asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// Verbs and last path segments.
    pub(crate) fn requests(&self) -> Vec<String> {
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        self.asked().iter().map(|asked| format!("{} {}", asked.verb, last(&asked.path))).collect()
    }
}

/// The API's refusal.
pub(crate) fn refusal(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": format!("because {reason}"), "code": code}),
    )
}
