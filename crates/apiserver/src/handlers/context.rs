//! One request on its way through a handler.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;

use super::request::{Params, Target};
use super::respond::Format;
use crate::admission::{AdmissionRequest, Operation};
use crate::identity::UserInfo;
use crate::limits::{self, Seat};
use crate::meta::MetaExt as _;
use crate::schema::{FieldValidation, StrictReport, Structural, builtin, protobuf, strict};
use crate::server::Core;
use crate::status::{Cause, Status};

/// Everything a handler knows.
pub(crate) struct Context {
    pub(crate) core: Arc<Core>,
    pub(crate) target: Target,
    pub(crate) params: Params,
    pub(crate) headers: HeaderMap,
    pub(crate) user: UserInfo,
    pub(crate) format: Format,
    /// Texts for `Warning:` headers, in order, without repetition.
    pub(crate) warnings: Vec<String>,
    /// The request's place, if it came from outside. Work that outlives its request's time still has it, and so has a stream.
    pub(crate) seat: Option<Seat>,
}

/// A body as read.
pub(crate) struct Decoded {
    pub(crate) value: Value,
    pub(crate) duplicate: Vec<String>,
}

impl Context {
    /// The media type of the body, without parameters.
    pub(crate) fn content_type(&self) -> String {
        let header = self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// Whether nothing may be stored.
    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        dry_run_value(self.params.get("dryRun"))
    }

    pub(crate) fn field_validation(&self) -> Result<FieldValidation, Status> {
        let value = self.params.get("fieldValidation");
        FieldValidation::from_query(Some(value)).map_err(|message| {
            let mut status = Status::new(422, "Invalid", format!(" \"\" is invalid: {message}"));
            let text = message.strip_prefix("fieldValidation: ").unwrap_or(&message);
            status.causes.push(Cause::new("FieldValueNotSupported", text, "fieldValidation"));
            status
        })
    }

    /// Reads an object from a JSON or YAML body.
    pub(crate) fn decode(&self, body: &Bytes) -> Result<Decoded, Status> {
        if body.iter().all(u8::is_ascii_whitespace) {
            let message = format!("an empty body cannot be decoded as {}", self.target.resource.kind);
            return Err(Status::bad_request(message));
        }
        let undecodable = |e: String| Status::bad_request(format!("couldn't get version/kind; json parse error: {e}"));
        let decoded = match self.content_type().as_str() {
            "" | "application/json" | "application/x-www-form-urlencoded" => {
                let (value, duplicate) = strict::decode(body).map_err(|e| undecodable(e.to_string()))?;
                Decoded { value, duplicate }
            }
            "application/yaml" => {
                let text = std::str::from_utf8(body).map_err(|e| undecodable(e.to_string()))?;
                let value = limits::yaml(text)
                    .map_err(|e| Status::bad_request(format!("error converting YAML to JSON: {e}")))?;
                Decoded { value, duplicate: Vec::new() }
            }
            protobuf::MEDIA_TYPE => {
                let value = protobuf::decode(body).map_err(|e| Status::bad_request(e.to_string()))?;
                Decoded { value, duplicate: Vec::new() }
            }
            other => {
                return Err(Status::unsupported_media_type(format!(
                    "the body of the request was in an unknown format - accepted media types include: application/json, \
                     application/yaml, application/vnd.kubernetes.protobuf (got {other})"
                )));
            }
        };
        limits::check_depth(&decoded.value).map_err(|why| undecodable(why.to_owned()))?;
        Ok(decoded)
    }

