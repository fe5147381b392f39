//! Events, as `kubectl describe` shows them.
//!
//! The same event again counts up instead of making another object, at most every ten seconds. Recording never waits and never
//! fails the caller: with the API away, events are the first thing to lose.

use std::collections::HashMap;
use std::time::Duration;

use fv_plan::{EventSpec, ObjectKey};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::Clock;

const QUEUE: usize = 1024;
/// Different events remembered for counting.
const REMEMBERED: usize = 4096;
const SPACING: Duration = Duration::from_secs(10);
/// What the API allows for a message.
const MAX_MESSAGE: usize = 1024;

/// Records events of one component. Cheap to clone; the last clone's drop ends the writer after what is queued.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<EventSpec>,
}

impl Recorder {
    /// Starts the writer; join the handle after dropping the recorder to see the last events written.
    pub fn start(client: Client, component: &'static str, clock: Clock) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer { client, component, clock, known: HashMap::new() };
        (Self { sender }, tokio::spawn(writer.run(receiver)))
    }

    /// Records `event`.
    pub fn record(&self, event: EventSpec) {
        if self.sender.try_send(event).is_err() {
            tracing::debug!("event dropped: the writer is behind or gone");
        }
    }
}

struct Writer {
    client: Client,
    component: &'static str,
    clock: Clock,
    known: HashMap<ObjectKey, Known>,
}

struct Known {
    count: i32,
    written: i32,
    at: Instant,
    last: Timestamp,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<EventSpec>) {
        let mut tick = tokio::time::interval(SPACING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = receiver.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
                _ = tick.tick() => self.flush(SPACING).await,
            }
        }
        self.flush(Duration::ZERO).await;
    }

    async fn take(&mut self, event: EventSpec) {
        let now = self.clock.now();
        let key = ObjectKey::new(namespace_of(&event), event_name(&event, self.component));
        if let Some(known) = self.known.get_mut(&key) {
            known.count = known.count.saturating_add(1);
            known.last = now;
            return;
        }
        if self.known.len() >= REMEMBERED {
            self.flush(Duration::ZERO).await;
            self.known.clear();
        }
        let count = self.create(&key, event, now).await;
        self.known.insert(key, Known { count, written: count, at: Instant::now(), last: now });
    }

    /// Writes a new event; returns how often it has happened, which is more than once when an earlier process saw it too.
    async fn create(&self, key: &ObjectKey, event: EventSpec, now: Timestamp) -> i32 {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        let object = build(key, event, self.component, now);
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => 1,
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let before = api.get_opt(&key.name).await.ok().flatten().and_then(|event| event.count).unwrap_or(1);
                let count = before.saturating_add(1);
                self.write_count(key, count, now).await;
                count
            }
            Err(error) => {
                tracing::debug!(event = %key, error = &error as &dyn std::error::Error, "event not written");
                1
            }
        }
    }

    async fn flush(&mut self, spacing: Duration) {
        let due: Vec<(ObjectKey, i32, Timestamp)> = self
            .known
            .iter_mut()
            .filter(|(_, known)| known.count != known.written && known.at.elapsed() >= spacing)
            .map(|(key, known)| {
                known.written = known.count;
                known.at = Instant::now();
                (key.clone(), known.count, known.last)
            })
            .collect();
        for (key, count, last) in due {
            self.write_count(&key, count, last).await;
        }
    }

    async fn write_count(&self, key: &ObjectKey, count: i32, last: Timestamp) {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Merge(json!({"count": count, "lastTimestamp": Time(last)}));
        if let Err(error) = api.patch(&key.name, &PatchParams::default(), &patch).await {
            tracing::debug!(event = %key, error = &error as &dyn std::error::Error, "event count not written");
        }
    }
}

fn namespace_of(event: &EventSpec) -> String {
    let namespace = &event.about.key.namespace;
    if namespace.is_empty() { "default".to_owned() } else { namespace.clone() }
}

/// The same event of the same component has the same name, in every process.
fn event_name(event: &EventSpec, component: &str) -> String {
    let about = &event.about;
    let identity =
        [about.uid.as_str(), about.kind, event.kind.as_str(), event.reason, &event.message, component].join("\u{0}");
    let digest = hex::encode(Sha256::digest(identity.as_bytes()));
    format!("{}.{}", about.key.name, &digest[..16])
}

fn build(key: &ObjectKey, event: EventSpec, component: &str, now: Timestamp) -> Event {
    let mut message = event.message;
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    Event {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            ..Default::default()
        },
        involved_object: ObjectReference {
            api_version: Some(event.about.api_version.to_owned()),
            kind: Some(event.about.kind.to_owned()),
            name: Some(event.about.key.name),
            namespace: Some(event.about.key.namespace).filter(|namespace| !namespace.is_empty()),
            uid: Some(event.about.uid).filter(|uid| !uid.is_empty()),
            ..Default::default()
        },
        type_: Some(event.kind.as_str().to_owned()),
        reason: Some(event.reason.to_owned()),
        message: Some(message),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        ..Default::default()
    }
}
