//! A serial console through `virtctl console`, in the manner of expect.

use std::io::{Read, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Namespace, PATIENCE, Running};

/// The end of the guest's shell prompt.
const PROMPT: &str = "# ";

struct Screen {
    /// What was shown, and how many of the client's outputs are open: its last words may come after the end of the other one.
    text: Mutex<(String, usize)>,
    changed: Condvar,
}

/// One client of a guest's console.
pub(crate) struct Console {
    name: String,
    _client: Running,
    keyboard: ChildStdin,
    screen: Arc<Screen>,
    /// How much of the text was consumed by `expect`.
    read: usize,
    commands: usize,
}

impl Console {
    /// Connects; waits for the machine when it is not ready.
    pub(crate) fn open(namespace: &Namespace, vm: &str) -> Self {
        let mut command = namespace.virtctl_command(&["console", vm]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start virtctl console");
        let screen = Arc::new(Screen { text: Mutex::new((String::new(), 2)), changed: Condvar::new() });
        follow(child.stdout.take().unwrap(), &screen);
        // "Successfully connected" and complaints come on standard error.
        follow(child.stderr.take().unwrap(), &screen);
        let keyboard = child.stdin.take().unwrap();
        let mut console = Self { name: vm.into(), _client: Running(child), keyboard, screen, read: 0, commands: 0 };
        console.expect(&["Successfully connected to"]);
        console
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.keyboard
            .write_all(text.as_bytes())
            .unwrap_or_else(|error| panic!("type {text:?} at {}: {error}", self.name));
    }

    /// Waits for one of several texts; returns which, and everything before it. Consumes both.
    #[track_caller]
    pub(crate) fn expect(&mut self, texts: &[&str]) -> (usize, String) {
        self.expect_within(texts, PATIENCE).unwrap_or_else(|seen| {
            panic!("console of {}: waited for one of {texts:?}; since then: {seen:?}", self.name)
        })
    }

    fn expect_within(&mut self, texts: &[&str], time: Duration) -> Result<(usize, String), String> {
        let deadline = Instant::now() + time;
        let mut text = self.screen.text.lock();
        loop {
            let fresh = &text.0[self.read..];
            let first = texts.iter().enumerate().filter_map(|(i, t)| fresh.find(t).map(|at| (at, i))).min();
            if let Some((at, which)) = first {
                let before = fresh[..at].to_owned();
                self.read += at + texts[which].len();
                return Ok((which, before));
            }
            if text.1 == 0 || self.screen.changed.wait_until(&mut text, deadline).timed_out() {
                return Err(text.0[self.read..].to_owned());
            }
        }
    }

    /// Gets to a shell: logs in, or finds one that is open already.
    #[track_caller]
    pub(crate) fn login(&mut self, user: &str, password: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A prompt that is on the screen already is shown again.
            self.send("\r");
            match self.expect_within(&["login: ", PROMPT], Duration::from_secs(5)) {
                Ok((0, _)) => break,
                Ok(_) => return,
                Err(seen) => assert!(Instant::now() < deadline, "no prompt on the console of {}: {seen:?}", self.name),
            }
        }
        self.send(&format!("{user}\r"));
        loop {
            match self.expect(&["Password: ", PROMPT, "login: ", "incorrect"]) {
                (0, _) => self.send(&format!("{password}\r")),
                (1, _) => return,
                // The answer to the line that made the prompt appear again.
                (2, _) if Instant::now() < deadline => self.send(&format!("{user}\r")),
                (_, seen) => panic!("user {user:?} cannot log in on {}: {seen:?}", self.name),
            }
        }
    }

    /// Runs a command in the shell; returns what it printed.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let (begin, end) = (format!("BEGIN{}", self.commands), format!("END{}", self.commands));
        // The quotes keep the echo of the line from looking like its output.
        self.send(&format!("echo BEG''IN{n}; {command}; echo E''ND{n}\r", n = self.commands));
        self.expect(&[&begin]);
        self.expect(&[&end]).1.replace('\r', "").trim().to_owned()
    }

    /// Waits until the connection is closed from the other side; returns what came since the last `expect`.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.screen.text.lock();
        while text.1 > 0 {
            let late = self.screen.changed.wait_until(&mut text, deadline).timed_out();
            assert!(!late, "the console of {} is still open: {:?}", self.name, &text.0[self.read..]);
        }
        text.0[self.read..].to_owned()
    }
}

fn follow(mut from: impl Read + Send + 'static, screen: &Arc<Screen>) {
    let screen = Arc::clone(screen);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let mut text = screen.text.lock();
            text.0.push_str(&String::from_utf8_lossy(&buffer[..count]));
            text.1 -= usize::from(count == 0);
            screen.changed.notify_all();
            if count == 0 {
                return;
            }
        }
    });
}
