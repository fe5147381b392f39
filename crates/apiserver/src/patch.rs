//! Patches: JSON patch, merge patch, and strategic merge patch for built-in kinds.
//!
//! What server-side apply sends is no patch but a configuration, see `handlers`.

mod json;
mod merge;
#[cfg(test)]
mod strategic_tests;

use fv_smd::strategic::{self, PatchMerge, Place, Refused};
use serde_json::Value;

use crate::limits;
use crate::registry::Resource;
use crate::schema::{self, Additional, NodeId, Structural, strict};
use crate::status::Status;
use json::MAX_OPERATIONS;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch that was understood.
#[derive(Debug)]
pub(crate) struct Patch {
    kind: Kind,
    /// Fields that were given twice.
    duplicate: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a patch body.
    pub(crate) fn parse(content_type: &str, body: &[u8], resource: &Resource) -> Result<Patch, Status> {
        let undecodable = |e: String| Status::bad_request(format!("error decoding patch: {e}"));
        let decode = || {
            let decoded = strict::decode(body).map_err(|e| undecodable(e.to_string()))?;
            limits::check_depth(&decoded.0).map_err(|why| undecodable(why.to_owned()))?;
            Ok(decoded)
        };
        let object = |(value, duplicate): (Value, Vec<String>)| match value {
            Value::Object(_) => Ok((value, duplicate)),
            other => Err(undecodable(format!("the patch is not an object but {other}"))),
        };
        match content_type {
            JSON => {
                let (value, duplicate) = decode()?;
                let patch: json_patch::Patch = serde_json::from_value(value).map_err(|e| undecodable(e.to_string()))?;
                if patch.0.len() > MAX_OPERATIONS {
                    let count = patch.0.len();
                    return Err(Status::too_large(format!(
                        "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
                    )));
                }
                Ok(Patch { kind: Kind::Json(patch), duplicate })
            }
            MERGE => {
                let (value, duplicate) = object(decode()?)?;
                Ok(Patch { kind: Kind::Merge(value), duplicate })
            }
            STRATEGIC if resource.builtin() => {
                let (value, duplicate) = object(decode()?)?;
                Ok(Patch { kind: Kind::Strategic(value), duplicate })
            }
            other => {
                let supported: &[&str] =
                    if resource.builtin() { &[JSON, MERGE, STRATEGIC, APPLY] } else { &[JSON, MERGE, APPLY] };
                Err(Status::unsupported_media_type(format!(
                    "the body of the request was in an unknown format - accepted media types include: {} (got {other:?})",
                    supported.join(", ")
                )))
            }
        }
    }

    /// Fields that were given twice, for strict field validation.
    pub(crate) fn duplicate_fields(&self) -> Vec<String> {
        self.duplicate.clone()
    }

    /// The patched object; the schema is that of a built-in kind.
    pub(crate) fn apply(&self, object: &Value, schema: Option<&Structural>) -> Result<Value, Status> {
        let mut patched = object.clone();
        match &self.kind {
            Kind::Json(patch) => json::apply(&mut patched, patch).map_err(|error| {
                let message = format!("the server rejected our request due to an error in our request: {error}");
                let mut status = Status::new(422, "Invalid", message);
                status.bare_details = true;
                status
            })?,
            Kind::Merge(patch) => merge::merge(&mut patched, patch),
            Kind::Strategic(patch) => {
                let Some(schema) = schema else {
                    return Err(Status::bad_request("strategic merge patch format is not supported"));
                };
                strategic::patch(&mut patched, patch, Node::root(schema)).map_err(|refused| match refused {
                    Refused::Format(message) => Status::bad_request(message),
                    Refused::Content(message) => Status::new(500, "", message),
                    Refused::ListOfLists => {
                        let message = "the server rejected our request due to an error in our request";
                        let mut status = Status::new(422, "Invalid", message);
                        status.bare_details = true;
                        status
                    }
                })?;
            }
        }
        if !patched.is_object() {
            return Err(Status::bad_request("the patch turns the object into something else"));
        }
        Ok(patched)
    }
}

/// A place of a built-in kind's schema.
#[derive(Clone, Copy)]
struct Node<'s> {
    schema: &'s Structural,
    id: NodeId,
}

impl<'s> Node<'s> {
    fn root(schema: &'s Structural) -> Self {
        Node { schema, id: schema.root() }
    }
}

impl<'s> Place<'s> for Node<'s> {
    fn field(self, name: &str) -> Option<Self> {
        self.schema.node(self.id).field(name).map(|id| Node { id, ..self })
    }

    fn items(self) -> Option<Self> {
        self.schema.node(self.id).items.map(|id| Node { id, ..self })
    }

    fn merge(self) -> Option<PatchMerge<'s>> {
        Some(match self.schema.node(self.id).patch.as_deref()? {
            schema::PatchMerge::Set => PatchMerge::Set,
            schema::PatchMerge::Key(key) => PatchMerge::Key(key),
            schema::PatchMerge::Replace => PatchMerge::Replace,
        })
    }

    fn refused(self, field: &str, list: bool) -> Option<String> {
        let map = matches!(self.schema.node(self.id).additional, Additional::Schema(_));
        match self.field(field) {
            _ if map => Some("merging an object in json but data type is not struct, instead is: map".to_owned()),
            None => Some(format!("unable to find api field {field:?}")),
            Some(found) if list && found.items().is_none() => {
                Some("expected slice or array type, but got: struct".to_owned())
            }
            Some(_) => None,
        }
    }
}
