//! `patch` with a configuration: server-side apply.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::modify::{ATTEMPTS, check_names, check_uid};
use super::{Context, Part, create_object, modify, view};
use crate::admission::Operation;
use crate::limits;
use crate::managed::{self, OptionsKind, check_options};
use crate::meta::MetaExt as _;
use crate::schema::{FieldValidation, StrictReport, strict};
use crate::status::Status;

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// Applies the configuration in the body to the object, or creates it.
pub(super) async fn apply(context: &mut Context, part: Part, body: &Bytes) -> Result<Response, Status> {
    check_options(context, OptionsKind::Apply)?;
    let config = read(context, body)?;
    let expected = context.target.resource.api_version(&context.target.version);
    check_type(&config, &expected, &context.target.resource.kind.clone())?;
    let dry_run = context.dry_run()?;
    let force = context.params.flag("force");
    for _ in 0..ATTEMPTS {
        let target = &context.target;
        if part != Part::Main || context.core.store.get(&target.resource.storage, &target.key()).is_some() {
            let change = &mut |context: &mut Context, old: &Value| {
                context.inspect(Operation::Update, &config, Some(old))?;
                let mut new = managed::apply(context, Some(old), &config, force)?;
                check_names(context, &new)?;
                check_uid(context, &new, old)?;
                check_nulls(context, &new, Some(old))?;
                context.shape(&mut new)?;
                Ok(new)
            };
            match modify(context, part, dry_run, change).await {
                Ok(written) => return view::object(context, StatusCode::OK, &written),
                // It went in between: begin again, and create it.
                Err(status) if status.reason == "NotFound" && part == Part::Main => continue,
                Err(status) => return Err(status),
            }
        }
        let uid = config.meta_str("uid");
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            let resource = &target.resource;
            return Err(Status::conflict(&resource.group, &resource.plural, &target.name, &why));
        }
        context.inspect(Operation::Create, &config, None)?;
        let mut new = managed::apply(context, None, &config, force)?;
        check_names(context, &new)?;
        check_nulls(context, &new, None)?;
        context.shape(&mut new)?;
        match create_object(context, new, dry_run).await {
            Ok(created) => return view::object(context, StatusCode::CREATED, &created),
            Err(status) if status.reason == "AlreadyExists" => {}
            Err(status) => return Err(status),
        }
    }
    Err(context.target.modified())
}

fn check_nulls(context: &Context, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let causes = context.schema().map(|schema| schema.refused_nulls(new, old)).unwrap_or_default();
    if causes.is_empty() { Ok(()) } else { Err(context.invalid(&context.target.name, causes)) }
}

/// Reads a configuration, JSON or YAML.
pub(super) fn read(context: &mut Context, body: &[u8]) -> Result<Value, Status> {
    let undecodable = |e: String| Status::bad_request(format!("error decoding YAML: {e}"));
    let begin = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let (value, duplicate) = if begin == Some(&b'{') {
        strict::decode(body).map_err(|e| undecodable(e.to_string()))?
    } else {
        let text = std::str::from_utf8(body).map_err(|e| undecodable(e.to_string()))?;
        (limits::yaml(text).map_err(undecodable)?, Vec::new())
    };
    limits::check_depth(&value).map_err(|why| undecodable(why.to_owned()))?;
    if !value.is_object() {
        return Err(undecodable("the body is not an object".to_owned()));
    }
    let report = StrictReport { duplicate, unknown: Vec::new() };
    match context.field_validation()? {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => report.warnings().into_iter().for_each(|warning| context.warn(warning)),
        FieldValidation::Strict => {
            if let Some(error) = report.error() {
                return Err(Status::bad_request(format!("error strict decoding YAML: {error}")));
            }
        }
    }
    Ok(value)
}

/// The configuration must be of the kind and version the path names.
pub(super) fn check_type(config: &Value, api_version: &str, kind: &str) -> Result<(), Status> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    if (text("apiVersion"), text("kind")) == (api_version, kind) {
        return Ok(());
    }
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={}", text("kind"))))
}

/// What a configuration of the scale subresource says about the object itself.
pub(super) fn of_scale(context: &Context, path: &str, replicas: &Value) -> Value {
    let target = &context.target;
    let mut config = json!({
        "apiVersion": target.resource.api_version(&target.version), "kind": target.resource.kind,
        "metadata": {"name": target.name},
    });
    super::scale::set(&mut config, path, replicas.clone());
    config
}
