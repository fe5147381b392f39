//! kubectl's flags, as they reach the server.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{VIRTCTL, World, text};

/// Takes one request, answers it and gives back its head in small letters.
async fn request_of(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = String::new();
    while !head.contains("\r\n\r\n") {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "the request ends early: {head}");
        head.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    head.to_ascii_lowercase()
}

/// virtctl where no kubeconfig is.
fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(VIRTCTL);
    command.args(args).env_remove("KUBECONFIG").env("HOME", "/nonexistent").stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_alone_say_who_asks_which_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("--server=http://{}", listener.local_addr().unwrap());
    let request = tokio::spawn(request_of(listener));
    let flags = ["--as=me", "--as-group=one", "--as-group", "two", "--as-uid=7", "-v=6", "-n", "ns"];
    let mut command = bare(&["guestosinfo", "demo", &server]);
    let output = command.args(flags).env("VIRTCTL_TOKEN", "secret").output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let request = request.await.unwrap();
    let path = "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachineinstances/demo/guestosinfo";
    for header in [
        &format!("get {path} http/1.1"),
        "impersonate-user: me",
        "impersonate-group: one",
        "impersonate-group: two",
        "impersonate-uid: 7",
        "authorization: bearer secret",
    ] {
        assert!(request.lines().any(|line| line == header), "{header}: {request}");
    }
    let shown = text(&output.stderr);
    let url = server.trim_start_matches("--server=");
    assert!(shown.starts_with(&format!("GET {url}{path} 200 OK in ")) && shown.ends_with(" milliseconds"), "{shown}");
    assert!(!shown.contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_not_waited_for_longer_than_asked() {
    // It takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("--server=http://{}", listener.local_addr().unwrap());
    for (verb, limit) in [
        ("start", "--request-timeout=200ms"),
        ("vnc", "--request-timeout=1"),
        ("guestosinfo", "--request-timeout=0.2s"),
    ] {
        let output = bare(&[verb, "demo", &server, limit]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("no answer from the API server within --request-timeout "), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_no_open_console() {
    let mut world = World::new().await;
    world.add_vmi(&serde_json::json!([])).await;
    let mut child = world.spawn(&["console", "demo", "--request-timeout=300ms"]);
    let mut guest = world.guests.recv().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    guest.write_all(b"login: ").await.unwrap();
    let mut prompt = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut prompt).await.unwrap();
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_come_from_files() {
    let world = World::new().await;
    world.add_vm("Halted").await;
    let kubeconfig = kube::config::Kubeconfig::read_from(&world.kubeconfig).unwrap();
    let cluster = kubeconfig.clusters[0].cluster.clone().unwrap();
    let user = serde_json::to_value(kubeconfig.auth_infos[0].auth_info.clone().unwrap()).unwrap();
    let file = |name: &str, data: &str| {
        let path = world.home.path().join(name);
        std::fs::write(&path, STANDARD.decode(data).unwrap()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let ca = file("ca", &cluster.certificate_authority_data.unwrap());
    let certificate = file("crt", user["client-certificate-data"].as_str().unwrap());
    let key = file("key", user["client-key-data"].as_str().unwrap());
    let server = cluster.server.unwrap();
    let trusted = ["--server", &server, "--client-certificate", &certificate, "--client-key", &key];
    let start = |more: &'static [&str], ca: Option<&str>| {
        let mut command = bare(&["start", "demo", "--dry-run=true"]);
        command.args(trusted).args(more).args(ca.iter().flat_map(|ca| ["--certificate-authority", ca]));
        command
    };
    for (more, ca, succeeds) in [
        (&[][..], Some(ca.as_str()), true),
        (&["--insecure-skip-tls-verify=true"], None, true),
        (&["--insecure-skip-tls-verify=false"], None, false),
        (&[], None, false),
        (&["--tls-server-name=localhost"], Some(&ca), true),
        (&["--tls-server-name=other.example"], Some(&ca), false),
        // The client's certificate is no authority for the server's.
        (&[], Some(&certificate), false),
    ] {
        let output = start(more, ca).output().await.unwrap();
        assert_eq!(output.status.success(), succeeds, "{more:?} {ca:?}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_reaches_the_same_cluster_and_its_command_line_tells_no_token() {
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join("ssh");
    std::fs::write(&ssh, "#!/bin/sh\nfor a; do echo \"$a\"; done\necho \"token=$VIRTCTL_TOKEN\"\n").unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let flags =
        ["--as=me", "--as-group=50%", "--request-timeout=2s", "--user=u", "--cluster=c", "--token=secret", "-v=6"];
    let mut command = bare(&["ssh", "me@vmi/demo/ns"]);
    let output = command.args(flags).env("PATH", path).output().await.unwrap();
    let said = text(&output.stdout);
    let proxy = said.lines().find(|line| line.starts_with("ProxyCommand=")).unwrap();
    for word in
        ["'--as=me'", "'--as-group=50%%'", "'--request-timeout=2000ms'", "'--user=u'", "'--cluster=c'", "'--v=6'"]
    {
        assert!(proxy.contains(word), "{word}: {proxy}");
    }
    assert!(!proxy.contains("secret") && said.ends_with("token=secret"), "{said}");
}
