//! The files of configMap, secret, downwardAPI and projected volumes: pure, with kubelet's rules and words.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Node, Pod, Secret, Volume};

use super::downward;

/// Mode of files when the volume names none; the API server fills it in, too.
const DEFAULT_MODE: i32 = 0o644;
/// What Kubernetes allows the path of a file to have.
const LONGEST_PATH: usize = 4096;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
}

/// The files of a volume, by path beneath its directory. Each source is bounded by what the API server takes for one object.
pub(super) type Files = BTreeMap<PathBuf, Entry>;

/// An object that a volume takes files from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    ConfigMap(String),
    Secret(String),
    /// The node, whose size is the limit of a container without one.
    Node,
}

/// What the API said of the objects referred to; one that does not exist is missing here.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub(super) config_maps: BTreeMap<String, ConfigMap>,
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) node: Option<Node>,
}

/// One source of files.
enum Source<'a> {
    ConfigMap { name: &'a str, items: &'a [KeyToPath], optional: bool },
    Secret { name: &'a str, items: &'a [KeyToPath], optional: bool },
    Downward(&'a [k8s_openapi::api::core::v1::DownwardAPIVolumeFile]),
}

/// The sources of a volume and the mode of its files; `None` when it is of another kind.
fn sources(volume: &Volume) -> Option<(Vec<Source<'_>>, i32)> {
    let (sources, mode) = if let Some(map) = &volume.config_map {
        let items = map.items.as_deref().unwrap_or_default();
        let source = Source::ConfigMap { name: &map.name, items, optional: map.optional == Some(true) };
        (vec![source], map.default_mode)
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let items = secret.items.as_deref().unwrap_or_default();
        (vec![Source::Secret { name, items, optional: secret.optional == Some(true) }], secret.default_mode)
    } else if let Some(downward) = &volume.downward_api {
        (vec![Source::Downward(downward.items.as_deref().unwrap_or_default())], downward.default_mode)
    } else if let Some(projected) = &volume.projected {
        let mut all = Vec::new();
        for projection in projected.sources.iter().flatten() {
            if let Some(map) = &projection.config_map {
                let items = map.items.as_deref().unwrap_or_default();
                all.push(Source::ConfigMap { name: &map.name, items, optional: map.optional == Some(true) });
            }
            if let Some(secret) = &projection.secret {
                let items = secret.items.as_deref().unwrap_or_default();
                all.push(Source::Secret { name: &secret.name, items, optional: secret.optional == Some(true) });
            }
            if let Some(downward) = &projection.downward_api {
                all.push(Source::Downward(downward.items.as_deref().unwrap_or_default()));
            }
        }
        (all, projected.default_mode)
    } else {
        return None;
    };
    Some((sources, mode.unwrap_or(DEFAULT_MODE)))
}

/// Whether the volume is made of files written here.
pub(super) fn is_payload(volume: &Volume) -> bool {
    sources(volume).is_some()
}

/// The objects whose content the volume shows.
pub(super) fn references(volume: &Volume) -> Vec<Reference> {
    let mut all = Vec::new();
    for source in sources(volume).into_iter().flat_map(|(sources, _)| sources) {
        match source {
            Source::ConfigMap { name, .. } => all.push(Reference::ConfigMap(name.to_owned())),
            Source::Secret { name, .. } => all.push(Reference::Secret(name.to_owned())),
            Source::Downward(items) if items.iter().any(|i| i.resource_field_ref.is_some()) => {
                all.push(Reference::Node);
            }
            Source::Downward(_) => {}
        }
    }
    all
}

/// The files of a volume.
///
/// # Errors
/// Why they cannot be had now, as kubelet says it.
pub(super) fn files(volume: &Volume, pod: &Pod, objects: &Objects) -> Result<Files, String> {
    let Some((sources, mode)) = sources(volume) else { return Ok(Files::new()) };
    let mut files = Files::new();
    for source in sources {
        files.extend(files_of(&source, mode, pod, objects)?);
    }
    for path in files.keys() {
        check_path(path)?;
        if let Some(outer) = path.ancestors().skip(1).find(|above| files.contains_key(*above)) {
            return Err(format!("conflicting paths: {} is a file and {} is in it", outer.display(), path.display()));
        }
    }
    Ok(files)
}

fn files_of(source: &Source<'_>, mode: i32, pod: &Pod, objects: &Objects) -> Result<Files, String> {
    match source {
        Source::ConfigMap { name, items, optional } => {
            let Some(map) = objects.config_maps.get(*name) else { return absent("configmap", name, *optional) };
            let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
            let binary = map.binary_data.iter().flatten().map(|(key, ByteString(value))| (key.as_str(), &value[..]));
            pick(&text.chain(binary).collect(), items, mode, *optional, "configmap references non-existent config key")
        }
        Source::Secret { name, items, optional } => {
            let Some(secret) = objects.secrets.get(*name) else { return absent("secret", name, *optional) };
            let data =
                secret.data.iter().flatten().map(|(key, ByteString(value))| (key.as_str(), &value[..])).collect();
            pick(&data, items, mode, *optional, "references non-existent secret key")
        }
        Source::Downward(items) => {
            let one = |item: &k8s_openapi::api::core::v1::DownwardAPIVolumeFile| {
                let text = downward::value(item, pod, objects.node.as_ref())?;
                Ok((PathBuf::from(&item.path), entry(text.as_bytes(), item.mode.unwrap_or(mode))))
            };
            items.iter().map(one).collect()
        }
    }
}

fn absent(what: &str, name: &str, optional: bool) -> Result<Files, String> {
    if optional { Ok(Files::new()) } else { Err(format!("{what} {name:?} not found")) }
}

