//! Reads that ask for a revision which is still to come.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::Context;
use crate::status::{Cause, Status};

/// So long Kubernetes waits for a revision.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the store is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for the revision that a read wants to be no older than; 504 when it does not come. What wants an exact one is refused
/// where it is read, without a wait.
pub(super) async fn wait(context: &Context, method: &Method) -> Result<(), Status> {
    let Some(wanted) = wanted(context, method) else { return Ok(()) };
    let store = &context.core.store;
    let end = Instant::now() + PATIENCE;
    while store.revision() < wanted {
        if Instant::now() >= end {
            return Err(too_large(wanted, store.revision()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The revision that an answer must not be older than.
fn wanted(context: &Context, method: &Method) -> Option<u64> {
    let (target, params) = (&context.target, &context.params);
    let one = !target.name.is_empty();
    let reads = match *method {
        Method::GET => one || !params.flag("watch"),
        Method::DELETE => !one,
        _ => false,
    };
    if !reads {
        return None;
    }
    let limited = params.number::<i64>("limit").ok().flatten().is_some_and(|limit| limit > 0);
    let exact = match params.get("resourceVersionMatch") {
        "" => limited,
        text => text != "NotOlderThan",
    };
    if !one && (exact || params.has("continue")) {
        return None;
    }
    params.get("resourceVersion").parse().ok()
}

/// 504: the client knows a revision this server never reached.
pub(super) fn too_large(requested: u64, current: u64) -> Status {
    let mut status = Status::timeout(&format!("Too large resource version: {requested}, current: {current}"));
    status.causes.push(Cause::new("ResourceVersionTooLarge", "Too large resource version", ""));
    status.retry_after_seconds = 1;
    status
}
