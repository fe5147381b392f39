//! `pods/log`.

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::{HeaderValue, header};
use serde_json::Value;

use super::Context;
use crate::codec;
use crate::meta::MetaExt as _;
use crate::pod_logs::LogOptions;
use crate::status::Status;

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

pub(super) async fn logs(context: &Context) -> Result<Response, Status> {
    let target = &context.target;
    let stored = context.core.store.get(&target.resource.storage, &target.key()).ok_or_else(|| target.not_found())?;
    let pod = codec::decode(&target.resource, &target.version, &stored)?;
    let params = &context.params;
    let options = LogOptions {
        container: container(&pod, params.get("container"))?,
        follow: params.flag("follow"),
        previous: params.flag("previous"),
        timestamps: params.flag("timestamps"),
        tail_lines: params.number("tailLines")?,
        limit_bytes: params.number("limitBytes")?,
        since_seconds: params.number("sinceSeconds")?,
        since_time: params.has("sinceTime").then(|| params.get("sinceTime").to_owned()),
    };
    if pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().is_empty() {
        let message = format!("pod {} does not have a host assigned", target.name);
        return Err(Status::bad_request(message));
    }
    let bytes = context.core.pod_logs.logs(&pod, options).await?;
    let seat = context.seat.clone();
    let bytes = bytes.inspect(move |_| {
        let _ = &seat;
    });
    let mut response = Response::new(Body::from_stream(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The container a log request means.
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let list = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
    };
    let main = names("containers");
    let all: Vec<String> = names("initContainers").into_iter().chain(main.clone()).collect();
    let name = pod.meta_str("name");
    if !asked.is_empty() {
        return if all.iter().any(|n| n == asked) {
            Ok(asked.to_owned())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    let default = pod.pointer("/metadata/annotations").and_then(|a| a.get(DEFAULT_CONTAINER)).and_then(Value::as_str);
    match (default, main.as_slice(), all.as_slice()) {
        (Some(default), _, _) if all.iter().any(|n| n == default) => Ok(default.to_owned()),
        (_, [only], [_]) => Ok(only.clone()),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}
