//! Which secrets a VMI's cloud-init volumes need, and their content once fetched.

use std::collections::BTreeMap;

use fv_api::Volume;
use k8s_openapi::ByteString;

use crate::Field;
use crate::cloud_init::Source;

/// A secret some volume refers to, and by which field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretNeed {
    /// Name of the volume.
    pub volume: String,
    /// The referring field.
    pub field: Field,
    /// Name of the secret, in the VMI's namespace.
    pub secret: String,
}

/// Fetched secrets by name: the `data` of each. A secret that does not exist is left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, BTreeMap<String, Vec<u8>>>);

impl Secrets {
    /// Adds the `data` of the secret `name`.
    pub fn insert(&mut self, name: impl Into<String>, data: BTreeMap<String, ByteString>) {
        self.0.insert(name.into(), data.into_iter().map(|(key, value)| (key, value.0)).collect());
    }

    pub(crate) fn get(&self, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        self.0.get(name)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The secrets that [`crate::build_cloud_init`] will ask for, one entry per referring field.
pub fn needed_secrets(volumes: &[Volume]) -> Vec<SecretNeed> {
    let mut needs = Vec::new();
    for volume in volumes {
        let Some(source) = Source::of(volume) else { continue };
        for (field, reference) in
            [(Field::SecretRef, source.secret_ref), (Field::NetworkDataSecretRef, source.network_data_secret_ref)]
        {
            if let Some(reference) = reference {
                needs.push(SecretNeed { volume: volume.name.clone(), field, secret: reference.name.clone() });
            }
        }
    }
    needs
}
