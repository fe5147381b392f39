//! Responses: which representation a client accepts, and how it is written.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::status::Status;

/// What a client wants objects to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) shape: Shape,
    pub(crate) yaml: bool,
}

/// Objects, or a view of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
    PartialMetadata,
}

impl Format {
    /// Picks the first representation of the `Accept` header (by weight) that can be made.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Format, Status> {
        let mut ranges: Vec<(f32, &str)> = Vec::new();
        for accept in headers.get_all(header::ACCEPT) {
            for range in accept.to_str().unwrap_or_default().split(',').map(str::trim).filter(|r| !r.is_empty()) {
                let weight = parameter(range, "q").and_then(|q| q.parse().ok()).unwrap_or(1.0);
                ranges.push((weight, range));
            }
        }
        if ranges.is_empty() {
            return Ok(Format { shape: Shape::Object, yaml: false });
        }
        ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranges.iter().filter(|(weight, _)| *weight > 0.0).find_map(|(_, range)| offer(range)).ok_or_else(|| {
            Status::not_acceptable(&[
                "application/json",
                "application/yaml",
                "application/json;as=Table;g=meta.k8s.io;v=v1",
            ])
        })
    }
}

fn offer(range: &str) -> Option<Format> {
    let media = range.split(';').next().unwrap_or_default().trim();
    let yaml = match media {
        "application/json" | "application/*" | "*/*" => false,
        "application/yaml" => true,
        _ => return None,
    };
    let meta = parameter(range, "g") == Some("meta.k8s.io") && parameter(range, "v") == Some("v1");
    let shape = match parameter(range, "as") {
        None => Shape::Object,
        Some("Table") if meta => Shape::Table,
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta => Shape::PartialMetadata,
        Some(_) => return None,
    };
    Some(Format { shape, yaml })
}

fn parameter<'a>(range: &'a str, name: &str) -> Option<&'a str> {
    range.split(';').skip(1).find_map(|p| {
        let (key, value) = p.trim().split_once('=')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// A failure.
pub(crate) fn failure(status: &Status, warnings: &[String]) -> Response {
    let body = status.to_json().to_string();
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_bytes(code, body.into(), warnings);
    if status.retry_after_seconds > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, status.retry_after_seconds.into());
    }
    if status.code == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A JSON value.
pub(crate) fn json(code: StatusCode, value: &Value, warnings: &[String]) -> Response {
    json_bytes(code, value.to_string().into(), warnings)
}

/// Bytes which are JSON already.
pub(crate) fn json_bytes(code: StatusCode, body: Bytes, warnings: &[String]) -> Response {
    json_body(code, Body::from(body), warnings)
}

/// A body which is JSON already.
pub(crate) fn json_body(code: StatusCode, body: Body, warnings: &[String]) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    add_warnings(headers, warnings);
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, body: &str) -> Response {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Rewrites a JSON response as YAML.
pub(crate) fn yaml(code: StatusCode, body: &[u8], warnings: &[String]) -> Response {
    let mut value: Value = serde_json::from_slice(body).unwrap_or_default();
    value.sort_all_objects();
    match serde_saphyr::to_string(&value) {
        Ok(text) => {
            let mut response = json_bytes(code, text.into(), warnings);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
            response
        }
        Err(error) => failure(&Status::internal(format!("the object cannot be written as YAML: {error}")), warnings),
    }
}

/// All warnings together stay below what clients accept as headers.
const WARNINGS_LIMIT: usize = 4096;

pub(crate) fn add_warnings(headers: &mut HeaderMap, warnings: &[String]) {
    let mut size = 0;
    for text in warnings {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace(|c: char| c.is_control(), " ");
        size += quoted.len();
        if size > WARNINGS_LIMIT {
            break;
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Option<(Shape, bool)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Format::negotiate(&headers).ok().map(|f| (f.shape, f.yaml))
    }

    #[test]
    fn accept_headers_of_real_clients_are_served() {
        for (accept, expected) in [
            ("application/json", Some((Shape::Object, false))),
            ("*/*", Some((Shape::Object, false))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Shape::Object, false))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some((Shape::Table, false)),
            ),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Some((Shape::PartialMetadata, false))),
            ("application/yaml", Some((Shape::Object, true))),
            ("application/json;q=0.1, application/yaml", Some((Shape::Object, true))),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
        ] {
            assert_eq!(negotiate(accept), expected, "{accept}");
        }
    }
}
