//! Reviews: questions about the user who asks, answered and not stored. Every authenticated user may do everything.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Context, view};
use crate::identity::UserInfo;
use crate::kinds;
use crate::managed;
use crate::meta::{object_mut, timestamp};
use crate::status::Status;

pub(super) fn create(context: &mut Context, body: &Bytes) -> Result<Response, Status> {
    let decoded = context.decode(body)?;
    let mut review = decoded.value;
    context.check_type(&mut review)?;
    context.normalise(&mut review, decoded.duplicate)?;
    let kind = context.target.resource.kind.clone();
    if kind == "SelfSubjectRulesReview" && review["spec"]["namespace"].as_str().is_none_or(str::is_empty) {
        return Err(Status::bad_request("no namespace on request"));
    }
    let causes = kinds::validate(context, &review, None);
    if !causes.is_empty() {
        return Err(context.invalid("", causes));
    }
    managed::created(context, &mut review);
    let map = object_mut(&mut review);
    let status = match kind.as_str() {
        "SelfSubjectReview" => {
            let metadata = object_mut(map.entry("metadata").or_insert(Value::Null));
            metadata.insert("creationTimestamp".into(), json!(timestamp(jiff::Timestamp::now())));
            json!({"userInfo": user_info(&context.user)})
        }
        "SelfSubjectRulesReview" => {
            let all = ["*"];
            map.insert("spec".into(), json!({}));
            json!({
                "resourceRules": [{"verbs": all, "apiGroups": all, "resources": all}],
                "nonResourceRules": [{"verbs": all, "nonResourceURLs": all}],
                "incomplete": false,
            })
        }
        _ => json!({"allowed": true}),
    };
    map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    map.insert("status".into(), status);
    view::object(context, StatusCode::CREATED, &review)
}

/// What is empty is left out.
fn user_info(user: &UserInfo) -> Value {
    let mut info = Map::from_iter([("username".to_owned(), json!(user.username))]);
    let further = [
        ("groups", json!(user.groups), user.groups.is_empty()),
        ("uid", json!(user.uid), user.uid.is_empty()),
        ("extra", json!(user.extra), user.extra.is_empty()),
    ];
    info.extend(further.into_iter().filter(|(.., empty)| !empty).map(|(name, value, _)| (name.to_owned(), value)));
    Value::Object(info)
}

/// `serviceaccounts/token`: no token would be known to this server.
pub(super) fn refuse_token(context: &Context) -> Status {
    let target = &context.target;
    if context.core.store.get(&target.resource.storage, &target.key()).is_none() {
        return target.not_found();
    }
    let why =
        "this API server issues no tokens: it knows its clients by their certificates, and the kubeconfig has one";
    Status::forbidden("", "serviceaccounts/token", &target.name, why)
}
