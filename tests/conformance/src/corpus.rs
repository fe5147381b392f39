//! Request sequences, as the files of `corpus/` describe them (see README.md for the notation).

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Value, json};

/// One sequence of requests in a namespace of its own.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// `theme/what it is about`
    pub name: String,
    /// The namespace it runs in, also `${ns}` in its texts.
    pub namespace: String,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

impl Sequence {
    /// The same sequence in another namespace, to be played once more.
    pub fn in_namespace(&self, suffix: &str) -> Sequence {
        Sequence { namespace: format!("{}-{suffix}", self.namespace), ..self.clone() }
    }
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// As written, for reports.
    pub text: String,
    /// What is done.
    pub action: Action,
    /// Variable → JSON pointer into the answer's body.
    pub save: IndexMap<String, String>,
    /// The step is repeated until each pointer has its value (or the time is up); for what servers do on their own.
    pub until: IndexMap<String, Value>,
    /// Pointers into the body that are left out of the comparison.
    pub ignore: Vec<String>,
    /// Whether `managedFields` are compared.
    pub managed: bool,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// An ordinary request.
    Request {
        /// HTTP method.
        method: &'static str,
        /// Path and query.
        path: String,
        /// Headers.
        headers: Vec<(String, String)>,
        /// Body as text (variables are filled in when it is sent).
        body: Option<String>,
    },
    /// Opens a watch under a name.
    Watch {
        /// Name for later steps.
        name: String,
        /// Path and query.
        path: String,
        /// Headers.
        headers: Vec<(String, String)>,
    },
    /// Takes so many events from a watch (and notices more).
    Events {
        /// The watch.
        name: String,
        /// How many the real server sends.
        count: usize,
    },
    /// Sends a request so many times with `${i}` counting from 0; the answers are not compared.
    Repeat {
        /// How often.
        count: usize,
        /// The request.
        request: Box<Action>,
    },
}

/// An alias of a resource: (word, kind, apiVersion, path below which `namespaces/<ns>/<plural>` goes, plural, namespaced).
const ALIASES: &[(&str, &str, &str, &str, bool)] = &[
    ("cm", "ConfigMap", "v1", "configmaps", true),
    ("secret", "Secret", "v1", "secrets", true),
    ("pod", "Pod", "v1", "pods", true),
    ("sa", "ServiceAccount", "v1", "serviceaccounts", true),
    ("event", "Event", "v1", "events", true),
    ("ns", "Namespace", "v1", "namespaces", false),
    ("node", "Node", "v1", "nodes", false),
    ("pvc", "PersistentVolumeClaim", "v1", "persistentvolumeclaims", true),
    ("quota", "ResourceQuota", "v1", "resourcequotas", true),
    ("limits", "LimitRange", "v1", "limitranges", true),
    ("pc", "PriorityClass", "scheduling.k8s.io/v1", "priorityclasses", false),
    ("pdb", "PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", true),
    ("cr", "ControllerRevision", "apps/v1", "controllerrevisions", true),
    ("pv", "PersistentVolume", "v1", "persistentvolumes", false),
    ("sc", "StorageClass", "storage.k8s.io/v1", "storageclasses", false),
    ("lease", "Lease", "coordination.k8s.io/v1", "leases", true),
    ("newevent", "Event", "events.k8s.io/v1", "events", true),
    ("crd", "CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions", false),
    ("widget", "Widget", "conformance.ferrovirt.io/v1", "widgets", true),
    ("widgetb", "Widget", "conformance.ferrovirt.io/v1beta1", "widgets", true),
    ("gizmo", "Gizmo", "global.ferrovirt.io/v1", "gizmos", false),
    ("relic", "Relic", "conformance.ferrovirt.io/v1", "relics", true),
    ("rule", "Rule", "conformance.ferrovirt.io/v1", "rules", true),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    managed: bool,
    steps: Vec<IndexMap<String, Value>>,
}

/// Reads every file of a directory; sequences get their theme from the file's name.
pub fn read(dir: &Path) -> Result<Vec<Sequence>> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .with_context(|| format!("read {}", dir.display()))?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    paths.sort();
    let mut sequences: Vec<Sequence> = Vec::new();
    for path in paths {
        let theme = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        sequences.extend(parse(&theme, &text).with_context(|| format!("read {}", path.display()))?);
    }
    for (at, sequence) in sequences.iter().enumerate() {
        if sequences[..at].iter().any(|s| s.name == sequence.name) {
            bail!("two sequences are named {:?}", sequence.name);
        }
    }
    Ok(sequences)
}

/// Reads the sequences of one theme.
pub fn parse(theme: &str, text: &str) -> Result<Vec<Sequence>> {
    // `y` and `no` are texts here, as everywhere since YAML 1.2.
    let options = serde_saphyr::options! { strict_booleans: true };
    let raw: Vec<Raw> = serde_saphyr::from_str_with_options(text, options).context("parse YAML")?;
    raw.into_iter()
        .enumerate()
        .map(|(at, raw)| {
            let name = format!("{theme}/{}", raw.name);
            let steps: Result<Vec<Step>> = raw.steps.into_iter().map(|s| step(s, raw.managed)).collect();
            let steps = steps.with_context(|| format!("sequence {name:?}"))?;
            Ok(Sequence { name, namespace: format!("{}-{at}", theme.replace('_', "-")), steps })
        })
        .collect()
}

