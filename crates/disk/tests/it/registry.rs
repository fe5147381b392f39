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

pub(crate) struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) address: String,
    pub(crate) ca_pem: Option<Vec<u8>>,
    auth: RegistryAuth,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) tls: bool,
    pub(crate) password: bool,
}

impl Registry {
    pub(crate) fn start(options: Options) -> Self {
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

    pub(crate) fn name(&self, repository: &str) -> String {
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
    pub(crate) async fn push(&self, name: &str, layers: &[Layer]) -> String {
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

    pub(crate) async fn push_manifest(&self, reference: &Reference, manifest: serde_json::Value) -> String {
        let client = self.client();
        client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
        let bytes = manifest.to_string().into_bytes();
        let digest = sha256(&bytes);
        let kind = manifest["mediaType"].as_str().unwrap().parse().unwrap();
        client.push_manifest_raw(reference, bytes, kind).await.unwrap();
        digest
    }

    /// The file in which the registry keeps a blob.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.dir.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// One layer as pushed.
pub(crate) struct Layer {
    pub(crate) packed: Vec<u8>,
    pub(crate) diff_id: String,
}

#[derive(Clone, Copy)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// An entry of a layer.
pub(crate) enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Directory(&'a str),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
    Fifo(&'a str),
}

pub(crate) fn layer(packing: Packing, entries: &[Entry<'_>]) -> Layer {
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
