//! Requests to `subresources.kubevirt.io`.

use anyhow::anyhow;
use http::{Method, Request};
use kube::Client;
use serde_json::Value;

/// The path of a subresource.
pub(crate) fn path(namespace: &str, resource: &str, name: &str, subresource: &str) -> String {
    let group = "/apis/subresources.kubevirt.io/v1";
    format!("{group}/namespaces/{}/{resource}/{}/{subresource}", escape(namespace), escape(name))
}

/// One segment of a path: what a user typed never reaches into another.
fn escape(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => escaped.push(char::from(byte)),
            b'.' if !segment.bytes().all(|b| b == b'.') => escaped.push('.'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// Sends a request with an optional JSON body. The error is the server's message alone.
pub(crate) async fn send(client: &Client, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<String> {
    let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(bytes)?;
    client.request_text(request).await.map_err(plain)
}

/// What the server said, without the client library's words around it.
pub(crate) fn plain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("{}", status.message),
        other => anyhow!(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_segment() {
        let of = |name: &str| path("ns", "virtualmachines", name, "start");
        assert!(of("a.b-1").ends_with("/namespaces/ns/virtualmachines/a.b-1/start"));
        assert!(of("a/b?c=d#e f").ends_with("/virtualmachines/a%2Fb%3Fc%3Dd%23e%20f/start"));
        assert!(of("..").ends_with("/virtualmachines/%2E%2E/start"));
    }
}
