//! Volumes whose content is small data of the cluster.

use fv_api::Volume;
use fv_api::config::{ClusterConfig, Engine};

use crate::causes::{Causes, Field};

/// Longest label of the disk that such a volume becomes.
const LONGEST_LABEL: usize = 16;

/// Judges the data sources of one volume.
pub(super) fn check(volume: &Volume, at: &Field, config: &ClusterConfig, causes: &mut Causes) {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let mut needs = |named: bool, name: &str| {
        if !named {
            let at = at.child(name);
            causes.invalid(&at, format!("{at} is a required field"));
        }
    };
    if let Some(map) = &volume.config_map {
        needs(given(&map.name), "configMap.name");
    }
    if let Some(secret) = &volume.secret {
        needs(given(&secret.secret_name), "secret.secretName");
    }
    if let Some(account) = &volume.service_account {
        needs(given(&account.service_account_name), "serviceAccount.serviceAccountName");
        if config.engine == Engine::Embedded {
            let way_out = "the embedded API server issues no tokens; put what the guest signs in with into a secret volume, or run it on Kubernetes";
            let value = format!("service account {:?}", account.service_account_name.as_deref().unwrap_or_default());
            causes.unimplemented(&at.child("serviceAccount"), &value, way_out);
        }
    }
    for (source, wanted) in [
        ("configMap", volume.config_map.as_ref().and_then(|map| map.volume_label.as_deref())),
        ("secret", volume.secret.as_ref().and_then(|secret| secret.volume_label.as_deref())),
        ("downwardAPI", volume.downward_api.as_ref().and_then(|downward| downward.volume_label.as_deref())),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty() && !is_label(wanted)) {
            let at = at.child(source).child("volumeLabel");
            causes.invalid(
                &at,
                format!("{at} '{wanted}': use 1 to {LONGEST_LABEL} letters, digits, dashes or underscores"),
            );
        }
    }
}

/// One token would be that of the whole pod.
pub(super) fn one_account(volumes: &[Volume], list: &Field, causes: &mut Causes) {
    if volumes.iter().filter(|volume| volume.service_account.is_some()).count() > 1 {
        causes.invalid(list, format!("{list} must have max one serviceAccount volume set"));
    }
}

fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}
