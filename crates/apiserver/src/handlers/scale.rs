//! The `scale` subresource of custom resources.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::modify::{check_names, check_preconditions};
use super::{Context, Part, apply, modify, view};
use crate::codec;
use crate::kinds::scale::{at, shown};
use crate::managed::{self, OptionsKind, check_options};
use crate::meta::{MetaExt as _, object_mut};
use crate::patch::Patch;
use crate::registry::ScalePaths;
use crate::status::Status;

const API_VERSION: &str = "autoscaling/v1";
const KIND: &str = "Scale";

/// What the number is shown to a patch as where the object has none.
const UNSET: i32 = i32::MIN;

pub(super) fn get(context: &Context) -> Result<Response, Status> {
    let target = &context.target;
    let paths = paths(context)?;
    let stored = context.core.store.get(&target.resource.storage, &target.key()).ok_or_else(|| target.not_found())?;
    let object = codec::decode(&target.resource, &target.version, &stored)?;
    view::object(context, StatusCode::OK, &scale_of(&object, &paths))
}

pub(super) async fn put(context: &mut Context, body: Bytes) -> Result<Response, Status> {
    check_options(context, OptionsKind::Update)?;
    let wanted = context.decode(&body)?.value;
    check_type(&wanted)?;
    write(context, &mut |context, current| {
        check_preconditions(&context.target, &wanted, current)?;
        Ok(wanted.clone())
    })
    .await
}

pub(super) async fn patch(context: &mut Context, body: Bytes) -> Result<Response, Status> {
    if context.content_type() == apply::MEDIA_TYPE {
        return apply_scale(context, &body).await;
    }
    check_options(context, OptionsKind::Patch)?;
    let patch = Patch::parse(&context.content_type(), &body, &context.target.resource)?;
    write(context, &mut |_, current| {
        let wanted = patch.apply(current, None)?;
        check_type(&wanted)?;
        Ok(wanted)
    })
    .await
}

type WantedFn<'a> = dyn FnMut(&Context, &Value) -> Result<Value, Status> + Send + 'a;

async fn write(context: &mut Context, wanted: &mut WantedFn<'_>) -> Result<Response, Status> {
    let paths = paths(context)?;
    let dry_run = context.dry_run()?;
    let written = modify(context, Part::Main, dry_run, &mut |context, old| {
        let mut current = scale_of(old, &paths);
        if at(old, &paths.spec_replicas).is_none() {
            current["spec"]["replicas"] = json!(UNSET);
        }
        let scale = wanted(context, &current)?;
        check_names(context, &scale)?;
        let replicas = replicas_of(&scale)?;
        if replicas == UNSET {
            let path = shown(&paths.spec_replicas);
            return Err(Status::bad_request(format!("the spec replicas field {path:?} cannot be empty")));
        }
        let mut new = old.clone();
        set(&mut new, &paths.spec_replicas, json!(replicas));
        match scale.meta_str("resourceVersion") {
            "" => {}
            version => {
                let version = json!(version);
                new.meta_mut().insert("resourceVersion".into(), version);
            }
        }
        managed::updated(context, &mut new, old);
        Ok(new)
    })
    .await?;
    view::object(context, StatusCode::OK, &scale_of(&written, &paths))
}

async fn apply_scale(context: &mut Context, body: &Bytes) -> Result<Response, Status> {
    check_options(context, OptionsKind::Apply)?;
    let config = apply::read(context, body)?;
    apply::check_type(&config, API_VERSION, KIND)?;
    let paths = paths(context)?;
    let replicas = json!(replicas_of(&config)?);
    let config = apply::of_scale(context, &paths.spec_replicas, &replicas);
    let (dry_run, force) = (context.dry_run()?, context.params.flag("force"));
    let change = &mut |context: &mut Context, old: &Value| managed::apply(context, Some(old), &config, force);
    let written = modify(context, Part::Main, dry_run, change).await?;
    view::object(context, StatusCode::OK, &scale_of(&written, &paths))
}

/// The number a client asks for. Whether it may be asked for is decided with the rest of the object.
fn replicas_of(scale: &Value) -> Result<i32, Status> {
    match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => Ok(0),
        Some(number) => number.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| {
            let why = format!("spec.replicas: {number} is no 32-bit number");
            Status::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {why}"))
        }),
    }
}

/// A Scale may say what it is; something else may not be said.
fn check_type(scale: &Value) -> Result<(), Status> {
    let text = |key: &str| scale.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if !version.is_empty() && version != API_VERSION {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({API_VERSION})"
        )));
    }
    if !kind.is_empty() && kind != KIND {
        return Err(Status::bad_request(format!("{kind} in version \"v1\" cannot be handled as a Scale")));
    }
    Ok(())
}

fn paths(context: &Context) -> Result<ScalePaths, Status> {
    context.target.version_info().and_then(|v| v.scale.clone()).ok_or_else(Status::no_such_path)
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let number = |path: &str| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut scale = json!({
        "kind": KIND,
        "apiVersion": API_VERSION,
        "metadata": {
            "name": object.meta_str("name"),
            "namespace": object.meta_str("namespace"),
            "uid": object.meta_str("uid"),
            "resourceVersion": object.meta_str("resourceVersion"),
            "creationTimestamp": object.meta_str("creationTimestamp"),
        },
        "spec": {"replicas": number(&paths.spec_replicas)},
        "status": {"replicas": number(&paths.status_replicas)},
    });
    if let Some(selector) = paths.label_selector.as_deref().and_then(|path| at(object, path)?.as_str()) {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

pub(super) fn set(object: &mut Value, path: &str, value: Value) {
    let mut steps: Vec<&str> = path.trim_start_matches('.').split('.').collect();
    let Some(last) = steps.pop() else { return };
    let parent = steps.into_iter().fold(object, |v, step| object_mut(v).entry(step).or_insert(Value::Null));
    object_mut(parent).insert(last.to_owned(), value);
}
