//! `update` and `patch`: one read, change, admit, write loop for both.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::create::{create_object, keep_identity};
use super::{Context, apply, view};
use crate::admission::Operation;
use crate::codec;
use crate::kinds;
use crate::limits;
use crate::managed::{self, OptionsKind, check_options};
use crate::meta::{self, MetaExt as _, object_mut};
use crate::patch::Patch;
use crate::registry::Resource;
use crate::status::{Cause, Status};
use crate::store::{Action, Encoded, Expect, Write, WriteError};

/// What a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but status, where status is a subresource.
    Main,
    /// Only status.
    Status,
    /// Only `spec.finalizers` of a namespace.
    Finalize,
    /// The server itself puts a pod on a node: spec and status at once.
    Binding,
}

/// A change is tried this often against writes in between.
pub(super) const ATTEMPTS: u32 = 10;

pub(super) async fn put(context: &mut Context, part: Part, body: Bytes) -> Result<Response, Status> {
    check_options(context, OptionsKind::Update)?;
    let decoded = context.decode(&body)?;
    let mut value = decoded.value;
    context.check_type(&mut value)?;
    check_names(context, &value)?;
    let target = &context.target;
    let current = context.core.store.get(&target.resource.storage, &target.key());
    let old = current.map(|current| codec::decode(&target.resource, &target.version, &current)).transpose()?;
    context.inspect(Operation::Update, &value, old.as_ref())?;
    context.normalise(&mut value, decoded.duplicate)?;
    let dry_run = context.dry_run()?;
    if old.is_none() && part == Part::Main && kinds::created_by_update(&context.target.resource) {
        managed::created(context, &mut value);
        let created = create_object(context, value, dry_run).await?;
        return view::object(context, StatusCode::CREATED, &created);
    }
    let written = modify(context, part, dry_run, &mut |context, old| {
        let mut value = value.clone();
        managed::updated(context, &mut value, old);
        Ok(value)
    })
    .await?;
    view::object(context, StatusCode::OK, &written)
}

pub(super) async fn patch(context: &mut Context, part: Part, body: Bytes) -> Result<Response, Status> {
    if context.content_type() == apply::MEDIA_TYPE {
        return apply::apply(context, part, &body).await;
    }
    check_options(context, OptionsKind::Patch)?;
    let patch = Patch::parse(&context.content_type(), &body, &context.target.resource)?;
    let dry_run = context.dry_run()?;
    let written = modify(context, part, dry_run, &mut |context, old| {
        let mut value = patch.apply(old, context.schema())?;
        context.check_type(&mut value)?;
        check_names(context, &value)?;
        check_uid(context, &value, old)?;
        context.inspect(Operation::Update, &value, Some(old))?;
        let duplicate = patch.duplicate_fields();
        context.normalise(&mut value, duplicate).map_err(undecodable)?;
        managed::updated(context, &mut value, old);
        Ok(value)
    })
    .await?;
    view::object(context, StatusCode::OK, &written)
}

/// A patch whose outcome cannot be read as the kind, or has fields that strict validation forbids, is invalid.
fn undecodable(status: Status) -> Status {
    if status.code != 400 {
        return status;
    }
    let why = status.message.split_once(" cannot be handled as a ").map_or(status.message.as_str(), |(_, rest)| rest);
    let why = why.split_once(": ").map_or(why, |(_, why)| why);
    Status::invalid("", "", "", vec![Cause::new("FieldValueInvalid", format!("Invalid value: {why}"), "patch")])
}

