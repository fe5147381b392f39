//! The Secrets and the ConfigMap that hold certificates: their names, what each is for, and where it is mounted.

use serde_json::{Value, json};

use super::{MANAGED_BY, MANAGER, OWNER, Object, Stage};

/// Name of the authority's Secret and of the ConfigMap with its bundle.
pub const AUTHORITY: &str = "kubevirt-ca";
/// Key of the bundle in the ConfigMap.
pub const BUNDLE_KEY: &str = "ca-bundle";
/// Secret of the operator's own webhook server.
pub const OPERATOR: &str = "kubevirt-operator-certs";

/// What a certificate is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
}

/// A certificate of the installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Name of its Secret.
    pub secret: &'static str,
    pub common_name: String,
    pub dns_names: Vec<String>,
    pub usage: Usage,
}

/// All certificates under the authority, for an installation in `namespace`.
pub fn certificates(namespace: &str) -> Vec<Certificate> {
    let service = |secret, name: &str| Certificate {
        secret,
        common_name: format!("kubevirt.io:system:node:{name}"),
        dns_names: vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.cluster.local")],
        usage: Usage::Server,
    };
    let handler = |secret, role: &str, usage| {
        let common_name = format!("kubevirt.io:system:{role}:virt-handler");
        Certificate { secret, dns_names: vec![], common_name, usage }
    };
    vec![
        service("kubevirt-virt-api-certs", "virt-api"),
        service("kubevirt-controller-certs", "virt-controller"),
        service(OPERATOR, "kubevirt-operator-webhook"),
        handler("kubevirt-virt-handler-server-certs", "node", Usage::Server),
        handler("kubevirt-virt-handler-certs", "client", Usage::Client),
    ]
}

/// A Secret with a certificate and its key, both PEM.
pub fn secret(namespace: &str, name: &str, certificate: &str, key: &str) -> Object {
    Object::new(
        Stage::Certificates,
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": metadata(namespace, name),
            "stringData": {"tls.crt": certificate, "tls.key": key}
        }),
    )
}

/// The ConfigMap with the PEM bundle of all authorities that are still to be trusted.
pub fn bundle(namespace: &str, bundle: &str) -> Object {
    Object::new(
        Stage::Certificates,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": metadata(namespace, AUTHORITY),
            "data": {BUNDLE_KEY: bundle}
        }),
    )
}

fn metadata(namespace: &str, name: &str) -> Value {
    json!({
        "name": name, "namespace": namespace,
        "labels": {OWNER: namespace, MANAGED_BY: MANAGER, "kubevirt.io": "", "app.kubernetes.io/component": "kubevirt"}
    })
}
