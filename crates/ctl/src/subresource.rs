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
pub(crate) fn escape(segment: &str) -> String {
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

/// The reason that the client library gives to an answer which is no Status.
const NO_STATUS: &str = "Failed to parse error data";

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
        // The API server's own word for an aggregated API that is away is no Status; these are client-go's words for it.
        kube::Error::Api(status) if status.code == 503 && status.reason == NO_STATUS => {
            anyhow!("the server is currently unable to handle the request")
        }
        kube::Error::Api(status) => anyhow!("{}", status.message),
        other => anyhow!(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_away_is_told_in_client_gos_words_and_one_that_explains_itself_in_its_own() {
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"ask again","code":503}"#;
        for (body, said) in
            [("service unavailable\n", "the server is currently unable to handle the request"), (status, "ask again")]
        {
            let server = tower::service_fn(move |_: Request<kube::client::Body>| async move {
                let answer =
                    http::Response::builder().status(503).body(kube::client::Body::from(body.as_bytes().to_vec()));
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            });
            let client = Client::new(server, "default");
            let error = send(&client, Method::PUT, "/apis/x", None).await.unwrap_err();
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn a_name_stays_in_its_segment() {
        let of = |name: &str| path("ns", "virtualmachines", name, "start");
        assert!(of("a.b-1").ends_with("/namespaces/ns/virtualmachines/a.b-1/start"));
        assert!(of("a/b?c=d#e f").ends_with("/virtualmachines/a%2Fb%3Fc%3Dd%23e%20f/start"));
        assert!(of("..").ends_with("/virtualmachines/%2E%2E/start"));
    }
}
