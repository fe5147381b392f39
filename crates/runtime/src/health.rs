//! What probes are told: `/livez` while the process serves at all, `/healthz` and `/readyz` once each of its parts is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fv_metrics::live;
use http::StatusCode;
use parking_lot::RwLock;

/// The parts of a process and whether each is ready; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<RwLock<BTreeMap<&'static str, bool>>>,
    gauge: Option<&'static live::Gauges>,
}

impl Health {
    /// Health that `gauge` shows as well.
    pub fn measured(gauge: &'static live::Gauges) -> Self {
        live::set(gauge, true);
        Self { gauge: Some(gauge), ..Self::default() }
    }

    /// Says whether `part` is ready; a part counts from the first time it is named.
    pub fn set(&self, part: &'static str, ready: bool) {
        let mut parts = self.parts.write();
        parts.insert(part, ready);
        if let Some(gauge) = self.gauge {
            live::set(gauge, parts.values().all(|ready| *ready));
        }
    }

    /// The parts that are not ready.
    pub fn missing(&self) -> Vec<&'static str> {
        self.parts.read().iter().filter(|(_, ready)| !**ready).map(|(part, _)| *part).collect()
    }

    /// Routes `/livez`, `/healthz` and `/readyz`.
    ///
    /// Nothing outside the process makes it dead: restarting it would not bring back what it waits for.
    pub fn router(&self) -> Router {
        let ready = {
            let health = self.clone();
            move || {
                let health = health.clone();
                async move { health.answer() }
            }
        };
        Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route("/healthz", get(ready.clone()))
            .route("/readyz", get(ready))
    }

    fn answer(&self) -> Response {
        match self.missing() {
            missing if missing.is_empty() => "ok".into_response(),
            missing => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}", missing.join(", "))).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    async fn ask(health: &Health, path: &str) -> (u16, String) {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = health.router().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        (code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_process_is_ready_when_all_its_parts_are_and_lives_all_the_time() {
        let gauge = || live::API_READY.with_label_values::<&str>(&[]).get();
        let health = Health::measured(&live::API_READY);
        assert_eq!(gauge(), 1, "nothing is missing");
        health.set("caches", false);
        health.set("certificates", true);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(ask(&health, path).await, (503, "not ready: caches".to_owned()));
        }
        assert_eq!(ask(&health, "/livez").await.0, 200);
        assert_eq!(gauge(), 0);
        health.set("caches", true);
        assert_eq!(ask(&health, "/healthz").await, (200, "ok".to_owned()));
        assert_eq!(gauge(), 1);
    }
}