fn pick(
    data: &BTreeMap<&str, &[u8]>,
    items: &[KeyToPath],
    mode: i32,
    optional: bool,
    missing: &str,
) -> Result<Files, String> {
    if items.is_empty() {
        return Ok(data.iter().map(|(key, value)| (PathBuf::from(key), entry(value, mode))).collect());
    }
    let mut files = Files::new();
    for item in items {
        match data.get(item.key.as_str()) {
            Some(value) => {
                files.insert(PathBuf::from(&item.path), entry(value, item.mode.unwrap_or(mode)));
            }
            None if optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(files)
}

fn entry(content: &[u8], mode: i32) -> Entry {
    Entry { content: content.to_vec(), mode: u32::try_from(mode).unwrap_or(0o644) & 0o777 }
}

fn check_path(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if path.as_os_str().is_empty() {
        return Err("invalid path: must not be empty".into());
    }
    if path.is_absolute() {
        return Err(format!("invalid path: must be relative path: {shown}"));
    }
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(format!("invalid path: must be less than or equal to {LONGEST_PATH} characters"));
    }
    if !path.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(format!("invalid path: must not contain '..': {shown}"));
    }
    if path.to_string_lossy().starts_with("..") {
        return Err(format!("invalid path: must not start with '..': {shown}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn objects() -> Objects {
        let map = json!({"data": {"a": "1", "b": "2"}, "binaryData": {"bin": "AAE="}});
        let secret = json!({"data": {"key": "c2VjcmV0"}});
        Objects {
            config_maps: [("m".to_string(), serde_json::from_value(map).unwrap())].into(),
            secrets: [("s".to_string(), serde_json::from_value(secret).unwrap())].into(),
            node: None,
        }
    }

    fn shown(volume: Value) -> Result<Vec<(String, String, u32)>, String> {
        let mut full = json!({"name": "v"});
        json_patch::merge(&mut full, &volume);
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}})).unwrap();
        let files = files(&serde_json::from_value(full).unwrap(), &pod, &objects())?;
        let show = |(path, e): (PathBuf, Entry)| {
            (path.display().to_string(), String::from_utf8_lossy(&e.content).into_owned(), e.mode)
        };
        Ok(files.into_iter().map(show).collect())
    }

    fn file(path: &str, content: &str, mode: u32) -> (String, String, u32) {
        (path.into(), content.into(), mode)
    }

    #[test]
    fn every_key_becomes_a_file_unless_items_pick_some() {
        let all = [file("a", "1", 0o644), file("b", "2", 0o644), file("bin", "\0\u{1}", 0o644)];
        assert_eq!(shown(json!({"configMap": {"name": "m"}})).unwrap(), all);
        let picked = json!({"configMap": {"name": "m", "defaultMode": 0o400, "items": [
            {"key": "a", "path": "deep/er/x"}, {"key": "b", "path": "y", "mode": 0o600}]}});
        assert_eq!(shown(picked).unwrap(), [file("deep/er/x", "1", 0o400), file("y", "2", 0o600)]);
        assert_eq!(
            shown(json!({"secret": {"secretName": "s", "defaultMode": 0o440}})).unwrap(),
            [file("key", "secret", 0o440)]
        );
    }

    #[test]
    fn what_is_missing_is_told_in_kubelets_words_unless_optional() {
        let cases = [
            (json!({"configMap": {"name": "x"}}), Err("configmap \"x\" not found")),
            (json!({"configMap": {"name": "x", "optional": true}}), Ok(0)),
            (json!({"secret": {"secretName": "x"}}), Err("secret \"x\" not found")),
            (json!({"secret": {"secretName": "x", "optional": true}}), Ok(0)),
            (
                json!({"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}),
                Err("configmap references non-existent config key: z"),
            ),
            (
                json!({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}),
                Err("references non-existent secret key: z"),
            ),
            (
                json!({"secret": {"secretName": "s", "optional": true, "items": [
                    {"key": "z", "path": "z"}, {"key": "key", "path": "k"}]}}),
                Ok(1),
            ),
            (
                json!({"projected": {"sources": [{"configMap": {"name": "m"}}, {"secret": {"name": "x"}}]}}),
                Err("secret \"x\" not found"),
            ),
        ];
        for (volume, expected) in cases {
            let outcome = shown(volume.clone()).map(|files| files.len());
            assert_eq!(outcome, expected.map_err(str::to_string), "{volume}");
        }
    }

    #[test]
    fn projected_sources_share_one_directory_and_the_later_wins() {
        let volume = json!({"projected": {"defaultMode": 0o444, "sources": [
            {"configMap": {"name": "m", "items": [{"key": "a", "path": "same"}, {"key": "b", "path": "b"}]}},
            {"secret": {"name": "s", "items": [{"key": "key", "path": "same"}]}},
            {"downwardAPI": {"items": [{"path": "who", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}});
        let expected = [file("b", "2", 0o444), file("same", "secret", 0o444), file("who", "p", 0o444)];
        assert_eq!(shown(volume).unwrap(), expected);
    }

    #[test]
    fn no_path_leads_out_of_the_volume_or_through_a_file() {
        for path in ["../x", "/x", "a/../x", "..x", "", "a/../../b"] {
            let volume = json!({"configMap": {"name": "m", "items": [{"key": "a", "path": path}]}});
            let refusal = shown(volume).unwrap_err();
            assert!(refusal.starts_with("invalid path"), "{path}: {refusal}");
        }
        let items = json!([{"key": "a", "path": "x"}, {"key": "b", "path": "x/y"}]);
        let refusal = shown(json!({"configMap": {"name": "m", "items": items}})).unwrap_err();
        assert_eq!(refusal, "conflicting paths: x is a file and x/y is in it");
    }
}
