//! Reading request bodies, bounded.

use axum::body::Body;
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::limits::BODY;
use crate::status::Status;

pub(super) async fn read(method: &Method, body: Body) -> Result<Bytes, Status> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(Bytes::new());
    }
    match Limited::new(body, BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::too_large(format!("limit is {BODY}"))),
        Err(error) => Err(Status::bad_request(format!("the body of the request cannot be read: {error}"))),
    }
}
