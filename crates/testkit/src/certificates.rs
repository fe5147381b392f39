//! Authorities, and directories of certificates as kubelet mounts them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// An authority of its own.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The authority's own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate with this common name and, for servers, these DNS names; good for both ends of a connection.
    pub fn issue(&self, common_name: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// A mounted volume: its files are links to `..data`, which is a link that is swapped.
pub struct Mounted {
    dir: tempfile::TempDir,
    generation: std::cell::Cell<u32>,
}

impl Mounted {
    /// A Secret of type `kubernetes.io/tls`.
    pub fn pair(pair: &Pair) -> Self {
        let mounted = Self::empty();
        mounted.replace_pair(pair);
        mounted
    }

    /// A ConfigMap with the key `ca-bundle`.
    pub fn bundle(authorities: &[&Authority]) -> Self {
        let mounted = Self::empty();
        mounted.replace_bundle(authorities);
        mounted
    }

    fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), generation: 0.into() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where [`Mounted::bundle`] has its file.
    pub fn bundle_file(&self) -> PathBuf {
        self.path().join("ca-bundle")
    }

    pub fn replace_pair(&self, pair: &Pair) {
        self.replace(&[("tls.crt", &pair.certificate), ("tls.key", &pair.key)]);
    }

    pub fn replace_bundle(&self, authorities: &[&Authority]) {
        let text: String = authorities.iter().map(|authority| authority.certificate()).collect();
        self.replace(&[("ca-bundle", &text)]);
    }

    /// Replaces the content as kubelet does: a new directory, then one rename.
    pub fn replace(&self, files: &[(&str, &str)]) {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let data = format!("..generation-{generation}");
        fs::create_dir(self.path().join(&data)).unwrap();
        for (name, content) in files {
            fs::write(self.path().join(&data).join(name), content).unwrap();
            let link = self.path().join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        symlink(&data, self.path().join("..data_tmp")).unwrap();
        fs::rename(self.path().join("..data_tmp"), self.path().join("..data")).unwrap();
        if generation > 1 {
            fs::remove_dir_all(self.path().join(format!("..generation-{}", generation - 1))).unwrap();
        }
    }
}
