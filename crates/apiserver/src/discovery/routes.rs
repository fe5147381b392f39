//! From a request to a discovery document.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{AggregatedVersion, api_group, api_group_list, api_resource_list, api_versions, group_discovery_list};
use crate::registry::Tables;

/// Answers a GET of a discovery path; `None` when the path is not one or names a group or version that is not served.
pub fn respond(tables: &Tables, path: &str, headers: &HeaderMap) -> Option<Response> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let json = |value: Value| reply(&value, "application/json", headers);
    match parts.as_slice() {
        [root @ ("api" | "apis")] => {
            let core = *root == "api";
            Some(match aggregated_version(headers) {
                Some(AggregatedVersion::V2) => reply(
                    &group_discovery_list(tables, core, AggregatedVersion::V2),
                    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                    headers,
                ),
                Some(AggregatedVersion::V2Beta1) => reply(
                    &group_discovery_list(tables, core, AggregatedVersion::V2Beta1),
                    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                    headers,
                ),
                None if core => json(api_versions()),
                None => json(api_group_list(tables)),
            })
        }
        ["api", version] => api_resource_list(tables, "", version).map(json),
        ["apis", group] => api_group(tables, group).map(json),
        ["apis", group, version] => api_resource_list(tables, group, version).map(json),
        _ => None,
    }
}

/// The aggregated form the client prefers, if it prefers one to plain JSON.
fn aggregated_version(headers: &HeaderMap) -> Option<AggregatedVersion> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (mut group, mut version, mut target) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                Some(("as", value)) => target = value,
                _ => {}
            }
        }
        match (media, group, target, version) {
            ("application/json", "apidiscovery.k8s.io", "APIGroupDiscoveryList", "v2") => {
                return Some(AggregatedVersion::V2);
            }
            ("application/json", "apidiscovery.k8s.io", "APIGroupDiscoveryList", "v2beta1") => {
                return Some(AggregatedVersion::V2Beta1);
            }
            ("application/json" | "*/*" | "application/*", "", "", "") => return None,
            _ => {}
        }
    }
    None
}

fn reply(value: &Value, content_type: &'static str, headers: &HeaderMap) -> Response {
    let body = value.to_string();
    let etag = format!("\"{}\"", hex::encode_upper(Sha256::digest(body.as_bytes())));
    let fresh = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = Response::new(if fresh { Body::empty() } else { Body::from(body) });
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    response
}
