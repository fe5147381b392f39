//! pause, unpause, soft-reboot, reset, and what the guest agent says.

use anyhow::anyhow;
use fv_api::VirtualMachine;
use http::Method;
use kube::Api;
use serde_json::{Value, json};

use super::target::Kind;
use crate::cli::OnInstance;
use crate::connect::Session;
use crate::output::say;
use crate::subresource::{path, plain, send};

const RESOURCE: &str = "virtualmachineinstances";

async fn put(session: &Session, name: &str, verb: &str, dry_run: bool) -> anyhow::Result<()> {
    let body = if dry_run {
        say("Dry Run execution");
        json!({"dryRun": ["All"]})
    } else {
        json!({})
    };
    send(&session.client, Method::PUT, &path(&session.namespace, RESOURCE, name, verb), Some(&body)).await.map(drop)
}

/// The name in `vm NAME`, `vmi NAME` or `NAME`; a VM must exist.
async fn instance_name(session: &Session, target: &[String]) -> anyhow::Result<String> {
    match target {
        [name] => Ok(name.clone()),
        [kind, name] => {
            if Kind::parse(kind)? == Kind::Vm {
                let vms = Api::<VirtualMachine>::namespaced(session.client.clone(), &session.namespace);
                vms.get(name).await.map_err(|e| anyhow!("Error getting VirtualMachine {name}: {}", plain(e)))?;
            }
            Ok(name.clone())
        }
        _ => Err(anyhow!("give [vm|vmi] NAME")),
    }
}

pub(super) async fn pause(session: &Session, options: &OnInstance) -> anyhow::Result<()> {
    let name = instance_name(session, &options.target).await?;
    put(session, &name, "pause", options.dry_run)
        .await
        .map_err(|e| anyhow!("Error pausing VirtualMachineInstance {name}: {e}"))?;
    say(&format!("VMI {name} was scheduled to pause"));
    Ok(())
}

pub(super) async fn unpause(session: &Session, options: &OnInstance) -> anyhow::Result<()> {
    let name = instance_name(session, &options.target).await?;
    put(session, &name, "unpause", options.dry_run)
        .await
        .map_err(|e| anyhow!("Error unpausing VirtualMachineInstance {name}: {e}"))?;
    say(&format!("VMI {name} was scheduled to unpause"));
    Ok(())
}

pub(super) async fn soft_reboot(session: &Session, name: &str) -> anyhow::Result<()> {
    put(session, name, "softreboot", false)
        .await
        .map_err(|e| anyhow!("Error soft rebooting VirtualMachineInstance {name}: {e}"))?;
    say(&format!("VMI {name} was scheduled to soft reboot"));
    Ok(())
}

pub(super) async fn reset(session: &Session, name: &str) -> anyhow::Result<()> {
    put(session, name, "reset", false)
        .await
        .map_err(|e| anyhow!("Error resetting VirtualMachineInstance {name}: {e}"))?;
    say(&format!("VMI {name} was scheduled to reset"));
    Ok(())
}

/// Prints an answer of the guest agent as indented JSON.
pub(super) async fn show(session: &Session, name: &str, what: &str) -> anyhow::Result<()> {
    let text = send(&session.client, Method::GET, &path(&session.namespace, RESOURCE, name, what), None)
        .await
        .map_err(|e| anyhow!("Error getting {what} of VirtualMachineInstance {name}: {e}"))?;
    let value: Value = serde_json::from_str(&text)?;
    say(&serde_json::to_string_pretty(&value)?);
    Ok(())
}
