//! Many requests on one HTTP/2 connection.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use fv_apiserver::{ApiServerBuilder, Limits, Store, UserInfo};
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// Nothing here takes longer unless it hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Who says so is somebody.
async fn identify(mut request: Request) -> Request {
    if request.headers().contains_key("x-user") {
        request.extensions_mut().insert(UserInfo::admin("test"));
    }
    request
}

/// A connection to a server of its own.
async fn connect(limits: Limits) -> SendRequest<Body> {
    let server = ApiServerBuilder::new(Store::memory()).limits(limits).build().await.unwrap();
    let router = server.router().layer(axum::middleware::map_request(identify));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The code of the answer; none when the server wanted no more of the body before the client had the answer.
async fn answer(
    sender: &mut SendRequest<Body>,
    method: &str,
    path: &str,
    user: bool,
    body: Body,
) -> Option<StatusCode> {
    let mut request = Request::builder().method(method).uri(format!("http://x{path}"));
    if user {
        request = request.header("x-user", "test");
    }
    let request = request.header("content-type", "application/json").body(body).unwrap();
    let sent = tokio::time::timeout(LIMIT, async {
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.ok()?;
        let code = response.status();
        let _ = response.into_body().collect().await;
        Some(code)
    });
    sent.await.unwrap_or_else(|_| panic!("{method} {path} hangs"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_bodies_keep_nothing_of_the_connection() {
    let body = |size: usize| Body::from(vec![b' '; size]);
    for (method, path, user, size, code) in [
        ("POST", MAPS, false, 256 << 10, 401),
        ("POST", "/nowhere", true, 256 << 10, 404),
        ("POST", "/api/v1/namespaces/default/services", true, 256 << 10, 404),
        ("GET", "/api/v1/namespaces/default/configmaps/none", true, 256 << 10, 404),
        ("GET", "/livez", true, 256 << 10, 200),
        ("POST", "/api/v1/namespaces/default/configmaps?timeout=x", true, 256 << 10, 400),
        ("POST", MAPS, true, 4 << 20, 413),
    ] {
        let mut sender = connect(Limits::default()).await;
        for _ in 0..20 {
            let refused = answer(&mut sender, method, path, user, body(size)).await;
            assert!(refused.is_none_or(|answer| answer == code), "{method} {path}: {refused:?}");
        }
        let good = config_map("a", &"x".repeat(1 << 20)).to_string();
        let made = answer(&mut sender, "POST", MAPS, true, Body::from(good)).await;
        assert_eq!(made, Some(StatusCode::CREATED), "after {method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_requests_that_found_no_place_keep_nothing_of_the_connection() {
    // A place is waited for a quarter of the time: the bodies are there when they are refused.
    let mut sender = connect(Limits { writing: 1, time: Duration::from_secs(4), ..Limits::default() }).await;
    let (end, unfinished) = futures::channel::mpsc::unbounded::<Result<bytes::Bytes, std::io::Error>>();
    let mut other = sender.clone();
    let slow = tokio::spawn(async move {
        let body = Body::from_stream(unfinished);
        answer(&mut other, "POST", MAPS, true, body).await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = (0..12).map(|_| {
        let mut sender = sender.clone();
        async move { answer(&mut sender, "POST", MAPS, true, Body::from(vec![b' '; 256 << 10])).await }
    });
    for refused in futures::future::join_all(refused).await {
        assert!(refused.is_none_or(|code| code == 429), "{refused:?}");
    }
    end.unbounded_send(Ok(json!({"metadata": {"name": "slow"}}).to_string().into())).unwrap();
    drop(end);
    assert_eq!(slow.await.unwrap(), Some(StatusCode::CREATED));
    let good = config_map("a", &"x".repeat(1 << 20)).to_string();
    assert_eq!(answer(&mut sender, "POST", MAPS, true, Body::from(good)).await, Some(StatusCode::CREATED));
}
