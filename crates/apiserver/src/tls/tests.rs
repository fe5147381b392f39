use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jiff::{Timestamp, ToSpan as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::*;
use crate::auth::user_from_certificate;

fn at(days: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + (days * 24).hours()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn certificates_are_kept_until_they_are_old_or_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("pki");
    let pki = Pki::open(&dir, at(0)).unwrap();
    let server = pki.server(&["10.1.2.3".into(), "host".into()], at(0)).unwrap();
    let again = Pki::open(&dir, at(100)).unwrap();
    assert_eq!(again.ca_certificate(), pki.ca_certificate());
    assert_eq!(again.server(&["host".into()], at(100)).unwrap().certificate, server.certificate);
    assert_ne!(again.server(&["other".into()], at(100)).unwrap().certificate, server.certificate, "a new name");
    let client = again.client("admin", "me", "system:masters", at(0)).unwrap();
    assert_eq!(again.client("admin", "me", "system:masters", at(100)).unwrap().certificate, client.certificate);
    assert_ne!(
        again.client("admin", "me", "system:masters", at(300)).unwrap().certificate,
        client.certificate,
        "too old"
    );
    assert_ne!(again.client("admin", "you", "", at(300)).unwrap().certificate, client.certificate, "another user");
    assert_eq!((mode(&dir), mode(&dir.join("ca.pem")), mode(&dir.join("client-admin.pem"))), (0o700, 0o600, 0o600));
}

#[test]
fn a_damaged_authority_is_an_error_and_a_damaged_leaf_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), at(0)).unwrap();
    pki.server(&[], at(0)).unwrap();
    std::fs::write(dir.path().join("server.pem"), "nonsense").unwrap();
    pki.server(&[], at(0)).unwrap();
    std::fs::write(dir.path().join("ca.pem"), "nonsense").unwrap();
    let error = Pki::open(dir.path(), at(0)).unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("move it away"), "{error}");
}

#[test]
fn a_new_authority_replaces_what_the_old_one_issued() {
    let dir = tempfile::tempdir().unwrap();
    let old = Pki::open(dir.path(), at(0)).unwrap().server(&[], at(0)).unwrap();
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let new = Pki::open(dir.path(), at(0)).unwrap().server(&[], at(0)).unwrap();
    assert_ne!(old.certificate, new.certificate);
}

#[test]
fn a_certificate_names_its_user_and_group() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), at(0)).unwrap();
    let client = pki.client("admin", "kubernetes-admin", "system:masters", at(0)).unwrap();
    let der = CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
    let user = user_from_certificate(&der).unwrap();
    assert_eq!(user.username, "kubernetes-admin");
    assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
    assert_eq!(user_from_certificate(b"nonsense"), None);
}

#[test]
fn kubeconfigs_are_private_and_never_replace_another_programs_file() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(&dir.path().join("pki"), at(0)).unwrap();
    let client = pki.client("admin", "a", "", at(0)).unwrap();
    let listen = "0.0.0.0:6443".parse().unwrap();
    let config = Kubeconfig { name: "ferrovirt-x", listen, ca_certificate: pki.ca_certificate(), client: &client };
    let path = dir.path().join("sub/kubeconfig");
    config.write(&path).unwrap();
    config.write(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("server: https://127.0.0.1:6443") && text.contains("current-context: \"ferrovirt-x\""),
        "{text}"
    );
    std::fs::write(&path, "apiVersion: v1\nkind: Config\n").unwrap();
    let error = config.write(&path).unwrap_err().to_string();
    assert!(error.contains("--write-kubeconfig"), "{error}");
}

/// A router that answers an upgrade by echoing bytes, and tells who asks otherwise.
fn echo_router() -> axum::Router {
    use axum::extract::Request;
    use axum::response::{IntoResponse as _, Response};

    async fn answer(mut request: Request) -> Response {
        if !request.headers().contains_key("upgrade") {
            let user = request.extensions().get::<crate::UserInfo>();
            return user.map_or("nobody".to_owned(), |u| u.username.clone()).into_response();
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(hyper_util::rt::TokioIo::new(upgrade.await.unwrap()));
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        });
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", "echo".parse().unwrap());
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response
    }
    axum::Router::new().fallback(answer)
}

#[tokio::test]
async fn connections_can_be_upgraded_and_carry_their_user() {
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let pki = Pki::open(dir.path(), now).unwrap();
    let client = pki.client("admin", "me", "", now).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca_certificate().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap()],
            rustls_pki_types::PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(ServerTls::new(pki, vec![], now).unwrap());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(serve_tls(listener, echo_router(), tls, shutdown.clone()));

    let connect = async || {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
        connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
    };
    let mut plain = connect().await;
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = plain.read_to_string(&mut answer).await;
    assert!(answer.ends_with("\r\n\r\nme"), "{answer}");

    let mut upgraded = connect().await;
    upgraded.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(upgraded.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    upgraded.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    upgraded.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
    shutdown.cancel();
    server.await.unwrap();
}
