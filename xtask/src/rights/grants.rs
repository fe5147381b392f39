//! What service accounts may do, out of roles and their bindings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, bail};
use fv_render::install::OWNER;
use serde_json::Value;

/// One thing that may be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    /// Empty for the core group.
    pub(super) group: String,
    /// With its subresource, as `pods/status`.
    pub(super) resource: String,
    pub(super) verb: String,
    /// `None`: everywhere.
    pub(super) namespace: Option<String>,
    /// `None`: any object.
    pub(super) name: Option<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        self.namespace.iter().try_for_each(|namespace| write!(f, " in {namespace}"))
    }
}

/// Who may what.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// By name of the service account.
    pub(super) accounts: BTreeMap<String, BTreeSet<Right>>,
    /// What roles contain that an operator installed: it can only give what it has itself.
    pub(super) handed_out: BTreeSet<Right>,
}

impl Grants {
    /// Reads a List of (cluster) roles and their bindings; accounts are those of `namespace`.
    pub(super) fn read(list: &Value, namespace: &str) -> Result<Self> {
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut grants = Self::default();
        let mut roles: BTreeMap<(&str, &str, &str), &Value> = BTreeMap::new();
        for item in items {
            let (kind, name) = (text(&item["kind"]), text(&item["metadata"]["name"]));
            let place = text(&item["metadata"]["namespace"]);
            if matches!(kind, "Role" | "ClusterRole") {
                roles.insert((kind, place, name), item);
                if item["metadata"]["labels"].get(OWNER).is_some() {
                    grants.handed_out.extend(expand(item, place)?);
                }
            }
        }
        for item in items.iter().filter(|item| text(&item["kind"]).ends_with("Binding")) {
            let place = text(&item["metadata"]["namespace"]);
            let (kind, name) = (text(&item["roleRef"]["kind"]), text(&item["roleRef"]["name"]));
            let role = roles.get(&(kind, if kind == "Role" { place } else { "" }, name));
            for subject in item["subjects"].as_array().into_iter().flatten() {
                if subject["kind"] == "ServiceAccount" && subject["namespace"] == namespace {
                    let Some(role) = role else { bail!("{kind} {name} is bound, and it is not there") };
                    let account = grants.accounts.entry(text(&subject["name"]).to_owned()).or_default();
                    account.extend(expand(role, place)?);
                }
            }
        }
        Ok(grants)
    }
}

/// Every single right of a role that is bound in `place`; empty: everywhere.
fn expand(role: &Value, place: &str) -> Result<Vec<Right>> {
    let mut rights = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        if rule.get("nonResourceURLs").is_some() {
            bail!("{}: rules about nonResourceURLs are not judged yet", text(&role["metadata"]["name"]));
        }
        let words = |key: &str| rule[key].as_array().into_iter().flatten().map(|word| text(word).to_owned());
        let names: Vec<String> = words("resourceNames").collect();
        let names: Vec<Option<String>> =
            if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        for group in words("apiGroups") {
            for resource in words("resources") {
                for verb in words("verbs") {
                    rights.extend(names.iter().map(|name| Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        namespace: (!place.is_empty()).then(|| place.to_owned()),
                        name: name.clone(),
                    }));
                }
            }
        }
    }
    Ok(rights)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
