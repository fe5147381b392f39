//! Whether a user may use a subresource: the cluster is asked each time (SubjectAccessReview), with upstream's verbs, resources and
//! answers. Nothing is remembered: a right that was taken away is gone at once.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fv_runtime::tls::PeerCertificate;
use http::{Method, StatusCode};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::deadline::within;
use crate::front_proxy::{FrontProxy, User};
use crate::{GROUP, VERSIONS};

/// What stands before the subresources.
#[derive(Clone)]
pub struct Gate {
    client: Client,
    proxy: Arc<FrontProxy>,
}

impl Gate {
    /// `client` acts as virt-api, which may create SubjectAccessReviews.
    pub fn new(client: Client, proxy: Arc<FrontProxy>) -> Self {
        Self { client, proxy }
    }

    /// Whether `user` may; the reason when not.
    async fn ask(&self, user: User, attributes: ResourceAttributes) -> Result<Result<(), String>, kube::Error> {
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name),
            uid: user.uid,
            groups: Some(user.groups),
            extra: Some(user.extra),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = within(reviews.create(&PostParams::default(), &review)).await?.status.unwrap_or_default();
        Ok(if status.allowed { Ok(()) } else { Err(status.reason.unwrap_or_default()) })
    }
}

/// What a request needs.
#[derive(Clone, Debug, PartialEq)]
enum Access {
    /// Nothing: discovery and health.
    Open,
    Needs(Box<ResourceAttributes>),
    /// Nothing is served there.
    Nowhere,
}

/// Lets through what the user may do. For [`axum::middleware::from_fn_with_state`].
pub async fn authorize(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let attributes = match access(request.method(), request.uri().path()) {
        Access::Open => return next.run(request).await,
        Access::Needs(attributes) => *attributes,
        Access::Nowhere => return (StatusCode::NOT_FOUND, "404 page not found").into_response(),
    };
    let peer = request.extensions().get::<PeerCertificate>();
    let Some(user) = gate.proxy.user(peer, request.headers()) else {
        return (StatusCode::UNAUTHORIZED, "request is not authenticated").into_response();
    };
    match gate.ask(user, attributes).await {
        Ok(Ok(())) => next.run(request).await,
        // Not 403, as upstream: clients tell it from a refusal by the aggregation layer.
        Ok(Err(reason)) => (StatusCode::UNAUTHORIZED, reason).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the API does not say what a user may do");
            let is_late = matches!(&error, kube::Error::Api(status) if status.code == 504);
            let code = if is_late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::INTERNAL_SERVER_ERROR };
            (code, "the API server does not say whether this is allowed").into_response()
        }
    }
}

fn access(method: &Method, path: &str) -> Access {
    // Names of objects need no escapes. One would be read here in another way than by the routes.
    if path.contains('%') {
        return Access::Nowhere;
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        ["apis", GROUP] => Access::Open,
        ["apis", GROUP, version, ref rest @ ..] if VERSIONS.contains(&version) => match rest {
            [] | ["version" | "healthz"] => Access::Open,
            ["namespaces", namespace, resource, name, sub @ ..] if !sub.is_empty() => {
                Access::Needs(Box::new(attributes(method, version, namespace, resource, name, sub)))
            }
            _ => Access::Nowhere,
        },
        _ => Access::Nowhere,
    }
}

fn attributes(
    method: &Method,
    version: &str,
    namespace: &str,
    resource: &str,
    name: &str,
    sub: &[&str],
) -> ResourceAttributes {
    let verb = match method.as_str() {
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "POST" => "create",
        "PATCH" => "patch",
        "DELETE" => "delete",
        other => other,
    };
    // Port and protocol are no part of what may be allowed.
    let subresource = if sub[0] == "portforward" { sub[0].to_owned() } else { sub.join("/") };
    ResourceAttributes {
        group: Some(GROUP.to_owned()),
        version: Some(version.to_owned()),
        namespace: Some(namespace.to_owned()),
        resource: Some(resource.to_owned()),
        name: Some(name.to_owned()),
        subresource: Some(subresource),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/apis/subresources.kubevirt.io";

    /// verb, namespace, resource, name, subresource.
    fn needs(method: Method, path: &str) -> [String; 5] {
        let Access::Needs(a) = access(&method, path) else { panic!("{path} needs nothing") };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        assert_eq!(text(&a.group), GROUP);
        [text(&a.verb), text(&a.namespace), text(&a.resource), text(&a.name), text(&a.subresource)]
    }

    #[test]
    fn requests_become_the_words_of_roles() {
        for (method, path, expected) in [
            (
                Method::PUT,
                "v1/namespaces/ns/virtualmachines/a/start",
                ["update", "ns", "virtualmachines", "a", "start"],
            ),
            (
                Method::GET,
                "v1alpha3/namespaces/ns/virtualmachineinstances/a/console",
                ["get", "ns", "virtualmachineinstances", "a", "console"],
            ),
            (
                Method::GET,
                "v1/namespaces/ns/virtualmachineinstances/a/portforward/22/tcp",
                ["get", "ns", "virtualmachineinstances", "a", "portforward"],
            ),
            (
                Method::GET,
                "v1/namespaces/ns/virtualmachineinstances/a/vnc/screenshot",
                ["get", "ns", "virtualmachineinstances", "a", "vnc/screenshot"],
            ),
        ] {
            assert_eq!(needs(method, &format!("{BASE}/{path}")), expected, "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_the_api_server_does_not_tell_in_time_is_not_waited_for() {
        let gate = Gate::new(crate::deadline::tests::silent(), Arc::default());
        let asked = gate.ask(User::default(), ResourceAttributes::default());
        match tokio::time::timeout(std::time::Duration::from_secs(30), asked).await.unwrap() {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 504),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn discovery_and_health_are_open_and_nothing_else_is() {
        for path in ["", "/v1", "/v1/", "/v1alpha3", "/v1/version", "/v1/healthz"] {
            assert_eq!(access(&Method::GET, &format!("{BASE}{path}")), Access::Open, "{path}");
        }
        for path in [
            "/v2",
            "/v1/namespaces/ns/virtualmachines",
            "/v1/namespaces/ns/virtualmachines/a",
            "/v1/namespaces/n%73/virtualmachines/a/start",
            "/v1/version/x",
        ] {
            assert_eq!(access(&Method::GET, &format!("{BASE}{path}")), Access::Nowhere, "{path}");
        }
    }
}
