//! virt-api: the `subresources.kubevirt.io` API. Stateless: every answer comes from the API server, the node agents, or the
//! decisions in [`vm`] and [`vmi`], which are pure.
//!
//! Embedded, [`router`] is mounted in the API server. On a cluster [`program`] serves it behind kube-apiserver's aggregation layer,
//! with [`front_proxy`] (who asks), [`authorize`] (may he) and [`webhooks`] (admission).
//!
//! # Rights on a cluster
//!
//! | group | resource | verbs | for |
//! |---|---|---|---|
//! | `authorization.k8s.io` | subjectaccessreviews | create | each request for a subresource |
//! | `kubevirt.io` | virtualmachines | get, patch | subresources of VMs |
//! | `kubevirt.io` | virtualmachines/status | patch | start and stop requests |
//! | `kubevirt.io` | virtualmachineinstances | get, patch | subresources of VMIs, evacuation marks |
//! | `kubevirt.io` | kubevirts | list, watch | settings |
//! | | pods | get | evictions (all namespaces) |
//! | | pods, in our namespace | list, watch | where virt-handler is reached |
//! | | configmaps, `extension-apiserver-authentication` in `kube-system` | get, list, watch | the front proxy (Role
//!   `extension-apiserver-authentication-reader` there) |

pub mod authorize;
pub mod body;
mod deadline;
pub mod documents;
pub mod error;
pub mod front_proxy;
pub mod program;
pub mod resources;
pub mod routes;
pub mod streams;
pub mod version;
pub mod vm;
pub mod vmi;
pub mod webhooks;

pub use routes::{VirtApi, router};

/// The group of the subresources.
pub const GROUP: &str = "subresources.kubevirt.io";
/// Its versions, preferred first.
pub const VERSIONS: [&str; 2] = ["v1", "v1alpha3"];