/// The object must be the one the path names.
pub(super) fn check_names(context: &Context, value: &Value) -> Result<(), Status> {
    let target = &context.target;
    let name = value.meta_str("name");
    if name != target.name {
        let message = if name.is_empty() {
            let given = &target.name;
            format!("the name of the object ({given} based on URL) was undeterminable: name must be provided")
        } else {
            format!("the name of the object ({name}) does not match the name on the URL ({})", target.name)
        };
        return Err(Status::bad_request(message));
    }
    let namespace = value.meta_str("namespace");
    if !namespace.is_empty() && namespace != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// A patch may not make another object of it. (For an update the UID is a precondition instead.)
pub(super) fn check_uid(context: &Context, new: &Value, old: &Value) -> Result<(), Status> {
    let uid = new.meta_str("uid");
    if uid.is_empty() || uid == old.meta_str("uid") {
        return Ok(());
    }
    let cause = crate::schema::Cause::invalid("metadata.uid", &json!(uid), "field is immutable");
    Err(context.invalid(&context.target.name, vec![cause]))
}

/// What a change makes of the stored object, in the version of the request, with its owners.
pub(crate) type ChangeFn<'a> = dyn FnMut(&mut Context, &Value) -> Result<Value, Status> + Send + 'a;

/// Changes the object the path names; returns it as stored, in the version of the request.
pub(crate) async fn modify(
    context: &mut Context,
    part: Part,
    dry_run: bool,
    change: &mut ChangeFn<'_>,
) -> Result<Value, Status> {
    for _ in 0..ATTEMPTS {
        if let Some(written) = modify_once(context, part, dry_run, change).await? {
            return Ok(written);
        }
    }
    Err(context.target.modified())
}

/// One attempt; `None` when another write came in between.
async fn modify_once(
    context: &mut Context,
    part: Part,
    dry_run: bool,
    change: &mut ChangeFn<'_>,
) -> Result<Option<Value>, Status> {
    let target = context.target.clone();
    let resource = &target.resource;
    let key = target.key();
    let current = context.core.store.get(&resource.storage, &key).ok_or_else(|| target.not_found())?;
    let old = codec::decode(resource, &target.version, &current)?;
    let mut new = change(context, &old)?;
    let requested = requested_version(&new).to_owned();
    check_preconditions(&target, &new, &old)?;
    restrict(part, resource, context.target.version_info().is_some_and(|v| v.has_status()), &mut new, &old);
    meta::prepare_update(&mut new, &old);
    kinds::prepare_update(&context.core, resource, part, &mut new, &old);

    let given = new.clone();
    let request = context.admission(Operation::Update, &target.name, Some(&given), Some(&old), dry_run);
    let mut warnings = context.core.admission.mutate(&request, &mut new).map_err(|r| *r.0)?;
    keep_identity(&mut new, &given);
    context.shape(&mut new)?;

    if requested.is_empty() && !meta::allows_unconditional_update(resource) {
        let cause = Cause::new(
            "FieldValueInvalid",
            "Invalid value: 0: must be specified for an update",
            "metadata.resourceVersion",
        );
        return Err(Status::invalid(&resource.group, &resource.plural, &target.name, vec![cause]));
    }
    let mut causes = meta::validate_update(resource, &new, &old);
    // What an update may change says nothing about the server's own binding.
    let before = (part != Part::Binding).then_some(&old);
    causes.extend(kinds::validate(context, &new, before));
    if !causes.is_empty() {
        return Err(context.invalid(&target.name, causes));
    }
    let request = context.admission(Operation::Update, &target.name, Some(&new), Some(&old), dry_run);
    warnings.extend(context.core.admission.validate(&request).map_err(|r| *r.0)?);
    kinds::check_admission(context, part, &new, Some(&old))?;
    warnings.extend(kinds::warnings(resource, &new));
    warnings.into_iter().for_each(|w| context.warn(w));

    if (new == old || managed::only_times_differ(&new, &old)) && !codec::is_stale(resource, &current, &old) {
        return Ok(Some(old));
    }
    if part == Part::Main {
        kinds::quota::admit(context, &new, Some(&old), dry_run).await?;
    }
    let has_status = target.version_info().is_some_and(|v| v.has_status());
    if part != Part::Binding && kinds::bumps_generation(resource) && desired_changed(&new, &old, has_status) {
        meta::bump_generation(&mut new);
    }
    if dry_run {
        return Ok(Some(new));
    }
    let gone = old.deleting() && kinds::nothing_holds(resource, &new);
    let action = if gone {
        // What goes with its last finalizer is not written once more: watchers see its last stored state.
        Action::Delete(Encoded::new(&codec::to_storage(resource, &old)))
    } else {
        Action::Put(limits::encode(&codec::to_storage(resource, &new))?)
    };
    let write =
        Write { table: resource.storage.clone(), key: key.clone(), expect: Expect::Revision(current.revision), action };
    match context.core.store.write(write).await {
        Ok(stored) => {
            let revision = if gone { current.revision } else { stored.revision };
            new.meta_mut().insert("resourceVersion".into(), json!(revision.to_string()));
            kinds::after_write(&context.core, resource, &key).await;
            Ok(Some(new))
        }
        Err(WriteError::Conflict { .. } | WriteError::Exists) => Ok(None),
        Err(WriteError::Missing) => Err(target.not_found()),
        Err(error) => Err(Status::unwritten(&error)),
    }
}

/// The version a client wants to change; empty (or `0`) = whatever is there.
fn requested_version(new: &Value) -> &str {
    Some(new.meta_str("resourceVersion")).filter(|version| *version != "0").unwrap_or_default()
}

/// `resourceVersion` and `uid` of the new object, when given, are those of the stored one.
pub(super) fn check_preconditions(target: &super::Target, new: &Value, old: &Value) -> Result<(), Status> {
    let requested = requested_version(new);
    if !requested.is_empty() && requested != old.meta_str("resourceVersion") {
        return Err(target.modified());
    }
    let uid = new.meta_str("uid");
    if !uid.is_empty() && uid != old.meta_str("uid") {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.meta_str("uid"));
        return Err(Status::conflict(&target.resource.group, &target.resource.plural, &target.name, &why));
    }
    Ok(())
}

