//! The pod's interface, before and after a bridge binding took it over.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use fv_netplan::{PodNetworkFacts, names};
use serde::{Deserialize, Serialize};

use super::{NetworkError, Result};
use crate::link::{LinkError, Links};
use crate::netns::{NetNs, NetNsId};

/// The primary interface of every pod.
const INTERFACE: &str = "eth0";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    netns: NetNsId,
    facts: PodNetworkFacts,
}

pub(super) async fn read(record: &Path, pod_netns: BorrowedFd<'_>) -> Result<PodNetworkFacts> {
    let open = |source| NetworkError::OpenNetns { owner: "the launcher pod".to_owned(), source };
    let netns = NetNs::from_borrowed(pod_netns).map_err(open)?;
    let id = netns.id().map_err(open)?;
    let links = Links::in_netns(&netns).await?;
    let live = links.get(INTERFACE).await?;
    let taken_over = links.get(&names::taken_over(INTERFACE)).await?.is_some();

    // Namespace numbers are used again, so the interface's address must agree as well. Preferred over what is there now: taking
    // the interface over destroys its routes first, and may have been interrupted anywhere.
    if let Some(known) = load(record).filter(|r| r.netns == id) {
        let same = live.as_ref().is_none_or(|l| l.mac == Some(known.facts.mac));
        if same {
            return Ok(known.facts);
        }
    }
    if taken_over {
        return Err(NetworkError::FactsLost { interface: INTERFACE.to_owned(), path: record.display().to_string() });
    }
    let link = live.ok_or_else(|| LinkError::Missing { link: INTERFACE.to_owned() })?;
    let facts = PodNetworkFacts {
        interface: INTERFACE.to_owned(),
        mac: link.mac.ok_or_else(|| NetworkError::NoMac { interface: INTERFACE.to_owned() })?,
        mtu: link.mtu,
        addresses: links.addresses(&link).await?,
        routes: links.routes(&link).await?,
    };
    // Not yet configured by CNI: an answer now would be remembered for ever.
    if !facts.addresses.is_empty() {
        save(record, &Record { netns: id, facts: facts.clone() })
            .map_err(|source| NetworkError::RecordFacts { path: record.display().to_string(), source })?;
    }
    Ok(facts)
}

fn load(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn save(path: &Path, record: &Record) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let draft = path.with_extension("json.new");
    fs::write(&draft, serde_json::to_vec(record)?)?;
    fs::rename(&draft, path)
}
