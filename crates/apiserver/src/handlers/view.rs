//! Objects in the shape a client asked for, and the documents about what is served.

use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;

use super::Context;
use super::respond::{self, Shape};
use crate::codec;
use crate::discovery;
use crate::openapi;
use crate::server::Core;
use crate::status::Status;
use crate::store::Object;
use crate::table::{self, Columns, IncludeObject};

/// One object as the response.
pub(crate) fn object(context: &Context, code: StatusCode, value: &Value) -> Result<Response, Status> {
    let body = match context.format.shape {
        Shape::Object => return Ok(finish(context, code, value.to_string().into_bytes())),
        Shape::PartialMetadata => partial(value),
        Shape::Table => table(context, &[value], value.get("metadata").unwrap_or(&Value::Null), true)?,
    };
    Ok(finish(context, code, body.to_string().into_bytes()))
}

/// A stored object as the response.
pub(crate) fn stored(context: &Context, code: StatusCode, stored: &Object) -> Result<Response, Status> {
    let target = &context.target;
    if context.format.shape == Shape::Object
        && !context.format.yaml
        && codec::same_as_stored(&target.resource, &target.version)
        && codec::is_current(&target.resource, stored)
    {
        return Ok(respond::json_bytes(code, stored.body.clone(), &context.warnings));
    }
    object(context, code, &codec::decode(&target.resource, &target.version, stored)?)
}

/// JSON bytes, or the same as YAML.
pub(crate) fn finish(context: &Context, code: StatusCode, body: Vec<u8>) -> Response {
    if context.format.yaml {
        respond::yaml(code, &body, &context.warnings)
    } else {
        respond::json_bytes(code, body.into(), &context.warnings)
    }
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial(value: &Value) -> Value {
    table::partial_metadata(value)
}

/// A table of objects; `headers` is false for all but the first event of a watch.
pub(crate) fn table(context: &Context, objects: &[&Value], meta: &Value, headers: bool) -> Result<Value, Status> {
    let target = &context.target;
    let include = match context.params.get("includeObject") {
        "" => None,
        given => Some(given),
    };
    let include = IncludeObject::from_query(include).map_err(Status::bad_request)?;
    let version = target.version_info().ok_or_else(Status::no_such_path)?;
    let columns = Columns::of(&target.resource, version);
    Ok(columns.table(objects.iter().copied(), meta, include, headers, jiff::Timestamp::now()))
}

/// Discovery and OpenAPI documents.
pub(super) fn documents(core: &Core, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    let tables = core.registry.tables();
    discovery::respond(&tables, uri.path(), headers)
        .or_else(|| openapi::respond(&tables, uri.path(), uri.query(), headers))
}
