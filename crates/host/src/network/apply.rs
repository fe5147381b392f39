//! Carries out the operations of a plan, each only as far as something is missing.

use std::os::fd::AsFd;

use fv_netplan::{InterfacePlan, MacAddr, NetOp, NetPlan, Ns};

use super::{Changes, NetworkError, Result};
use crate::link::{LinkError, Links};
use crate::netns::NetNs;
use crate::{nft, sysctl};

struct Side {
    netns: NetNs,
    links: Links,
}

pub(super) async fn run(plan: &NetPlan, pod: &NetNs, vm: &NetNs) -> Result<Changes> {
    let side = async |netns: &NetNs| -> Result<Side> {
        let clone = netns.try_clone().map_err(LinkError::Socket)?;
        Ok(Side { links: Links::in_netns(&clone).await?, netns: clone })
    };
    let (pod, vm) = (side(pod).await?, side(vm).await?);
    let mut changes = Changes::default();
    for op in &plan.ops {
        apply(op, &pod, &vm, &mut changes).await?;
    }
    Ok(changes)
}

async fn apply(op: &NetOp, pod: &Side, vm: &Side, changes: &mut Changes) -> Result<()> {
    let side = |ns: &Ns| match ns {
        Ns::Pod => pod,
        Ns::Vm => vm,
    };
    match op {
        NetOp::Sysctl { ns, key, value } => set_sysctl(side(ns), key, value, changes).await,
        NetOp::TakeOverNic { ns, name, renamed, mac } => take_over(&side(ns).links, name, renamed, *mac, changes).await,
        NetOp::Bridge { ns, name, mac, mtu } => bridge(&side(ns).links, name, *mac, *mtu, changes).await,
        NetOp::Veth { pod_end, vm_end, mtu } => veth(pod, vm, pod_end, vm_end, *mtu, changes).await,
        NetOp::Addresses { ns, link, addresses } => {
            let links = &side(ns).links;
            if links.set_addresses(&links.require(link).await?, addresses).await? {
                changes.made.push(format!("addresses of {link} set"));
            }
            Ok(())
        }
        NetOp::Port { ns, link, master, learning } => port(&side(ns).links, link, master, *learning, changes).await,
        NetOp::Up { ns, link } => up(&side(ns).links, link, changes).await,
        NetOp::Nft { ns, ruleset } => {
            let name = match ns {
                Ns::Pod => "pod's",
                Ns::Vm => "VM's",
            };
            let commands = ruleset.commands.clone();
            match side(ns).netns.run_async(move || nft::apply(&commands)).await {
                Err(error) if !ruleset.required => {
                    tracing::warn!(error = %error, "optional nftables rules refused by this kernel");
                    Ok(())
                }
                other => other.map_err(|source| NetworkError::Nft { ns: name, source }),
            }
        }
    }
}

async fn set_sysctl(side: &Side, key: &str, value: &str, changes: &mut Changes) -> Result<()> {
    let (k, v) = (key.to_owned(), value.to_owned());
    let changed = side.netns.run_async(move || sysctl::set(&k, &v)).await.map_err(|source| NetworkError::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    })?;
    if changed {
        changes.made.push(format!("{key} set to {value}"));
    }
    Ok(())
}

async fn take_over(links: &Links, name: &str, renamed: &str, mac: MacAddr, changes: &mut Changes) -> Result<()> {
    if links.get(renamed).await?.is_none() {
        let nic = links.require(name).await?;
        if nic.kind == "bridge" {
            // Our stand-in alone is left: the pod's real interface is gone.
            return Err(LinkError::Missing { link: renamed.to_owned() }.into());
        }
        links.set_up(&nic, false).await?;
        links.rename(&nic, renamed).await?;
        changes.made.push(format!("{name} renamed to {renamed}"));
    }
    let nic = links.require(renamed).await?;
    if links.set_addresses(&nic, &[]).await? {
        changes.made.push(format!("addresses of {renamed} removed"));
    }
    if nic.mac != Some(mac) {
        links.set_mac(&nic, mac).await?;
        changes.made.push(format!("Ethernet address of {renamed} set"));
    }
    Ok(())
}

async fn bridge(links: &Links, name: &str, mac: Option<MacAddr>, mtu: u32, changes: &mut Changes) -> Result<()> {
    if links.get(name).await?.is_none() {
        links.add_bridge(name, mac, mtu).await?;
        changes.made.push(format!("bridge {name} made"));
    }
    let link = links.require(name).await?;
    if link.kind != "bridge" {
        return Err(NetworkError::Foreign { link: name.to_owned(), found: link.kind, wanted: "bridge" });
    }
    if mac.is_some_and(|mac| link.mac != Some(mac)) {
        links.set_mac(&link, mac.unwrap_or(MacAddr::MASQUERADE_BRIDGE)).await?;
        changes.made.push(format!("Ethernet address of {name} set"));
    }
    set_mtu(links, &link, mtu, changes).await
}

async fn set_mtu(links: &Links, link: &crate::link::Link, mtu: u32, changes: &mut Changes) -> Result<()> {
    if link.mtu != mtu {
        links.set_mtu(link, mtu).await?;
        changes.made.push(format!("MTU of {} set", link.name));
    }
    Ok(())
}

/// Both ends must exist and be each other's. The VM's end may be a survivor whose other end is in the namespace of a pod that was
/// replaced, and which something still holds.
async fn veth(pod: &Side, vm: &Side, pod_end: &str, vm_end: &str, mtu: u32, changes: &mut Changes) -> Result<()> {
    let (here, there) = (pod.links.get(pod_end).await?, vm.links.get(vm_end).await?);
    for (found, name) in [(&here, pod_end), (&there, vm_end)] {
        if let Some(link) = found
            && link.kind != "veth"
        {
            return Err(NetworkError::Foreign { link: name.to_owned(), found: link.kind.clone(), wanted: "veth" });
        }
    }
    if let (Some(a), Some(b)) = (&here, &there)
        && a.peer == Some(b.index)
        && b.peer == Some(a.index)
        && a.peer_elsewhere
        && b.peer_elsewhere
    {
        set_mtu(&pod.links, a, mtu, changes).await?;
        return set_mtu(&vm.links, b, mtu, changes).await;
    }
    if let Some(link) = here {
        pod.links.delete(&link).await?;
    }
    if let Some(link) = there {
        vm.links.delete(&link).await?;
    }
    pod.links.add_veth(pod_end, mtu, vm_end, vm.netns.as_fd()).await?;
    changes.made.push(format!("veth {pod_end} made"));
    Ok(())
}

async fn port(links: &Links, name: &str, master: &str, learning: bool, changes: &mut Changes) -> Result<()> {
    let (link, bridge) = (links.require(name).await?, links.require(master).await?);
    if link.master != Some(bridge.index) {
        links.set_master(&link, &bridge).await?;
        changes.made.push(format!("{name} attached to {master}"));
    }
    links.set_port(&link, learning).await?;
    Ok(())
}

async fn up(links: &Links, name: &str, changes: &mut Changes) -> Result<()> {
    let link = links.require(name).await?;
    if !link.up {
        links.set_up(&link, true).await?;
        changes.made.push(format!("{name} brought up"));
    }
    Ok(())
}

/// Makes a tap that is already in the VM's namespace part of its network.
pub(super) async fn join_tap(links: &Links, interface: &InterfacePlan, changes: &mut Changes) -> Result<()> {
    let name = &interface.tap.name;
    set_mtu(links, &links.require(name).await?, interface.tap.mtu, changes).await?;
    port(links, name, &interface.vm_bridge, false, changes).await?;
    up(links, name, changes).await
}
