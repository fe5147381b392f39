//! JSON schema pieces that the derive macros cannot express.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An object whose fields are kept as they are: embedded object metadata.
pub fn preserved_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}
