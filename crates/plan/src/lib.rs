//! What to do next, as data. Each controller is `observe` (copy the facts out of the caches) and `decide` (facts, settings
//! and `now` in; a [`Plan`] out). `decide` is total and deterministic: it never waits, never fails, never reads a clock.
//! Unexpected facts are part of what was observed. Executing a plan is `fv_runtime`'s business.

pub mod conditions;
pub mod node;
pub mod operator;
pub mod patch;
pub mod plan;
pub mod vm;
pub mod vmi;

pub use plan::{
    DeleteIntent, Effect, EffectFailure, EventKind, EventSpec, Guard, ObjectKey, ObjectRef, Plan, Requeue, StatusKind,
    StatusWrite, Step, failures,
};
