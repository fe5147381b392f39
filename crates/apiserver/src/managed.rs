//! Who owns which field of an object: `metadata.managedFields`, kept for every write.
//!
//! The rules are in `fv-smd`; here are the schemas and versions it asks for, the names of managers, and the words for clients.

mod blank;
mod options;
mod types;

use fv_smd::{Application, ApplyError, Managed, Manager, Operation, apply as smd_apply, track as smd_track};
use serde_json::{Value, json};

pub(crate) use options::{OptionsKind, check_options, manager};

use crate::handlers::Context;
use crate::meta::{self, MetaExt as _};
use crate::status::{Cause, Status};
use blank::{blank, filled};
use types::Kind;

const FIELD: &str = "managedFields";

/// All annotations together, keys and values.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Records who owns a new object, which has its defaults already.
pub(crate) fn created(context: &Context, new: &mut Value) {
    let given = new.meta_mut().shift_remove(FIELD);
    meta::wipe(new);
    // Entries that a client sends along are kept, as when it restores an object.
    let managed = Managed::decode(given.as_ref()).unwrap_or_default();
    let target = &context.target;
    let blank = blank(&target.resource, &target.version);
    record(context, managed, &blank, &blank, new);
}

/// Records who owns an object after an update or patch, which has its defaults already.
pub(crate) fn updated(context: &Context, new: &mut Value, old: &Value) {
    let given = new.meta_mut().shift_remove(FIELD);
    meta::tidy(new.meta_mut());
    let stored = old.meta(FIELD);
    // Who writes a subresource, or knows nothing of ownership, does not change the entries themselves.
    let own = given.filter(|_| context.target.subresource.is_empty());
    let managed = match &own {
        Some(given) if resets(given) => return,
        Some(given) if Some(given) != stored => Managed::decode(Some(given)).ok().filter(|managed| !managed.is_empty()),
        _ => None,
    };
    let managed = managed.or_else(|| Managed::decode(stored).ok()).unwrap_or_default();
    // An object that nobody tracked stays so until somebody applies.
    if !managed.is_empty() {
        let blank = blank(&context.target.resource, &context.target.version);
        record(context, managed, &blank, old, new);
    }
}

/// An empty list, or one empty entry: how clients give up ownership altogether.
fn resets(given: &Value) -> bool {
    match given.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    }
}

fn record(context: &Context, mut managed: Managed, blank: &Value, old: &Value, new: &mut Value) {
    let target = &context.target;
    let kind = Kind::of(target);
    let api_version = target.resource.api_version(&target.version);
    let manager = Manager::new(&manager(context), Operation::Update, &api_version, &target.subresource);
    let now = jiff::Timestamp::now();
    let (before, after) = (filled(old, blank), filled(new, blank));
    let tracked = smd_track(&kind, &mut managed, &before, &after, (manager, &api_version), now);
    match tracked {
        Ok(()) => set(new, &managed),
        // Without knowing what changed nobody can be said to own anything.
        Err(problems) => {
            let key = target.key();
            tracing::debug!(object = %key, resource = target.resource.plural, %problems, "managed fields are dropped");
        }
    }
}

fn set(object: &mut Value, managed: &Managed) {
    if managed.is_empty() {
        object.meta_mut().shift_remove(FIELD);
    } else {
        object.meta_mut().insert(FIELD.into(), managed.encode());
    }
}

