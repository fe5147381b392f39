//! `spec.customizeComponents`: what owners change in the rendered objects.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use fv_api::{CustomizeComponentsPatch, KubeVirt};
use fv_smd::strategic::{self, PatchMerge, Place};
use serde_json::{Value, json};

use super::object::Object;

/// A patch that cannot be applied. The texts are whole: they are shown in a condition.
#[derive(Debug, thiserror::Error)]
pub enum CustomizeError {
    #[error("spec.customizeComponents.patches[{index}]: there is no {kind} {name}")]
    NoTarget { index: usize, kind: String, name: String },
    #[error("spec.customizeComponents.patches[{index}].patch is not JSON of a {type_} patch: {source}")]
    Text { index: usize, type_: String, source: serde_json::Error },
    #[error("spec.customizeComponents.patches[{index}] does not fit {kind} {name}: {source}")]
    Apply { index: usize, kind: String, name: String, source: json_patch::PatchError },
    #[error("spec.customizeComponents.patches[{index}] does not fit {kind} {name}: {source}")]
    Strategic { index: usize, kind: String, name: String, source: strategic::Refused },
    #[error(
        "spec.customizeComponents.patches[{index}].type: there are no strategic patches of {kind}: use json or merge"
    )]
    NoStrategy { index: usize, kind: String },
    #[error("spec.customizeComponents.patches[{index}].type {type_:?}: use json, merge or strategic")]
    Type { index: usize, type_: String },
}

/// Applies flags, then patches in their order.
pub(super) fn apply(kubevirt: &KubeVirt, objects: &mut [Object]) -> Result<(), CustomizeError> {
    let Some(customize) = &kubevirt.spec.customize_components else { return Ok(()) };
    if let Some(flags) = &customize.flags {
        for (name, wanted) in
            [("virt-api", &flags.api), ("virt-controller", &flags.controller), ("virt-handler", &flags.handler)]
        {
            let workload = objects
                .iter_mut()
                .find(|object| object.value["metadata"]["name"] == name && is_workload(&object.value));
            if let (Some(object), false) = (workload, wanted.is_empty()) {
                add_flags(&mut object.value["spec"]["template"]["spec"]["containers"][0], wanted);
            }
        }
    }
    for (index, patch) in customize.patches.iter().enumerate() {
        let mut targets = objects.iter_mut().filter(|object| is_target(&object.value, patch)).peekable();
        if targets.peek().is_none() {
            let (kind, name) = (patch.resource_type.clone(), patch.resource_name.clone());
            return Err(CustomizeError::NoTarget { index, kind, name });
        }
        for target in targets {
            patch_object(&mut target.value, patch, index)?;
        }
    }
    Ok(())
}

fn is_workload(value: &Value) -> bool {
    value["kind"] == "Deployment" || value["kind"] == "DaemonSet"
}

/// As upstream compares: in any case, and `*` is every object of the kind.
fn is_target(value: &Value, patch: &CustomizeComponentsPatch) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&value["kind"]), text(&value["metadata"]["name"]));
    kind.eq_ignore_ascii_case(&patch.resource_type)
        && (patch.resource_name == "*" || name.eq_ignore_ascii_case(&patch.resource_name))
}

/// Flags take the place of ours of the same name; a flag without value stands alone.
fn add_flags(container: &mut Value, wanted: &BTreeMap<String, String>) {
    let mut ours: Vec<Value> = container["args"].as_array().cloned().unwrap_or_default();
    for (name, value) in wanted {
        let flag = if name.chars().count() == 1 { format!("-{name}") } else { format!("--{name}") };
        if let Some(at) = ours.iter().position(|arg| arg == &json!(flag)) {
            let has_value = ours.get(at + 1).and_then(Value::as_str).is_some_and(|next| !next.starts_with('-'));
            ours.drain(at..at + 1 + usize::from(has_value));
        }
        ours.push(json!(flag));
        if !value.is_empty() {
            ours.push(json!(value));
        }
    }
    container["args"] = Value::Array(ours);
}

fn patch_object(value: &mut Value, patch: &CustomizeComponentsPatch, index: usize) -> Result<(), CustomizeError> {
    let text = |source| CustomizeError::Text { index, type_: patch.type_.clone(), source };
    match patch.type_.as_str() {
        "json" => {
            let operations: json_patch::Patch = serde_json::from_str(&patch.patch).map_err(text)?;
            json_patch::patch(value, &operations).map_err(|source| CustomizeError::Apply {
                index,
                kind: patch.resource_type.clone(),
                name: patch.resource_name.clone(),
                source,
            })
        }
        "merge" => {
            let wanted: Value = serde_json::from_str(&patch.patch).map_err(text)?;
            json_patch::merge(value, &wanted);
            Ok(())
        }
        "strategic" => {
            let wanted: Value = serde_json::from_str(&patch.patch).map_err(text)?;
            let kind = patch.resource_type.clone();
            let Some(root) = Merge::of(value["kind"].as_str().unwrap_or_default()) else {
                return Err(CustomizeError::NoStrategy { index, kind });
            };
            let name = patch.resource_name.clone();
            strategic::patch(value, &wanted, root).map_err(|source| CustomizeError::Strategic {
                index,
                kind,
                name,
                source,
            })
        }
        _ => Err(CustomizeError::Type { index, type_: patch.type_.clone() }),
    }
}

/// A place in the committed table of merge keys (`cargo xtask kinds`).
#[derive(Clone, Copy)]
struct Merge(&'static Value);

impl Merge {
    /// The kind's root; `None` for custom kinds, whose lists have no merge keys.
    fn of(kind: &str) -> Option<Self> {
        static TABLE: OnceLock<Value> = OnceLock::new();
        let table = TABLE.get_or_init(|| serde_json::from_str(include_str!("merges.json")).unwrap_or_default());
        table.get(kind).map(Merge)
    }
}

impl Place<'static> for Merge {
    fn field(self, name: &str) -> Option<Self> {
        self.0.get("fields")?.get(name).map(Merge)
    }

    fn items(self) -> Option<Self> {
        self.0.get("items").map(Merge)
    }

    fn merge(self) -> Option<PatchMerge<'static>> {
        Some(match self.0.get("merge")?.as_str()? {
            "set" => PatchMerge::Set,
            "replace" => PatchMerge::Replace,
            word => PatchMerge::Key(word.strip_prefix("key:")?),
        })
    }
}
