//! What service accounts did, out of the audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::grants::Right;

/// A request about a resource, each distinct one once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) group: String,
    /// With its subresource.
    pub(super) resource: String,
    pub(super) verb: String,
    pub(super) namespace: String,
    /// Empty for what is about no single object.
    pub(super) name: String,
}

impl Request {
    /// Whether a right allows it.
    pub(super) fn uses(&self, right: &Right) -> bool {
        (&self.group, &self.resource, &self.verb) == (&right.group, &right.resource, &right.verb)
            && right.namespace.as_ref().is_none_or(|namespace| *namespace == self.namespace)
            && right.name.as_ref().is_none_or(|name| *name == self.name)
    }
}

/// By name of the service account.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) done: BTreeMap<String, BTreeSet<Request>>,
    /// What the API server did not allow.
    pub(super) denied: BTreeMap<String, BTreeSet<Request>>,
}

/// The part of an audit event that is of interest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    user: User,
    verb: String,
    object_ref: Option<Object>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

impl Usage {
    /// Reads a log; accounts are those of `namespace`. What is about no resource anybody who is authenticated may do.
    pub(super) fn read(log: impl BufRead, namespace: &str) -> Result<Self> {
        let prefix = format!("system:serviceaccount:{namespace}:");
        let mut usage = Self::default();
        for (number, line) in log.lines().enumerate() {
            let line = line?;
            // Most of a log is about others, and it is long.
            if !line.contains(&prefix) {
                continue;
            }
            let event: Event = serde_json::from_str(&line).with_context(|| format!("line {}", number + 1))?;
            let (Some(account), Some(object)) = (event.user.username.strip_prefix(&prefix), event.object_ref) else {
                continue;
            };
            let is_denied = event.annotations.get("authorization.k8s.io/decision").is_some_and(|word| word == "forbid");
            let requests = if is_denied { &mut usage.denied } else { &mut usage.done };
            let resource = match object.subresource.as_str() {
                "" => object.resource,
                subresource => format!("{}/{subresource}", object.resource),
            };
            requests.entry(account.to_owned()).or_default().insert(Request {
                group: object.api_group,
                resource,
                verb: event.verb,
                namespace: object.namespace,
                name: object.name,
            });
        }
        Ok(usage)
    }
}
