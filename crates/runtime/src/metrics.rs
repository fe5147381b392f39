//! Serving metrics: `/metrics` of a program.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared, join_all};
use fv_metrics::{Samples, live, text};
use http::header::CONTENT_TYPE;
use parking_lot::{Mutex, RwLock};

use crate::queue::meter;

/// Facts that are looked up at each scrape. Must answer within a few seconds whatever it looks at: what cannot be read is left out.
pub trait Source: Send + Sync + 'static {
    /// What is known now.
    fn samples(&self) -> BoxFuture<'_, Samples>;
}

/// Answers scrapes with what lives in this process and what its sources know. Cheap to clone.
#[derive(Clone, Default)]
pub struct Exporter(Arc<Inner>);

#[derive(Default)]
struct Inner {
    sources: RwLock<Vec<Arc<dyn Source>>>,
    /// The scrape under way: whoever asks meanwhile gets its answer.
    under_way: Mutex<Option<WeakShared<BoxFuture<'static, Arc<str>>>>>,
}

impl Exporter {
    /// An exporter that also says which version this program is.
    pub fn new() -> Self {
        live::INFO.with_label_values(&["", concat!("v", env!("CARGO_PKG_VERSION"))]).set(1);
        Self::default()
    }

    /// Asks `source` as well from now on.
    pub fn add(&self, source: Arc<dyn Source>) {
        self.0.sources.write().push(source);
    }

    /// Route `/metrics`.
    pub fn router(&self) -> Router {
        let exporter = self.clone();
        let scrape = move || {
            let exporter = exporter.clone();
            async move { ([(CONTENT_TYPE, text::MEDIA_TYPE)], exporter.scrape().await.to_string()).into_response() }
        };
        Router::new().route("/metrics", get(scrape))
    }

    /// The text for Prometheus.
    pub async fn scrape(&self) -> Arc<str> {
        self.join().await
    }

    /// The scrape under way, or a new one.
    fn join(&self) -> Shared<BoxFuture<'static, Arc<str>>> {
        let mut under_way = self.0.under_way.lock();
        let running = under_way.as_ref().and_then(WeakShared::upgrade).filter(|scrape| scrape.peek().is_none());
        running.unwrap_or_else(|| {
            let inner = Arc::clone(&self.0);
            let scrape = async move { inner.gather().await }.boxed().shared();
            *under_way = scrape.downgrade();
            scrape
        })
    }
}

impl Inner {
    async fn gather(&self) -> Arc<str> {
        let sources: Vec<Arc<dyn Source>> = self.sources.read().clone();
        let mut all = Samples::default();
        meter::sample(&mut all);
        for samples in join_all(sources.iter().map(|source| source.samples())).await {
            all.extend(samples);
        }
        text::render(&all).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fv_metrics::catalogue::own::LIBVIRT_CONNECTED;
    use tokio::sync::Semaphore;

    /// Answers once it may.
    struct Slow {
        asked: AtomicUsize,
        may: Semaphore,
    }

    impl Source for Slow {
        fn samples(&self) -> BoxFuture<'_, Samples> {
            async {
                let number = self.asked.fetch_add(1, Ordering::SeqCst);
                self.may.acquire().await.unwrap().forget();
                let mut samples = Samples::default();
                samples.push(&LIBVIRT_CONNECTED, &["slow"], number as f64);
                samples
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn scrapes_at_the_same_time_share_one_look_and_a_later_one_looks_anew() {
        let source = Arc::new(Slow { asked: AtomicUsize::new(0), may: Semaphore::new(0) });
        let exporter = Exporter::new();
        exporter.add(source.clone());
        let scrapes: Vec<_> = (0..5)
            .map(|_| {
                let exporter = exporter.clone();
                tokio::spawn(async move { exporter.scrape().await })
            })
            .collect();
        while source.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // Each of the others has joined before the look may end.
        let joined = || exporter.join().strong_count().unwrap_or_default() > scrapes.len();
        while !joined() {
            tokio::task::yield_now().await;
        }
        source.may.add_permits(1);
        for scrape in scrapes {
            assert!(scrape.await.unwrap().contains("ferrovirt_libvirt_connected{node=\"slow\"} 0"));
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);
        source.may.add_permits(1);
        assert!(exporter.scrape().await.contains("ferrovirt_libvirt_connected{node=\"slow\"} 1"));
    }

    #[tokio::test]
    async fn a_scrape_that_is_given_up_does_not_stop_the_next() {
        let source = Arc::new(Slow { asked: AtomicUsize::new(0), may: Semaphore::new(0) });
        let exporter = Exporter::new();
        exporter.add(source.clone());
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(20), exporter.scrape());
        assert!(given_up.await.is_err());
        source.may.add_permits(1);
        assert!(exporter.scrape().await.contains("kubevirt_info{goversion=\"\",kubeversion=\"v"));
    }

    #[tokio::test]
    async fn answer_has_the_media_type_of_prometheus() {
        use tower::ServiceExt as _;
        let request = http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
        let response = Exporter::new().router().oneshot(request).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; version=0.0.4");
    }
}
