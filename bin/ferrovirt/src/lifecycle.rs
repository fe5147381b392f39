//! `down`, `status`, `doctor`.

use std::process::ExitCode;

use anyhow::bail;
use fv_standalone::doctor::{Verdict, examine, is_healthy};
use fv_standalone::down;
use fv_standalone::instance::{Instance, Running};

use crate::cli::{At, Down};
use crate::output::{complain, say};

pub(crate) fn down(options: &Down) -> anyhow::Result<()> {
    let mut instances: Vec<Instance> = Instance::find(&options.at.data_dir).into_iter().collect();
    if options.all {
        instances.extend(Instance::all());
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        instances.dedup();
    }
    if instances.is_empty() && !options.all {
        say(&format!("nothing at {}: no instance was ever started there", options.at.data_dir.display()));
        return Ok(());
    }
    let runtime = crate::runtime(1)?;
    let mut failed = false;
    for instance in instances {
        if let Err(error) = runtime.block_on(down_one(&instance, options)) {
            failed = true;
            complain(&format!("error: instance {}: {error:#}", instance.data_dir.display()));
        }
    }
    if failed {
        bail!("not everything could be ended; running the command again goes on where it stopped");
    }
    Ok(())
}

async fn down_one(instance: &Instance, options: &Down) -> anyhow::Result<()> {
    let place = instance.data_dir.display();
    // Held to the end: no `up` may begin while its things are taken away.
    let stopped = down::stop_process(instance).await?;
    match stopped.ran {
        true => say(&format!("Ferrovirt at {place} is down.")),
        false => say(&format!("Ferrovirt at {place} was not running.")),
    }
    if options.stop_vms || options.purge {
        let count = down::stop_guests(instance).await?;
        if options.purge {
            down::forget_guests(instance).await?;
        }
        down::release(instance).await?;
        say(&match count {
            1 => "1 guest was stopped.".to_owned(),
            _ => format!("{count} guests were stopped."),
        });
        if options.purge {
            match down::purge_data(instance)? {
                true => say(&format!("{place} was deleted.")),
                false => say(&format!(
                    "Everything of Ferrovirt in {place} was deleted; files that are not Ferrovirt's are left there."
                )),
            }
        }
        return Ok(());
    }
    let guests = down::guests(instance).await?;
    if !guests.is_empty() {
        let many = if guests.len() == 1 { "guest goes on" } else { "guests go on" };
        say(&format!(
            "{} {many} running: {}. `ferrovirt up` takes them over again; `ferrovirt down --stop-vms` stops them.",
            guests.len(),
            guests.join(", ")
        ));
    }
    Ok(())
}

pub(crate) fn status(at: &At) -> anyhow::Result<ExitCode> {
    let running = Instance::find(&at.data_dir).and_then(|i| Running::read(&i).map(|r| (i, r)));
    let Some((instance, running)) = running else {
        say(&format!("Ferrovirt at {} is not running.", at.data_dir.display()));
        return Ok(ExitCode::from(3));
    };
    if running.process().is_none() {
        say(&format!(
            "Ferrovirt at {} ended without being asked to; see {}",
            at.data_dir.display(),
            instance.log_file().display()
        ));
        return Ok(ExitCode::from(1));
    }
    say(&format!(
        "Ferrovirt at {} is running: pid {}, API server {}",
        at.data_dir.display(),
        running.pid,
        running.server
    ));
    say(&format!("export KUBECONFIG={}", running.kubeconfig.display()));
    let guests = crate::runtime(1)?.block_on(down::guests(&instance))?;
    say(&format!("{} guests: {}", guests.len(), guests.join(", ")));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn doctor() -> ExitCode {
    let checks = examine();
    for check in &checks {
        match &check.verdict {
            Verdict::Fine => say(&format!("ok       {}", check.what)),
            Verdict::Note(note) => say(&format!("note     {}: {note}", check.what)),
            Verdict::Lacking { remedy } => say(&format!("LACKING  {}: {remedy}", check.what)),
        }
    }
    if is_healthy(&checks) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
