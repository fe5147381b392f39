//! What the tests run on, and what that can do.
//!
//! By default they start instances of their own on this machine. With `FERROVIRT_E2E_KUBECONFIG` they use the Ferrovirt that is installed on
//! that cluster, of one node, in whose namespaces they run themselves (`tests/cluster/cluster.sh enter node1`); `FERROVIRT_E2E_IMAGE` is then the guest's image.

use std::io::Write;
use std::path::PathBuf;

/// What a case needs beyond machines, guests and the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    /// `ferrovirt up` and `down`: one process with its files, its log and its own libvirtd.
    Daemon,
    /// Pods are run by our pod runner.
    PodRunner,
    /// A storage class whose volumes grow when their claims do.
    Expansion,
    /// Namespaces that allow pods no more than a level of pod security.
    PodSecurity,
    /// Other users, with the roles that an installation brings.
    Roles,
}

/// The cluster's kubeconfig, when the tests run on one.
pub(crate) fn cluster() -> Option<PathBuf> {
    std::env::var_os("FERROVIRT_E2E_KUBECONFIG").map(PathBuf::from)
}

/// The default storage class, which makes volumes on demand.
pub(crate) fn storage_class() -> &'static str {
    if cluster().is_some() { "host-path" } else { "local-path" }
}

/// Whether the engine lacks something the running case needs. Says so, past the capture of the test's output: a skipped case is never silent.
pub(crate) fn skipped(needs: &[Capability]) -> bool {
    let lacks: &[Capability] = match cluster() {
        None => &[Capability::PodSecurity, Capability::Roles],
        Some(_) => &[Capability::Daemon, Capability::PodRunner, Capability::Expansion],
    };
    let Some(need) = needs.iter().find(|need| lacks.contains(need)) else { return false };
    let case = std::thread::current().name().unwrap_or("a case").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped {case}: needs {need:?}");
    true
}

/// Declares what a case needs; it ends here where the engine lacks that.
macro_rules! needs {
    ($($capability:ident),+) => {
        if $crate::harness::skipped(&[$($crate::harness::Capability::$capability),+]) {
            return;
        }
    };
}
pub(crate) use needs;
