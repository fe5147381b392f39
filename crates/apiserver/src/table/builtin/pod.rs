//! `kubectl get pods`: the status column sums up phases, container states and deletion.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, age, age_column, condition, created, list_at, name, name_column, str_at, text_or};

pub(super) fn columns() -> Vec<Column> {
    let column = |name: &str, description: &str, priority| Column::new(name, "string", "", description, priority);
    vec![
        name_column(),
        column("Ready", "Ready containers of all containers.", 0),
        column("Status", "The state of the pod and its containers in one word.", 0),
        column("Restarts", "How often containers were restarted, and when the last time.", 0),
        age_column(),
        column("IP", "Address of the pod.", 1),
        column("Node", "The node the pod runs on.", 1),
        column("Nominated Node", "The node that is being cleared for the pod.", 1),
        column("Readiness Gates", "Conditions that must be true beside the containers' readiness.", 1),
    ]
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let summary = summarise(pod);
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts > 0 => format!("{} ({} ago)", summary.restarts, age(time, now)),
        _ => summary.restarts.to_string(),
    };
    let cells = vec![
        name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(restarts),
        created(pod, now),
        text_or(pod, "/status/podIPs/0/ip", "<none>"),
        text_or(pod, "/spec/nodeName", "<none>"),
        text_or(pod, "/status/nominatedNodeName", "<none>"),
        json!(readiness_gates(pod)),
    ];
    let completed = |reason: &str, message: &str| {
        vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
    };
    let conditions = match str_at(pod, "/status/phase") {
        "Succeeded" => completed("Succeeded", "The pod has completed successfully."),
        "Failed" => completed("Failed", "The pod failed."),
        _ => vec![],
    };
    (cells, conditions)
}

struct Summary {
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
    ready: usize,
    total: usize,
}

fn summarise(pod: &Value) -> Summary {
    let phase = str_at(pod, "/status/phase");
    let own_reason = str_at(pod, "/status/reason");
    let mut reason = if own_reason.is_empty() { phase.to_owned() } else { own_reason.to_owned() };
    let gated = |c: &Value| str_at(c, "/type") == "PodScheduled" && str_at(c, "/reason") == "SchedulingGated";
    if list_at(pod, "/status/conditions").iter().any(gated) {
        reason = "SchedulingGated".into();
    }
    let init = list_at(pod, "/spec/initContainers");
    let sidecar =
        |wanted: &str| init.iter().any(|c| str_at(c, "/name") == wanted && str_at(c, "/restartPolicy") == "Always");
    let sidecars = init.iter().filter(|c| str_at(c, "/restartPolicy") == "Always").count();
    let total = list_at(pod, "/spec/containers").len() + sidecars;

    let mut all = Restarts::default();
    let mut of_sidecars = Restarts::default();
    let mut ready = 0;
    let mut initializing = false;
    for (i, container) in list_at(pod, "/status/initContainerStatuses").iter().enumerate() {
        all.add(container);
        let is_sidecar = sidecar(str_at(container, "/name"));
        if is_sidecar {
            of_sidecars.add(container);
        }
        let terminated = container.pointer("/state/terminated");
        if terminated.is_some_and(|t| exit_code(t) == 0) {
            continue;
        }
        if is_sidecar && container.get("started") == Some(&Value::Bool(true)) {
            ready += usize::from(container.get("ready") == Some(&Value::Bool(true)));
            continue;
        }
        let waiting = str_at(container, "/state/waiting/reason");
        reason = match terminated {
            Some(terminated) => format!("Init:{}", termination(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", init.len()),
        };
        initializing = true;
        break;
    }
    if !initializing || condition(pod, "Initialized") == Some("True") {
        all = of_sidecars;
        let mut running = false;
        let mut failure = None;
        for container in list_at(pod, "/status/containerStatuses").iter().rev() {
            all.add(container);
            let waiting = str_at(container, "/state/waiting/reason");
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if let Some(terminated) = container.pointer("/state/terminated") {
                reason = termination(terminated);
                if exit_code(terminated) != 0 {
                    failure = Some(reason.clone());
                }
            } else if container.get("ready") == Some(&Value::Bool(true))
                && container.pointer("/state/running").is_some()
            {
                running = true;
                ready += 1;
            }
        }
        // A pod of which one container ended well is as its other containers are.
        if reason == "Completed" {
            if running && condition(pod, "Ready") == Some("True") {
                reason = "Running".into();
            } else if let Some(failure) = failure {
                reason = failure;
            } else if running {
                reason = "NotReady".into();
            }
        }
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some_and(|v| !v.is_null()) {
        if own_reason == "NodeLost" {
            reason = "Unknown".into();
        } else if phase != "Succeeded" && phase != "Failed" {
            reason = "Terminating".into();
        }
    }
    Summary { reason, restarts: all.count, last_restart: all.last, ready, total }
}

#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += container.get("restartCount").and_then(Value::as_i64).unwrap_or(0);
        let finished = str_at(container, "/lastState/terminated/finishedAt").parse().ok();
        self.last = self.last.max(finished);
    }
}

fn exit_code(terminated: &Value) -> i64 {
    terminated.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
}

fn termination(terminated: &Value) -> String {
    match (str_at(terminated, "/reason"), terminated.get("signal").and_then(Value::as_i64).unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", exit_code(terminated)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list_at(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates.iter().filter(|g| condition(pod, str_at(g, "/conditionType")) == Some("True")).count();
    format!("{met}/{}", gates.len())
}
