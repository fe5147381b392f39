//! Custom resources with a `scale` subresource: what its fields may hold.

use serde_json::Value;

use crate::registry::ScalePaths;
use crate::schema::Cause;

/// The value at a path such as `.spec.replicas`.
pub(crate) fn at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    let value = path.trim_start_matches('.').split('.').try_fold(object, |value, step| value.get(step))?;
    (!value.is_null()).then_some(value)
}

/// A path as definitions write it.
pub(crate) fn shown(path: &str) -> String {
    format!(".{}", path.trim_start_matches('.'))
}

/// What is wrong with the numbers and the selector of an object. What was there before may stay.
pub(super) fn check(paths: &ScalePaths, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let given = |path: &str| {
        let value = at(object, path)?;
        (old.and_then(|old| at(old, path)) != Some(value)).then_some(value)
    };
    let mut causes = Vec::new();
    for path in [&paths.spec_replicas, &paths.status_replicas] {
        let Some(value) = given(path) else { continue };
        let why = match value.as_i64() {
            None => "should be an integer".to_owned(),
            Some(number) if number < 0 => "should be a non-negative integer".to_owned(),
            Some(number) if number > i64::from(i32::MAX) => format!("should be less than or equal to {}", i32::MAX),
            Some(_) => continue,
        };
        causes.push(Cause::invalid(shown(path), value, &why));
    }
    if let Some(path) = &paths.label_selector
        && let Some(value) = given(path).filter(|value| !value.is_string())
    {
        causes.push(Cause::invalid(shown(path), value, "should be a string"));
    }
    causes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_small_and_not_negative_and_the_selector_is_text() {
        let paths = ScalePaths {
            spec_replicas: "spec.replicas".into(),
            status_replicas: "status.replicas".into(),
            label_selector: Some("status.selector".into()),
        };
        for (object, fields) in [
            (json!({}), vec![]),
            (json!({"spec": {"replicas": 0}, "status": {"replicas": 2_147_483_647, "selector": "a=b"}}), vec![]),
            (json!({"spec": {"replicas": -1}}), vec![".spec.replicas"]),
            (
                json!({"spec": {"replicas": "1"}, "status": {"replicas": -1}}),
                vec![".spec.replicas", ".status.replicas"],
            ),
            (json!({"status": {"replicas": 2_147_483_648_u32}}), vec![".status.replicas"]),
            (json!({"status": {"selector": {}}}), vec![".status.selector"]),
        ] {
            let wrong: Vec<String> = check(&paths, &object, None).into_iter().map(|cause| cause.field).collect();
            assert_eq!(wrong, fields, "{object}");
            assert!(check(&paths, &object, Some(&object)).is_empty(), "{object}");
        }
    }
}
