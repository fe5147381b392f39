//! A real registry on loopback, and images to push to it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use sha2::{Digest, Sha256};

/// bcrypt of "secret".
const HTPASSWD: &str = "user:$2b$04$rrv8N81kQGlnnDT42Pf5uOqLbF5p1Ml6J9tMRZq7EMQvWR0.Q2sqm\n";

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    /// Host and port.
    pub address: String,
    /// The authority of its certificate, where it has one.
    pub ca_pem: Option<Vec<u8>>,
    auth: RegistryAuth,
}

/// How a registry is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// With a certificate of its own making, else by plain http.
    pub tls: bool,
    /// Only as `user` with the password `secret`.
    pub password: bool,
}

impl Registry {
    /// Starts one that holds nothing, on a port that the kernel chooses.
    pub fn start(options: Options) -> Self {
        // The client that pushes needs one, and fails when two could be meant; whoever was first has chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}, delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:0\n",
            dir.path().display()
        );
        let mut ca_pem = None;
        if options.tls {
            let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
            std::fs::write(dir.path().join("tls.crt"), key.cert.pem()).unwrap();
            std::fs::write(dir.path().join("tls.key"), key.signing_key.serialize_pem()).unwrap();
            config += &format!("  tls: {{certificate: {0}/tls.crt, key: {0}/tls.key}}\n", dir.path().display());
            ca_pem = Some(key.cert.pem().into_bytes());
        }
        if options.password {
            std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n", dir.path().display());
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry (Debian package docker-registry)");
        let (sender, receiver) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        // Reads on after the address, so that the registry never blocks on its log.
        std::thread::spawn(move || {
            let mut seen = String::new();
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    let _ = sender.send(Ok(port));
                }
                seen = format!("{seen}{line}\n");
            }
            let _ = sender.send(Err(seen));
        });
        let port = receiver.recv_timeout(Duration::from_secs(30)).unwrap().expect("registry ended");
        let auth = if options.password {
            RegistryAuth::Basic("user".into(), "secret".into())
        } else {
            RegistryAuth::Anonymous
        };
        Self { child, dir, address: format!("127.0.0.1:{port}"), ca_pem, auth }
    }

    /// The whole name of an image of it.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    fn client(&self) -> Client {
        let protocol = if self.ca_pem.is_some() { ClientProtocol::Https } else { ClientProtocol::Http };
        let extra_root_certificates = self
            .ca_pem
            .iter()
            .map(|pem| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() })
            .collect();
        Client::try_from(ClientConfig { protocol, extra_root_certificates, ..ClientConfig::default() }).unwrap()
    }

    /// Pushes an image of `layers` under `name` and gives the digest of its manifest.
    pub async fn push(&self, name: &str, layers: &[Layer]) -> String {
        let reference: Reference = self.name(name).parse().unwrap();
        let client = self.client();
        client.auth(&reference, &self.auth, oci_client::RegistryOperation::Push).await.unwrap();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>()},
        })
        .to_string()
        .into_bytes();
        let mut descriptors = Vec::new();
        for bytes in std::iter::once(&config).chain(layers.iter().map(|layer| &layer.packed)) {
            let digest = sha256(bytes);
            client.push_blob(&reference, bytes.clone(), &digest).await.unwrap();
            descriptors.push(serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": bytes.len(),
            }));
        }
        let mut manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptors.remove(0), "layers": descriptors,
        });
        manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        self.push_manifest(&reference, manifest).await
    }

    /// Pushes a manifest whose blobs are there, and gives its digest.
    pub async fn push_manifest(&self, reference: &Reference, manifest: serde_json::Value) -> String {
        let client = self.client();
        client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
        let bytes = manifest.to_string().into_bytes();
        let digest = sha256(&bytes);
        let kind = manifest["mediaType"].as_str().unwrap().parse().unwrap();
        client.push_manifest_raw(reference, bytes, kind).await.unwrap();
        digest
    }

    /// The file in which the registry keeps a blob.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.dir.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// Ends it; what it holds stays until it is dropped.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A digest as registries write it.
pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// One layer as pushed.
#[derive(Debug)]
pub struct Layer {
    /// The blob.
    pub packed: Vec<u8>,
    /// Digest of its unpacked content.
    pub diff_id: String,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy)]
pub enum Packing {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
}

/// An entry of a layer, its path first.
#[derive(Debug)]
pub enum Entry<'a> {
    /// With its content.
    File(&'a str, &'a [u8]),
    /// Empty.
    Directory(&'a str),
    /// With what it points to.
    Symlink(&'a str, &'a str),
    /// With the entry that it is.
    Hardlink(&'a str, &'a str),
    /// Blocks who opens it.
    Fifo(&'a str),
}

/// A layer of these entries.
pub fn layer(packing: Packing, entries: &[Entry<'_>]) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let (path, kind, bytes, link): (_, _, &[u8], _) = match *entry {
            Entry::File(path, bytes) => (path, tar::EntryType::Regular, bytes, None),
            Entry::Directory(path) => (path, tar::EntryType::Directory, &[], None),
            Entry::Symlink(path, to) => (path, tar::EntryType::Symlink, &[], Some(to)),
            Entry::Hardlink(path, to) => (path, tar::EntryType::Link, &[], Some(to)),
            Entry::Fifo(path) => (path, tar::EntryType::Fifo, &[], None),
        };
        let mut header = tar::Header::new_gnu();
        // Written as bytes: the library refuses the paths an attacker would use.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(to) = link {
            header.as_gnu_mut().unwrap().linkname[..to.len()].copy_from_slice(to.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }
    let bytes = tar.into_inner().unwrap();
    let diff_id = sha256(&bytes);
    let packed = match packing {
        Packing::None => bytes,
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(&*bytes, 1).unwrap(),
    };
    Layer { packed, diff_id }
}
