//! Streams to guests.

use std::time::Duration;

use fv_stream::agent::{AgentError, NodeAgent, StreamTarget};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::agent::{ROOM, demo};
use crate::cluster::{Cluster, NODE, until};

const VNC: StreamTarget = StreamTarget::Vnc { preserve_session: false };

#[tokio::test]
async fn a_console_carries_bytes_both_ways_and_ends_with_either_side() {
    let mut cluster = Cluster::start().await;
    let nodes = cluster.nodes().await;
    let mut console = nodes.open(NODE, &demo(), StreamTarget::Console).await.unwrap();
    let mut guest = cluster.guests.recv().await.unwrap();
    // More than a frame, and more than either side has room for.
    let text: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let (sent, mut heard) = (text.clone(), vec![0; text.len()]);
    let writer = tokio::spawn(async move {
        console.write_all(&sent).await.unwrap();
        console.flush().await.unwrap();
        console
    });
    guest.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, text);
    let mut console = writer.await.unwrap();
    let sent = text.clone();
    let writer = tokio::spawn(async move {
        guest.write_all(&sent).await.unwrap();
        guest
    });
    console.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, text);
    // The guest's side ends: what it said last is still heard.
    let mut guest = writer.await.unwrap();
    guest.write_all(b"bye").await.unwrap();
    drop(guest);
    let mut rest = Vec::new();
    console.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"bye");
    // The client leaves: the guest's side ends.
    let console = nodes.open(NODE, &demo(), StreamTarget::Console).await.unwrap();
    let mut guest = cluster.guests.recv().await.unwrap();
    drop(console);
    assert_eq!(guest.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn vnc_is_taken_over_unless_the_session_is_to_be_kept() {
    let mut cluster = Cluster::start().await;
    let nodes = cluster.nodes().await;
    let mut first = nodes.open(NODE, &demo(), VNC).await.unwrap();
    let kept = nodes.open(NODE, &demo(), StreamTarget::Vnc { preserve_session: true }).await;
    assert!(matches!(kept.err().unwrap(), AgentError::Busy(why) if why == "Active VNC connection. Request denied."));
    let _second = nodes.open(NODE, &demo(), VNC).await.unwrap();
    assert_eq!(first.read(&mut [0; 8]).await.unwrap(), 0, "the first session ended");
}

#[tokio::test]
async fn a_guest_that_takes_nothing_holds_its_client_back() {
    let mut cluster = Cluster::start().await;
    let nodes = cluster.nodes().await;
    let mut console = nodes.open(NODE, &demo(), StreamTarget::Console).await.unwrap();
    let mut guest = cluster.guests.recv().await.unwrap();
    let chunk = vec![7; 64 * 1024];
    let mut written = 0;
    // Until nothing moves any more: what sockets and buffers hold is bounded.
    loop {
        let write = async {
            console.write_all(&chunk).await.unwrap();
            console.flush().await.unwrap();
        };
        if tokio::time::timeout(Duration::from_secs(2), write).await.is_err() {
            break;
        }
        written += chunk.len();
        assert!(written < 64 * 1024 * 1024, "{written} bytes were taken without anybody reading");
    }
    assert!(written > ROOM);
    let mut heard = vec![0; written];
    guest.read_exact(&mut heard).await.unwrap();
    assert!(heard.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_handler_that_stops_ends_its_streams() {
    let mut cluster = Cluster::start().await;
    let nodes = cluster.nodes().await;
    let mut console = nodes.open(NODE, &demo(), StreamTarget::Console).await.unwrap();
    let guest = cluster.guests.recv().await.unwrap();
    cluster.handler.cancel();
    drop(guest);
    assert_eq!(console.read(&mut [0; 8]).await.unwrap(), 0);
    until(async || nodes.open(NODE, &demo(), VNC).await.err()).await;
}
