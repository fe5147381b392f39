use tokio::net::UnixListener;

use super::*;

/// Only bounds failures.
const PATIENCE: Duration = Duration::from_secs(60);

struct Guest {
    _dir: tempfile::TempDir,
    log_dir: tempfile::TempDir,
    listener: UnixListener,
    console: Console,
}

fn guest() -> Guest {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("virt-serial0")).unwrap();
    let log = LogSink::start(ShareDir::open(log_dir.path()).unwrap(), 1 << 20);
    let console = Console::start(ShareDir::open(dir.path()).unwrap(), ConsoleConfig::default(), log);
    Guest { _dir: dir, log_dir, listener, console }
}

async fn read_exactly(stream: &mut (impl tokio::io::AsyncRead + Unpin), text: &str) {
    let mut buffer = vec![0u8; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&buffer), text);
}

#[tokio::test]
async fn client_talks_with_the_guest_and_sees_nothing_of_the_past() {
    let guest = guest();
    let (mut serial, _) = guest.listener.accept().await.unwrap();
    serial.write_all(b"before").await.unwrap();
    while guest.console.recent() != b"before" {
        tokio::task::yield_now().await;
    }
    let mut client = guest.console.attach().await.unwrap();
    client.write_all(b"root\n").await.unwrap();
    client.flush().await.unwrap();
    read_exactly(&mut serial, "root\n").await;
    serial.write_all(b"login: ").await.unwrap();
    read_exactly(&mut client, "login: ").await;
}

#[tokio::test]
async fn newest_client_takes_over_and_the_old_stream_ends() {
    let guest = guest();
    let (mut serial, _) = guest.listener.accept().await.unwrap();
    let mut old = guest.console.attach().await.unwrap();
    old.write_all(b"a").await.unwrap();
    old.flush().await.unwrap();
    read_exactly(&mut serial, "a").await;
    let mut new = guest.console.attach().await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, old.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());
    serial.write_all(b"x").await.unwrap();
    read_exactly(&mut new, "x").await;
}

#[tokio::test]
async fn reader_that_does_not_read_never_blocks_the_guest() {
    let guest = guest();
    let (mut serial, _) = guest.listener.accept().await.unwrap();
    let mut client = guest.console.attach().await.unwrap();
    client.write_all(b"!").await.unwrap();
    client.flush().await.unwrap();
    read_exactly(&mut serial, "!").await;
    let total = 8 * 1024 * 1024;
    let chunk = vec![b'x'; 64 * 1024];
    let flood = async {
        for _ in 0..total / chunk.len() {
            serial.write_all(&chunk).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.expect("the guest was held up");
    // The client gets a bounded part, and is told about the rest once it reads again.
    let (mut got, mut text, mut buffer) = (0, String::new(), vec![0u8; 1 << 20]);
    serial.write_all(b"end").await.unwrap();
    while !text.ends_with("end") {
        let length = tokio::time::timeout(PATIENCE, client.read(&mut buffer)).await.unwrap().unwrap();
        got += length;
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    assert!(got < total / 4, "{got}");
    assert!(text.contains("bytes of console output skipped"), "{text}");
}

#[tokio::test]
async fn guest_that_does_not_read_does_not_stop_its_output() {
    let guest = guest();
    let (mut serial, _) = guest.listener.accept().await.unwrap();
    let client = guest.console.attach().await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(client);
    // More than socket buffers and queue hold: this write can never finish, because the guest does not read.
    let typing = tokio::spawn(async move {
        let flood = vec![b'k'; 16 << 20];
        let _ = writer.write_all(&flood).await;
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    serial.write_all(b"still alive").await.unwrap();
    read_exactly(&mut reader, "still alive").await;
    typing.abort();
}

#[tokio::test]
async fn socket_is_reopened_and_the_client_kept() {
    let guest = guest();
    let (serial, _) = guest.listener.accept().await.unwrap();
    let mut client = guest.console.attach().await.unwrap();
    drop(serial);
    let (mut serial, _) = tokio::time::timeout(PATIENCE, guest.listener.accept()).await.unwrap().unwrap();
    serial.write_all(b"again").await.unwrap();
    read_exactly(&mut client, "again").await;
}

#[tokio::test]
async fn output_is_logged_to_both_directories() {
    let guest = guest();
    let share = tempfile::tempdir().unwrap();
    guest.console.log().share(ShareDir::open(share.path()).unwrap()).await;
    let (mut serial, _) = guest.listener.accept().await.unwrap();
    serial.write_all(b"hello\n").await.unwrap();
    let read = |dir: &tempfile::TempDir| std::fs::read_to_string(dir.path().join("console.log")).unwrap_or_default();
    tokio::time::timeout(PATIENCE, async {
        while read(&share) != "hello\n" || read(&guest.log_dir) != "hello\n" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}
