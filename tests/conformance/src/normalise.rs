//! What must differ between two servers becomes symbols that compare.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Times this near to now were made by the server.
const RECENT_SECONDS: i64 = 3600;

static UUID: LazyLock<regex::Regex> = LazyLock::new(|| pattern("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"));
static TIME: LazyLock<regex::Regex> =
    LazyLock::new(|| pattern(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z"));
/// How far back a server remembers, behind the revision that is too old for it.
static OLDEST: LazyLock<regex::Regex> = LazyLock::new(|| pattern(r"(too old resource version: [0-9]+) \([0-9]+\)"));
/// The newest revision, beside one that is not there yet.
static NEWEST: LazyLock<regex::Regex> =
    LazyLock::new(|| pattern(r"(Too large resource version: [0-9]+, current: )[0-9]+"));
static NUMBER: LazyLock<regex::Regex> = LazyLock::new(|| pattern("[0-9]+"));

#[allow(clippy::expect_used, reason = "the patterns are constants")]
fn pattern(text: &str) -> regex::Regex {
    regex::Regex::new(text).expect("a valid pattern")
}

/// The symbols of one server in one sequence: the n-th uid or revision it named is called n, so that equal ones stay equal and
/// changed ones differ.
#[derive(Debug, Default)]
pub struct Normaliser {
    uids: HashMap<String, usize>,
    revisions: HashMap<String, usize>,
    generated: Vec<String>,
}

impl Normaliser {
    /// The value with symbols; `managed` keeps `managedFields`.
    pub fn apply(&mut self, mut value: Value, managed: bool) -> Value {
        self.metadata(&mut value, managed);
        self.texts(&mut value);
        ages(&mut value);
        causes(&mut value);
        discovery(&mut value);
        value
    }

    /// Handles `metadata` objects wherever they are.
    fn metadata(&mut self, value: &mut Value, managed: bool) {
        match value {
            Value::Object(map) => {
                if let Some(Value::Object(meta)) = map.get_mut("metadata") {
                    self.object_meta(meta, managed);
                }
                map.values_mut().for_each(|v| self.metadata(v, managed));
            }
            Value::Array(items) => items.iter_mut().for_each(|v| self.metadata(v, managed)),
            _ => {}
        }
    }

    fn object_meta(&mut self, meta: &mut Map<String, Value>, managed: bool) {
        if !managed {
            meta.shift_remove("managedFields");
        }
        if let Some(Value::Array(entries)) = meta.get_mut("managedFields") {
            // They are in the order of their times, and two writes are or are not within the same second.
            let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            entries.sort_by_key(|e| {
                (text(e, "operation"), text(e, "manager"), text(e, "subresource"), text(e, "apiVersion"))
            });
        }
        if meta.get("continue").is_some_and(|token| token != "") {
            meta.insert("continue".into(), json!("<continue>"));
        }
        let text = |meta: &Map<String, Value>, key: &str| meta.get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(revision) = text(meta, "resourceVersion").filter(|r| !r.is_empty()) {
            // The revision of a list or a bookmark depends on what others do at the same time.
            let symbol = if meta.contains_key("uid") {
                let next = self.revisions.len() + 1;
                format!("<revision {}>", self.revisions.entry(revision).or_insert(next))
            } else {
                "<revision>".to_owned()
            };
            meta.insert("resourceVersion".into(), json!(symbol));
        }
        if let (Some(prefix), Some(name)) = (text(meta, "generateName"), text(meta, "name"))
            && name.len() > prefix.len()
            && name.starts_with(&prefix)
            && !self.generated.contains(&name)
        {
            self.generated.push(name);
        }
    }

    fn texts(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) => map.values_mut().for_each(|v| self.texts(v)),
            Value::Array(items) => items.iter_mut().for_each(|v| self.texts(v)),
            Value::String(text) => {
                if let Some(replaced) = self.text(text) {
                    *text = replaced;
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) -> Option<String> {
        // Times first: the numbers in them are nobody's revisions.
        let mut new = TIME
            .replace_all(text, |found: &regex::Captures<'_>| time(&found[0]).unwrap_or(&found[0]).to_owned())
            .into_owned();
        if UUID.is_match(text) {
            let uids = &mut self.uids;
            new = UUID
                .replace_all(&new, |found: &regex::Captures<'_>| {
                    let next = uids.len() + 1;
                    format!("<uid {}>", uids.entry(found[0].to_owned()).or_insert(next))
                })
                .into_owned();
        }
        for (at, name) in self.generated.iter().enumerate() {
            new = new.replace(name.as_str(), &format!("<generated {} of {}>", at + 1, name.len()));
        }
        new = OLDEST.replace_all(&new, "$1 (<oldest>)").into_owned();
        new = NEWEST.replace_all(&new, "$1<newest>").into_owned();
        let lower = new.to_ascii_lowercase();
        if lower.contains("resource version") || lower.contains("resourceversion") {
            let known = &self.revisions;
            new = NUMBER
                .replace_all(&new, |found: &regex::Captures<'_>| match known.get(&found[0]) {
                    Some(number) => format!("<revision {number}>"),
                    None => found[0].to_owned(),
                })
                .into_owned();
        }
        (new != text).then_some(new)
    }
}

/// Ages in the cells of tables depend on the moment.
fn ages(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, below) in map.iter_mut() {
                match below {
                    Value::Array(cells) if key == "cells" => {
                        let age = |cell: &Value| {
                            let digits = cell.as_str().and_then(|text| text.strip_suffix('s'));
                            digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|c| c.is_ascii_digit()))
                        };
                        cells.iter_mut().filter(|cell| age(cell)).for_each(|cell| *cell = json!("<age>"));
                    }
                    below => ages(below),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(ages),
        _ => {}
    }
}

