use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn http(port: u16, more: &Value) -> Check {
    let mut action = json!({"port": port});
    json_patch::merge(&mut action, more);
    Check::Http(serde_json::from_value(action).unwrap())
}

async fn run(check: &Check) -> Result<(), String> {
    check.run(&DirectDial, [127, 0, 0, 1].into(), PATIENCE).await
}

/// Answers one connection with these bytes; what it was asked.
async fn answering(answer: &'static [u8]) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (port, served)
}

#[tokio::test]
async fn statuses_from_200_to_399_pass() {
    for (answer, expected) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"[..], Ok(())),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", Ok(())),
        (b"HTTP/1.1 404 No\r\n\r\n", Err("HTTP probe failed with statuscode: 404".to_owned())),
        (b"HTTP/1.1 500 Oh\r\n\r\n", Err("HTTP probe failed with statuscode: 500".to_owned())),
    ] {
        let (port, _served) = answering(answer).await;
        assert_eq!(run(&http(port, &json!({}))).await, expected);
    }
}

#[tokio::test]
async fn request_is_as_kubelets_and_own_headers_win() {
    let (port, served) = answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let more = json!({"path": "healthz?full=1", "httpHeaders": [{"name": "host", "value": "guest"}, {"name": "X-A", "value": "b"}]});
    run(&http(port, &more)).await.unwrap();
    let asked = served.await.unwrap().to_lowercase();
    assert!(asked.starts_with("get /healthz?full=1 http/1.1\r\n"), "{asked}");
    for line in ["host: guest\r\n", "user-agent: kube-probe/1.35\r\n", "x-a: b\r\n", "connection: close\r\n"] {
        assert_eq!(asked.matches(line).count(), 1, "{line} in {asked}");
    }
    assert_eq!(asked.matches("host:").count(), 1, "{asked}");
}

#[tokio::test]
async fn what_does_not_answer_http_fails() {
    let (port, _served) = answering(b"SSH-2.0-OpenSSH\r\n").await;
    let told = run(&http(port, &json!({}))).await.unwrap_err();
    assert!(told.starts_with("GET / of 127.0.0.1:"), "{told}");
}

#[tokio::test]
async fn server_that_hangs_fails_in_time() {
    // Its queue takes the connection; nobody reads.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = http(listener.local_addr().unwrap().port(), &json!({}));
    let told = check.run(&DirectDial, [127, 0, 0, 1].into(), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(told, "no answer within 1 s");
}

#[tokio::test]
async fn tcp_passes_when_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = |port: Value| Check::Tcp(serde_json::from_value(json!({"port": port})).unwrap());
    assert_eq!(run(&check(json!(port))).await, Ok(()));
    assert_eq!(run(&check(json!(port.to_string()))).await, Ok(()));
    drop(listener);
    assert!(run(&check(json!(port))).await.unwrap_err().starts_with("dial tcp 127.0.0.1:"));
    assert!(run(&check(json!("web"))).await.unwrap_err().contains("no port number"));
}

mod through_the_agent {
    use std::sync::Arc;

    use fv_hypervisor::fake::{Call, FakeHypervisor};
    use fv_hypervisor::{Hypervisor as _, HypervisorError, StartMode};
    use uuid::Uuid;

    use super::*;

    const GUEST: Uuid = Uuid::from_u128(7);

    async fn hypervisor() -> Arc<FakeHypervisor> {
        let xml = format!(
            "<domain><uuid>{GUEST}</uuid><metadata><f:vmi xmlns:f='{}'><f:uid>{GUEST}</f:uid><f:namespace>a</f:namespace>\
             <f:name>b</f:name><f:instance>0a</f:instance></f:vmi></metadata></domain>",
            fv_domain::METADATA_URI
        );
        let hypervisor = FakeHypervisor::new("0a");
        hypervisor.start(&xml, StartMode::Running).await.unwrap();
        hypervisor
    }

