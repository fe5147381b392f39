//! virt-controller: turns VirtualMachines into VirtualMachineInstances and those into launcher pods, and keeps their status true.
//!
//! Watches VirtualMachine, VirtualMachineInstance, launcher pods, claims, quotas, LimitRanges and Nodes; writes to the API and nowhere else. It holds no state of
//! its own: started anew, it goes on from what the API says.
//!
//! # Rights on a cluster
//!
//! | group | resource | verbs | for |
//! |---|---|---|---|
//! | `kubevirt.io` | virtualmachines | get, list, watch, patch | VMs; finalizers and run strategy |
//! | `kubevirt.io` | virtualmachines/status | patch | |
//! | `kubevirt.io` | virtualmachines/finalizers, virtualmachineinstances/finalizers | update | owner references that block deletion |
//! | `kubevirt.io` | virtualmachineinstances | get, list, watch, create, patch, delete | VMIs (their status is part of them) |
//! | | pods | list, watch, create, delete | launcher pods |
//! | | persistentvolumeclaims | list, watch | whether volumes exist, their sizes and modes |
//! | | resourcequotas, limitranges | list, watch | whether pods of a namespace must have limits |
//! | | pods/status | patch | the readiness gate |
//! | | nodes | list, watch, patch | the heartbeat of their agents; `kubevirt.io/schedulable` when it is missed; whether they are off |
//! | | events | create, get, patch | |
//! | `kubevirt.io` | kubevirts | list, watch | settings |
//! | `coordination.k8s.io` | leases, in our namespace | create (any name); get, update of `virt-controller` | which replica works |

mod memory;
mod metrics;
mod node;
pub mod program;
mod project;
mod vm;
mod vmi;

use std::sync::Arc;

use fv_api::config::ClusterConfig;
use fv_api::meta::labels;
use fv_api::{VirtualMachine, VirtualMachineInstance};
use fv_plan::node::NodeFacts;
use fv_plan::vmi::{ClaimFacts, PodFacts, QuotaFacts, RangeFacts, claims_of};
use fv_plan::{ObjectKey, Plan};
use fv_runtime::{Again, Cache, Clock, Executor, Recorder, WorkQueue, reflect, run_workers};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LimitRange, Node, PersistentVolumeClaim, Pod, ResourceQuota};
use kube::Client;
use kube::runtime::watcher;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::memory::Memory;

pub use metrics::Machines;

/// Name under which events are recorded.
const COMPONENT: &str = "virtualmachine-controller";

/// What a caller may choose.
#[derive(Clone)]
pub struct Options {
    /// Where decisions get the time from.
    pub clock: Clock,
    /// Objects of one kind looked at in parallel.
    pub workers: usize,
    /// Where what is known of machines is shown to scrapes.
    pub machines: Machines,
    /// Since when the controllers hear of nodes, where that was before they were started this time.
    pub since: Option<Timestamp>,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Clock::System, workers: 4, machines: Machines::default(), since: None }
    }
}

/// Why the controller ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A task of the controller panicked or was aborted.
    #[error("a task of the controller ended unexpectedly")]
    Task(#[source] JoinError),
}

/// Runs the controllers until `shutdown`. `client` must speak as [`fv_api::meta::users::VIRT_CONTROLLER`].
pub async fn run(client: Client, config: ClusterConfig, shutdown: CancellationToken) -> Result<(), RunError> {
    run_with(client, config, Options::default(), shutdown).await
}

/// [`run`] with `options`.
pub async fn run_with(
    client: Client,
    config: ClusterConfig,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    fv_metrics::live::set(&fv_metrics::live::CONTROLLER_LEADING, true);
    // One task that fails takes the others with it.
    let stop = shutdown.child_token();
    let (recorder, events_written) = Recorder::start(client.clone(), COMPONENT, options.clock);
    let shared = Arc::new(Shared {
        vms: Cache::default(),
        vmis: Cache::default(),
        pods: Cache::indexed(|pod: &PodFacts| pod.created_by.as_deref()),
        claims: Cache::default(),
        quotas: Cache::indexed(|quota: &QuotaFacts| Some(&quota.namespace)),
        ranges: Cache::indexed(|range: &RangeFacts| Some(&range.namespace)),
        nodes: Cache::default(),
        vm_queue: WorkQueue::named("virt-controller-vm"),
        vmi_queue: WorkQueue::named("virt-controller-vmi"),
        node_queue: WorkQueue::named("virt-controller-node"),
        vm_memory: Memory::default(),
        vmi_memory: Memory::default(),
        executor: Executor::new(client.clone(), recorder.clone()),
        config,
        since: options.since.unwrap_or_else(|| options.clock.now()),
        clock: options.clock,
    });

    let mut tasks = JoinSet::new();
    spawn_reflectors(&mut tasks, &client, &shared, &stop);
    {
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            let caches = async {
                shared.vms.synced().await;
                shared.vmis.synced().await;
                shared.pods.synced().await;
                shared.claims.synced().await;
                shared.quotas.synced().await;
                shared.ranges.synced().await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = caches => {}
            }
            let _shown = options.machines.show(shared.vms.clone(), shared.vmis.clone(), shared.pods.clone());
            tracing::info!(
                vms = shared.vms.len(),
                vmis = shared.vmis.len(),
                pods = shared.pods.len(),
                "controllers started"
            );
            let vm_workers = {
                let shared = shared.clone();
                run_workers(shared.vm_queue.clone(), options.workers, stop.clone(), move |key| {
                    let shared = shared.clone();
                    async move { vm::reconcile(&shared, key).await }
                })
            };
            let vmi_workers = {
                let shared = shared.clone();
                run_workers(shared.vmi_queue.clone(), options.workers, stop.clone(), move |key| {
                    let shared = shared.clone();
                    async move { vmi::reconcile(&shared, key).await }
                })
            };
            let node_workers = {
                let shared = shared.clone();
                run_workers(shared.node_queue.clone(), 1, stop.clone(), move |key| {
                    let shared = shared.clone();
                    async move { node::reconcile(&shared, key).await }
                })
            };
            tokio::join!(vm_workers, vmi_workers, node_workers);
        });
    }

    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        stop.cancel();
        if let (Err(error), Ok(())) = (ended, &result) {
            result = Err(RunError::Task(error));
        }
    }
    // The last recorder goes with these; the writer then finishes its queue.
    drop(shared);
    drop(recorder);
    if let (Err(error), Ok(())) = (events_written.await, &result) {
        result = Err(RunError::Task(error));
    }
    result
}

