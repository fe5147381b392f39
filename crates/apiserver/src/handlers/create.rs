//! `create`.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Context, Part, key_of, view};
use crate::admission::Operation;
use crate::codec;
use crate::kinds;
use crate::limits;
use crate::managed::{self, OptionsKind, check_options};
use crate::meta::{self, MetaExt as _, object_mut};
use crate::status::Status;
use crate::store::{Action, Expect, Write, WriteError};

/// Names are generated this often before the client hears of a clash.
const GENERATE_ATTEMPTS: u32 = 8;

pub(super) async fn create(context: &mut Context, body: Bytes) -> Result<Response, Status> {
    check_options(context, OptionsKind::Create)?;
    let decoded = context.decode(&body)?;
    let mut value = decoded.value;
    context.check_type(&mut value)?;
    if !matches!(value.meta_str("resourceVersion"), "" | "0") {
        return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    context.inspect(Operation::Create, &value, None)?;
    context.normalise(&mut value, decoded.duplicate)?;
    managed::created(context, &mut value);
    let dry_run = context.dry_run()?;
    let created = create_object(context, value, dry_run).await?;
    view::object(context, StatusCode::CREATED, &created)
}

/// Creates an object which is normalised already and has its owners; returns it in the version of the request.
pub(crate) async fn create_object(context: &mut Context, value: Value, dry_run: bool) -> Result<Value, Status> {
    check_namespace(context, &value)?;
    let generate = value.meta_str("name").is_empty() && !value.meta_str("generateName").is_empty();
    let mut attempt = 1;
    loop {
        match create_once(context, value.clone(), generate, dry_run).await {
            Err(status) if generate && attempt < GENERATE_ATTEMPTS && status.reason == "AlreadyExists" => attempt += 1,
            outcome => return outcome,
        }
    }
}

async fn create_once(context: &mut Context, mut value: Value, generate: bool, dry_run: bool) -> Result<Value, Status> {
    let resource = context.target.resource.clone();
    if generate {
        let name = meta::generated_name(value.meta_str("generateName"));
        value.meta_mut().insert("name".into(), json!(name));
    }
    let name = value.meta_str("name").to_owned();
    let namespace = context.target.namespace.clone();
    let counts = kinds::counts_generation(&resource);
    meta::prepare_create(&mut value, &namespace, counts);
    kinds::prepare_create(&context.core, &resource, &context.target.version, &mut value);
    kinds::check_place(&context.core, &resource, &namespace, &name)?;
    kinds::admit(context, &mut value)?;

    let given = value.clone();
    let request = context.admission(Operation::Create, &name, Some(&given), None, dry_run);
    let mut warnings = context.core.admission.mutate(&request, &mut value).map_err(|r| *r.0)?;
    keep_identity(&mut value, &given);
    context.shape(&mut value)?;

    let mut causes = meta::validate_create(&resource, &value);
    causes.extend(kinds::validate(context, &value, None));
    if !causes.is_empty() {
        return Err(context.invalid(&name, causes));
    }
    let request = context.admission(Operation::Create, &name, Some(&value), None, dry_run);
    warnings.extend(context.core.admission.validate(&request).map_err(|r| *r.0)?);
    kinds::check_admission(context, Part::Main, &value, None)?;
    warnings.extend(kinds::warnings(&resource, &value));
    warnings.into_iter().for_each(|w| context.warn(w));

    kinds::quota::admit(context, &value, None, dry_run).await?;

    let key = key_of(&namespace, &name);
    let taken = || Status::already_exists(&resource.group, &resource.plural, &name);
    if dry_run {
        return match context.core.store.get(&resource.storage, &key) {
            Some(_) => Err(taken()),
            None => Ok(value),
        };
    }
    let encoded = limits::encode(&codec::to_storage(&resource, &value))?;
    let write = Write { table: resource.storage.clone(), key, expect: Expect::Absent, action: Action::Put(encoded) };
    let stored = context.core.store.write(write).await.map_err(|e| match e {
        WriteError::Exists => taken(),
        other => Status::unwritten(&other),
    })?;
    value.meta_mut().insert("resourceVersion".into(), json!(stored.revision.to_string()));
    kinds::after_write(&context.core, &resource, &stored.key).await;
    Ok(value)
}

/// The namespace of the body must be that of the path.
fn check_namespace(context: &Context, value: &Value) -> Result<(), Status> {
    let target = &context.target;
    let given = value.meta_str("namespace");
    if !target.resource.namespaced() {
        return Ok(());
    }
    if target.namespace.is_empty() {
        return Err(Status::bad_request("an empty namespace may not be set during creation"));
    }
    if !given.is_empty() && given != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Admission may not change what the object is.
pub(super) fn keep_identity(value: &mut Value, given: &Value) {
    for field in ["apiVersion", "kind"] {
        if let Some(given) = given.get(field) {
            object_mut(value).insert(field.into(), given.clone());
        }
    }
    const KEPT: [&str; 8] = [
        "managedFields",
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
    ];
    for field in KEPT {
        match given.meta(field) {
            Some(given) => value.meta_mut().insert(field.into(), given.clone()),
            None => value.meta_mut().remove(field),
        };
    }
}
