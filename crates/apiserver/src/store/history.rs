//! The bounded history of one table's changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Object;

/// How an object changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was created.
    Added,
    /// It was written again.
    Modified,
    /// It was removed.
    Deleted,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its revision.
    pub revision: u64,
    /// Its kind.
    pub change: Change,
    /// The object after the change (its final state, if it was removed).
    pub object: Arc<Object>,
    /// The object before the change.
    pub previous: Option<Arc<Object>>,
}

/// Changes are kept this long at least, unless they are very many.
const KEEP_FOR: Duration = Duration::from_secs(300);
/// Changes kept however old they are.
const KEEP_AT_LEAST: usize = 256;
/// Changes kept however young they are.
const KEEP_AT_MOST: usize = 16_384;
/// Bytes of superseded objects kept.
const KEEP_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct History {
    events: VecDeque<(Instant, Arc<Event>)>,
    bytes: usize,
    /// Changes after this revision are all here.
    complete_after: u64,
}

impl History {
    pub(super) fn starting_at(revision: u64) -> Self {
        History { events: VecDeque::new(), bytes: 0, complete_after: revision }
    }

    /// The oldest revision a watch may start from.
    pub(super) fn complete_after(&self) -> u64 {
        self.complete_after
    }

    pub(super) fn push(&mut self, event: Event, now: Instant) {
        self.bytes += cost(&event);
        self.events.push_back((now, Arc::new(event)));
        while let Some((at, _)) = self.events.front() {
            let old = self.events.len() > KEEP_AT_LEAST && now.duration_since(*at) > KEEP_FOR;
            let crowded = self.events.len() > KEEP_AT_MOST || (self.bytes > KEEP_BYTES && self.events.len() > 1);
            if !old && !crowded {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, event)) = self.events.pop_front() {
            self.bytes -= cost(&event);
            self.complete_after = event.revision;
        }
    }

    /// Forgets everything up to and including a revision.
    #[cfg(test)]
    pub(super) fn compact(&mut self, revision: u64) {
        while self.events.front().is_some_and(|(_, e)| e.revision <= revision) {
            self.drop_oldest();
        }
        self.complete_after = self.complete_after.max(revision);
    }

    /// Changes after a revision, oldest first.
    pub(super) fn after(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let from = self.events.partition_point(|(_, e)| e.revision <= revision);
        self.events.range(from..).map(|(_, e)| e)
    }
}

/// What keeping an event costs: its own size, and objects nothing else holds.
fn cost(event: &Event) -> usize {
    let previous = event.previous.as_ref().map_or(0, |o| o.body.len());
    let removed = if event.change == Change::Deleted { event.object.body.len() } else { 0 };
    160 + previous + removed
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// The `revision`th write of an object, over one of so many bytes.
    fn write(revision: u64, superseded: usize) -> Event {
        let object = |revision, size| {
            let body = Bytes::from(vec![b' '; size]);
            Arc::new(Object { key: "ns/name".into(), revision, body, labels: Arc::new([]) })
        };
        let previous = Some(object(revision - 1, superseded));
        Event { revision, change: Change::Modified, object: object(revision, superseded), previous }
    }

    /// A history of writes, each so long after the one before it, and when the last was.
    fn filled(count: u64, apart: Duration, superseded: usize) -> (History, Instant) {
        let (mut history, mut now) = (History::starting_at(0), Instant::now());
        for revision in 1..=count {
            now += apart;
            history.push(write(revision, superseded), now);
        }
        (history, now)
    }

    /// How many there are; and that a watch can start wherever the history says it can.
    fn kept(history: &History) -> usize {
        let first = history.events.front().unwrap().1.revision;
        assert_eq!(first, history.complete_after() + 1);
        assert_eq!(history.after(history.complete_after()).count(), history.events.len());
        history.events.len()
    }

    #[test]
    fn old_changes_go_but_for_the_last_few() {
        let (mut history, now) = filled(1000, Duration::ZERO, 1);
        assert_eq!(kept(&history), 1000);
        history.push(write(1001, 1), now + KEEP_FOR);
        assert_eq!(kept(&history), 1001, "none is older than the limit");
        history.push(write(1002, 1), now + KEEP_FOR + Duration::from_secs(1));
        assert_eq!(kept(&history), KEEP_AT_LEAST);
    }

    #[test]
    fn changes_a_day_apart_are_kept_by_number() {
        let (history, _) = filled(300, Duration::from_secs(86_400), 1);
        assert_eq!(kept(&history), KEEP_AT_LEAST);
    }

    #[test]
    fn young_changes_are_bounded_by_number() {
        let (history, _) = filled(KEEP_AT_MOST as u64 + 100, Duration::ZERO, 1);
        assert_eq!((kept(&history), history.complete_after()), (KEEP_AT_MOST, 100));
    }

    #[test]
    fn what_is_kept_is_bounded_by_size_and_the_last_change_stays() {
        let (mut history, now) = filled(100, Duration::ZERO, 1 << 20);
        assert_eq!(kept(&history), 7);
        history.push(write(101, 2 * KEEP_BYTES), now);
        assert_eq!(kept(&history), 1);
    }
}
