//! What an installation consists of: KubeVirt resource and install options in, Kubernetes objects out.
//!
//! Every object carries label [`OWNER`] with the operator's namespace: it tells ours from those of another installation, be it
//! upstream's. The other labels and annotations are upstream's.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use fv_api::KubeVirt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

pub mod certificates;
mod customize;
mod images;
pub mod monitoring;
mod object;
pub mod operator;
mod policy;
mod rbac;
mod services;
#[cfg(test)]
mod tests;
pub mod webhooks;
mod workloads;

pub use customize::CustomizeError;
pub use images::{Component, ImageSource, Images};
pub use monitoring::Monitoring;
pub use object::{Object, ObjectId, Stage};

/// Label of everything an operator of ours installed; its value is the operator's namespace.
pub const OWNER: &str = "ferrovirt.io/installed-by";
/// Namespace of the cluster's own components, where one of our bindings is: to a role of the API server's.
pub const SYSTEM_NAMESPACE: &str = "kube-system";
/// Label that upstream's operator puts on what it installs too.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "virt-operator";
pub const ANNOTATION_VERSION: &str = "kubevirt.io/install-strategy-version";
pub const ANNOTATION_REGISTRY: &str = "kubevirt.io/install-strategy-registry";
pub const ANNOTATION_IDENTIFIER: &str = "kubevirt.io/install-strategy-identifier";
pub const ANNOTATION_GENERATION: &str = "kubevirt.io/generation";

/// Why an installation cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("generate the definitions of our kinds")]
    Definitions(#[from] fv_api::crd::CrdError),
    #[error("write an object as JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Customize(#[from] CustomizeError),
}

/// One installation.
#[derive(Clone, Copy, Debug)]
pub struct Install<'a> {
    pub kubevirt: &'a KubeVirt,
    /// Where the operator runs and the components go.
    pub namespace: &'a str,
    pub images: &'a Images,
    /// PEM bundle of our certificate authorities, for the API server's calls to webhooks and to the aggregated API.
    pub ca_bundle: &'a str,
    /// Who scrapes us, where the cluster has a Prometheus operator.
    pub monitoring: Option<&'a Monitoring>,
}

impl Install<'_> {
    /// Names this installation: the same for the same images and settings.
    pub fn identifier(&self) -> Result<String, RenderError> {
        let text = self.deployment_config()?.to_string();
        Ok(hex::encode(Sha1::digest(text.as_bytes())))
    }

    /// What `status.targetDeploymentConfig` shows: everything the installation is made of.
    pub fn deployment_config(&self) -> Result<Value, RenderError> {
        let mut spec = serde_json::to_value(&self.kubevirt.spec)?;
        if let Some(spec) = spec.as_object_mut() {
            // The components read these from the resource themselves, or they are not about what is installed.
            let roles = spec.get("configuration").and_then(|c| c.get("roleAggregationStrategy")).cloned();
            for key in ["configuration", "certificateRotateStrategy", "uninstallStrategy"] {
                spec.shift_remove(key);
            }
            spec.extend(roles.map(|roles| ("roleAggregationStrategy".to_owned(), roles)));
        }
        let images: BTreeMap<&str, &str> =
            Component::ALL.iter().map(|component| (component.as_str(), self.images.of(*component))).collect();
        Ok(json!({"namespace": self.namespace, "images": images, "spec": spec}))
    }

    /// All objects but the certificates' ([`certificates`]), in the order to install them.
    pub fn objects(&self) -> Result<Vec<Object>, RenderError> {
        let mut objects = Vec::new();
        objects.extend(definitions()?.iter().cloned().map(|value| Object::new(Stage::Definitions, value)));
        objects.extend(rbac::objects(self).into_iter().map(|value| Object::new(Stage::Access, value)));
        objects.extend(services::objects(self).into_iter().map(|value| Object::new(Stage::Services, value)));
        objects.extend(policy::objects(self).into_iter().map(|value| Object::new(Stage::Services, value)));
        objects.extend(workloads::objects(self));
        objects.extend(webhooks::objects(self).into_iter().map(|value| Object::new(Stage::Registration, value)));
        objects.extend(monitoring::objects(self).into_iter().map(|value| Object::new(Stage::Monitoring, value)));
        customize::apply(self.kubevirt, &mut objects)?;
        let identifier = self.identifier()?;
        for object in &mut objects {
            self.mark(&mut object.value, &identifier);
        }
        objects.sort_by_key(|object| object.stage);
        Ok(objects)
    }

    /// Puts our labels and annotations onto an object.
    fn mark(&self, value: &mut Value, identifier: &str) {
        let spec = &self.kubevirt.spec;
        let word = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut labels = vec![
            (OWNER, self.namespace.to_owned()),
            (MANAGED_BY, MANAGER.to_owned()),
            ("app.kubernetes.io/component", word(&spec.product_component).unwrap_or_else(|| "kubevirt".to_owned())),
        ];
        labels.extend(word(&spec.product_name).map(|name| ("app.kubernetes.io/part-of", name)));
        labels.extend(word(&spec.product_version).map(|version| (fv_api::meta::labels::VERSION, version)));
        for (key, text) in labels {
            value["metadata"]["labels"][key] = json!(text);
        }
        if value["metadata"]["labels"].get(fv_api::meta::labels::APP).is_none() {
            value["metadata"]["labels"][fv_api::meta::labels::APP] = json!("");
        }
        let generation = self.kubevirt.metadata.generation.unwrap_or_default().to_string();
        for (key, text) in [
            (ANNOTATION_VERSION, self.images.version()),
            (ANNOTATION_REGISTRY, self.images.registry()),
            (ANNOTATION_IDENTIFIER, identifier),
            (ANNOTATION_GENERATION, &generation),
        ] {
            value["metadata"]["annotations"][key] = json!(text);
        }
    }
}

/// Whether a `status.targetDeploymentConfig` is that of an installation of ours in `namespace`, so that its operator wrote it. What
/// other operators write there, be it upstream's, looks otherwise.
pub fn is_config_of(config: &str, namespace: &str) -> bool {
    let Ok(config) = serde_json::from_str::<Value>(config) else { return false };
    config["namespace"] == namespace && config["images"].get(Component::Launcher.as_str()).is_some()
}

/// Whether a name is one that an installation gives, be it of an older or a newer version, so that a copy of an object of ours under
/// another name is not taken for one.
pub fn is_name_of_ours(name: &str) -> bool {
    name.ends_with(".kubevirt.io")
        || ["kubevirt", "virt-", "prometheus-kubevirt"].iter().any(|start| name.starts_with(start))
}

/// The definitions of our kinds. They are large and always the same, so they are generated once.
fn definitions() -> Result<&'static [Value], RenderError> {
    static DEFINITIONS: OnceLock<Vec<Value>> = OnceLock::new();
    if let Some(known) = DEFINITIONS.get() {
        return Ok(known);
    }
    let values = fv_api::crd::all()?.into_iter().map(definition).collect::<Result<Vec<Value>, RenderError>>()?;
    Ok(DEFINITIONS.get_or_init(|| values))
}

/// A definition as JSON with its kind, without the nulls of absent fields.
///
/// # Errors
/// It cannot be written as JSON.
pub fn definition(crd: CustomResourceDefinition) -> Result<Value, RenderError> {
    let mut value = serde_json::to_value(crd)?;
    drop_nulls(&mut value);
    Ok(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
