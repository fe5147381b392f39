//! The namespace controller: empties a namespace that is being deleted, then lets it go.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// How often a namespace that still holds objects is looked at again.
const RECHECK: Duration = Duration::from_millis(500);

/// Runs until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let (store, writer) = reflector::store::<Namespace>();
    let mut changes = std::pin::pin!(
        watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default()).default_backoff().reflect(writer)
    );
    let mut recheck = tokio::time::interval(RECHECK);
    let mut pending = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => if change.is_none() { return },
            _ = recheck.tick(), if pending => {}
        }
        let terminating: Vec<_> = store.state().into_iter().filter(|n| is_terminating(n)).collect();
        pending = !terminating.is_empty();
        for namespace in terminating {
            if let Err(error) = empty(&client, &namespace).await {
                tracing::warn!(namespace = %namespace.name_any(), %error, "emptying a namespace failed; it is tried again");
            }
        }
    }
}

fn is_terminating(namespace: &Namespace) -> bool {
    let held = namespace
        .spec
        .as_ref()
        .and_then(|s| s.finalizers.as_ref())
        .is_some_and(|f| f.iter().any(|f| f == "kubernetes"));
    namespace.metadata.deletion_timestamp.is_some() && held
}

async fn empty(client: &Client, namespace: &Namespace) -> kube::Result<()> {
    let name = namespace.name_any();
    let mut remaining = Vec::new();
    let resources = namespaced_resources(client).await?;
    for resource in &resources {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name, resource);
        let mut left = api.list_metadata(&ListParams::default()).await?.items;
        if left.iter().any(|o| o.metadata.deletion_timestamp.is_none()) {
            api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
            left = api.list_metadata(&ListParams::default()).await?.items;
        }
        if !left.is_empty() {
            remaining.push((resource.clone(), left));
        }
    }
    // An object of a kind looked at first may have come while the last was looked at: nothing is let go before all are empty again.
    if remaining.is_empty() {
        for resource in resources {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name, &resource);
            let left = api.list_metadata(&ListParams::default()).await?.items;
            if !left.is_empty() {
                remaining.push((resource, left));
            }
        }
    }
    if remaining.is_empty() { finalize(client, &name).await } else { report(client, namespace, &remaining).await }
}

async fn namespaced_resources(client: &Client) -> kube::Result<Vec<ApiResource>> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut all = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.scope == Scope::Namespaced
                && capabilities.supports_operation(verbs::LIST)
                && capabilities.supports_operation(verbs::DELETE)
            {
                all.push(resource);
            }
        }
    }
    Ok(all)
}

async fn finalize(client: &Client, name: &str) -> kube::Result<()> {
    let api = Api::<Namespace>::all(client.clone());
    let Some(mut current) = api.get_opt(name).await? else { return Ok(()) };
    if let Some(finalizers) = current.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != "kubernetes");
    }
    match api.replace_subresource("finalize", name, &PostParams::default(), &current).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

type Left = (ApiResource, Vec<kube::core::PartialObjectMeta<DynamicObject>>);

/// Tells the user what holds the namespace, in Kubernetes' words.
async fn report(client: &Client, namespace: &Namespace, remaining: &[Left]) -> kube::Result<()> {
    let counts: Vec<String> = remaining
        .iter()
        .map(|(resource, left)| format!("{} has {} resource instances", full_name(resource), left.len()))
        .collect();
    let mut finalizers: BTreeMap<&String, usize> = BTreeMap::new();
    for finalizer in remaining.iter().flat_map(|(_, left)| left).flat_map(|object| object.finalizers()) {
        *finalizers.entry(finalizer).or_default() += 1;
    }
    let held: Vec<String> =
        finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    let content = ("SomeResourcesRemain", format!("Some resources are remaining: {}", counts.join(", ")));
    let held = if finalizers.is_empty() {
        ("ContentHasNoFinalizers", "All content-preserving finalizers finished".to_string())
    } else {
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {}", held.join(", ")))
    };
    let fine = |type_, reason, message: &str| condition(type_, false, (reason, message.to_string()));
    let conditions = [
        fine("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
        fine(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        fine(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        condition("NamespaceContentRemaining", true, content),
        condition("NamespaceFinalizersRemaining", !finalizers.is_empty(), held),
    ];
    let known = namespace.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let same = conditions.iter().all(|c| known.iter().any(|k| k.type_ == c.type_ && k.message == c.message));
    if same {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": namespace.uid()}, "status": {"conditions": conditions}});
    let api = Api::<Namespace>::all(client.clone());
    match api.patch_status(&namespace.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

fn full_name(resource: &ApiResource) -> String {
    if resource.group.is_empty() {
        format!("{}.", resource.plural)
    } else {
        format!("{}.{}", resource.plural, resource.group)
    }
}

fn condition(type_: &str, holds: bool, (reason, message): (&str, String)) -> NamespaceCondition {
    NamespaceCondition {
        type_: type_.into(),
        status: if holds { "True" } else { "False" }.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(Time(jiff::Timestamp::now())),
    }
}
