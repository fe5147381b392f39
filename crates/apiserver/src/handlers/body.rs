//! Reading request bodies, bounded.

use axum::body::Body;
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::status::Status;

/// As large as Kubernetes allows.
const LIMIT: usize = 3 << 20;

pub(super) async fn read(method: &Method, body: Body) -> Result<Bytes, Status> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(Bytes::new());
    }
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::too_large(LIMIT)),
        Err(error) => Err(Status::bad_request(format!("the body of the request cannot be read: {error}"))),
    }
}
