//! Who wrote what, from the API server's audit log.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

/// A request that changed an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) at: Timestamp,
    /// Who asked, in a word: `virt-controller`, `kubelet`, `client`.
    pub(crate) by: String,
    /// `patch pods/status`.
    pub(crate) what: String,
}

impl Write {
    /// Events tell people; nothing waits for them.
    pub(crate) fn is_event(&self) -> bool {
        self.what.ends_with(" events")
    }
}

/// The successful writes of a namespace that were asked for within a span.
pub(crate) fn writes(log: &Path, namespace: &str, (from, to): (Timestamp, Timestamp)) -> Result<Vec<Write>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter_map(|line| write(&line, namespace)).filter(|write| (from..=to).contains(&write.at)).collect())
}

fn write(line: &Value, namespace: &str) -> Option<Write> {
    let (object, verb) = (&line["objectRef"], line["verb"].as_str()?);
    let changes = matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection");
    let done = line["responseStatus"]["code"].as_u64().is_some_and(|code| (200..300).contains(&code));
    if !changes || !done || object["namespace"] != namespace {
        return None;
    }
    let mut what = format!("{verb} {}", object["resource"].as_str()?);
    if let Some(subresource) = object["subresource"].as_str() {
        what = format!("{what}/{subresource}");
    }
    let by = who(line["user"]["username"].as_str()?);
    Some(Write { at: line["requestReceivedTimestamp"].as_str()?.parse().ok()?, by, what })
}

/// `system:serviceaccount:kubevirt:kubevirt-controller` is virt-controller, `system:node:node1` a kubelet.
fn who(user: &str) -> String {
    let last = user.rsplit(':').next().unwrap_or(user);
    match last.strip_prefix("kubevirt-") {
        Some(component) => format!("virt-{component}"),
        None if user.starts_with("system:node:") => "kubelet".to_owned(),
        None if last == "admin" => "client".to_owned(),
        None => last.to_owned(),
    }
}

/// `client 1, virt-controller 4`, and how many they are together.
pub(crate) fn summary(writes: &[Write], key: impl Fn(&Write) -> String) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for write in writes {
        *counts.entry(key(write)).or_default() += 1;
    }
    counts.iter().map(|(key, n)| format!("{key} {n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(user: &str, verb: &str, code: u16) -> Value {
        json!({
            "verb": verb, "user": {"username": user}, "responseStatus": {"code": code},
            "requestReceivedTimestamp": "2026-11-29T18:00:00.250000Z",
            "objectRef": {"resource": "pods", "subresource": "status", "namespace": "default", "name": "p"},
        })
    }

    #[test]
    fn only_changes_that_were_made_are_writes() {
        assert!(write(&line("admin", "get", 200), "default").is_none());
        assert!(write(&line("admin", "patch", 409), "default").is_none());
        assert!(write(&line("admin", "patch", 200), "other").is_none());
        let found = write(&line("admin", "patch", 200), "default").unwrap();
        assert_eq!((found.by.as_str(), found.what.as_str()), ("client", "patch pods/status"));
    }

    #[test]
    fn writers_are_called_what_people_call_them() {
        assert_eq!(
            ["system:serviceaccount:kubevirt:kubevirt-handler", "system:node:node1", "system:kube-scheduler", "admin"]
                .map(who),
            ["virt-handler", "kubelet", "kube-scheduler", "client"]
        );
    }

    #[test]
    fn summaries_count_by_key() {
        let one = write(&line("admin", "patch", 200), "default").unwrap();
        let two = write(&line("system:node:n", "patch", 200), "default").unwrap();
        assert_eq!(summary(&[one.clone(), two, one], |w| w.by.clone()), "client 2, kubelet 1");
    }
}