/// Kubernetes reports several causes in the order of a Go map, which is another one each time: they are sorted, and the message that
/// strings them together is cut.
fn causes(observed: &mut Value) {
    let Some(body) = observed.get_mut("body").filter(|b| b["reason"] == "Invalid") else { return };
    let Some(causes) = body.pointer_mut("/details/causes").and_then(Value::as_array_mut) else { return };
    if causes.len() < 2 {
        return;
    }
    causes.sort_by_key(|cause| (cause["field"].to_string(), cause["message"].to_string()));
    if let Some(message) = body.get_mut("message") {
        let text = message.as_str().unwrap_or_default();
        let start = text.find(" is invalid: ").map_or(text.len(), |at| at + " is invalid".len());
        *message = json!(text[..start]);
    }
}

/// The resources of a group are told in the order of a Go map, or of the definitions' arrival: they are sorted by their names.
fn discovery(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let name = match map.get("kind").and_then(Value::as_str) {
                Some("APIResourceList") => Some("name"),
                // A version of a group, within an APIGroupDiscoveryList.
                _ if map.contains_key("freshness") => Some("resource"),
                _ => None,
            };
            if let (Some(name), Some(Value::Array(resources))) = (name, map.get_mut("resources")) {
                resources.sort_by_key(|resource| resource[name].to_string());
            }
            map.values_mut().for_each(discovery);
        }
        Value::Array(items) => items.iter_mut().for_each(discovery),
        _ => {}
    }
}

/// The symbol of a time that is about now.
fn time(text: &str) -> Option<&'static str> {
    let parsed: Timestamp = text.parse().ok()?;
    is_recent(parsed).then_some(if text.contains('.') { "<microtime>" } else { "<time>" })
}

/// Whether a time is about now: the server made it.
pub fn is_recent(time: Timestamp) -> bool {
    (time.as_second() - Timestamp::now().as_second()).abs() < RECENT_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_with_other_uids_and_revisions_look_alike() {
        let object = |uid: &str, revision: &str| {
            json!({"metadata": {"name": "a", "uid": uid, "resourceVersion": revision, "managedFields": [],
                "creationTimestamp": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}})
        };
        let (mut one, mut two) = (Normaliser::default(), Normaliser::default());
        let a = one.apply(object("0d0e5a4c-1111-4222-8333-123456789abc", "7"), false);
        let b = two.apply(object("11111111-1111-4222-8333-123456789abc", "1234"), false);
        assert_eq!(a, b);
        assert_eq!(a["metadata"]["creationTimestamp"], "<time>");
        assert!(a["metadata"].get("managedFields").is_none());
    }

    #[test]
    fn a_revision_that_changed_differs_from_one_that_did_not() {
        let object = |revision: &str| json!({"metadata": {"uid": "u", "resourceVersion": revision}});
        let mut n = Normaliser::default();
        let first = n.apply(object("7"), false);
        assert_eq!(first, n.apply(object("7"), false));
        assert_ne!(first, n.apply(object("8"), false));
    }

    #[test]
    fn messages_name_symbols_and_old_times_stay() {
        let mut n = Normaliser::default();
        n.apply(json!({"metadata": {"uid": "u", "resourceVersion": "41"}}), false);
        let text = n.apply(json!("ResourceVersion in object meta: 41, not 99"), false);
        assert_eq!(text, "ResourceVersion in object meta: <revision 1>, not 99");
        let text = n.apply(json!("Timeout: Too large resource version: 99, current: 41"), false);
        assert_eq!(text, "Timeout: Too large resource version: 99, current: <newest>");
        assert_eq!(n.apply(json!("2020-01-01T00:00:00Z"), false), "2020-01-01T00:00:00Z");
    }

    #[test]
    fn generated_names_keep_their_length() {
        let mut n = Normaliser::default();
        let value = n.apply(json!({"metadata": {"generateName": "a-", "name": "a-x7zzz"}}), false);
        assert_eq!(value["metadata"]["name"], "<generated 1 of 7>");
    }

    #[test]
    fn resources_of_a_group_are_told_in_any_order() {
        let list = |names: [&str; 3]| {
            let resources = names.map(|name| json!({"name": name, "kind": "X"}));
            json!({"body": {"kind": "APIResourceList", "resources": resources}})
        };
        let mut n = Normaliser::default();
        let names = ["relics", "widgets", "widgets/status"];
        assert_eq!(n.apply(list(["widgets", "widgets/status", "relics"]), false), list(names));
        let versions = |names: [&str; 2]| {
            let resources = names.map(|name| json!({"resource": name}));
            json!({"body": {"items": [{"versions": [{"version": "v1", "freshness": "Current", "resources": resources}]}]}})
        };
        assert_eq!(n.apply(versions(["widgets", "relics"]), false), versions(["relics", "widgets"]));
    }

    #[test]
    fn numbers_of_a_time_within_a_text_are_no_revisions() {
        let now = Timestamp::now();
        let text = |second: &str| {
            let time = now.strftime("%Y-%m-%dT%H:%M:").to_string();
            format!("creationTimestamp: \"{time}{second}Z\"\nresourceVersion: \"42\"\n")
        };
        let mut normaliser = Normaliser::default();
        normaliser.apply(json!({"metadata": {"uid": "u", "resourceVersion": "42"}}), false);
        let seen = normaliser.apply(json!(text("42")), false);
        let expected = "creationTimestamp: \"<time>\"\nresourceVersion: \"<revision 1>\"\n";
        assert_eq!(seen, json!(expected));
        assert_eq!(normaliser.apply(json!(text("43")), false), seen);
    }
}
