//! Events live an hour after they were last seen, as in Kubernetes.

use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::Value;

use crate::registry::Resource;
use crate::server::Core;
use crate::store::{Action, Encoded, Expect, Write};

const KEEP_SECONDS: i64 = 3600;
const SWEEP_EVERY_SECONDS: i64 = 60;

/// When expired events were last removed.
#[derive(Debug, Default)]
pub(crate) struct Sweep(AtomicI64);

impl Sweep {
    fn due(&self, now: i64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        now - last >= SWEEP_EVERY_SECONDS
            && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Removes expired events, at most once a minute.
pub(super) async fn expire(core: &Core, resource: &Resource) {
    let now = jiff::Timestamp::now().as_second();
    if !core.event_sweep.due(now) {
        return;
    }
    let Ok(listing) = core.store.list(&resource.storage, "", None) else { return };
    for object in listing.objects {
        let Ok(event) = serde_json::from_slice::<Value>(&object.body) else { continue };
        if last_seen(&event).is_none_or(|seen| now - seen < KEEP_SECONDS) {
            continue;
        }
        let write = Write {
            table: resource.storage.clone(),
            key: object.key.clone(),
            expect: Expect::Revision(object.revision),
            action: Action::Delete(Encoded::new(&event)),
        };
        // Written meanwhile: it was seen again, and stays.
        let _ = core.store.write(write).await;
    }
}

/// Seconds since the epoch at which an event was last reported.
fn last_seen(event: &Value) -> Option<i64> {
    ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .iter()
        .filter_map(|pointer| event.pointer(pointer)?.as_str()?.parse::<jiff::Timestamp>().ok())
        .map(|at| at.as_second())
        .max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_time_counts() {
        let event = json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "lastTimestamp": "2026-01-01T02:00:00Z",
            "eventTime": null,
        });
        assert_eq!(last_seen(&event), Some("2026-01-01T02:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second()));
        assert_eq!(last_seen(&json!({})), None);
    }

    #[test]
    fn sweeps_are_rare() {
        let sweep = Sweep::default();
        assert!(sweep.due(1000) && !sweep.due(1001) && sweep.due(1060));
    }
}
