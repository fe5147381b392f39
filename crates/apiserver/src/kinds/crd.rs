//! CustomResourceDefinitions: their status, and from definition to served resource.

mod resource;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{bootstrap, stored};
use crate::codec;
use crate::handlers::{DeleteOptions, Part, delete_object, modify};
use crate::managed;
use crate::meta::{MetaExt as _, object_mut, timestamp};
use crate::registry::{Origin, Resource};
use crate::server::Core;

/// Keeps a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// A new definition is accepted and established at once, unless its names are taken.
pub(super) fn prepare_create(core: &Core, object: &mut Value) {
    object_mut(object).insert("status".into(), json!({"conditions": [], "storedVersions": []}));
    prepare_update(core, object);
}

/// Brings the status in line with the spec.
pub(super) fn prepare_update(core: &Core, object: &mut Value) {
    let conflict = name_conflict(core, object);
    let names = object.pointer("/spec/names").cloned().unwrap_or_else(|| json!({}));
    let storage = object.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    let storage = storage.filter(|v| v["storage"] == true).filter_map(|v| v["name"].as_str().map(str::to_owned)).next();
    let status = object_mut(object_mut(object).entry("status").or_insert(Value::Null));
    if conflict.is_none() {
        status.insert("acceptedNames".into(), names);
    } else {
        status.entry("acceptedNames").or_insert_with(|| json!({"plural": "", "kind": ""}));
    }
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let (Some(stored), Some(storage)) = (stored.as_array_mut(), storage)
        && !stored.iter().any(|v| *v == storage)
    {
        stored.push(json!(storage));
    }
    match conflict {
        None => {
            set_condition(object, "NamesAccepted", "True", "NoConflicts", "no conflicts found");
            let message = "the initial names have been accepted";
            set_condition(object, "Established", "True", "InitialNamesAccepted", message);
        }
        Some((reason, message)) => {
            set_condition(object, "NamesAccepted", "False", reason, &message);
            // Once established it stays so.
            if !established(object) {
                set_condition(object, "Established", "False", "NotAccepted", "not all names are accepted");
            }
        }
    }
}

/// A name of the definition that another resource of the group has: reason and message.
fn name_conflict(core: &Core, object: &Value) -> Option<(&'static str, String)> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, own) = (text("/spec/group"), Origin::Crd(object.meta_str("name").to_owned()));
    let tables = core.registry.tables();
    let others: Vec<&Arc<Resource>> = tables.resources.iter().filter(|r| r.group == group && r.origin != own).collect();
    let in_use = |name: &str| format!("{name:?} is already in use");
    let kind = text("/spec/names/kind");
    if others.iter().any(|r| r.kind == kind || r.list_kind == kind) {
        return Some(("KindConflict", in_use(kind)));
    }
    let list_kind = text("/spec/names/listKind");
    if others.iter().any(|r| r.kind == list_kind || r.list_kind == list_kind) {
        return Some(("ListKindConflict", in_use(list_kind)));
    }
    let taken = |name: &str| {
        others.iter().any(|r| r.plural == name || r.singular == name || r.short_names.iter().any(|s| s == name))
    };
    for (pointer, reason) in [("/spec/names/plural", "PluralConflict"), ("/spec/names/singular", "SingularConflict")] {
        if taken(text(pointer)) {
            return Some((reason, in_use(text(pointer))));
        }
    }
    let short = object.pointer("/spec/names/shortNames").and_then(Value::as_array).into_iter().flatten();
    let clash = short.filter_map(Value::as_str).find(|name| taken(name))?;
    Some(("ShortNamesConflict", in_use(clash)))
}

pub(super) fn on_deletion(object: &mut Value) {
    let mut finalizers = object.finalizers();
    if !finalizers.iter().any(|f| f == CLEANUP) {
        finalizers.push(CLEANUP.into());
    }
    object.meta_mut().insert("finalizers".into(), json!(finalizers));
    set_condition(
        object,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    );
}

fn established(object: &Value) -> bool {
    has_condition(object, "Established")
}

fn names_accepted(object: &Value) -> bool {
    has_condition(object, "NamesAccepted")
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
}

