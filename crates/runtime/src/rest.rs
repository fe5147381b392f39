//! What is measured of requests to the API server.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use fv_metrics::live;
use http::{Method, Request, Response, Uri};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::time::Instant;
use tower::{Layer, Service};

/// Upstream's word where there is nothing to say.
const NONE: &str = "none";

/// The client of a program, as its environment says, whose requests are measured.
///
/// # Errors
/// No cluster is found, or its address or credentials cannot be used.
pub async fn client() -> Result<Client, ClientError> {
    let config = Config::infer().await?;
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    Ok(ClientBuilder::try_from(config)?.with_layer(&Measured { host }).build())
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("find the cluster")]
    Find(#[from] kube::config::InferConfigError),
    #[error("make a client of the cluster")]
    Make(#[from] kube::Error),
}

/// Counts and times requests to the API server at `host`.
#[derive(Clone, Debug)]
pub struct Measured {
    pub host: String,
}

impl<S> Layer<S> for Measured {
    type Service = MeasuredService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        MeasuredService { inner, host: self.host.clone() }
    }
}

/// See [`Measured`].
#[derive(Clone, Debug)]
pub struct MeasuredService<S> {
    inner: S,
    host: String,
}

impl<S, B, R> Service<Request<B>> for MeasuredService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (method, host) = (request.method().clone(), self.host.clone());
        let Asked { resource, verb, url } = Asked::of(&method, request.uri());
        let began = Instant::now();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            live::REST_LATENCY.with_label_values(&[verb, &url]).observe(began.elapsed().as_secs_f64());
            let status = answer.as_ref().ok().map(Response::status);
            let code = status.as_ref().map_or("<error>", |status| status.as_str());
            live::REST_REQUESTS.with_label_values(&[code, method.as_str(), &host, &resource, verb]).inc();
            answer
        }
        .boxed()
    }
}

/// What a request asks for, in words of which there are few.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    resource: String,
    verb: &'static str,
    /// The path without the names of objects and namespaces.
    url: String,
}

impl Asked {
    fn of(method: &Method, uri: &Uri) -> Self {
        Self::parse(method, uri).unwrap_or_else(|| Self { resource: NONE.to_owned(), verb: NONE, url: "/".to_owned() })
    }

    fn parse(method: &Method, uri: &Uri) -> Option<Self> {
        let mut parts = uri.path().trim_start_matches('/').split('/');
        let mut url = match parts.next()? {
            "api" => format!("/api/{}", parts.next()?),
            "apis" => format!("/apis/{}/{}", parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        let rest = match *rest.as_slice() {
            // `namespaces/x/status` is a subresource, `namespaces/x/pods` is not.
            ["namespaces", _, resource, ..] if resource != "status" && resource != "finalize" => {
                url += "/namespaces/{namespace}";
                &rest[2..]
            }
            _ => &rest[..],
        };
        let (resource, named) = (*rest.first()?, rest.get(1).is_some());
        url = format!("{url}/{resource}");
        if named {
            url += "/{name}";
        }
        if let Some(subresource) = rest.get(2) {
            url = format!("{url}/{subresource}");
        }
        let watches =
            uri.query().is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")));
        let verb = match *method {
            Method::GET if watches => "WATCH",
            Method::GET if named => "GET",
            Method::GET => "LIST",
            Method::POST => "CREATE",
            Method::PUT => "UPDATE",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => NONE,
        };
        Some(Self { resource: resource.to_owned(), verb, url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_without_names_of_objects() {
        for (method, path, resource, verb, url) in [
            ("GET", "/api/v1/pods?limit=5", "pods", "LIST", "/api/v1/pods"),
            ("GET", "/api/v1/pods?a=b&watch=true", "pods", "WATCH", "/api/v1/pods"),
            ("GET", "/api/v1/namespaces/a", "namespaces", "GET", "/api/v1/namespaces/{name}"),
            ("PUT", "/api/v1/namespaces/a/finalize", "namespaces", "UPDATE", "/api/v1/namespaces/{name}/finalize"),
            (
                "PATCH",
                "/apis/kubevirt.io/v1/namespaces/a/virtualmachines/b/status",
                "virtualmachines",
                "PATCH",
                "/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}/status",
            ),
            ("POST", "/api/v1/namespaces/a/pods", "pods", "CREATE", "/api/v1/namespaces/{namespace}/pods"),
            ("DELETE", "/api/v1/nodes/n", "nodes", "DELETE", "/api/v1/nodes/{name}"),
            ("GET", "/version", "none", "none", "/"),
            ("GET", "/apis/kubevirt.io/v1", "none", "none", "/"),
        ] {
            let asked = Asked::of(&method.parse().unwrap(), &path.parse().unwrap());
            let expected = Asked { resource: resource.into(), verb, url: url.into() };
            assert_eq!(asked, expected, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn answers_are_counted_by_code_and_their_absence_too() {
        let answer = |request: Request<()>| async move {
            match request.uri().path() {
                "/api/v1/nodes" => Err("down"),
                _ => Ok(Response::builder().status(404).body(()).unwrap()),
            }
        };
        let service = Measured { host: "measured".into() }.layer(tower::service_fn(answer));
        let ask = |path: &str| tower::ServiceExt::oneshot(service.clone(), Request::get(path).body(()).unwrap());
        let _ = ask("/api/v1/nodes/a").await;
        let _ = ask("/api/v1/nodes").await;
        let count = |code: &str, verb: &str| {
            live::REST_REQUESTS.with_label_values(&[code, "GET", "measured", "nodes", verb]).get()
        };
        assert_eq!((count("404", "GET"), count("<error>", "LIST")), (1, 1));
    }
}
