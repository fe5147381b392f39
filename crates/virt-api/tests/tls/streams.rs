use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use fv_stream::SUBPROTOCOL;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Socket, World};

async fn next_bytes(socket: &mut Socket) -> Bytes {
    loop {
        if let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() {
            return bytes;
        }
    }
}

/// Whether a close frame came; `false` for a connection that just ended (1006).
async fn closes_normally(mut socket: Socket) -> bool {
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Close(_)) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_joined_with_or_without_the_sub_protocol() {
    let mut world = World::new().await;
    world.add_vmi("demo", json!({})).await;
    for (offered, selected) in
        [(Some(SUBPROTOCOL), Some(SUBPROTOCOL)), (None, None), (Some("base64.binary.k8s.io"), None)]
    {
        let (mut socket, got) = world.open("virtualmachineinstances/demo/console", offered).await.unwrap();
        assert_eq!(got.as_deref(), selected);
        let mut guest = world.guests.recv().await.unwrap();
        socket.send(Message::Text("ignored".into())).await.unwrap();
        socket.send(Message::Binary(Bytes::from_static(b"root\n"))).await.unwrap();
        let mut typed = [0; 5];
        guest.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"root\n");
        guest.write_all(b"Password: ").await.unwrap();
        assert_eq!(&next_bytes(&mut socket).await[..], b"Password: ");
        // Leaving in good order ends the guest's side too.
        socket.close(None).await.unwrap();
        let mut rest = Vec::new();
        guest.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_that_is_taken_over_sees_an_abnormal_close() {
    let mut world = World::new().await;
    world.add_vmi("demo", json!({})).await;
    let (old, _) = world.open("virtualmachineinstances/demo/console", None).await.unwrap();
    let old_guest = world.guests.recv().await.unwrap();
    let (mut new, _) = world.open("virtualmachineinstances/demo/console", None).await.unwrap();
    let mut new_guest = world.guests.recv().await.unwrap();
    // What the node agent does to the older one.
    drop(old_guest);
    assert!(!closes_normally(old).await);
    new_guest.write_all(b"hi").await.unwrap();
    assert_eq!(&next_bytes(&mut new).await[..], b"hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn vnc_keeps_a_session_when_asked_to() {
    let mut world = World::new().await;
    world.add_vmi("demo", json!({})).await;
    for query in ["", "?preserveSession=false", "?preserveSession=0"] {
        world.open(&format!("virtualmachineinstances/demo/vnc{query}"), None).await.unwrap();
        world.guests.recv().await.unwrap();
    }
    let busy = world.open("virtualmachineinstances/demo/vnc?preserveSession=true", None).await.unwrap_err();
    assert_eq!(busy.refusal(503, "ServiceUnavailable"), "Active VNC connection. Request denied.");
    let wrong = world.open("virtualmachineinstances/demo/vnc?preserveSession=maybe", None).await.unwrap_err();
    assert_eq!(wrong.refusal(400, "BadRequest"), "preserveSession \"maybe\" is neither true nor false");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_the_wrong_state_are_refused_before_the_handshake() {
    let world = World::new().await;
    let devices = json!({"autoattachSerialConsole": false, "autoattachGraphicsDevice": false});
    world.add_vmi("bare", json!({"spec": {"domain": {"devices": devices}}})).await;
    world.add_vmi("early", json!({"status": {"phase": "Scheduling"}})).await;
    world.add_vmi("failed", json!({"status": {"phase": "Failed"}})).await;
    world.add_vmi("paused", json!({"status": {"conditions": [{"type": "Paused", "status": "True"}]}})).await;
    world.add_vmi("lonely", json!({"status": {"interfaces": []}})).await;
    world.add_vmi("demo", json!({})).await;
    world.add_vm("vm", "Always", false).await;
    let vmi = |name: &str, sub: &str| format!("virtualmachineinstances/{name}/{sub}");
    let conflict = |name: &str, why: &str| {
        format!("Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io \"{name}\": {why}")
    };
    let cases = [
        (vmi("bare", "console"), 400, "No serial consoles are present.".to_string()),
        (vmi("bare", "vnc"), 400, "No graphics devices are present.".into()),
        (vmi("early", "console"), 400, "VMI is not running".into()),
        (vmi("early", "vnc"), 400, "VMI is not running".into()),
        (vmi("failed", "console"), 409, conflict("failed", "VMI is in failed status")),
        (vmi("paused", "portforward/22"), 409, conflict("paused", "VMI is paused")),
        (vmi("lonely", "portforward/22"), 400, "no network interfaces are present".into()),
        (vmi("demo", "portforward/0"), 400, "port \"0\" is no number from 1 to 65535".into()),
        (vmi("demo", "portforward/99999/tcp"), 400, "port \"99999\" is no number from 1 to 65535".into()),
        (vmi("demo", "portforward/22/sctp"), 400, "protocol \"sctp\" cannot be forwarded: use tcp or udp".into()),
        (
            "virtualmachines/vm/portforward/22".into(),
            409,
            "Operation cannot be fulfilled on virtualmachine.kubevirt.io \"vm\": VMI is not started".into(),
        ),
    ];
    for (sub, code, text) in cases {
        let answer = world.open(&sub, Some(SUBPROTOCOL)).await.unwrap_err();
        assert_eq!(answer.refusal(code, if code == 400 { "BadRequest" } else { "Conflict" }), text, "{sub}");
    }
    let plain = world.get("virtualmachineinstances/demo/console").await;
    assert!(plain.refusal(400, "BadRequest").contains("this path is a WebSocket"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_is_forwarded_and_its_end_is_a_normal_close() {
    let world = World::new().await;
    world.add_vmi("demo", json!({})).await;
    world.add_vm("demo", "Always", true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for sub in [
        format!("virtualmachineinstances/demo/portforward/{port}"),
        format!("virtualmachineinstances/demo/portforward/{port}/tcp"),
        format!("virtualmachines/demo/portforward/{port}"),
        format!("virtualmachines/demo/portforward/{port}/tcp"),
    ] {
        let ((mut socket, _), (mut peer, _)) =
            tokio::join!(async { world.open(&sub, Some(SUBPROTOCOL)).await.unwrap() }, async {
                listener.accept().await.unwrap()
            });
        let large = vec![b'x'; 200_000];
        let (sent, received) = tokio::join!(socket.send(Message::Binary(large.clone().into())), async {
            let mut all = vec![0; large.len()];
            peer.read_exact(&mut all).await.unwrap();
            all
        });
        sent.unwrap();
        assert_eq!(received, large);
        peer.write_all(b"bye").await.unwrap();
        drop(peer);
        assert_eq!(&next_bytes(&mut socket).await[..], b"bye");
        assert!(closes_normally(socket).await, "{sub}");
    }
    drop(listener);
    let refused = world.open(&format!("virtualmachineinstances/demo/portforward/{port}"), None).await.unwrap_err();
    let text = refused.refusal(500, "InternalError");
    assert!(text.starts_with(&format!("Internal error occurred: dialing VMI: tcp 127.0.0.1:{port}: ")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_is_forwarded_datagram_by_datagram() {
    let world = World::new().await;
    world.add_vmi("demo", json!({})).await;
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = peer.local_addr().unwrap().port();
    let sub = format!("virtualmachineinstances/demo/portforward/{port}/udp");
    let (mut socket, _) = world.open(&sub, Some(SUBPROTOCOL)).await.unwrap();
    let large = vec![7; 20_000];
    for datagram in [&b"one"[..], b"two", &large] {
        socket.feed(Message::Binary(Bytes::copy_from_slice(datagram))).await.unwrap();
    }
    socket.flush().await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut from = None;
    for expected in [&b"one"[..], b"two", &large] {
        let (count, client) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], expected);
        from = Some(client);
    }
    for answer in [&b"three"[..], b"four", &large] {
        peer.send_to(answer, from.unwrap()).await.unwrap();
    }
    for expected in [&b"three"[..], b"four", &large] {
        assert_eq!(&next_bytes(&mut socket).await[..], expected);
    }
}
