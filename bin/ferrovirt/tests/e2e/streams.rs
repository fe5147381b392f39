//! Consoles under pressure.

use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;

use crate::harness::namespace::uid;
use crate::harness::{Console, Instance, Running, command, manifest, needs, run, until};

#[test]
fn newest_console_client_wins() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("crowd", "Always", |_| {}));
    ns.booted(&vmi);
    let mut first = Console::open(&ns, "crowd");
    first.login("demo", "secret-crowd");
    let mut second = Console::open(&ns, "crowd");
    let seen = first.closed();
    assert!(seen.contains("another user connected to the console"), "{seen:?}");
    second.login("demo", "secret-crowd");
    assert_eq!(second.run("echo $((40 + 2))"), "42");
}

/// What the chatty guest writes: more than a console log keeps, and what it takes an emulated serial port a minute or two to write. (How
/// much is held for a client that does not read is counted where it is held: the tests of virt-handler's drainer.)
const CHATTER: u64 = 6 << 20;
/// A console log is replaced at 2 MiB; two are kept.
const KEPT: u64 = 2 * (2 << 20) + (64 << 10);

#[test]
fn chatty_console_with_a_client_that_does_not_read_holds_nobody_up() {
    needs!(Daemon);
    // Of its own: others' machines would grow its memory.
    let instance = Arc::new(Instance::started());
    let ns = instance.namespace();
    let vmi = ns.run_vm(&manifest("chatty", "Always", |_| {}));
    let quiet = ns.run_vm(&manifest("quiet", "Always", |_| {}));
    ns.booted(&vmi);
    ns.booted(&quiet);
    let memory = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", instance.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };

    // Its output goes into a pipe that nobody empties.
    let mut virtctl = ns.virtctl_command(&["console", "chatty"]);
    let mut client =
        Running(virtctl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut greeting = [0; 64];
    let count = client.0.stderr.as_mut().unwrap().read(&mut greeting).unwrap();
    assert!(String::from_utf8_lossy(&greeting[..count]).contains("Successfully connected"));
    let before = memory();
    ns.sh(&vmi, "(yes 0123456789abcdef0123456789abcdef0123456789abcdef > /dev/ttyS0) >/dev/null 2>&1 </dev/null & echo $! > /run/yes\n");

    // The guest writes on: its serial port is emptied, whoever reads or not.
    let written = || -> u64 {
        ns.sh(&vmi, "sed -n 's/.*tx:\\([0-9]*\\).*/\\1/p' /proc/tty/driver/serial | head -n 1\n").parse().unwrap_or(0)
    };
    let start = written();
    until(&format!("{CHATTER} bytes more on the serial line"), || match written() {
        now if now > start + CHATTER => Ok(()),
        now => Err(format!("{start} → {now}")),
    });
    let grown = memory().saturating_sub(before);
    assert!(grown < CHATTER / 2, "{CHATTER} bytes were written, and the memory grew by {grown}");
    // Other guests' consoles and this guest's network are as before.
    let mut other = Console::open(&ns, "quiet");
    other.login("demo", "secret-quiet");
    ns.booted(&vmi);

    // A new client gets through, and the console log is bounded.
    ns.sh(&vmi, "kill $(cat /run/yes)\n");
    let mut console = Console::open(&ns, "chatty");
    console.login("demo", "secret-chatty");
    assert_eq!(console.run("echo $((3 * 5))"), "15");
    let find = ["-type", "f", "-path", &format!("*{}*", uid(&vmi)), "-name", "*console*", "-printf", "%s %p\n"];
    let logs = run(command("find", [instance.data_dir()]).args(find), "").success();
    let size: u64 = logs.lines().map(|line| line.split_once(' ').unwrap().0.parse::<u64>().unwrap()).sum();
    assert!(size > 0 && size <= KEPT, "of {CHATTER} bytes there are\n{logs}");
}
