//! Network bindings as data: what one VM needs in its pod's network namespace and in its own, and what its DHCP server says.
//!
//! [`plan()`] takes the VMI and the facts of the pod's network and returns a [`NetPlan`]: ordered operations that all converge
//! (applying a plan twice, or over half of it, ends in the same place), the taps, the DHCP configuration, the status facts.
//! The engine that applies it is `fv_host::network`. Nothing here performs IO.
//!
//! ```text
//!  host netns          VM netns (fv-owned)              pod netns (CNI)
//!  tap ──moved──▶  tap ─┐                           ┌─ k6t-eth0 ── 10.0.2.1 ── nft ── eth0      masquerade
//!                       ├─ br-eth0 ─ veth-eth0 ═════╡
//!                       ┘                           └─ k6t-eth0 ── eth0-nic                     bridge
//! ```
//!
//! IPv6 is not served to guests yet: pods that only have IPv6 are refused, and the second family of a dual-stack pod is kept
//! out of the guest's network altogether.

pub mod dhcp;
pub mod mac;

#[cfg(feature = "plan")]
mod bridge;
#[cfg(feature = "plan")]
mod dhcp_options;
#[cfg(feature = "plan")]
pub mod facts;
#[cfg(feature = "plan")]
mod masquerade;
#[cfg(feature = "plan")]
pub mod model;
#[cfg(feature = "plan")]
pub mod names;
#[cfg(feature = "plan")]
mod nft;
#[cfg(feature = "plan")]
mod plan;

pub use dhcp::{DhcpConfig, DhcpInterface, DhcpPrivateOption, DhcpRoute};
pub use mac::{MacAddr, MacError};

#[cfg(feature = "plan")]
pub use facts::{DnsFacts, PodNetworkFacts, PodRoute};
#[cfg(feature = "plan")]
pub use model::{Binding, InterfacePlan, InterfaceStatusFacts, NetOp, NetPlan, NftRuleset, Ns, TapSpec};
#[cfg(feature = "plan")]
pub use plan::{NetPlanError, PlanInput, plan};

#[cfg(test)]
mod tests;