    /// Refuses an object of another kind or version than the path names; fills in what is left out.
    pub(crate) fn check_type(&self, value: &mut Value) -> Result<(), Status> {
        let resource = &self.target.resource;
        let expected = resource.api_version(&self.target.version);
        let Some(object) = value.as_object_mut() else {
            return Err(Status::bad_request("couldn't get version/kind; json parse error: the body is not an object"));
        };
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if !resource.builtin() && (api_version.is_empty() || kind.is_empty()) {
            let which = if kind.is_empty() { "kind" } else { "apiVersion" };
            return Err(Status::bad_request(format!("Object '{}' is missing in the request body", capital(which))));
        }
        if !api_version.is_empty() && api_version != expected {
            let message = format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected})"
            );
            return Err(Status::bad_request(message));
        }
        if !resource.builtin() && kind != resource.kind {
            let name = value.meta_str("name").to_owned();
            let detail = format!("Invalid value: {kind:?}: must be {}", resource.kind);
            return Err(Status::invalid(
                &resource.group,
                &kind,
                &name,
                vec![Cause::new("FieldValueInvalid", detail, "kind")],
            ));
        }
        if !kind.is_empty() && kind != resource.kind {
            let message = format!(
                "{kind} in version {:?} cannot be handled as a {}: the kind in the data does not match the path",
                self.target.version, resource.kind
            );
            return Err(Status::bad_request(message));
        }
        object.insert("apiVersion".into(), expected.into());
        object.insert("kind".into(), resource.kind.clone().into());
        Ok(())
    }

    /// The schema of the version of the request.
    pub(crate) fn schema(&self) -> Option<&Structural> {
        schema_of(&self.target)
    }

    /// Drops unknown fields and fills in defaults; complains about the former as the client wishes.
    pub(crate) fn normalise(&mut self, value: &mut Value, duplicate: Vec<String>) -> Result<(), Status> {
        let unknown = self.shape(value)?;
        let report = StrictReport { duplicate, unknown };
        match self.field_validation()? {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => report.warnings().into_iter().for_each(|w| self.warn(w)),
            FieldValidation::Strict => {
                if let Some(error) = report.error() {
                    return Err(Status::bad_request(format!(
                        "{} in version {:?} cannot be handled as a {}: {error}",
                        self.target.resource.kind, self.target.version, self.target.resource.kind
                    )));
                }
            }
        }
        Ok(())
    }

    /// Drops unknown fields and fills in defaults; returns the dropped paths.
    pub(crate) fn shape(&self, value: &mut Value) -> Result<Vec<String>, Status> {
        let resource = &self.target.resource;
        let mut unknown = Vec::new();
        if let Some(schema) = self.schema() {
            if let Some(problem) = schema.decode_error(value) {
                return Err(Status::bad_request(format!(
                    "{} in version {:?} cannot be handled as a {}: {problem}",
                    resource.kind, self.target.version, resource.kind
                )));
            }
            unknown = schema.normalise(value);
        }
        if resource.builtin() {
            builtin::complete(&resource.group, &resource.kind, value);
        }
        Ok(unknown)
    }

    /// Shows admission an object as it was sent.
    pub(crate) fn inspect(&self, operation: Operation, raw: &Value, old: Option<&Value>) -> Result<(), Status> {
        let request = self.admission(operation, raw.meta_str("name"), Some(raw), old, self.dry_run()?);
        self.core.admission.inspect(&request).map_err(|r| *r.0)
    }

    /// A write under admission.
    pub(crate) fn admission<'a>(
        &'a self,
        operation: Operation,
        name: &'a str,
        object: Option<&'a Value>,
        old_object: Option<&'a Value>,
        dry_run: bool,
    ) -> AdmissionRequest<'a> {
        AdmissionRequest {
            operation,
            group: &self.target.resource.group,
            version: &self.target.version,
            resource: &self.target.resource.plural,
            kind: &self.target.resource.kind,
            subresource: &self.target.subresource,
            namespace: &self.target.namespace,
            name,
            user: &self.user,
            object,
            old_object,
            dry_run,
        }
    }

    /// A 422 about an object of this resource.
    pub(crate) fn invalid(&self, name: &str, causes: Vec<crate::schema::Cause>) -> Status {
        let resource = &self.target.resource;
        let causes = causes.into_iter().map(Cause::from).collect();
        Status::invalid(&resource.group, &resource.kind, name, causes)
    }
}

pub(crate) fn schema_of(target: &Target) -> Option<&Structural> {
    if target.resource.builtin() {
        builtin::schema(&target.resource.group, &target.version, &target.resource.kind)
    } else {
        target.version_info()?.structural.as_ref()
    }
}

/// `dryRun` from the query or from the options in the body.
pub(crate) fn dry_run_value(value: &str) -> Result<bool, Status> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => {
            let detail = format!("Unsupported value: {other:?}: supported values: \"All\"");
            let mut status = Status::new(422, "Invalid", format!(" \"\" is invalid: dryRun: {detail}"));
            status.causes.push(Cause::new("FieldValueNotSupported", detail, "dryRun"));
            Err(status)
        }
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
