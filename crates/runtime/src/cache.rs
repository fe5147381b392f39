//! What controllers know about one kind: the projection of every object they care for, kept current by a watch.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use kube::core::{DeserializeGuard, NamespaceResourceScope, ResourceExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use fv_plan::ObjectKey;

/// A cache of `V` by namespace and name, with one optional index. Cheap to clone.
pub struct Cache<V> {
    inner: Arc<Inner<V>>,
}

struct Inner<V> {
    maps: RwLock<Maps<V>>,
    index: fn(&V) -> Option<&str>,
    synced: watch::Sender<bool>,
}

struct Maps<V> {
    objects: HashMap<ObjectKey, Arc<V>>,
    by_index: HashMap<String, HashSet<ObjectKey>>,
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self::indexed(|_| None)
    }
}

/// What a watch said about an object: how it was known, how it is.
#[derive(Debug)]
pub struct Change<V> {
    pub key: ObjectKey,
    pub before: Option<Arc<V>>,
    pub after: Option<Arc<V>>,
}

impl<V> Cache<V> {
    /// A cache whose objects are also found by what `index` reads from them.
    pub fn indexed(index: fn(&V) -> Option<&str>) -> Self {
        let maps = RwLock::new(Maps { objects: HashMap::new(), by_index: HashMap::new() });
        Self { inner: Arc::new(Inner { maps, index, synced: watch::Sender::new(false) }) }
    }

    /// The object of `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<V>> {
        self.inner.maps.read().objects.get(key).cloned()
    }

    /// The objects whose index is `value`, ordered by key.
    pub fn by_index(&self, value: &str) -> Vec<Arc<V>> {
        let maps = self.inner.maps.read();
        let mut keys: Vec<&ObjectKey> = maps.by_index.get(value).into_iter().flatten().collect();
        keys.sort();
        keys.into_iter().filter_map(|key| maps.objects.get(key).cloned()).collect()
    }

    /// All objects, in no order.
    pub fn all(&self) -> Vec<Arc<V>> {
        self.inner.maps.read().objects.values().cloned().collect()
    }

    /// Whether the first complete list is in.
    pub fn is_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.inner.maps.read().objects.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the first complete list is in. Before that, an absent object means nothing.
    pub async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        // The sender lives as long as `self`.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Puts `value` in, or takes the object out.
    pub fn set(&self, key: ObjectKey, value: Option<V>) -> Change<V> {
        let after = value.map(Arc::new);
        let before = {
            let mut maps = self.inner.maps.write();
            let before = match &after {
                Some(value) => maps.objects.insert(key.clone(), value.clone()),
                None => maps.objects.remove(&key),
            };
            let old = before.as_deref().and_then(|value| (self.inner.index)(value));
            let new = after.as_deref().and_then(|value| (self.inner.index)(value));
            if old != new {
                if let Some(old) = old
                    && let Some(keys) = maps.by_index.get_mut(old)
                {
                    keys.remove(&key);
                    if keys.is_empty() {
                        maps.by_index.remove(old);
                    }
                }
                if let Some(new) = new {
                    maps.by_index.entry(new.to_owned()).or_default().insert(key.clone());
                }
            }
            before
        };
        Change { key, before, after }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.inner.maps.read().objects.keys().cloned().collect()
    }
}

/// Keeps `cache` current until `shutdown`. `project` picks what is kept of an object; every change is told to `on_change`.
///
/// A watch that breaks is taken up again with growing waits; what was known stays known meanwhile. So does what was known
/// of an object that cannot be read any more: one such object must not blind the controller for all others.
pub async fn reflect<K, V>(
    client: Client,
    config: watcher::Config,
    cache: Cache<V>,
    project: impl Fn(K) -> V,
    on_change: impl Fn(Change<V>),
    shutdown: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    follow::<K, V>(Api::all(client), config, cache, project, on_change, shutdown).await;
}

/// [`reflect`] for the objects of one namespace: for who may see no others.
pub async fn reflect_in<K, V>(
    client: Client,
    namespace: &str,
    config: watcher::Config,
    cache: Cache<V>,
    project: impl Fn(K) -> V,
    on_change: impl Fn(Change<V>),
    shutdown: CancellationToken,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    follow::<K, V>(Api::namespaced(client, namespace), config, cache, project, on_change, shutdown).await;
}

async fn follow<K, V>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    cache: Cache<V>,
    project: impl Fn(K) -> V,
    on_change: impl Fn(Change<V>),
    shutdown: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let kind = K::kind(&()).into_owned();
    let events = watcher(api, config).default_backoff();
    pin_mut!(events);
    let put = |object: DeserializeGuard<K>, key: ObjectKey| match object.0 {
        Ok(object) => on_change(cache.set(key, Some(project(object)))),
        Err(error) => {
            tracing::warn!(kind, object = %key, error = %error.error, "object cannot be read; it is left alone");
        }
    };
    // Keys of the list that is coming in; what is missing from it at its end is gone.
    let mut listed: HashSet<ObjectKey> = HashSet::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => match event {
                Some(event) => event,
                None => return,
            },
        };
        match event {
            Ok(watcher::Event::Apply(object)) => {
                let key = key_of(&object);
                put(object, key);
            }
            Ok(watcher::Event::Delete(object)) => on_change(cache.set(key_of(&object), None)),
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                let key = key_of(&object);
                listed.insert(key.clone());
                put(object, key);
            }
            Ok(watcher::Event::InitDone) => {
                for key in cache.keys().into_iter().filter(|key| !listed.contains(key)) {
                    on_change(cache.set(key, None));
                }
                listed = HashSet::new();
                cache.inner.synced.send_replace(true);
            }
            Err(error) => {
                tracing::warn!(kind, error = &error as &dyn std::error::Error, "watch interrupted");
            }
        }
    }
}

fn key_of(object: &impl ResourceExt) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_follows_changes() {
        let cache: Cache<(String, u32)> = Cache::indexed(|value| Some(&value.0));
        let key = |name: &str| ObjectKey::new("ns", name);
        cache.set(key("a"), Some(("x".into(), 1)));
        cache.set(key("b"), Some(("x".into(), 2)));
        assert_eq!(cache.by_index("x").len(), 2);
        let change = cache.set(key("a"), Some(("y".into(), 3)));
        assert_eq!(change.before.map(|value| value.1), Some(1));
        assert_eq!(cache.by_index("x").iter().map(|value| value.1).collect::<Vec<_>>(), [2]);
        assert_eq!(cache.by_index("y").len(), 1);
        cache.set(key("a"), None);
        cache.set(key("b"), None);
        assert!(cache.is_empty() && cache.inner.maps.read().by_index.is_empty());
    }
}
