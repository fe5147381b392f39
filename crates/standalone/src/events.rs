//! Events of the embedded engine's own parts (scheduler, pod runner, storage, garbage collector).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use sha2::{Digest, Sha256};

/// Longer messages are refused.
const MOST_BYTES: usize = 1024;

/// What an event says.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    type_: &'a str,
    reason: &'a str,
    action: &'a str,
    message: &'a str,
}

impl<'a> Note<'a> {
    /// A `Normal` event.
    pub fn normal(reason: &'a str, action: &'a str, message: &'a str) -> Self {
        Self { type_: "Normal", reason, action, message }
    }

    /// A `Warning` event.
    pub fn warning(reason: &'a str, action: &'a str, message: &'a str) -> Self {
        Self { type_: "Warning", reason, action, message }
    }
}

/// Writes an event about `object`, as [`record_about`].
pub async fn record<K: Resource<DynamicType = ()>>(client: &Client, component: &str, object: &K, note: Note<'_>) {
    let reference = ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(object.name_any()),
        namespace: object.namespace(),
        uid: object.uid(),
        resource_version: object.resource_version(),
        ..ObjectReference::default()
    };
    record_about(client, component, reference, note).await;
}

/// Writes an event about an object. The same note about the same object is counted up in one event. Events are best effort: a failure
/// is logged and changes nothing.
pub async fn record_about(client: &Client, component: &str, about: ObjectReference, note: Note<'_>) {
    let now = Timestamp::now();
    let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
    let uid = about.uid.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("{uid}/{component}/{}/{}/{}", note.type_, note.reason, note.message));
    // Names end at 253 characters, and an object's own may be as long.
    let stem: String = about.name.iter().flat_map(|name| name.chars()).take(230).collect();
    let name = format!("{}.{}", stem.trim_end_matches(['.', '-']), hex::encode(&digest[..8]));
    let api = Api::<Event>::namespaced(client.clone(), &namespace);
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: about,
        type_: Some(note.type_.into()),
        reason: Some(note.reason.into()),
        action: Some(note.action.into()),
        message: Some(note.message[..note.message.floor_char_boundary(MOST_BYTES)].into()),
        source: Some(EventSource { component: Some(component.into()), ..EventSource::default() }),
        reporting_component: Some(component.into()),
        reporting_instance: Some(component.into()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        event_time: Some(MicroTime(now)),
        count: Some(1),
        ..Event::default()
    };
    let outcome = match api.create(&PostParams::default(), &event).await {
        Err(kube::Error::Api(status)) if status.code == 409 => count_up(&api, &name, now).await,
        other => other.map(drop),
    };
    if let Err(error) = outcome {
        tracing::warn!(%error, reason = note.reason, "an event could not be recorded");
    }
}

async fn count_up(api: &Api<Event>, name: &str, now: Timestamp) -> kube::Result<()> {
    let Some(mut event) = api.get_opt(name).await? else { return Ok(()) };
    event.count = Some(event.count.unwrap_or(1).saturating_add(1));
    event.last_timestamp = Some(Time(now));
    api.replace(name, &PostParams::default(), &event).await.map(drop)
}
