//! What kube-apiserver's aggregation layer asks an API server for besides the resources: the groups, and OpenAPI.
//!
//! The OpenAPI documents describe no paths: subresources have no schema that a client could use, and upstream's are of no use to
//! `kubectl explain` either. They exist, so that the aggregation layer does not report an error each minute.

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};

use crate::{GROUP, VERSIONS};

/// The routes, open to everybody.
pub fn router() -> Router {
    let mut router = Router::new()
        .route("/apis", get(|| async { axum::Json(groups()) }))
        .route(&format!("/apis/{GROUP}"), get(|| async { axum::Json(group()) }))
        .route("/openapi/v2", get(|| async { axum::Json(swagger()) }))
        .route("/openapi/v3", get(|| async { axum::Json(openapi_index()) }));
    for version in VERSIONS {
        let path = format!("/openapi/v3/apis/{GROUP}/{version}");
        router = router.route(&path, get(|| async { axum::Json(openapi()) }));
    }
    router
}

fn group() -> Value {
    let version = |version: &str| json!({"groupVersion": format!("{GROUP}/{version}"), "version": version});
    json!({
        "kind": "APIGroup", "apiVersion": "v1",
        // Upstream's document names itself without the last s.
        "name": "subresource.kubevirt.io",
        "versions": VERSIONS.map(version),
        "preferredVersion": version(VERSIONS[0]),
    })
}

fn groups() -> Value {
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]})
}

fn info() -> Value {
    json!({"title": "KubeVirt API", "version": "v1"})
}

fn swagger() -> Value {
    json!({"swagger": "2.0", "info": info(), "paths": {}})
}

fn openapi() -> Value {
    json!({"openapi": "3.0.0", "info": info(), "paths": {}})
}

fn openapi_index() -> Value {
    let path = |version: &str| {
        let name = format!("apis/{GROUP}/{version}");
        let url = format!("/openapi/v3/{name}?hash={}", env!("CARGO_PKG_VERSION"));
        (name, json!({"serverRelativeURL": url}))
    };
    json!({"paths": VERSIONS.map(path).into_iter().collect::<serde_json::Map<_, _>>()})
}
