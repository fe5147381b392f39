//! start, stop, restart.

use anyhow::{anyhow, bail};
use http::Method;
use serde_json::{Map, Value, json};

use crate::cli::{Start, Stop};
use crate::connect::Session;
use crate::output::say;
use crate::subresource::{path, send};

const RESOURCE: &str = "virtualmachines";

async fn put(
    session: &Session,
    name: &str,
    verb: &str,
    mut body: Map<String, Value>,
    dry_run: bool,
) -> anyhow::Result<()> {
    if dry_run {
        say("Dry Run execution");
        body.insert("dryRun".into(), json!(["All"]));
    }
    let path = path(&session.namespace, RESOURCE, name, verb);
    send(&session.client, Method::PUT, &path, Some(&Value::Object(body))).await.map(drop)
}

pub(super) async fn start(session: &Session, options: &Start) -> anyhow::Result<()> {
    let mut body = Map::new();
    if options.paused {
        body.insert("paused".into(), true.into());
    }
    put(session, &options.name, "start", body, options.dry_run)
        .await
        .map_err(|e| anyhow!("Error starting VirtualMachine {e}"))?;
    say(&format!("VM {} was scheduled to start", options.name));
    Ok(())
}

pub(super) async fn stop(session: &Session, options: &Stop) -> anyhow::Result<()> {
    let mut body = Map::new();
    if options.force {
        if options.grace_period < 0 {
            bail!("Must both use --force=true and set --grace-period.");
        }
        body.insert("gracePeriod".into(), options.grace_period.into());
    } else if options.grace_period >= 0 {
        body.insert("gracePeriod".into(), options.grace_period.into());
    }
    put(session, &options.name, "stop", body, options.dry_run)
        .await
        .map_err(|e| anyhow!("Error stopping VirtualMachine {e}"))?;
    say(&format!("VM {} was scheduled to stop", options.name));
    Ok(())
}

pub(super) async fn restart(session: &Session, options: &Stop) -> anyhow::Result<()> {
    let mut body = Map::new();
    match (options.force, options.grace_period) {
        (true, 0) => drop(body.insert("gracePeriodSeconds".into(), 0.into())),
        (true, seconds) if seconds < 0 => bail!("Must both use --force=true and set --grace-period."),
        (true, _) => bail!("Can not set gracePeriod greater than 0 with --force=true"),
        (false, seconds) if seconds >= 0 => bail!("Can not set gracePeriod without --force=true"),
        (false, _) => {}
    }
    put(session, &options.name, "restart", body, options.dry_run)
        .await
        .map_err(|e| anyhow!("Error restarting VirtualMachine {e}"))?;
    say(&format!("VM {} was scheduled to restart", options.name));
    Ok(())
}