fn set_condition(object: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    let conditions = object_mut(object_mut(object).entry("status").or_insert(Value::Null))
        .entry("conditions")
        .or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let known = conditions.iter_mut().find(|c| c["type"] == kind);
    if known.as_ref().is_some_and(|c| c["status"] == status && c["reason"] == reason) {
        return;
    }
    let condition = json!({
        "type": kind, "status": status, "lastTransitionTime": timestamp(jiff::Timestamp::now()),
        "reason": reason, "message": message,
    });
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

/// Serves, changes or withdraws the resource of a definition, as the store says now.
pub(super) async fn sync(core: &Arc<Core>, name: &str) {
    match serve(core, name).await {
        Ok(true) => {}
        Ok(false) => rename(core, name, true).await,
        // Admission has checked the definition; only a newer or older program can have stored another.
        Err(reason) => tracing::warn!(definition = name, reason, "cannot serve custom resource"),
    }
}

/// Definitions whose names were taken get them when these have become free; the oldest first.
pub(super) async fn reconsider(core: &Arc<Core>) {
    let mut waiting: Vec<Value> = stored(core, GROUP, PLURAL, "").into_iter().filter(|o| !names_accepted(o)).collect();
    waiting.sort_by_key(|object| object.meta_str("creationTimestamp").to_owned());
    for object in waiting {
        if name_conflict(core, &object).is_none() {
            rename(core, object.meta_str("name"), false).await;
        }
    }
}

/// Judges the names of a stored definition again; when it has `lost` them to one that was served first, it is not established.
async fn rename(core: &Arc<Core>, name: &str, lost: bool) {
    let Some(mut context) = bootstrap::context(core, GROUP, PLURAL) else { return };
    context.target.name = name.to_owned();
    let judged = modify(&mut context, Part::Status, false, &mut |context, old| {
        let mut new = old.clone();
        if lost {
            set_condition(&mut new, "Established", "False", "NotAccepted", "not all names are accepted");
        }
        prepare_update(&context.core, &mut new);
        Ok(new)
    })
    .await;
    match judged {
        Err(status) if status.reason != "NotFound" => {
            tracing::warn!(definition = name, error = %status, "cannot judge the names of a definition");
        }
        _ => {}
    }
}

/// As [`sync`]: false when another resource has its names, which came first; or why it cannot be served.
pub(super) async fn serve(core: &Core, name: &str) -> Result<bool, String> {
    let _guard = core.definitions.lock().await;
    let tables = core.registry.tables();
    let Some(definitions) = tables.resource(GROUP, PLURAL) else { return Ok(true) };
    let Some(stored) = core.store.get(&definitions.storage, name) else {
        core.registry.remove(name);
        return Ok(true);
    };
    let object = codec::decode(definitions, "v1", &stored).map_err(|s| s.to_string())?;
    if !established(&object) {
        return Ok(true);
    }
    // Two definitions that were made at the same time have not seen each other.
    let is_new = tables.resources.iter().all(|resource| resource.origin != Origin::Crd(name.to_owned()));
    if is_new && name_conflict(core, &object).is_some() {
        return Ok(false);
    }
    core.registry.put(resource::from_definition(&object, stored.revision)?);
    Ok(true)
}

/// Deletes the objects of a definition which is being deleted, and lets go of it when none is left.
pub(super) async fn clean_up(core: &Arc<Core>, name: &str) {
    let tables = core.registry.tables();
    let Some(definitions) = tables.resource(GROUP, PLURAL) else { return };
    let terminating = |core: &Core| {
        let stored = core.store.get(&definitions.storage, name)?;
        let object = codec::decode(definitions, "v1", &stored).ok()?;
        (object.deleting() && object.finalizers().iter().any(|f| f == CLEANUP)).then_some(object)
    };
    let Some(definition) = terminating(core) else { return };
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if let Some(mut context) = bootstrap::context(core, text("/spec/group"), text("/spec/names/plural"))
        && context.target.resource.origin == Origin::Crd(name.to_owned())
    {
        let storage = context.target.resource.storage.clone();
        let listing = core.store.list(&storage, "", None).map(|l| l.objects).unwrap_or_default();
        for object in listing {
            let (namespace, name) = object.key.split_once('/').unwrap_or(("", &object.key));
            context.target.namespace = namespace.to_owned();
            context.target.name = name.to_owned();
            if serde_json::from_slice::<Value>(&object.body).is_ok_and(|o| o.deleting()) {
                continue;
            }
            if let Err(status) = delete_object(&mut context, &DeleteOptions::default()).await
                && status.reason != "NotFound"
            {
                tracing::warn!(object = %object.key, error = %status, "cannot delete object of a deleted definition");
            }
        }
        if !core.store.is_empty(&storage, "") {
            return;
        }
    }
    if terminating(core).is_none() {
        return;
    }
    let Some(mut context) = bootstrap::context(core, GROUP, PLURAL) else { return };
    context.target.name = name.to_owned();
    let released = modify(&mut context, Part::Main, false, &mut |context, old| {
        let mut new = old.clone();
        let rest: Vec<String> = old.finalizers().into_iter().filter(|f| f != CLEANUP).collect();
        new.meta_mut().insert("finalizers".into(), json!(rest));
        managed::updated(context, &mut new, old);
        Ok(new)
    })
    .await;
    match released {
        Ok(_) => {}
        Err(status) if status.reason == "NotFound" => {}
        Err(status) => tracing::warn!(definition = name, error = %status, "cannot let go of a deleted definition"),
    }
}
