//! `get`.

use axum::response::Response;
use http::StatusCode;

use super::{Context, view};
use crate::status::Status;

pub(super) fn get(context: &Context) -> Result<Response, Status> {
    let target = &context.target;
    if target.resource.qualified() == "namespaces" && target.name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let version = context.params.get("resourceVersion");
    if !version.is_empty() && version.parse::<u64>().is_err() {
        return Err(Status::bad_request(format!("invalid resource version: {version:?} is not a number")));
    }
    let object = context.core.store.get(&target.resource.storage, &target.key()).ok_or_else(|| target.not_found())?;
    view::stored(context, StatusCode::OK, &object)
}
