//! Device names. The kernel allows 15 bytes.

use sha2::{Digest, Sha256};

/// Upstream's prefix of the bridge in the pod's namespace: `k6t-eth0`.
pub const POD_BRIDGE_PREFIX: &str = "k6t-";

/// First characters of every tap this project makes in the host's namespace.
pub const TAP_PREFIX: &str = "fvt";

/// The tap of the VMI's `index`-th interface: unique on the node because it is derived from the VMI's UID.
pub fn tap(vmi_uid: &str, index: usize) -> String {
    let digest = hex::encode(Sha256::digest(vmi_uid.as_bytes()));
    format!("{TAP_PREFIX}{}{index:x}", &digest[..10])
}

/// The bridge in the pod's namespace for pod interface `eth0`.
pub fn pod_bridge(interface: &str) -> String {
    format!("{POD_BRIDGE_PREFIX}{interface}")
}

/// The bridge in the VM's namespace.
pub fn vm_bridge(interface: &str) -> String {
    format!("br-{interface}")
}

/// Both ends of the veth pair between the two (each in its own namespace).
pub fn veth(interface: &str) -> String {
    format!("veth-{interface}")
}

/// What the pod's interface is called once a bridge binding has taken it over.
pub fn taken_over(interface: &str) -> String {
    format!("{interface}-nic")
}
