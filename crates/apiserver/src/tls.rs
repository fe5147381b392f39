//! The TLS listener and its certificates.
//!
//! [`Pki`] keeps an own certificate authority in a directory and issues what is needed from it; [`kubeconfig`] tells clients;
//! [`serve_tls`] accepts connections and hands each request to a router, with the client certificate's [`UserInfo`].
//!
//! [`UserInfo`]: crate::UserInfo

mod config;
pub mod kubeconfig;
mod pki;
mod serve;

pub use config::{ServerTls, TlsError};
pub use kubeconfig::{Kubeconfig, KubeconfigError};
pub use pki::{Identity, Pki, PkiError};
pub use serve::{ListenError, listen, serve_tls};

#[cfg(test)]
mod tests;
