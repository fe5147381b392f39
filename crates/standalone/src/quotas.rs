//! The quota controller: counts afresh what is in a namespace with quotas. The API server charges what is made; what goes, and what a
//! quota limits from now on, is counted here.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use fv_apiserver::amounts::{self, Amounts};
use fv_apiserver::quota;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota};
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Changes that come together are counted together.
const GATHER: Duration = Duration::from_millis(100);
/// Kinds other than pods and claims are not watched: how often they are counted while there are quotas.
const RECOUNT: Duration = Duration::from_secs(5);

/// Runs until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let (quotas, writer) = reflector::store::<ResourceQuota>();
    let quota_stream = watcher(Api::<ResourceQuota>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .map(|_| ());
    let others = futures::stream::select(changes::<Pod>(&client), changes::<PersistentVolumeClaim>(&client));
    let mut changes = std::pin::pin!(futures::stream::select(quota_stream, others));
    let mut recount = tokio::time::interval(RECOUNT);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => if change.is_none() { return },
            _ = recount.tick() => {}
        }
        tokio::time::sleep(GATHER).await;
        while changes.next().now_or_never().flatten().is_some() {}
        let quotas = quotas.state();
        if quotas.is_empty() {
            continue;
        }
        if let Err(error) = count_all(&client, &quotas).await {
            tracing::warn!(%error, "counting for resource quotas failed; it is tried again");
        }
    }
}

/// That something changed, without what.
fn changes<K>(client: &Client) -> impl futures::Stream<Item = ()> + Send + use<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + Send + Sync + 'static,
    K: std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    watcher(api, watcher::Config::default()).default_backoff().map(|_| ())
}

async fn count_all(client: &Client, quotas: &[std::sync::Arc<ResourceQuota>]) -> kube::Result<()> {
    let resources = countable(client).await?;
    for quota in quotas {
        let counted = count(client, &resources, quota).await?;
        let mut quota = ResourceQuota::clone(quota);
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
        let used = serde_json::from_value(amounts::write(&counted)).map_err(kube::Error::SerdeError)?;
        let status = quota.status.get_or_insert_default();
        if status.hard.clone().unwrap_or_default() == hard.clone().unwrap_or_default()
            && status.used.as_ref() == Some(&used)
        {
            continue;
        }
        status.hard = hard;
        status.used = Some(used);
        let api = Api::<ResourceQuota>::namespaced(client.clone(), &quota.namespace().unwrap_or_default());
        match api.replace_status(&quota.name_any(), &PostParams::default(), &quota).await {
            Ok(_) => {}
            // What was charged meanwhile comes through the watch, and is counted again.
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn countable(client: &Client) -> kube::Result<Vec<ApiResource>> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    let counts = all.filter(|(resource, capabilities)| {
        capabilities.scope == Scope::Namespaced
            && capabilities.supports_operation(verbs::LIST)
            && resource.kind != "Event"
    });
    Ok(counts.map(|(resource, _)| resource).collect())
}

/// What is used of everything the quota limits.
async fn count(client: &Client, resources: &[ApiResource], quota: &ResourceQuota) -> kube::Result<Amounts> {
    let spec = serde_json::to_value(&quota.spec).map_err(kube::Error::SerdeError)?;
    let mut used: Amounts = amounts::read(&spec["hard"]).into_keys().map(|name| (name, Default::default())).collect();
    let namespace = quota.namespace().unwrap_or_default();
    let now = Timestamp::now();
    for resource in resources {
        let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
        if !used.keys().any(|name| quota::concerns(group, plural, name)) {
            continue;
        }
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, resource);
        let objects: Vec<Value> = if matches!((group, plural), ("", "pods" | "persistentvolumeclaims")) {
            let objects = api.list(&ListParams::default()).await?.items;
            objects.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(kube::Error::SerdeError)?
        } else {
            vec![json!({}); api.list_metadata(&ListParams::default()).await?.items.len()]
        };
        let mut total = BTreeMap::new();
        for object in objects.iter().filter(|object| quota::in_scope(&spec, plural, object)) {
            amounts::add(&mut total, &quota::usage(group, plural, object, now));
        }
        total.retain(|name, _| used.contains_key(name));
        amounts::add(&mut used, &total);
    }
    Ok(used)
}
