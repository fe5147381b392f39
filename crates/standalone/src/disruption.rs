//! The disruption controller: keeps the status of disruption budgets, by which the API server refuses evictions.

pub mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, PostParams};
use kube::core::{Selector, SelectorExt};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

/// How long a failed write waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let (budgets, budget_writer) = reflector::store::<PodDisruptionBudget>();
    let (pods, pod_writer) = reflector::store::<Pod>();
    let budget_stream = watcher(Api::<PodDisruptionBudget>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(budget_writer)
        .map(|_| ());
    let pod_stream = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(pod_writer)
        .map(|_| ());
    let mut changes = std::pin::pin!(futures::stream::select(budget_stream, pod_stream));
    let mut failed = false;
    // Evictions in progress stop to count some time after they began.
    let mut pending = false;
    loop {
        let wait = if failed { RETRY } else { status::DISRUPTION_TIMEOUT.unsigned_abs() };
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => if change.is_none() { return },
            () = tokio::time::sleep(wait), if failed || pending => {}
        }
        // Before the first complete list a pod that is not there is only not seen yet.
        if pods.wait_until_ready().now_or_never().is_none() {
            continue;
        }
        (failed, pending) = (false, false);
        let pods = by_namespace(pods.state());
        for budget in budgets.state() {
            let guarded = guarded(&budget, &pods);
            let guarded: Vec<&Pod> = guarded.iter().map(AsRef::as_ref).collect();
            let status = status::status(&budget, &guarded, Timestamp::now());
            pending |= status.disrupted_pods.is_some();
            if budget.status.as_ref() == Some(&status) {
                continue;
            }
            let (name, namespace) = (budget.name_any(), budget.namespace().unwrap_or_default());
            let api = Api::<PodDisruptionBudget>::namespaced(client.clone(), &namespace);
            // With its version: evictions that came in between are counted first.
            let updated = PodDisruptionBudget { status: Some(status), ..PodDisruptionBudget::clone(&budget) };
            match api.replace_status(&name, &PostParams::default(), &updated).await {
                Ok(_) => {}
                // The change itself comes through the watch.
                Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
                Err(error) => {
                    tracing::warn!(budget = %name, %namespace, %error, "a disruption budget could not be updated; it is tried again");
                    failed = true;
                }
            }
        }
    }
}

fn by_namespace(pods: Vec<Arc<Pod>>) -> HashMap<String, Vec<Arc<Pod>>> {
    let mut all: HashMap<String, Vec<Arc<Pod>>> = HashMap::new();
    for pod in pods {
        all.entry(pod.namespace().unwrap_or_default()).or_default().push(pod);
    }
    all
}

/// The pods a budget selects; one without a selector selects none.
fn guarded(budget: &PodDisruptionBudget, pods: &HashMap<String, Vec<Arc<Pod>>>) -> Vec<Arc<Pod>> {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let Some(selector) = selector.and_then(|selector| Selector::try_from(selector).ok()) else { return Vec::new() };
    let pods = pods.get(&budget.namespace().unwrap_or_default()).into_iter().flatten();
    pods.filter(|pod| selector.matches(pod.labels())).cloned().collect()
}