/// Takes from the stored object whatever this kind of write must not touch.
fn restrict(part: Part, resource: &Resource, has_status: bool, new: &mut Value, old: &Value) {
    let owners = new.meta("managedFields").cloned();
    match part {
        Part::Main if has_status => copy_field(new, old, "status"),
        Part::Main | Part::Binding => {}
        Part::Status => {
            let mut kept = old.clone();
            copy_field(&mut kept, new, "status");
            if resource.builtin() && resource.plural != "customresourcedefinitions" {
                // Built-in status writers may change labels and annotations, but not owners.
                let owners = old.meta("ownerReferences").cloned();
                copy_field(&mut kept, new, "metadata");
                set_or_remove(kept.meta_mut(), "ownerReferences", owners);
            }
            *new = kept;
        }
        Part::Finalize => {
            let mut kept = old.clone();
            let finalizers = new.pointer("/spec/finalizers").cloned();
            let spec = object_mut(object_mut(&mut kept).entry("spec").or_insert(Value::Null));
            set_or_remove(spec, "finalizers", finalizers);
            *new = kept;
        }
    }
    // Ownership is kept for whatever is written.
    set_or_remove(new.meta_mut(), "managedFields", owners);
}

fn copy_field(to: &mut Value, from: &Value, field: &str) {
    set_or_remove(object_mut(to), field, from.get(field).cloned());
}

fn set_or_remove(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => map.insert(field.to_owned(), value),
        None => map.remove(field),
    };
}

/// Whether anything but metadata (and status, where it is a subresource) differs.
fn desired_changed(new: &Value, old: &Value, has_status: bool) -> bool {
    let fields = |value: &Value| {
        let mut fields = value.as_object().cloned().unwrap_or_default();
        fields.shift_remove("metadata");
        if has_status {
            fields.shift_remove("status");
        }
        fields
    };
    fields(new) != fields(old)
}
