//! What the tests stand on.

mod command;
mod console;
mod engine;
mod guest;
mod instance;
mod machine;
pub(crate) mod namespace;
mod traces;

use std::time::{Duration, Instant};

pub(crate) use command::{Done, Running, command, kill, run};
pub(crate) use console::Console;
pub(crate) use engine::{Capability, needs, skipped, storage_class};
pub(crate) use guest::{http, page};
pub(crate) use instance::{Instance, guest_image};
pub(crate) use machine::{boot_commands, image, manifest};
pub(crate) use namespace::{Namespace, web};
pub(crate) use traces::traces;

/// How long anything may take. It only bounds failure: the machine may be small, busy and without KVM.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until `look` finds what it looks for; says what was awaited and what was there when the time is up.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => panic!("waited {PATIENCE:?} for {what}; last seen: {seen}"),
            Err(_) => pause_between_looks(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "no runtime here: these are the test's own threads")]
fn pause_between_looks() {
    std::thread::sleep(Duration::from_millis(150));
}

/// Lets time pass where its passing is the point (a paused clock, a quiet spell).
#[expect(clippy::disallowed_methods, reason = "no runtime here: these are the test's own threads")]
pub(crate) fn let_pass(time: Duration) {
    std::thread::sleep(time);
}
