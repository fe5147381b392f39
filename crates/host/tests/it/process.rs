use std::process::Command;
use std::time::Duration;

use fv_host::process::{Exit, Process, ProcessId, Signal, spawn_detached};

#[tokio::test]
async fn process_is_recognised_signalled_awaited_and_reaped() {
    let (mut child, id) = spawn_detached(Command::new("sleep").arg("1000")).unwrap();
    let written = serde_json::to_string(&id).unwrap();
    let process = Process::open(serde_json::from_str(&written).unwrap()).unwrap().expect("running");
    assert!(process.is_alive().unwrap());
    assert_eq!(process.reap().unwrap(), None);
    let early = tokio::time::timeout(Duration::from_millis(50), process.wait()).await;
    assert!(early.is_err(), "it still runs");
    assert!(process.signal(Signal::TERM).unwrap());
    process.wait().await.unwrap();
    assert!(!process.is_alive().unwrap());
    assert_eq!(process.reap().unwrap(), Some(Exit::Signal(15)));
    assert!(Process::open(id).unwrap().is_none());
    let _ = child.try_wait();
}

#[tokio::test]
async fn another_process_under_the_same_pid_is_not_mistaken() {
    let own = ProcessId::of(std::process::id()).unwrap();
    assert!(Process::open(own).unwrap().is_some());
    let earlier = ProcessId { start_time: own.start_time - 1, ..own };
    assert!(Process::open(earlier).unwrap().is_none());
    assert!(Process::open(ProcessId { pid: 0, start_time: 1 }).unwrap().is_none());
}