/// Applies a configuration to the stored object, or to nothing: the new object, with its entries.
pub(crate) fn apply(context: &Context, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, Status> {
    let target = &context.target;
    let api_version = target.resource.api_version(&target.version);
    if config.meta(FIELD).is_some_and(|entries| !entries.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let stored = live.and_then(|live| live.meta(FIELD));
    let mut managed = Managed::decode(stored)
        .map_err(|error| Status::new(500, "", format!("failed to decode managed fields: {error}")))?;
    let kind = Kind::of(target);
    let nothing = json!({"apiVersion": api_version, "kind": target.resource.kind});
    let blank = blank(&target.resource, &target.version);
    let live = live.unwrap_or(&nothing);
    let name = context.params.get("fieldManager");
    let application = Application {
        live,
        blank: if std::ptr::eq(live, &nothing) { &nothing } else { &blank },
        config,
        manager: name,
        api_version: &api_version,
        subresource: &target.subresource,
        force,
        now: jiff::Timestamp::now(),
    };
    let applied = smd_apply(&kind, &mut managed, &application).map_err(|error| refusal(context, config, error))?;
    let mut new = applied.unwrap_or_else(|| live.clone());
    set(&mut new, &managed);
    if name == "kubectl" {
        renew_last_applied(&mut new, config);
    }
    Ok(new)
}

/// Keeps the annotation of client-side apply in step, where there is one.
fn renew_last_applied(object: &mut Value, config: &Value) {
    let annotations = object.meta("annotations").and_then(Value::as_object);
    let Some(annotations) = annotations else { return };
    if annotations.get(fv_smd::LAST_APPLIED).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.meta_mut().get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.shift_remove(fv_smd::LAST_APPLIED);
    }
    let text = format!("{}\n", sorted(&config));
    let others = annotations.iter().filter(|(key, _)| *key != fv_smd::LAST_APPLIED);
    let size: usize = others.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    let fits = size + fv_smd::LAST_APPLIED.len() + text.len() <= MAX_ANNOTATIONS;
    if let Some(annotations) = object.meta_mut().get_mut("annotations").and_then(Value::as_object_mut) {
        if fits {
            annotations.insert(fv_smd::LAST_APPLIED.into(), json!(text));
        } else {
            annotations.shift_remove(fv_smd::LAST_APPLIED);
        }
    }
}

/// With the fields of every object in alphabetical order, as kubectl writes them.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            Value::Object(fields.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}

fn refusal(context: &Context, config: &Value, error: ApplyError) -> Status {
    let target = &context.target;
    let resource = &target.resource;
    let of = |object: &Value| {
        let (namespace, name) = (object.meta_str("namespace"), object.meta_str("name"));
        format!("({namespace}/{name}; {}/{}, Kind={})", resource.group, target.version, resource.kind)
    };
    match error {
        ApplyError::Conflicts(ref conflicts) => {
            let mut status = Status::new(409, "Conflict", error.to_string());
            let causes = conflicts.iter().map(|c| Cause::new("FieldManagerConflict", c.cause(), c.field()));
            status.causes = causes.collect();
            status
        }
        ApplyError::Config(problems) => {
            Status::new(500, "", format!("failed to create typed patch object {}: {problems}", of(config)))
        }
        ApplyError::Live(problems) => {
            Status::new(500, "", format!("failed to create typed live object {}: {problems}", of(config)))
        }
    }
}

/// Whether two states of an object differ in nothing but the times of the entries.
pub(crate) fn only_times_differ(new: &Value, old: &Value) -> bool {
    let entries = |object: &Value| object.meta(FIELD).and_then(Value::as_array).cloned().unwrap_or_default();
    let (mine, theirs) = (entries(new), entries(old));
    let same_entry = |a: &Value, b: &Value| match (a.as_object(), b.as_object()) {
        (Some(a), Some(b)) => same_but_for("time", a, b),
        _ => a == b,
    };
    mine != theirs
        && mine.len() == theirs.len()
        && mine.iter().zip(&theirs).all(|(a, b)| same_entry(a, b))
        && match (new.as_object(), old.as_object()) {
            (Some(a), Some(b)) => {
                let metadata =
                    |map: &serde_json::Map<String, Value>| map.get("metadata").and_then(Value::as_object).cloned();
                same_but_for("metadata", a, b)
                    && same_but_for(FIELD, &metadata(a).unwrap_or_default(), &metadata(b).unwrap_or_default())
            }
            _ => false,
        }
}

fn same_but_for(field: &str, a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>) -> bool {
    let fields = |map: &serde_json::Map<String, Value>| map.len() - usize::from(map.contains_key(field));
    fields(a) == fields(b) && a.iter().all(|(key, value)| key == field || b.get(key) == Some(value))
}
