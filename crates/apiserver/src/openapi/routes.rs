//! From a request to an OpenAPI document.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::gnostic;
use super::{document, hash, index, swagger_document, swagger_hash};
use crate::registry::Tables;
use crate::status::Status;

const JSON: &str = "application/json";

/// Answers a GET below `/openapi`; `None` when the path is not one of ours.
pub fn respond(tables: &Tables, path: &str, query: Option<&str>, headers: &HeaderMap) -> Option<Response> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match parts.as_slice() {
        ["openapi", "v2"] => match preferred(accept, &[JSON, gnostic::MEDIA_TYPES[0], gnostic::MEDIA_TYPES[1]]) {
            Some(media) => Some(swagger(tables, media == JSON, headers)),
            None => Some(not_acceptable(&[JSON, gnostic::MEDIA_TYPES[0]])),
        },
        ["openapi", "v3", ..] if preferred(accept, &[JSON]).is_none() => Some(not_acceptable(&[JSON])),
        ["openapi", "v3"] => {
            let body = index(tables).to_string();
            let etag = hex::encode_upper(Sha256::digest(body.as_bytes()));
            Some(reply(body.into(), JSON, &etag, false, headers))
        }
        ["openapi", "v3", "api", version] => versioned(tables, "", version, query, headers),
        ["openapi", "v3", "apis", group, version] => versioned(tables, group, version, query, headers),
        _ => None,
    }
}

/// The one v2 document, as JSON or protobuf.
fn swagger(tables: &Tables, json: bool, headers: &HeaderMap) -> Response {
    let etag = format!("{}{}", swagger_hash(tables), if json { "" } else { "P" });
    let body = match not_modified(&etag, headers) {
        true => Bytes::new(),
        false if json => swagger_document(tables).to_string().into(),
        false => gnostic::encode(&swagger_document(tables)).into(),
    };
    reply(body, if json { JSON } else { gnostic::MEDIA_TYPE }, &etag, false, headers)
}

fn versioned(
    tables: &Tables,
    group: &str,
    version: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<Response> {
    let etag = hash(tables, group, version);
    // A client that names the hash it wants may keep the answer for ever.
    let pinned = query.unwrap_or_default().split('&').any(|pair| pair.strip_prefix("hash=") == Some(etag.as_str()));
    if not_modified(&etag, headers) {
        return Some(reply(Bytes::new(), JSON, &etag, pinned, headers));
    }
    let body: Value = document(tables, group, version)?;
    Some(reply(body.to_string().into(), JSON, &etag, pinned, headers))
}

/// The first form the client accepts; any will do when it does not say.
fn preferred(accept: &str, offered: &[&'static str]) -> Option<&'static str> {
    let mut ranges =
        accept.split(',').map(|r| r.split(';').next().unwrap_or_default().trim()).filter(|r| !r.is_empty());
    if accept.trim().is_empty() {
        return offered.first().copied();
    }
    ranges.find_map(|range| match range {
        "*/*" | "application/*" => offered.first().copied(),
        named => offered.iter().copied().find(|media| *media == named),
    })
}

fn not_acceptable(offered: &[&str]) -> Response {
    let status = Status::not_acceptable(offered);
    let mut response = Response::new(Body::from(status.to_json().to_string()));
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

fn not_modified(etag: &str, headers: &HeaderMap) -> bool {
    headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|v| v.trim_matches('"') == etag)
}

fn reply(body: Bytes, media: &'static str, etag: &str, pinned: bool, headers: &HeaderMap) -> Response {
    let known = not_modified(etag, headers);
    let mut response = Response::new(if known { Body::empty() } else { Body::from(body) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    let cache = if pinned { "public, max-age=31536000, immutable" } else { "no-cache, private" };
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        out.insert(header::ETAG, etag);
    }
    response
}
