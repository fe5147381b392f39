//! Which requests from outside take a processor for so long that they may not do so among the tasks that serve watches.

use std::sync::Arc;

use axum::response::Response;
use http::Method;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::Context;
use super::choose::Filter;
use super::respond::{self, Shape};
use crate::codec;
use crate::status::Status;

/// A body to decode, or an object to change, of at most so many bytes is light.
const LIGHT_BYTES: usize = 64 << 10;
/// So many objects may be decoded among other tasks.
const LIGHT_OBJECTS: usize = 200;

/// Whether the work of a request is heavy.
pub(super) fn heavy(context: &Context, method: &Method, body: usize) -> bool {
    let (target, format) = (&context.target, context.format);
    // Stored bytes are sent as they are, piece by piece as the client takes them.
    let copied = format.shape == Shape::Object
        && !format.yaml
        && codec::same_as_stored(&target.resource, &target.version)
        && target.subresource.is_empty();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let store = &context.core.store;
    if body > LIGHT_BYTES {
        return true;
    }
    if !target.name.is_empty() {
        let large =
            || store.get(&target.resource.storage, &target.key()).is_some_and(|object| object.body.len() > LIGHT_BYTES);
        return !(reads && copied) && large();
    }
    if reads && context.params.flag("watch") {
        // Rendered one by one, and never many at a time.
        return false;
    }
    if *method == Method::POST {
        // One object, however many there are beside it.
        return false;
    }
    let undecoded = reads && copied && Filter::parse(context).is_ok_and(|filter| !filter.decodes());
    !undecoded && store.has_more_than(&target.resource.storage, &target.prefix(), LIGHT_OBJECTS)
}

/// Does the work on a thread of its own when its turn comes.
pub(super) async fn apart(places: Arc<Semaphore>, work: impl Future<Output = Response> + Send + 'static) -> Response {
    let failed =
        |why: String| respond::failure(&Status::internal(format!("the request was not completed: {why}")), &[]);
    let place = match places.acquire_owned().await {
        Ok(place) => place,
        Err(closed) => return failed(closed.to_string()),
    };
    let runtime = Handle::current();
    let done = tokio::task::spawn_blocking(move || {
        let response = runtime.block_on(work);
        drop(place);
        response
    });
    done.await.unwrap_or_else(|error| failed(error.to_string()))
}
