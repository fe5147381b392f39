//! The status of a pod, computed from what its containers do: pure, with kubelet's rules and words.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// How a container's process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub exit_code: i32,
    /// `Completed`, `Error`, or `ContainerStatusUnknown` when nobody was there to see it.
    pub reason: String,
    pub message: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
}

/// What a container does now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Activity {
    Waiting { reason: String, message: Option<String> },
    Running { since: Timestamp },
    Ended(Ended),
}

/// One container of the pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ContainerView {
    pub name: String,
    pub activity: Activity,
    /// It runs, and its readiness probe, if it has one, says so too.
    pub ready: bool,
    pub restarts: i32,
    pub last: Option<Ended>,
}

/// What the runner knows of a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct PodView {
    /// Init containers that keep running (sidecars).
    pub sidecars: Vec<ContainerView>,
    pub containers: Vec<ContainerView>,
    /// Addresses from the CNI plugin; empty until the sandbox exists.
    pub addresses: Vec<String>,
    pub host_address: String,
    pub started_at: Option<Timestamp>,
    /// Why the runner will never run this pod: reason and message.
    pub refused: Option<(String, String)>,
}

/// The phase, as kubelet computes it.
pub(super) fn phase(view: &PodView, restart_policy: &str) -> &'static str {
    if view.refused.is_some() {
        return "Failed";
    }
    let all = || view.containers.iter();
    let ended = |c: &ContainerView| match &c.activity {
        Activity::Ended(e) => Some(e.exit_code),
        Activity::Waiting { .. } | Activity::Running { .. } => None,
    };
    let stays = |c: &ContainerView| match (ended(c), restart_policy) {
        (Some(_), "Never") => true,
        (Some(0), "OnFailure") => true,
        (Some(_) | None, _) => false,
    };
    if !view.containers.is_empty() && all().all(stays) {
        return if all().all(|c| ended(c) == Some(0)) { "Succeeded" } else { "Failed" };
    }
    // A container that ran before makes the pod Running, also between two of its runs.
    let began = |c: &ContainerView| !matches!(c.activity, Activity::Waiting { .. }) || c.last.is_some();
    if all().all(began) && !view.containers.is_empty() { "Running" } else { "Pending" }
}

/// The whole status. `old` keeps what others wrote (conditions of readiness gates, scheduling) and transition times.
pub(super) fn compute(pod: &Pod, view: &PodView, now: Timestamp) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let old = pod.status.clone().unwrap_or_default();
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let phase = phase(view, policy);
    let finished = matches!(phase, "Succeeded" | "Failed");
    let sidecars_ready = view.sidecars.iter().all(|c| matches!(c.activity, Activity::Running { .. }));
    let containers_ready = !finished && sidecars_ready && view.containers.iter().all(|c| c.ready);
    let old_conditions = old.conditions.clone().unwrap_or_default();
    let holds = |type_: &str| old_conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
    let unmet: Vec<&str> =
        spec.readiness_gates.iter().flatten().map(|g| g.condition_type.as_str()).filter(|t| !holds(t)).collect();

    let not_ready = if finished { ("PodCompleted", None) } else { ("ContainersNotReady", unready(view)) };
    let ready = match (containers_ready, unmet.is_empty()) {
        (true, true) => ("True", None, None),
        (true, false) => {
            let gates: Vec<String> = unmet
                .iter()
                .map(|g| format!("the status of pod readiness gate \"{g}\" is not \"True\", but False"))
                .collect();
            ("False", Some("ReadinessGatesNotReady"), Some(gates.join(", ")))
        }
        (false, _) => ("False", Some(not_ready.0), not_ready.1.clone()),
    };
    let (containers_status, containers_reason, containers_message) =
        if containers_ready { ("True", None, None) } else { ("False", Some(not_ready.0), not_ready.1) };
    let sandbox = if view.addresses.is_empty() { "False" } else { "True" };
    let wanted = [
        ("PodReadyToStartContainers", sandbox, None, None),
        ("Initialized", "True", None, None),
        ("Ready", ready.0, ready.1, ready.2),
        ("ContainersReady", containers_status, containers_reason, containers_message),
        ("PodScheduled", "True", None, None),
    ];
    let mut conditions: Vec<PodCondition> =
        old_conditions.iter().filter(|c| !wanted.iter().any(|w| w.0 == c.type_)).cloned().collect();
    for (type_, status, reason, message) in wanted {
        let before = old_conditions.iter().find(|c| c.type_ == type_ && c.status == status);
        conditions.push(PodCondition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.map(Into::into),
            message,
            last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
            ..PodCondition::default()
        });
    }
    let first = view.addresses.first().cloned();
    PodStatus {
        phase: Some(phase.into()),
        reason: view.refused.as_ref().map(|(reason, _)| reason.clone()),
        message: view.refused.as_ref().map(|(_, message)| message.clone()),
        conditions: Some(conditions),
        host_ip: Some(view.host_address.clone()),
        host_ips: Some(vec![HostIP { ip: view.host_address.clone() }]),
        pod_ip: first,
        pod_ips: (!view.addresses.is_empty())
            .then(|| view.addresses.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: view.started_at.map(Time),
        container_statuses: Some(statuses(&view.containers, &spec.containers, pod)),
        init_container_statuses: spec.init_containers.as_ref().map(|all| statuses(&view.sidecars, all, pod)),
        qos_class: old.qos_class.or_else(|| Some(qos_class(&spec.containers).into())),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn unready(view: &PodView) -> Option<String> {
    let names: Vec<&str> =
        view.sidecars.iter().chain(&view.containers).filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    Some(format!("containers with unready status: [{}]", names.join(" ")))
}

fn statuses(views: &[ContainerView], containers: &[Container], pod: &Pod) -> Vec<ContainerStatus> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    views
        .iter()
        .map(|view| {
            let image =
                containers.iter().find(|c| c.name == view.name).and_then(|c| c.image.clone()).unwrap_or_default();
            let running = matches!(view.activity, Activity::Running { .. });
            ContainerStatus {
                name: view.name.clone(),
                image: image.clone(),
                image_id: image,
                container_id: Some(format!("ferrovirt://{uid}/{}/{}", view.name, view.restarts)),
                ready: view.ready,
                started: Some(running),
                restart_count: view.restarts,
                state: Some(state(&view.activity)),
                last_state: view.last.as_ref().map(|e| state(&Activity::Ended(e.clone()))),
                ..ContainerStatus::default()
            }
        })
        .collect()
}

fn state(activity: &Activity) -> ApiContainerState {
    let mut state = ApiContainerState::default();
    match activity {
        Activity::Waiting { reason, message } => {
            state.waiting = Some(ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() });
        }
        Activity::Running { since } => state.running = Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
        Activity::Ended(ended) => {
            state.terminated = Some(ContainerStateTerminated {
                exit_code: ended.exit_code,
                reason: Some(ended.reason.clone()),
                message: ended.message.clone(),
                started_at: ended.started_at.map(Time),
                finished_at: Some(Time(ended.finished_at)),
                ..ContainerStateTerminated::default()
            });
        }
    }
    state
}

