//! `delete` and `deletecollection`.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::choose::{Chosen, choose};
use super::context::dry_run_value;
use super::{Context, view};
use crate::admission::Operation;
use crate::codec;
use crate::kinds;
use crate::meta::{self, MetaExt as _, timestamp};
use crate::status::{Cause, Status};
use crate::store::{Action, Encoded, Expect, Write, WriteError};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const ATTEMPTS: u32 = 10;

/// `metav1.DeleteOptions`, from the body or the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period: Option<i64>,
    pub(crate) policy: Option<Policy>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

/// `propagationPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// How a deletion ended.
pub(crate) enum Deleted {
    /// The object is gone; its last state.
    Now(Value),
    /// It is marked, and somebody else will finish.
    Marked(Value),
}

impl DeleteOptions {
    fn parse(context: &Context, body: &Bytes) -> Result<Self, Status> {
        let mut options = if body.iter().all(u8::is_ascii_whitespace) {
            let params = &context.params;
            let mut value = json!({});
            for field in ["propagationPolicy"] {
                if params.has(field) {
                    value[field] = json!(params.get(field));
                }
            }
            if let Some(seconds) = params.number::<i64>("gracePeriodSeconds")? {
                value["gracePeriodSeconds"] = json!(seconds);
            }
            if params.has("orphanDependents") {
                value["orphanDependents"] = json!(params.flag("orphanDependents"));
            }
            DeleteOptions::from_json(&value)?
        } else {
            let value = context.decode(body)?.value;
            let kind = value.get("kind").and_then(Value::as_str).unwrap_or("DeleteOptions");
            if kind != "DeleteOptions" {
                return Err(Status::bad_request("decoded object cannot be converted to DeleteOptions"));
            }
            DeleteOptions::from_json(&value)?
        };
        options.dry_run |= context.dry_run()?;
        Ok(options)
    }

    pub(super) fn from_json(value: &Value) -> Result<Self, Status> {
        let wrong = |field: &str| Status::bad_request(format!("DeleteOptions.{field} has the wrong type"));
        let text = |field: &str, value: Option<&Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(field)),
        };
        let mut options = DeleteOptions {
            grace_period: match value.get("gracePeriodSeconds") {
                None | Some(Value::Null) => None,
                Some(number) => Some(number.as_i64().ok_or_else(|| wrong("gracePeriodSeconds"))?),
            },
            uid: text("preconditions.uid", value.pointer("/preconditions/uid"))?,
            resource_version: text("preconditions.resourceVersion", value.pointer("/preconditions/resourceVersion"))?,
            ..DeleteOptions::default()
        };
        for item in value.get("dryRun").and_then(Value::as_array).into_iter().flatten() {
            options.dry_run |= dry_run_value(item.as_str().ok_or_else(|| wrong("dryRun"))?)?;
        }
        let orphan = match value.get("orphanDependents") {
            None | Some(Value::Null) => None,
            Some(flag) => Some(flag.as_bool().ok_or_else(|| wrong("orphanDependents"))?),
        };
        options.policy = match (text("propagationPolicy", value.get("propagationPolicy"))?.as_deref(), orphan) {
            (Some(policy), Some(_)) => {
                let detail =
                    format!("Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set");
                return Err(invalid_options("propagationPolicy", "FieldValueInvalid", &detail));
            }
            (Some("Background"), None) | (None, Some(false)) => Some(Policy::Background),
            (Some("Foreground"), None) => Some(Policy::Foreground),
            (Some("Orphan"), None) | (None, Some(true)) => Some(Policy::Orphan),
            (None | Some(""), None) => None,
            (Some(other), None) => {
                let detail = format!(
                    "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                );
                return Err(invalid_options("propagationPolicy", "FieldValueNotSupported", &detail));
            }
        };
        Ok(options)
    }
}

fn invalid_options(field: &str, reason: &str, detail: &str) -> Status {
    let causes = vec![Cause::new(reason, detail, field)];
    Status::invalid("meta.k8s.io", "DeleteOptions", "", causes)
}

pub(super) async fn delete(context: &mut Context, body: Bytes) -> Result<Response, Status> {
    let options = DeleteOptions::parse(context, &body)?;
    let resource = context.target.resource.clone();
    match delete_object(context, &options).await? {
        Deleted::Now(object) if !kinds::returns_deleted(&resource) => {
            let mut status = Status::new(200, "", "").about(&resource.group, &resource.plural, &context.target.name);
            status.uid = object.meta_str("uid").to_owned();
            let mut value = status.to_json();
            if let Some(map) = value.as_object_mut() {
                map.shift_remove("code");
            }
            Ok(view::finish(context, StatusCode::OK, value.to_string().into_bytes()))
        }
        Deleted::Now(object) | Deleted::Marked(object) => view::object(context, StatusCode::OK, &object),
    }
}

/// Deletes the object the path names.
pub(crate) async fn delete_object(context: &mut Context, options: &DeleteOptions) -> Result<Deleted, Status> {
    for _ in 0..ATTEMPTS {
        if let Some(deleted) = delete_once(context, options).await? {
            return Ok(deleted);
        }
    }
    Err(context.target.modified())
}

