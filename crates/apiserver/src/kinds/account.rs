//! Service accounts.

use serde_json::Value;

/// Of a secret only its name is kept.
pub(super) fn prepare(account: &mut Value) {
    let secrets = account.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
        secret.retain(|field, _| field == "name");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_keep_their_name_only() {
        let mut account =
            json!({"secrets": [{"name": "a", "namespace": "b", "kind": "Secret"}, {"uid": "u"}], "other": 1});
        prepare(&mut account);
        assert_eq!(account, json!({"secrets": [{"name": "a"}, {}], "other": 1}));
    }
}
