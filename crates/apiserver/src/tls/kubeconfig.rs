//! The file that tells kubectl, virtctl and friends where the server is and who they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::json;

use super::Identity;
use super::pki::write_private;

/// First line of every file we write; only such files are overwritten.
const MARK: &str = "# Written by ferrovirt; overwritten at each start.";

/// What goes into the file.
#[derive(Debug, Clone)]
pub struct Kubeconfig<'a> {
    /// Name of cluster, user and context.
    pub name: &'a str,
    /// Where the server listens; an unspecified address becomes the loopback one.
    pub listen: SocketAddr,
    /// The authority's certificate, PEM.
    pub ca_certificate: &'a str,
    /// The client.
    pub client: &'a Identity,
}

/// Why the file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// Somebody else's file is there.
    #[error(
        "write kubeconfig {path}: the file exists and was not written by ferrovirt; choose another with --write-kubeconfig FILE"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("write kubeconfig {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Kubeconfig<'_> {
    /// `https://127.0.0.1:6443`
    pub fn server(&self) -> String {
        let ip = match self.listen.ip() {
            IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            other => other,
        };
        format!("https://{}", SocketAddr::new(ip, self.listen.port()))
    }

    /// The file's text.
    pub fn to_yaml(&self) -> String {
        let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
        // A JSON string is a YAML string.
        let name = json!(self.name);
        format!(
            "{MARK}\n\
             apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: {name}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
             users:\n\
             - name: {name}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n\
             contexts:\n\
             - name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n    namespace: default\n\
             current-context: {name}\n\
             preferences: {{}}\n",
            server = self.server(),
            ca = encode(self.ca_certificate),
            certificate = encode(&self.client.certificate),
            key = encode(&self.client.key),
        )
    }

    /// Writes the file, mode 0600, at once. A file of somebody else's is left alone.
    pub fn write(&self, path: &Path) -> Result<(), KubeconfigError> {
        let failed = |source| KubeconfigError::Write { path: path.to_owned(), source };
        match std::fs::read(path) {
            Ok(content) if !content.is_empty() && !content.starts_with(MARK.as_bytes()) => {
                return Err(KubeconfigError::Foreign { path: path.to_owned() });
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        write_private(path, self.to_yaml().as_bytes()).map_err(failed)
    }
}
