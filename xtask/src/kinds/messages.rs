//! `schema/protobuf/table.txt`: the field numbers of built-in kinds, read from the Go types of Kubernetes. One line per message: its name,
//! then `number:json name:type` for each field. A type is `s` string, `b` bytes, `i` integer, `t` boolean, `d` double or a message,
//! after `[]` for lists, `{}` for maps, `*` for pointers (whose zero value is a value). The name `-` marks a message whose fields stand
//! in its parent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use regex::Regex;

const ROOTS: &[&str] = &[
    "apps.ControllerRevision",
    "authentication.SelfSubjectReview",
    "authentication.TokenRequest",
    "authorization.SelfSubjectAccessReview",
    "authorization.SelfSubjectRulesReview",
    "coordination.Lease",
    "core.Binding",
    "core.ConfigMap",
    "core.Event",
    "core.LimitRange",
    "core.Namespace",
    "core.Node",
    "core.PersistentVolume",
    "core.PersistentVolumeClaim",
    "core.Pod",
    "core.ResourceQuota",
    "core.Secret",
    "core.ServiceAccount",
    "events.Event",
    "meta.DeleteOptions",
    "policy.Eviction",
    "policy.PodDisruptionBudget",
    "scheduling.PriorityClass",
    "storage.StorageClass",
];
/// Groups of the module `k8s.io/api`.
const GROUPS: &[&str] =
    &["apps", "authentication", "authorization", "coordination", "core", "events", "policy", "scheduling", "storage"];

struct Field {
    number: u32,
    name: String,
    ty: String,
}

/// The table, from the directories of the modules `k8s.io/api` and `k8s.io/apimachinery`.
pub(super) fn render(api: &Path, machinery: &Path) -> Result<String> {
    let mut types = Types::default();
    for group in GROUPS {
        types.read(group, &api.join(group).join("v1/types.go"))?;
    }
    types.read("meta", &machinery.join("pkg/apis/meta/v1/types.go"))?;
    let mut wanted: BTreeSet<String> = ROOTS.iter().map(|s| (*s).to_owned()).collect();
    let mut done = BTreeSet::new();
    let mut table = String::new();
    while let Some(name) = wanted.pop_first() {
        let fields = types.structs.get(&name).with_context(|| format!("the Go sources have no type {name}"))?;
        done.insert(name.clone());
        table.push_str(&name);
        for field in fields {
            let ty = types.resolve(&field.ty);
            let bare = ty.trim_start_matches(['*', '[', ']', '{', '}']);
            if bare.contains('.') && !done.contains(bare) {
                wanted.insert(bare.to_owned());
            }
            table.push_str(&format!(" {}:{}:{ty}", field.number, field.name));
        }
        table.push('\n');
    }
    Ok(table)
}

/// The Go types of some packages: structs, and other names of a type.
#[derive(Default)]
struct Types {
    structs: BTreeMap<String, Vec<Field>>,
    aliases: BTreeMap<String, String>,
}

impl Types {
    fn read(&mut self, package: &str, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let start = Regex::new(r"^type (\w+) struct")?;
        let alias = Regex::new(r"^type (\w+) ([\w\[\].*]+)$")?;
        let field = Regex::new(r#"^\s+(?:\w+\s+)?(\S+)\s+`json:"([^",]*)([^"]*)".*protobuf:"\w+,(\d+),"#)?;
        let mut current: Option<String> = None;
        for line in text.lines() {
            let code = line.split(" // ").next().unwrap_or(line).trim_end();
            if let Some(found) = start.captures(code) {
                let name = format!("{package}.{}", &found[1]);
                self.structs.insert(name.clone(), Vec::new());
                current = Some(name);
            } else if let Some(found) = alias.captures(code) {
                self.aliases.insert(format!("{package}.{}", &found[1]), qualify(package, &found[2])?);
            } else if code == "}" {
                current = None;
            } else if let (Some(current), Some(found)) = (&current, field.captures(code)) {
                let inline = found[3].contains("inline");
                let name = if inline { "-".to_owned() } else { found[2].to_owned() };
                let ty = qualify(package, &found[1])?;
                let field = Field { number: found[4].parse()?, name, ty };
                self.structs.entry(current.clone()).or_default().push(field);
            }
        }
        Ok(())
    }

    fn resolve(&self, ty: &str) -> String {
        let bare = ty.trim_start_matches(['*', '[', ']', '{', '}']);
        match self.aliases.get(bare) {
            Some(target) => self.resolve(&format!("{}{target}", &ty[..ty.len() - bare.len()])),
            None => ty.to_owned(),
        }
    }
}

/// Spells a Go type with our codes and package names.
fn qualify(package: &str, go: &str) -> Result<String> {
    if let Some(rest) = go.strip_prefix('*') {
        return Ok(format!("*{}", qualify(package, rest)?));
    }
    if go == "[]byte" {
        return Ok("b".into());
    }
    if let Some(rest) = go.strip_prefix("[]") {
        return Ok(format!("[]{}", qualify(package, rest)?));
    }
    if let Some(rest) = go.strip_prefix("map[") {
        let value = rest.split_once(']').map_or(rest, |(_, value)| value);
        return Ok(format!("{{}}{}", qualify(package, value)?));
    }
    Ok(match go {
        "string" | "types.UID" | "types.NodeName" | "types.NamespacedName" => "s".into(),
        "bool" => "t".into(),
        "int" | "int32" | "int64" | "uint32" | "uint64" => "i".into(),
        "float64" => "d".into(),
        "metav1.Time" | "Time" => "time".into(),
        "metav1.MicroTime" | "MicroTime" => "time".into(),
        "resource.Quantity" => "quantity".into(),
        "intstr.IntOrString" => "intorstring".into(),
        "runtime.RawExtension" | "FieldsV1" => "raw".into(),
        _ => match go.split_once('.') {
            None => format!("{package}.{go}"),
            Some(("metav1", name)) => format!("meta.{name}"),
            Some(("corev1" | "apiv1" | "v1", name)) => format!("core.{name}"),
            Some(_) => bail!("the Go type {go} in package {package} has no code here"),
        },
    })
}
