//! Structured merge and diff: who owns which field of an object, and what an apply makes of it.
//!
//! The rules are those of Kubernetes' server-side apply, as its typed merges and managed fields behave in 1.35. From below:
//!
//! - [`Element`], [`Set`]: paths of fields and sets of them, with their `fieldsV1` form;
//! - [`Schema`], [`Type`]: what a schema says of structs, maps, lists and scalars, and the walks over values it steers: the set
//!   of a value, comparison, merge, removal;
//! - [`Managed`]: the entries of `metadata.managedFields`;
//! - [`track()`] after an update or patch, [`apply()`] for an apply;
//! - [`strategic`]: the strategic merge patch, which needs to know less of a kind.
//!
//! Everything is pure: values and the time of the request in, values out.

mod apply;
mod cap;
mod conflict;
mod fieldsv1;
mod last_applied;
mod managed;
mod path;
mod schema;
mod set;
pub mod strategic;
mod strip;
mod track;
mod typed;
mod value;

#[cfg(test)]
mod tests;

pub use apply::{Application, ApplyError, BEFORE_FIRST_APPLY, apply};
pub use conflict::Conflict;
pub use fieldsv1::FieldsError;
pub use last_applied::{LAST_APPLIED, allowed_conflicts};
pub use managed::{EntryError, Managed, Manager, Operation, Owned};
pub use path::{Element, PathText};
pub use schema::{Atom, Field, List, Map, Relation, Scalar, Schema, TypeRef};
pub use set::Set;
pub use track::{Versions, track};
pub use typed::{Comparison, Duplicates, Problem, Problems, Type};
