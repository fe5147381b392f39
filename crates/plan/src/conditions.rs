//! Conditions of VMs and VMIs.

use fv_api::Condition;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub const TRUE: &str = "True";
pub const FALSE: &str = "False";

/// The condition of `type_`.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of `type_` is there and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == TRUE)
}

/// Reason of the condition of `type_` when it is there and False.
pub fn false_reason<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a str> {
    find(conditions, type_)
        .filter(|condition| condition.status == FALSE)
        .and_then(|condition| condition.reason.as_deref())
}

/// A condition; its transition time is filled in by [`set`].
pub fn new(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: text(reason),
        message: text(message),
        ..Condition::default()
    }
}

/// Puts `wanted` in its type's place. The transition time moves only when the status word changes.
pub fn set(conditions: &mut Vec<Condition>, mut wanted: Condition, now: Timestamp) {
    match conditions.iter_mut().find(|condition| condition.type_ == wanted.type_) {
        Some(current) => {
            let same = current.status == wanted.status && current.last_transition_time.is_some();
            wanted.last_transition_time = if same { current.last_transition_time.clone() } else { Some(Time(now)) };
            wanted.last_probe_time = current.last_probe_time.clone();
            *current = wanted;
        }
        None => {
            wanted.last_transition_time = Some(Time(now));
            conditions.push(wanted);
        }
    }
}

/// Takes the condition of `type_` away.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}