fn step(mut raw: IndexMap<String, Value>, managed: bool) -> Result<Step> {
    let Some((text, body)) = raw.shift_remove_index(0) else { bail!("a step is empty") };
    let mut headers = Vec::new();
    let (mut save, mut until, mut ignore) = (IndexMap::new(), IndexMap::new(), Vec::new());
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (key, value) in raw {
        let map = || value.as_object().cloned().with_context(|| format!("{text}: {key} must be a mapping"));
        match key.as_str() {
            "headers" => headers.extend(map()?.iter().map(|(k, v)| (k.clone(), word(v)))),
            "save" => save.extend(map()?.iter().map(|(k, v)| (k.clone(), word(v)))),
            "until" => until.extend(map()?),
            "ignore" => ignore.extend(value.as_array().into_iter().flatten().map(word)),
            other => bail!("{text}: unknown key {other:?}"),
        }
    }
    let action = action(&text, body, headers)?;
    Ok(Step { text, action, save, until, ignore, managed })
}

fn action(text: &str, body: Value, mut headers: Vec<(String, String)>) -> Result<Action> {
    let mut words = text.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let mut next = || words.next().with_context(|| format!("{text:?}: a word is missing"));
    let number = |word: &str| word.parse::<usize>().with_context(|| format!("{text:?}: {word:?} is not a number"));
    match verb {
        "WATCH" => {
            let name = next()?.to_owned();
            let (path, _) = path(next()?)?;
            let separator = if path.contains('?') { '&' } else { '?' };
            return Ok(Action::Watch { name, path: format!("{path}{separator}watch=true"), headers });
        }
        "EVENTS" => return Ok(Action::Events { name: next()?.to_owned(), count: number(next()?)? }),
        "REPEAT" => {
            let count = number(next()?)?;
            let rest: Vec<&str> = words.collect();
            let request = Box::new(action(&rest.join(" "), body, headers)?);
            return Ok(Action::Repeat { count, request });
        }
        _ => {}
    }
    let (method, media) = match verb.trim_end_matches('!') {
        "GET" => ("GET", ""),
        "POST" => ("POST", "application/json"),
        "PUT" => ("PUT", "application/json"),
        "DELETE" => ("DELETE", "application/json"),
        "MERGE" => ("PATCH", "application/merge-patch+json"),
        "JSON" => ("PATCH", "application/json-patch+json"),
        "STRATEGIC" => ("PATCH", "application/strategic-merge-patch+json"),
        "APPLY" => ("PATCH", "application/apply-patch+yaml"),
        "PATCH" => ("PATCH", ""),
        "OPTIONS" => ("OPTIONS", ""),
        other => bail!("{text:?}: unknown verb {other:?}"),
    };
    let (path, typed) = path(next()?)?;
    let body = match body {
        Value::Null => None,
        Value::String(text) => Some(text),
        mut value => {
            let writes = matches!(verb, "POST" | "PUT" | "APPLY");
            if let (true, Some((kind, version)), Value::Object(map)) = (writes, typed, &mut value)
                && !map.contains_key("kind")
                && !map.contains_key("apiVersion")
            {
                map.shift_insert(0, "apiVersion".into(), json!(version));
                map.shift_insert(1, "kind".into(), json!(kind));
            }
            Some(value.to_string())
        }
    };
    let typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if !typed && !media.is_empty() && body.is_some() {
        headers.push(("content-type".into(), media.into()));
    }
    Ok(Action::Request { method, path, headers, body })
}

/// The path an alias stands for, and the kind and version of its objects.
fn path(word: &str) -> Result<(String, Option<(&'static str, &'static str)>)> {
    if word.starts_with('/') {
        return Ok((word.to_owned(), None));
    }
    let end = word.find(['/', '?']).unwrap_or(word.len());
    let (alias, rest) = word.split_at(end);
    // `cm*` is the collection over all namespaces.
    let (alias, everywhere) = alias.strip_suffix('*').map_or((alias, false), |a| (a, true));
    let Some((_, kind, version, plural, namespaced)) = ALIASES.iter().find(|a| a.0 == alias) else {
        bail!("{alias:?} stands for no resource");
    };
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let namespace = if *namespaced && !everywhere { "/namespaces/${ns}" } else { "" };
    Ok((format!("{root}/{version}{namespace}/{plural}{rest}"), Some((kind, version))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_fill_in_path_kind_and_media_type() {
        let text = "- name: x\n  steps:\n  - POST cm?dryRun=All: {metadata: {name: a}}\n    save: {rv: /metadata/resourceVersion}\n";
        let sequences = parse("theme", text).unwrap();
        let step = &sequences[0].steps[0];
        let Action::Request { method, path, headers, body } = &step.action else { panic!("not a request") };
        assert_eq!((*method, path.as_str()), ("POST", "/api/v1/namespaces/${ns}/configmaps?dryRun=All"));
        assert_eq!(headers[0].1, "application/json");
        assert_eq!(body.as_deref(), Some(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#));
        assert_eq!(step.save["rv"], "/metadata/resourceVersion");
    }

    #[test]
    fn an_unknown_word_is_an_error_that_names_it() {
        let error = parse("theme", "- name: x\n  steps:\n  - GET what/x:\n").unwrap_err();
        assert!(format!("{error:#}").contains("\"what\" stands for no resource"), "{error:#}");
    }

    #[test]
    fn the_corpus_is_readable_and_names_are_unique() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        assert!(read(&dir).unwrap().len() > 100);
    }
}