/// What the controllers know and use.
struct Shared {
    vms: Cache<VirtualMachine>,
    vmis: Cache<VirtualMachineInstance>,
    pods: Cache<PodFacts>,
    claims: Cache<ClaimFacts>,
    quotas: Cache<QuotaFacts>,
    ranges: Cache<RangeFacts>,
    /// Nobody waits for the first list of these: a node that is not known is not judged.
    nodes: Cache<NodeFacts>,
    vm_queue: Arc<WorkQueue<ObjectKey>>,
    vmi_queue: Arc<WorkQueue<ObjectKey>>,
    node_queue: Arc<WorkQueue<ObjectKey>>,
    vm_memory: Memory,
    vmi_memory: Memory,
    executor: Executor,
    config: ClusterConfig,
    since: Timestamp,
    clock: Clock,
}

impl Shared {
    /// Executes `plan` and keeps what the next decision about `key` must know of it.
    async fn execute(&self, key: &ObjectKey, memory: &Memory, plan: Plan) -> Again {
        let outcome = self.executor.execute(plan).await;
        memory.note(key, &outcome);
        outcome.again
    }
}

fn spawn_reflectors(tasks: &mut JoinSet<()>, client: &Client, shared: &Arc<Shared>, stop: &CancellationToken) {
    {
        let queue = shared.vm_queue.clone();
        tasks.spawn(reflect::<VirtualMachine, _>(
            client.clone(),
            watcher::Config::default(),
            shared.vms.clone(),
            project::vm,
            move |change| queue.add(change.key),
            stop.clone(),
        ));
    }
    {
        let (vm_queue, vmi_queue) = (shared.vm_queue.clone(), shared.vmi_queue.clone());
        tasks.spawn(reflect::<VirtualMachineInstance, _>(
            client.clone(),
            watcher::Config::default(),
            shared.vmis.clone(),
            project::vmi,
            move |change| {
                metrics::observe(change.before.as_deref(), change.after.as_deref());
                // A VM and its instance share their name.
                vm_queue.add(change.key.clone());
                vmi_queue.add(change.key);
            },
            stop.clone(),
        ));
    }
    {
        let queue = shared.vmi_queue.clone();
        let selector = format!("{}={}", labels::APP, labels::APP_LAUNCHER);
        tasks.spawn(reflect::<Pod, _>(
            client.clone(),
            watcher::Config::default().labels(&selector),
            shared.pods.clone(),
            |pod| PodFacts::of(&pod),
            move |change| {
                let owners =
                    [change.before, change.after].into_iter().flatten().filter_map(|pod| pod.owner_name.clone());
                for owner in owners {
                    queue.add(ObjectKey::new(change.key.namespace.clone(), owner));
                }
            },
            stop.clone(),
        ));
    }
    {
        let shared = shared.clone();
        tasks.spawn(reflect::<Node, _>(
            client.clone(),
            watcher::Config::default(),
            shared.nodes.clone(),
            |node| NodeFacts::of(&node),
            move |change| {
                // Its guests may have to start elsewhere. One that is listed later is looked at then.
                if change.before != change.after && change.after.as_ref().is_some_and(|node| node.called_off) {
                    for vmi in shared.vmis.all().iter().filter(|vmi| node::is_on(vmi, &change.key.name)) {
                        shared.vmi_queue.add(ObjectKey::of(&**vmi));
                    }
                }
                shared.node_queue.add(change.key);
            },
            stop.clone(),
        ));
    }
    // These are looked at when a pod is made; one that was refused is tried again.
    tasks.spawn(reflect::<ResourceQuota, _>(
        client.clone(),
        watcher::Config::default(),
        shared.quotas.clone(),
        |quota| QuotaFacts::of(&quota),
        |_| {},
        stop.clone(),
    ));
    tasks.spawn(reflect::<LimitRange, _>(
        client.clone(),
        watcher::Config::default(),
        shared.ranges.clone(),
        |range| RangeFacts::of(&range),
        |_| {},
        stop.clone(),
    ));
    {
        let shared = shared.clone();
        tasks.spawn(reflect::<PersistentVolumeClaim, _>(
            client.clone(),
            watcher::Config::default(),
            shared.claims.clone(),
            |claim| ClaimFacts::of(&claim),
            move |change| {
                // Before the first list is in, every instance is still to be looked at.
                if change.before == change.after || !shared.claims.is_synced() {
                    return;
                }
                let ObjectKey { namespace, name } = &change.key;
                for vmi in shared.vmis.all() {
                    let key = ObjectKey::of(&*vmi);
                    if key.namespace == *namespace && claims_of(&vmi).contains(name.as_str()) {
                        shared.vmi_queue.add(key);
                    }
                }
            },
            stop.clone(),
        ));
    }
}