async fn delete_once(context: &mut Context, options: &DeleteOptions) -> Result<Option<Deleted>, Status> {
    let target = context.target.clone();
    let resource = &target.resource;
    let key = target.key();
    let current = context.core.store.get(&resource.storage, &key).ok_or_else(|| target.not_found())?;
    let old = codec::decode(resource, &target.version, &current)?;
    check_preconditions(&target, options, &old)?;
    kinds::check_delete(resource, &target.name)?;
    let request = context.admission(Operation::Delete, &target.name, None, Some(&old), options.dry_run);
    let warnings = context.core.admission.validate(&request).map_err(|r| *r.0)?;
    warnings.into_iter().for_each(|w| context.warn(w));

    let Some(mut new) = mark(resource, options, &old) else { return Ok(Some(Deleted::Marked(old))) };
    let gone = kinds::nothing_holds(resource, &new);
    if gone && !kinds::marks_gone(resource) {
        // Nobody ever saw it marked: its last state is the one it had.
        new = old.clone();
    }
    if options.dry_run {
        return Ok(Some(if gone { Deleted::Now(new) } else { Deleted::Marked(new) }));
    }
    let encoded = Encoded::new(&codec::to_storage(resource, &new));
    let write = Write {
        table: resource.storage.clone(),
        key: key.clone(),
        expect: Expect::Revision(current.revision),
        action: if gone { Action::Delete(encoded) } else { Action::Put(encoded) },
    };
    let stored = match context.core.store.write(write).await {
        Ok(stored) => stored,
        Err(WriteError::Conflict { .. } | WriteError::Exists) => return Ok(None),
        Err(WriteError::Missing) => return Err(target.not_found()),
        Err(error) => return Err(Status::unwritten(&error)),
    };
    new.meta_mut().insert("resourceVersion".into(), json!(stored.revision.to_string()));
    kinds::after_write(&context.core, resource, &key).await;
    Ok(Some(if gone { Deleted::Now(new) } else { Deleted::Marked(new) }))
}

pub(super) fn check_preconditions(target: &super::Target, options: &DeleteOptions, old: &Value) -> Result<(), Status> {
    let resource = &target.resource;
    let conflict = |why: String| Err(Status::conflict(&resource.group, &resource.kind, &target.name, &why));
    if let Some(uid) = options.uid.as_deref()
        && uid != old.meta_str("uid")
    {
        let found = old.meta_str("uid");
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({found}). The object might have been \
             deleted and then recreated"
        ));
    }
    if let Some(version) = options.resource_version.as_deref()
        && version != old.meta_str("resourceVersion")
    {
        let found = old.meta_str("resourceVersion");
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({found}). \
             The object might have been modified"
        ));
    }
    Ok(())
}

/// The object with its deletion recorded; `None` when nothing is left to record.
fn mark(resource: &crate::registry::Resource, options: &DeleteOptions, old: &Value) -> Option<Value> {
    let mut new = old.clone();
    let before = old.finalizers();
    let mut finalizers: Vec<String> = before.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
    match options.policy {
        Some(Policy::Orphan) => finalizers.push(ORPHAN.into()),
        Some(Policy::Foreground) => finalizers.push(FOREGROUND.into()),
        Some(Policy::Background) => {}
        // Without a word from the client the object's own finalizers decide.
        None => finalizers = before.clone(),
    }
    if finalizers != before {
        new.meta_mut().insert("finalizers".into(), json!(finalizers));
        if finalizers.is_empty() {
            new.meta_mut().remove("finalizers");
        }
    }
    let grace = kinds::grace_period(resource, options.grace_period, old);
    let now = jiff::Timestamp::now();
    if old.deleting() {
        let remaining = old.meta("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
        if grace < remaining {
            set_deletion(&mut new, now, grace);
        }
    } else {
        set_deletion(&mut new, now, grace);
        kinds::on_deletion(resource, &mut new);
        if kinds::records_grace(resource) {
            meta::bump_generation(&mut new);
        } else {
            new.meta_mut().shift_remove("deletionGracePeriodSeconds");
        }
    }
    // What is marked already and still held is written again only if something changed.
    (new != *old || kinds::nothing_holds(resource, &new)).then_some(new)
}

fn set_deletion(object: &mut Value, now: jiff::Timestamp, grace: i64) {
    let at = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    let meta = object.meta_mut();
    meta.insert("deletionTimestamp".into(), json!(timestamp(at)));
    meta.insert("deletionGracePeriodSeconds".into(), json!(grace));
}

/// Deletes the objects that a list with the same parameters shows: one page of them where there is a limit.
pub(super) async fn delete_collection(context: &mut Context, body: Bytes) -> Result<Response, Status> {
    let options = DeleteOptions::parse(context, &body)?;
    let Chosen { page, revision, next } = choose(context)?;
    let target = context.target.clone();
    // The answer lists the objects as they were found.
    let found: Result<Vec<Value>, Status> =
        page.iter().map(|object| codec::decode(&target.resource, &target.version, object)).collect();
    let found = found?;
    for object in page {
        let (namespace, name) = object.key.split_once('/').unwrap_or(("", &object.key));
        context.target.namespace = namespace.to_owned();
        context.target.name = name.to_owned();
        match delete_object(context, &options).await {
            Ok(Deleted::Now(_) | Deleted::Marked(_)) => {}
            Err(status) if status.reason == "NotFound" => {}
            Err(status) => return Err(status),
        }
    }
    context.target = target;
    super::list::values(context, found, revision, &next)
}
