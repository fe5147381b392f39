//! Who gets in, and how the listener behaves.

use std::time::Duration;

use fv_apiserver::tls::listen;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::Served;

async fn anonymous(served: &Served, path: &str) -> String {
    let url = format!("https://{}", served.address);
    let args = [
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        "--token=none",
        "--server",
        &url,
        "get",
        "--raw",
        path,
    ];
    let said = served.run(&args).await;
    said.out + &said.err
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anonymous_requests_are_unauthorized_except_for_health() {
    let served = Served::start().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(anonymous(&served, path).await, "ok", "{path}");
    }
    for path in ["/api", "/apis", "/version", "/api/v1/namespaces", "/openapi/v3", "/nothing"] {
        let answer = anonymous(&served, path).await;
        assert!(answer.contains("Unauthorized") || answer.contains("must be logged in"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_do_not_block_others() {
    let served = Served::start().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(served.address).await.unwrap());
    }
    let mut garbage = tokio::net::TcpStream::connect(served.address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let namespaces = served.run(&["get", "namespaces", "-o", "name"]).await.out();
    assert!(namespaces.contains("namespace/default"), "{namespaces}");
    // Not TLS: the connection is closed (after an alert), it does not linger.
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), garbage.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "a connection that does not speak TLS stays open");
}

#[tokio::test]
async fn a_used_port_is_named_with_the_way_out() {
    let served = Served::start().await;
    let error = listen(served.address).await.unwrap_err().to_string();
    assert!(error.contains(&served.address.to_string()) && error.contains("--listen"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_watches_and_frees_the_port() {
    let served = Served::start().await;
    let address = served.address;
    let mut watch = served.spawn(&["get", "namespaces", "--watch", "-o", "name"]);
    let mut out = watch.stdout.take().unwrap();
    let mut first = [0; 9];
    out.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"namespace");
    served.stop().await;
    listen(address).await.unwrap();
    watch.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoami_is_in_the_version_and_raw_paths_work() {
    let served = Served::start().await;
    let version = served.run(&["version", "-o", "json"]).await.out();
    assert!(version.contains("serverVersion"), "{version}");
    let raw = served.run(&["get", "--raw", "/api/v1/namespaces/default"]).await.out();
    assert!(raw.contains("\"kind\":\"Namespace\""), "{raw}");
    let missing = served.run(&["get", "--raw", "/apis/none.example.com/v1"]).await.refused();
    assert!(missing.contains("NotFound"), "{missing}");
}
