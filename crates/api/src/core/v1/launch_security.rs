use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `LaunchSecurity` of upstream's API (`kubevirt.io/api`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaunchSecurity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sev: Option<SEV>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snp: Option<SEVSNP>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdx: Option<TDX>,
}

/// `SEV` of upstream's API (`kubevirt.io/api`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SEV {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<SEVAttestation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dh_cert: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<SEVPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// `SEVAttestation` of upstream's API (`kubevirt.io/api`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SEVAttestation {}

/// `SEVPolicy` of upstream's API (`kubevirt.io/api`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SEVPolicy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_state: Option<bool>,
}

/// `SEVSNP` of upstream's API (`kubevirt.io/api`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SEVSNP {}

/// `TDX` of upstream's API (`kubevirt.io/api`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TDX {}