    async fn run(probe: &Value, hypervisor: &FakeHypervisor) -> Option<Result<(), String>> {
        let check = AgentCheck::of(&serde_json::from_value(probe.clone()).unwrap()).expect("a check");
        check.run(hypervisor, GUEST, Duration::from_secs(2)).await
    }

    fn ping() -> Value {
        json!({"guestAgentPing": {}})
    }

    fn exec() -> Value {
        json!({"exec": {"command": ["cat", "/ready"]}})
    }

    #[tokio::test]
    async fn a_ping_passes_while_the_agent_answers() {
        let hypervisor = hypervisor().await;
        assert_eq!(run(&ping(), &hypervisor).await, Some(Err("QEMU guest agent is not connected".to_owned())));
        hypervisor.agent_answers("guest-ping", Some(json!({})));
        assert_eq!(run(&ping(), &hypervisor).await, Some(Ok(())));
    }

    #[tokio::test]
    async fn an_agent_that_a_restarted_libvirt_does_not_know_yet_is_not_missed() {
        for probe in [ping(), exec()] {
            let hypervisor = hypervisor().await;
            hypervisor.disconnect("restart");
            hypervisor.reconnect();
            assert_eq!(run(&probe, &hypervisor).await, None, "{probe}");
            hypervisor.settle();
            assert_eq!(run(&probe, &hypervisor).await, Some(Err("QEMU guest agent is not connected".to_owned())));
            // Its last words before it ends.
            hypervisor.fail_next(Call::Get, HypervisorError::Disconnected { step: "asking", uri: "x:///".into() });
            assert_eq!(run(&probe, &hypervisor).await, None, "{probe}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_passes_by_its_exit_code() {
        for (status, expected) in [
            (json!({"exited": true, "exitcode": 0}), Ok(())),
            (json!({"exited": true, "exitcode": 3}), Err("command ended with exit code 3")),
            (json!({"exited": true, "signal": 9}), Err("command was ended by signal 9")),
            (json!({"exited": true}), Err("the guest agent did not say how the command ended")),
            (json!({"exited": false}), Err("command did not end within 2 s")),
            (json!("what?"), Err("command did not end within 2 s")),
        ] {
            let hypervisor = hypervisor().await;
            hypervisor.agent_answers("guest-exec", Some(json!({"pid": 5})));
            hypervisor.agent_answers("guest-exec-status", Some(status.clone()));
            assert_eq!(run(&exec(), &hypervisor).await, Some(expected.map_err(str::to_owned)), "{status}");
        }
        let hypervisor = hypervisor().await;
        hypervisor.agent_answers("guest-exec", Some(json!({"pid": "x"})));
        assert_eq!(run(&exec(), &hypervisor).await, Some(Err("the guest agent named no process".to_owned())));
    }

    #[tokio::test]
    async fn what_keeps_libvirt_from_asking_says_nothing_about_the_guest() {
        let refused = HypervisorError::Agent { uuid: GUEST, message: "no such program".into() };
        for probe in [ping(), exec()] {
            let hypervisor = hypervisor().await;
            for error in [
                HypervisorError::Timeout { step: "asking", after: Duration::from_secs(1) },
                HypervisorError::Busy { step: "asking" },
                HypervisorError::NoDomain { uuid: GUEST },
                HypervisorError::InvalidState { step: "asking", message: "shutting down".into() },
            ] {
                hypervisor.fail_next(Call::AgentCommand, error);
                assert_eq!(run(&probe, &hypervisor).await, None, "{probe}");
            }
            hypervisor.disconnect("restart");
            assert_eq!(run(&probe, &hypervisor).await, None, "{probe}");
        }
        let hypervisor = hypervisor().await;
        hypervisor.fail_next(Call::AgentCommand, refused.clone());
        assert_eq!(run(&exec(), &hypervisor).await, Some(Err("no such program".to_owned())));
        hypervisor.fail_next(Call::AgentCommand, refused);
        assert_eq!(run(&ping(), &hypervisor).await, None, "an agent that refuses is there");
    }
}
