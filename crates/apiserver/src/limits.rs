//! What requests may cost: how many are answered at a time, how long each may take, how deep an object may be.
//!
//! Clients outside the process have the limits of a kube-apiserver. Our own components, which use the in-process client, have none
//! of those on numbers and time, so that nobody outside can keep them waiting.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::status::Status;
use crate::store::Encoded;

/// The largest body of a request, as in Kubernetes.
pub(crate) const BODY: usize = 3 << 20;

/// The largest object that is stored: what etcd takes.
const OBJECT: usize = 1536 << 10;

/// The deepest object. What reads and writes objects, here and in clients, recurses; Kubernetes' own bound is its stack.
///
/// Below the bound of JSON readers (128), since lists, events and tables put objects a few levels deeper.
pub(crate) const DEPTH: usize = 120;

/// Kubernetes' words for what is deeper.
pub(crate) const TOO_DEEP: &str = "exceeded max depth";

/// Stack for reading YAML of that depth.
const YAML_STACK: usize = 16 << 20;

/// Limits on the requests of clients outside the process; the defaults are those of a kube-apiserver.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Reading requests at a time.
    pub reading: usize,
    /// Writing requests at a time.
    pub writing: usize,
    /// Watches, followed logs and other long requests at a time. Kubernetes has no such bound; without one a client that never
    /// ends its watches uses up the memory.
    pub streaming: usize,
    /// Reading requests that wait for a place, and as many writing ones: what Kubernetes' queues hold for clients in general.
    pub waiting: usize,
    /// The longest time for a request that is not a long one. It waits for a place for a quarter of it, as in Kubernetes.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { reading: 400, writing: 200, streaming: 16_384, waiting: 6_400, time: Duration::from_secs(60) }
    }
}

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Reading,
    Writing,
    Streaming,
}

/// A request's place among those that are answered at a time; free again when the last clone is dropped. Only requests from
/// outside have one.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// The places for requests of one class, and the queue before them.
#[derive(Debug)]
struct Places {
    seats: Arc<Semaphore>,
    queue: Semaphore,
    /// The longest wait in the queue.
    patience: Duration,
}

impl Places {
    fn new(seats: usize, waiting: usize, patience: Duration) -> Places {
        let bounded = |count: usize| Semaphore::new(count.min(Semaphore::MAX_PERMITS));
        Places { seats: Arc::new(bounded(seats)), queue: bounded(waiting), patience }
    }

    async fn seat(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.seats).try_acquire_owned() {
            return Some(permit);
        }
        let _waiting = self.queue.try_acquire().ok()?;
        tokio::time::timeout(self.patience, Arc::clone(&self.seats).acquire_owned()).await.ok()?.ok()
    }
}

/// Who is served, and who waits.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) time: Duration,
    reading: Places,
    writing: Places,
    streaming: Places,
    /// Requests whose work takes a processor for long, which have threads of their own: so few that watches go on beside them.
    pub(crate) heavy: Arc<Semaphore>,
}

impl Flow {
    pub(crate) fn new(limits: &Limits) -> Flow {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let patience = limits.time / 4;
        Flow {
            time: limits.time,
            reading: Places::new(limits.reading, limits.waiting, patience),
            writing: Places::new(limits.writing, limits.waiting, patience),
            // They last: who waits for the end of one would wait in vain.
            streaming: Places::new(limits.streaming, 0, patience),
            heavy: Arc::new(Semaphore::new((processors / 2).max(1))),
        }
    }

    /// A place, in the order of asking; none when too many wait already, or no place became free in time.
    pub(crate) async fn seat(&self, class: Class) -> Option<Seat> {
        let places = match class {
            Class::Reading => &self.reading,
            Class::Writing => &self.writing,
            Class::Streaming => &self.streaming,
        };
        Some(Seat { _permit: Arc::new(places.seat().await?) })
    }
}

/// An object in the form it is stored in, unless it is too large for that.
pub(crate) fn encode(object: &Value) -> Result<Encoded, Status> {
    let encoded = Encoded::new(object);
    if encoded.size() > OBJECT {
        // Kubernetes has no reason for this failure, and clients know it by its words.
        return Err(Status::new(500, "", "etcdserver: request is too large"));
    }
    Ok(encoded)
}

/// Levels of lists and objects, at most `limit` + 1.
pub(crate) fn depth(value: &Value, limit: usize) -> usize {
    if limit == 0 {
        return usize::from(value.is_array() || value.is_object());
    }
    let below = match value {
        Value::Array(list) => list.iter().map(|value| depth(value, limit - 1)).max(),
        Value::Object(map) => map.values().map(|value| depth(value, limit - 1)).max(),
        _ => return 0,
    };
    below.unwrap_or(0) + 1
}

/// Refuses what is nested too deep.
pub(crate) fn check_depth(value: &Value) -> Result<(), &'static str> {
    if depth(value, DEPTH) > DEPTH { Err(TOO_DEEP) } else { Ok(()) }
}

/// Reads YAML. Its aliases may not make more of it than a large body would be.
pub(crate) fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { budget: serde_saphyr::budget! { max_depth: DEPTH } };
    // Its reader recurses with large frames.
    stacker::maybe_grow(YAML_STACK / 2, YAML_STACK, || {
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_counts_lists_and_objects_and_stops_beyond_the_limit() {
        for (value, expected) in [(json!(1), 0), (json!([]), 1), (json!({"a": [1, {}]}), 3), (json!([[], [[]]]), 3)] {
            assert_eq!(depth(&value, 10), expected, "{value}");
        }
        assert_eq!(depth(&json!([[[[[]]]]]), 2), 3);
        let nested = |levels: usize| (1..levels).fold(json!([]), |value, _| json!([value]));
        assert_eq!(check_depth(&nested(DEPTH)), Ok(()));
        assert_eq!(check_depth(&nested(DEPTH + 1)), Err(TOO_DEEP));
    }

    #[test]
    fn aliases_do_not_multiply_without_bound() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(yaml(&bomb).is_err());
        assert_eq!(yaml("a: &x {k: v}\nb: *x\n"), Ok(json!({"a": {"k": "v"}, "b": {"k": "v"}})));
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(yaml(&nested(DEPTH - 1)).is_ok());
        assert!(yaml(&nested(5000)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_its_last_holder_goes() {
        let flow = Flow::new(&Limits { reading: 1, writing: 1, ..Limits::default() });
        let seat = flow.seat(Class::Reading).await.unwrap();
        let held = seat.clone();
        assert!(flow.seat(Class::Reading).await.is_none() && flow.seat(Class::Writing).await.is_some());
        drop(seat);
        assert!(flow.seat(Class::Reading).await.is_none());
        drop(held);
        assert!(flow.seat(Class::Reading).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_in_the_queue_has_the_place_and_who_finds_the_queue_full_does_not_wait() {
        let flow = Flow::new(&Limits { reading: 1, waiting: 1, ..Limits::default() });
        let seat = flow.seat(Class::Reading).await.unwrap();
        let began = tokio::time::Instant::now();
        let (next, refused) = tokio::join!(
            async {
                let next = flow.seat(Class::Reading).await;
                (next.is_some(), began.elapsed())
            },
            async {
                let refused = flow.seat(Class::Reading).await.is_none();
                let at_once = began.elapsed();
                tokio::time::sleep(Duration::from_secs(10)).await;
                drop(seat);
                (refused, at_once)
            }
        );
        assert_eq!(next, (true, Duration::from_secs(10)));
        assert_eq!(refused, (true, Duration::ZERO));
    }
}
