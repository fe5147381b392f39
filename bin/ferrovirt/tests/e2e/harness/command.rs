//! Running programs with a deadline.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use super::{PATIENCE, pause_between_looks};

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) what: String,
    pub(crate) ok: bool,
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Standard output of a program that succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert!(self.ok, "{} failed ({}):\n{}{}", self.what, self.status, self.out, self.err);
        self.out
    }

    /// Standard error of a program that failed, as it should.
    #[track_caller]
    pub(crate) fn failure(self) -> String {
        assert!(!self.ok, "{} succeeded:\n{}{}", self.what, self.out, self.err);
        self.err
    }
}

pub(crate) fn command<A: AsRef<std::ffi::OsStr>>(
    program: impl AsRef<std::ffi::OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs a program to its end, with `input` on its standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Done {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {what}: {error}"));
    // The input is small; whoever does not read it gets a closed pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = collect(child.stdout.take().unwrap());
    let err = collect(child.stderr.take().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{what} did not end within {PATIENCE:?}: {}", err.join().unwrap());
        }
        pause_between_looks();
    };
    Done { what, ok: status.success(), status, out: out.join().unwrap(), err: err.join().unwrap() }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A program that goes on until dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SIGKILL, to one process of ours.
pub(crate) fn kill(pid: u32) {
    run(&mut command("kill", ["-9", &pid.to_string()]), "").success();
}
