//! Consoles under pressure.

use std::io::Read;
use std::process::Stdio;

use crate::harness::{Console, Instance, Running, manifest, needs, until};

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

#[test]
fn chatty_console_with_a_client_that_does_not_read_holds_nobody_up() {
    needs!(Daemon);
    let instance = Instance::shared();
    let ns = instance.namespace();
    let vmi = ns.run_vm(&manifest("chatty", "Always", |_| {}));
    let quiet = ns.run_vm(&manifest("quiet", "Always", |_| {}));
    ns.booted(&vmi);
    ns.booted(&quiet);
    let memory = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", instance.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };

    // Its output goes into a pipe that nobody empties.
    let mut command = ns.virtctl_command(&["console", "chatty"]);
    let mut client =
        Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
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
    until("half a megabyte more on the serial line", || match written() {
        now if now > start + 512 * 1024 => Ok(()),
        now => Err(format!("{start} → {now}")),
    });
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 * 1024, "the memory grew by {grown} KiB");
    // Other guests' consoles and this guest's network are as before.
    let mut other = Console::open(&ns, "quiet");
    other.login("demo", "secret-quiet");
    ns.booted(&vmi);

    // A new client gets through, to a console log that is bounded.
    ns.sh(&vmi, "kill $(cat /run/yes)\n");
    let mut console = Console::open(&ns, "chatty");
    console.login("demo", "secret-chatty");
    assert_eq!(console.run("echo $((3 * 5))"), "15");
    let out = std::process::Command::new("find")
        .arg(instance.data_dir())
        .args(["-name", "*console*", "-size", "+8M"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "");
}
