//! The devices VMs are scheduled by.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

use fv_device_plugin::{Device, DevicePlugin};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

type Probe = Arc<dyn Fn() -> bool + Send + Sync>;

fn opens(path: &'static str) -> Probe {
    Arc::new(move || OpenOptions::new().read(true).write(true).open(path).is_ok())
}

/// Offers kvm, tun and vhost-net to the kubelet until `shutdown`; says whether it knows of all of them.
pub(crate) fn offer(directory: &Path, places: usize, shutdown: &CancellationToken) -> watch::Receiver<bool> {
    let probes: [(&str, Probe); 3] = [
        ("kvm", Arc::new(fv_hypervisor::kvm::kvm_usable)),
        ("tun", opens("/dev/net/tun")),
        ("vhost-net", opens("/dev/vhost-net")),
    ];
    let (all, known) = watch::channel(false);
    let mut registered = Vec::new();
    for (name, probe) in probes {
        let device = Device { resource: format!("devices.kubevirt.io/{name}"), places, probe };
        let plugin = DevicePlugin::new(device, directory);
        registered.push(plugin.registered());
        tokio::spawn(plugin.run(shutdown.clone()));
    }
    tokio::spawn(async move {
        loop {
            let now = registered.iter_mut().all(|one| *one.borrow_and_update());
            all.send_if_modified(|known| std::mem::replace(known, now) != now);
            let changes = registered.iter_mut().map(|one| Box::pin(one.changed()));
            if futures::future::select_all(changes).await.0.is_err() {
                return;
            }
        }
    });
    known
}
