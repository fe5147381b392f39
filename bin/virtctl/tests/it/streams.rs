use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::Child;

use crate::support::{World, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_console_session_ends_with_the_escape() {
    let mut world = World::new().await;
    world.add_vmi(&json!([])).await;
    let mut child = world.spawn(&["console", "demo"]);
    let mut guest = world.guests.recv().await.unwrap();
    guest.write_all(b"login: ").await.unwrap();
    let mut prompt = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut prompt).await.unwrap();
    assert_eq!(&prompt, b"login: ");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"root\r\x1d").await.unwrap();
    let mut typed = String::new();
    guest.read_to_string(&mut typed).await.unwrap();
    assert_eq!(typed, "root\r");
    // Standard input is still open: the escape alone ends it.
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "Successfully connected to demo console. Press Ctrl+] or Ctrl+5 to exit console.");
    drop(stdin);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_input_ends_a_console_and_a_take_over_is_told() {
    let mut world = World::new().await;
    world.add_vmi(&json!([])).await;
    let child = world.command(&["console", "demo"]).stdin(Stdio::null()).spawn().unwrap();
    let _guest = world.guests.recv().await.unwrap();
    assert!(child.wait_with_output().await.unwrap().status.success());

    let mut child = world.spawn(&["console", "demo"]);
    // Waiting closes a standard input the child still holds, which is the other way to end.
    let stdin = child.stdin.take();
    drop(world.guests.recv().await.unwrap());
    let output = child.wait_with_output().await.unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("You were disconnected from the console. This has one of the following reasons:"), "{said}");
    assert!(said.contains("another user connected to the console of the target vm"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_waits_for_a_vm_that_starts_and_not_for_one_that_does_not_exist() {
    let mut world = World::new().await;
    assert_eq!(
        world.complains(&["console", "demo"]).await,
        "Can't access VMI demo: virtualmachineinstance.kubevirt.io \"demo\" not found"
    );
    world.add_vm("Always").await;
    let mut child = world.spawn(&["console", "demo"]);
    tokio::time::timeout(Duration::from_millis(800), child.wait()).await.unwrap_err();
    world.add_vmi(&json!([])).await;
    world.guests.recv().await.unwrap();
    child.kill().await.unwrap();
    assert!(world.complains(&["console", "demo", "--timeout", "0", "-n", "elsewhere"]).await.contains("not found"));
}

/// Answers each connection with its own words, once its peer has said all.
async fn echo_at_end(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut line = String::new();
            BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            stream.write_all(line.to_uppercase().as_bytes()).await.unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_ports_are_forwarded_also_for_clients_that_say_all_at_once() {
    let world = World::new().await;
    world.add_vm("Always").await;
    world.add_vmi(&json!([])).await;
    let guest = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = guest.local_addr().unwrap().port();
    tokio::spawn(echo_at_end(guest));
    for (target, address) in [("vmi/demo", "localhost"), ("vm/demo", "127.0.0.1"), ("vmi/demo/default", "127.0.0.1")] {
        let mut child = world.spawn(&["port-forward", target, &format!("tcp/0:{port}"), "--address", address]);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let local = line.strip_prefix("forwarding tcp ").unwrap().split(' ').next().unwrap();
        let mut stream = TcpStream::connect(local).await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        // As `nc -N` does: everything is said, the answer is still to come.
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HELLO\n", "{target}");
        child.kill().await.unwrap();
    }
    let mut child = world.spawn(&["port-forward", "vmi/demo", "--stdio=true", &port.to_string()]);
    child.stdin.take().unwrap().write_all(b"through a pipe\n").await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((text(&output.stdout).as_str(), output.status.success()), ("THROUGH A PIPE", true), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_ports_are_forwarded_for_each_peer_apart() {
    let world = World::new().await;
    world.add_vmi(&json!([])).await;
    let guest = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = guest.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((count, peer)) = guest.recv_from(&mut buffer).await {
            guest.send_to(&buffer[..count].to_ascii_uppercase(), peer).await.unwrap();
        }
    });
    let mut child = world.spawn(&["port-forward", "vmi/demo", &format!("udp/0:{port}")]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let local = line.strip_prefix("forwarding udp ").unwrap().split(' ').next().unwrap().to_string();
    for word in ["one", "two"] {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        peer.send_to(word.as_bytes(), &local).await.unwrap();
        let mut buffer = [0; 16];
        let (count, _) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], word.to_uppercase().as_bytes());
    }
    child.kill().await.unwrap();
}

/// What the guest's screen says comes to the viewer, and the proxy ends with it.
async fn joins(mut guest: impl AsyncWrite + Unpin, mut viewer: TcpStream, mut proxy: Child) {
    guest.write_all(b"RFB 003.008\n").await.unwrap();
    let mut banner = [0; 12];
    viewer.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"RFB 003.008\n");
    drop(viewer);
    assert!(proxy.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vnc_proxy_prints_its_port_and_joins_the_viewer() {
    let mut world = World::new().await;
    world.add_vmi(&json!([])).await;
    let mut child = world.spawn(&["vnc", "demo", "--proxy-only=true", "--address=localhost"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line: serde_json::Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let port = u16::try_from(line["port"].as_u64().unwrap()).unwrap();
    let viewer = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let guest = world.guests.recv().await.unwrap();
    joins(guest, viewer, child).await;
}

/// A viewer that says over its connection how it was called, stays until it hears `bye`, and takes its time to end.
const VIEWER: &str = r#"#!/bin/bash
address=${1#vnc://}
host=${address%%:*}
exec 3<>"/dev/tcp/$host/${address##*:}" || exit 9
echo "${0##*/} $#: $1" >&3
read -r word <&3 && [ "$word" = bye ] || exit 9
exec 3>&-
/bin/sleep 0.3
echo "$word" >"$0.ended"
"#;

/// Puts a program into `dir`. Another process writes it: a child that a test beside this one forks meanwhile would hold
/// our file open for writing, and the kernel starts no such program.
fn install(dir: &Path, name: &str, script: &str) {
    let mut child = std::process::Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(dir.join(name))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// An address nobody else listens at, and a port of it.
fn own_port(test: u8) -> (Ipv4Addr, u16) {
    // Process ids have 22 bits.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, test << 6 | high, middle, low);
    let port = std::net::TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
    (address, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn vnc_starts_the_installed_viewer_at_its_proxy_and_ends_with_it() {
    let mut world = World::new().await;
    world.add_vmi(&json!([])).await;
    let others = world.home.path().join("elsewhere");
    std::fs::create_dir(&others).unwrap();
    install(&others, "mine", VIEWER);
    let mine = others.join("mine");
    let with_path = format!("--vnc-path={}", mine.display());
    let (address, port) = own_port(1);
    let fixed = [format!("--address={address}"), format!("--port={port}")];
    let cases: [(&[&str], &[&str], &str, String); 6] = [
        (&["remote-viewer", "vncviewer"], &[], "remote-viewer", "vnc://127.0.0.1:".into()),
        (&["vncviewer", "realvncviewer"], &[], "vncviewer", "127.0.0.1::".into()),
        (&["xtigervncviewer", "chicken"], &[], "xtigervncviewer", "127.0.0.1::".into()),
        (&["remote-viewer", "vncviewer"], &["--vnc-type=tiger"], "vncviewer", "127.0.0.1::".into()),
        (&["remote-viewer"], &[&with_path], "mine", "127.0.0.1::".into()),
        (&["remote-viewer"], &[&fixed[0], &fixed[1]], "remote-viewer", format!("vnc://{address}:{port}")),
    ];
    for (case, (installed, options, started, at)) in cases.into_iter().enumerate() {
        // Nothing else in PATH: the machine may have viewers of its own.
        let programs = world.home.path().join(format!("bin-{case}"));
        std::fs::create_dir(&programs).unwrap();
        for name in installed {
            install(&programs, name, VIEWER);
        }
        let mut args = vec!["vnc", "demo"];
        args.extend(options);
        let mut child = world.command(&args).env("PATH", &programs).spawn().unwrap();
        let mut guest = BufReader::new(world.guests.recv().await.unwrap());
        let mut called = String::new();
        guest.read_line(&mut called).await.unwrap();
        assert!(called.starts_with(&format!("{started} 1: {at}")), "{args:?}: {called:?}");
        assert_eq!(child.try_wait().unwrap(), None, "{args:?}: ended before its viewer");
        guest.write_all(b"bye\n").await.unwrap();
        guest.read_to_string(&mut called).await.unwrap();
        // Not until the end of its output, which the viewer holds too.
        let status = child.wait().await.unwrap();
        assert!(status.success(), "{args:?}: {status}");
        let ended = if started == "mine" { &others } else { &programs }.join(format!("{started}.ended"));
        assert!(std::fs::remove_file(ended).is_ok(), "{args:?}: did not wait for its viewer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vnc_without_a_viewer_or_with_one_that_fails_says_what_is_wrong() {
    let world = World::new().await;
    world.add_vmi(&json!([])).await;
    let programs = world.home.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let complaint = async |args: &[&str]| {
        let output = world.command(args).env("PATH", &programs).stdin(Stdio::null()).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        text(&output.stderr)
    };
    let none = "no VNC viewer is installed (remote-viewer, vncviewer): install one, or use --proxy-only";
    assert_eq!(complaint(&["vnc", "demo"]).await, none);
    install(&programs, "vncviewer", "#!/bin/sh\nexit 3\n");
    assert_eq!(complaint(&["vnc", "demo", "--vnc-type=remote-viewer"]).await, none);
    let viewer = programs.join("vncviewer");
    let early = format!("viewer {} ended before it connected: exit status: 3", viewer.display());
    assert_eq!(complaint(&["vnc", "demo"]).await, early);
    let missing = complaint(&["vnc", "demo", "--vnc-path=/nonexistent/viewer"]).await;
    assert!(missing.starts_with("start viewer /nonexistent/viewer: No such file"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vnc_proxy_listens_on_exactly_the_port_asked_for() {
    let mut world = World::new().await;
    world.add_vmi(&json!([])).await;
    let (address, port) = own_port(2);
    let args = ["vnc", "demo", "--proxy-only", &format!("--address={address}"), &format!("--port={port}")];
    let mut child = world.spawn(&args);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), format!("{{\"port\":{port}}}"));
    let guest = world.guests.recv().await.unwrap();

    // Where another listens already there is no proxy at another port.
    let said = world.complains(&args).await;
    assert!(said.starts_with(&format!("listen on {address}:{port}: Address already in use")), "{said}");

    let viewer = TcpStream::connect((address, port)).await.unwrap();
    joins(guest, viewer, child).await;
}
