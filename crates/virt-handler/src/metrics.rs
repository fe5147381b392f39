//! Metrics of the guests of this node. Facts are gathered here, within bounded time and without waiting for a guest that is stuck;
//! [`samples`] makes series of them.

mod facts;
mod samples;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join, join_all};
use fv_api::VirtualMachineInstance;
use fv_host::link::LinkStats;
use fv_hypervisor::{DomainInfo, DomainStats, HypervisorError};
use fv_metrics::catalogue::own::{LIBVIRT_CONNECTED, TROUBLES};
use fv_metrics::{Samples, live};
use fv_netplan::names;
use fv_runtime::metrics::Source;

use crate::Handler;
use crate::process::{self, ProcessStats};
use facts::Guest;

/// Prometheus waits ten seconds for everything.
const LIST: Duration = Duration::from_secs(4);
const TAPS: Duration = Duration::from_secs(2);

impl Source for Handler {
    fn samples(&self) -> BoxFuture<'_, Samples> {
        async {
            let mut all = self.own_samples();
            let (domains, known) = (self.listed().await, self.instances());
            let guests =
                domains.iter().map(|domain| self.guest(domain, known.get(&domain.uuid.to_string()).map(Arc::as_ref)));
            for guest in join_all(guests).await {
                samples::guest(&mut all, &guest);
            }
            all
        }
        .boxed()
    }
}

impl Handler {
    /// What is known without asking anybody.
    fn own_samples(&self) -> Samples {
        let mut all = Samples::default();
        let node = self.node_name();
        all.push(&LIBVIRT_CONNECTED, &[node], f64::from(u8::from(self.hypervisor().is_connected())));
        for troubled in self.troubles() {
            all.add(&TROUBLES, &[node, troubled.trouble.reason()], 1.0);
        }
        all
    }

    /// The domains that exist now; none when that cannot be found out.
    async fn listed(&self) -> Vec<DomainInfo> {
        let listed = tokio::time::timeout(LIST, self.hypervisor().list()).await;
        let listed = listed.unwrap_or(Err(HypervisorError::Timeout { step: "listing domains", after: LIST }));
        listed.unwrap_or_else(|error| {
            self.unreadable("libvirt", error.reason());
            Vec::new()
        })
    }

    async fn guest(&self, domain: &DomainInfo, vmi: Option<&VirtualMachineInstance>) -> Guest {
        let (stats, links) = join(self.stats(domain), self.links(domain, vmi)).await;
        Guest {
            node: self.node_name().to_owned(),
            namespace: domain.metadata.namespace.clone(),
            name: domain.metadata.name.clone(),
            labels: fv_metrics::vmi_labels(vmi.and_then(|vmi| vmi.metadata.labels.as_ref())),
            volumes: vmi.map(facts::volumes).unwrap_or_default(),
            stats,
            process: self.process(domain),
            links,
        }
    }

    async fn stats(&self, domain: &DomainInfo) -> Option<DomainStats> {
        match self.hypervisor().stats(domain.uuid).await {
            Ok(stats) => {
                // libvirt leaves out what it would have had to wait for.
                if !stats.disks.is_empty() && stats.disks.iter().all(|disk| disk.reads.is_none()) {
                    self.unreadable("libvirt", "DomainBusy");
                }
                Some(stats)
            }
            // It ended meanwhile.
            Err(HypervisorError::NoDomain { .. }) => None,
            Err(error) => {
                self.unreadable("libvirt", error.reason());
                None
            }
        }
    }

    fn process(&self, domain: &DomainInfo) -> Option<ProcessStats> {
        let stats = domain.pid.and_then(process::stats);
        if stats.is_none() {
            self.unreadable("process", "ProcessGone");
        }
        stats
    }

    /// Counters of the taps, by interface. libvirt does not see them: they are in the network namespace of the VM.
    async fn links(&self, domain: &DomainInfo, vmi: Option<&VirtualMachineInstance>) -> Vec<(String, LinkStats)> {
        let uid = domain.uuid.to_string();
        let mut links = Vec::new();
        for (index, interface) in vmi.into_iter().flat_map(|vmi| &vmi.spec.domain.devices.interfaces).enumerate() {
            let tap = names::tap(&uid, index);
            match tokio::time::timeout(TAPS, self.network().counters(&uid, &tap)).await {
                Ok(Ok(Some(stats))) => links.push((interface.name.clone(), stats)),
                // The guest is only just starting or ending, or the interface is to be absent.
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(uid, tap, error = &error as &dyn std::error::Error, "counters cannot be read");
                    self.unreadable("network", "NetworkError");
                }
                Err(_) => {
                    self.unreadable("network", "Timeout");
                    break;
                }
            }
        }
        links
    }

    fn unreadable(&self, source: &str, reason: &str) {
        live::UNREADABLE.with_label_values(&[self.node_name(), source, reason]).inc();
    }

    fn instances(&self) -> HashMap<String, Arc<VirtualMachineInstance>> {
        self.present().into_iter().filter_map(|vmi| Some((vmi.metadata.uid.clone()?, vmi))).collect()
    }
}
