//! The node's kernel, behind safe functions: network namespaces, links, taps, nftables, mounts, cgroups, processes, paths.
//!
//! The one crate that may hold `unsafe` code. Policy lives elsewhere: [`network`] applies plans made by `fv_netplan`,
//! [`container`] starts what the pod runner specifies.
//!
//! `setns` changes one thread, so nothing here enters a namespace on a thread it did not create (see [`netns::NetNs::run`]).

pub mod signal;
pub mod sockopt;

#[cfg(feature = "full")]
pub mod cgroup;
#[cfg(feature = "full")]
pub mod container;
#[cfg(feature = "full")]
pub mod fsinfo;
#[cfg(feature = "full")]
pub mod link;
#[cfg(feature = "full")]
pub mod lock;
#[cfg(feature = "full")]
pub mod memory;
#[cfg(feature = "full")]
pub mod mount;
#[cfg(feature = "full")]
pub mod netns;
#[cfg(feature = "full")]
pub mod network;
#[cfg(feature = "full")]
pub mod nft;
#[cfg(feature = "full")]
pub mod process;
#[cfg(feature = "full")]
pub mod safe_path;
#[cfg(feature = "full")]
pub mod sysctl;
#[cfg(feature = "full")]
pub mod tap;
#[cfg(feature = "full")]
pub mod unix_socket;