fn qos_class(containers: &[Container]) -> &'static str {
    let amounts = |c: &Container, limits: bool, name: &str| {
        let resources = c.resources.as_ref()?;
        let map = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() };
        map.and_then(|m| m.get(name)).map(|q| q.0.clone())
    };
    let named = |name| containers.iter().any(|c| amounts(c, false, name).or(amounts(c, true, name)).is_some());
    if !named("cpu") && !named("memory") {
        return "BestEffort";
    }
    let guaranteed = containers.iter().all(|c| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amounts(c, true, name);
            limit.is_some() && amounts(c, false, name).is_none_or(|request| Some(request) == limit)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn view(activity: Activity) -> ContainerView {
        ContainerView {
            name: "compute".into(),
            ready: matches!(activity, Activity::Running { .. }),
            activity,
            restarts: 0,
            last: None,
        }
    }

    fn ended(exit_code: i32) -> Activity {
        Activity::Ended(Ended {
            exit_code,
            reason: "Completed".into(),
            message: None,
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
        })
    }

    fn waiting() -> Activity {
        Activity::Waiting { reason: "ContainerCreating".into(), message: None }
    }

    #[test]
    fn phases_follow_kubelet() {
        let running = || Activity::Running { since: Timestamp::UNIX_EPOCH };
        let mut crashed = view(waiting());
        crashed.last = Some(Ended {
            exit_code: 1,
            reason: "Error".into(),
            message: None,
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
        });
        let cases = [
            (vec![view(waiting())], "Always", "Pending"),
            (vec![view(running())], "Always", "Running"),
            (vec![view(running()), view(waiting())], "Always", "Pending"),
            (vec![view(ended(0))], "OnFailure", "Succeeded"),
            (vec![view(ended(1))], "OnFailure", "Running"),
            (vec![view(ended(1))], "Never", "Failed"),
            (vec![view(ended(0))], "Always", "Running"),
            (vec![crashed], "Always", "Running"),
        ];
        for (containers, policy, expected) in cases {
            let pod = PodView { containers, ..PodView::default() };
            assert_eq!(phase(&pod, policy), expected, "{pod:?} {policy}");
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "compute", "image": "i"}], "readinessGates": [{"conditionType": "g"}]},
            "status": {"conditions": [{"type": "g", "status": "False"}]},
        }))
        .unwrap()
    }

    fn condition(status: &PodStatus, type_: &str) -> String {
        status.conditions.iter().flatten().find(|c| c.type_ == type_).map(|c| c.status.clone()).unwrap_or_default()
    }

    #[test]
    fn readiness_gates_hold_back_ready_but_not_containers_ready() {
        let running = PodView {
            containers: vec![view(Activity::Running { since: Timestamp::UNIX_EPOCH })],
            addresses: vec!["10.0.0.2".into()],
            ..PodView::default()
        };
        let mut pod = pod();
        let status = compute(&pod, &running, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (condition(&status, "Ready"), condition(&status, "ContainersReady")),
            ("False".into(), "True".into())
        );
        assert_eq!(condition(&status, "g"), "False", "a condition of somebody else is kept");
        pod.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "True".into();
        assert_eq!(condition(&compute(&pod, &running, Timestamp::UNIX_EPOCH), "Ready"), "True");
    }

    #[test]
    fn an_unchanged_pod_has_an_unchanged_status() {
        let running = PodView {
            containers: vec![view(Activity::Running { since: Timestamp::UNIX_EPOCH })],
            ..PodView::default()
        };
        let mut pod = pod();
        let first = compute(&pod, &running, Timestamp::UNIX_EPOCH);
        pod.status = Some(first.clone());
        assert_eq!(compute(&pod, &running, Timestamp::from_second(1000).unwrap()), first);
    }
}
