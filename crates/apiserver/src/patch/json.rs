//! JSON patch, one operation at a time, so that none makes of an object more than it may.

use json_patch::{PatchError, PatchOperation};
use serde_json::Value;

use crate::limits::{self, BODY, DEPTH, TOO_DEEP};

/// A JSON patch may not have more operations, as in Kubernetes.
pub(super) const MAX_OPERATIONS: usize = 10_000;

/// What copies may add to an object in one patch, in bytes of JSON, as in Kubernetes.
const COPIED: usize = BODY;

/// Why a patch cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// An operation does not fit the object.
    #[error(transparent)]
    Operation(#[from] PatchError),
    /// An object doubles with each copy of it into itself.
    #[error("Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {COPIED}")]
    Copied(usize),
    /// Nesting grows as well.
    #[error("{TOO_DEEP}")]
    Deep,
}

/// Applies a patch; when it is refused the object is left somewhere in between.
pub(super) fn apply(object: &mut Value, patch: &json_patch::Patch) -> Result<(), Refused> {
    let mut copied = 0;
    for (at, operation) in patch.0.iter().enumerate() {
        let added = match operation {
            PatchOperation::Add(add) => Some(&add.value),
            PatchOperation::Replace(replace) => Some(&replace.value),
            PatchOperation::Copy(copy) => object.pointer(copy.from.as_str()),
            PatchOperation::Move(moved) => object.pointer(moved.from.as_str()),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
        };
        if let Some(added) = added {
            let above = operation.path().as_str().matches('/').count();
            if above > DEPTH || limits::depth(added, DEPTH - above) > DEPTH - above {
                return Err(Refused::Deep);
            }
            if matches!(operation, PatchOperation::Copy(_)) {
                copied += added.to_string().len();
                if copied > COPIED {
                    return Err(Refused::Copied(copied));
                }
            }
        }
        if is_absent(object, operation) {
            continue;
        }
        json_patch::patch_unsafe(object, std::slice::from_ref(operation)).map_err(|error| at_operation(error, at))?;
    }
    Ok(())
}

/// Whether an operation tests for nothing where there is nothing, which Kubernetes takes for success: that is how clients add the
/// first finalizer.
fn is_absent(object: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let Some((parent, member)) = test.path.split_back() else { return false };
    test.value.is_null()
        && object
            .pointer(parent.as_str())
            .and_then(Value::as_object)
            .is_some_and(|parent| !parent.contains_key(member.decoded().as_ref()))
}

/// The error of an operation that was applied alone.
fn at_operation(mut error: PatchError, at: usize) -> PatchError {
    error.operation = at;
    error
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(mut object: Value, patch: Value) -> Result<Value, Refused> {
        let patch = serde_json::from_value(patch).unwrap();
        apply(&mut object, &patch).map(|()| object)
    }

    #[test]
    fn a_failing_operation_is_named_by_its_place_in_the_patch() {
        let patch = json!([{"op": "add", "path": "/a", "value": 1}, {"op": "remove", "path": "/b"}]);
        let Err(Refused::Operation(error)) = patched(json!({}), patch) else { panic!("nothing to remove") };
        assert_eq!(error.operation, 1);
    }

    #[test]
    fn what_is_not_there_is_null() {
        let test = |path: &str, value: Value| {
            patched(json!({"a": {"b": 1}}), json!([{"op": "test", "path": path, "value": value}]))
        };
        assert!(test("/a/c", Value::Null).is_ok() && test("/a~1b", Value::Null).is_ok());
        for (path, value) in [("/a/b", Value::Null), ("/a/c", json!(1)), ("/b/c", Value::Null), ("/a/b/c", Value::Null)]
        {
            assert!(test(path, value).is_err(), "{path}");
        }
    }

    #[test]
    fn copies_do_not_double_an_object_without_bound() {
        let copy = |i: usize| json!({"op": "copy", "from": "/spec", "path": format!("/spec/copy{i}")});
        let few = patched(json!({"spec": {"k": "v"}}), (0..4).map(copy).collect());
        assert_eq!(few.unwrap()["spec"]["copy3"]["copy2"]["copy1"]["copy0"], json!({"k": "v"}));
        let many = patched(json!({"spec": {"k": "v"}}), (0..100).map(copy).collect());
        assert!(matches!(many, Err(Refused::Copied(_))), "{many:?}");
    }

    #[test]
    fn no_operation_nests_an_object_deeper_than_it_may_be() {
        let nest = |i: usize| json!({"op": "add", "path": "/a".repeat(i + 1), "value": {}});
        assert!(patched(json!({}), (0..DEPTH - 1).map(nest).collect()).is_ok());
        let deep = patched(json!({}), (0..DEPTH).map(nest).collect());
        assert!(matches!(deep, Err(Refused::Deep)), "{deep:?}");
        let copy = |i: usize| json!({"op": "copy", "from": "", "path": "/a".repeat((1 << i).min(200))});
        let deep = patched(json!({}), (0..20).map(copy).collect());
        assert!(matches!(deep, Err(Refused::Deep)), "{deep:?}");
        let moves = json!([
            {"op": "add", "path": "/from", "value": (1..70).fold(json!({}), |value, _| json!({"a": value}))},
            {"op": "add", "path": "/a", "value": (1..70).fold(json!({}), |value, _| json!({"a": value}))},
            {"op": "move", "from": "/from", "path": "/a".repeat(60)},
        ]);
        assert!(matches!(patched(json!({}), moves), Err(Refused::Deep)));
    }
}
