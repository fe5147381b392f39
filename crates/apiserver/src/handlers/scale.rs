//! The `scale` subresource of custom resources.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Context, Part, apply, modify, view};
use crate::codec;
use crate::managed::{self, OptionsKind, check_options};
use crate::meta::{MetaExt as _, object_mut};
use crate::patch::Patch;
use crate::registry::ScalePaths;
use crate::status::Status;

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
    write(context, &mut |_, _| Ok(wanted.clone())).await
}

pub(super) async fn patch(context: &mut Context, body: Bytes) -> Result<Response, Status> {
    if context.content_type() == apply::MEDIA_TYPE {
        return apply_scale(context, &body).await;
    }
    check_options(context, OptionsKind::Patch)?;
    let patch = Patch::parse(&context.content_type(), &body, &context.target.resource)?;
    write(context, &mut |_, current| patch.apply(current, None)).await
}

type WantedFn<'a> = dyn FnMut(&Context, &Value) -> Result<Value, Status> + Send + 'a;

async fn write(context: &mut Context, wanted: &mut WantedFn<'_>) -> Result<Response, Status> {
    let paths = paths(context)?;
    let dry_run = context.dry_run()?;
    let written = modify(context, Part::Main, dry_run, &mut |context, old| {
        let scale = wanted(context, &scale_of(old, &paths))?;
        let replicas = replicas_of(context, &scale)?;
        let mut new = old.clone();
        set(&mut new, &paths.spec_replicas, replicas);
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
    apply::check_type(&config, "autoscaling/v1", "Scale")?;
    let paths = paths(context)?;
    let replicas = replicas_of(context, &config)?;
    let config = apply::of_scale(context, &paths.spec_replicas, &replicas);
    let (dry_run, force) = (context.dry_run()?, context.params.flag("force"));
    let change = &mut |context: &mut Context, old: &Value| managed::apply(context, Some(old), &config, force);
    let written = modify(context, Part::Main, dry_run, change).await?;
    view::object(context, StatusCode::OK, &scale_of(&written, &paths))
}

fn replicas_of(context: &Context, scale: &Value) -> Result<Value, Status> {
    let replicas = scale.pointer("/spec/replicas").cloned().unwrap_or(json!(0));
    if replicas.as_i64().is_none_or(|n| n < 0) {
        let cause = crate::schema::Cause::invalid("spec.replicas", &replicas, "must be greater than or equal to 0");
        return Err(context.invalid(&context.target.name, vec![cause]));
    }
    Ok(replicas)
}

fn paths(context: &Context) -> Result<ScalePaths, Status> {
    context.target.version_info().and_then(|v| v.scale.clone()).ok_or_else(Status::no_such_path)
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let get = |path: &str| path.trim_start_matches('.').split('.').try_fold(object, |v, step| v.get(step));
    let number = |path: &str| get(path).and_then(Value::as_i64).unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
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
    if let Some(selector) = paths.label_selector.as_deref().and_then(get).and_then(Value::as_str) {
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
