//! Recording rules and alerts, under upstream's names: those whose series we serve. One needs kube-state-metrics, and is silent without.
//!
//! Upstream has more, about what we do not measure: migrations, snapshots, file systems and load of guests, pods and nodes as
//! kube-state-metrics sees them. Texts are ours.

use serde_json::{Value, json};

/// One of the programs.
struct Part {
    /// Beginning of its pods' names.
    pod: &'static str,
    /// Its place in names of series.
    series: &'static str,
    /// What it is needed for.
    without: &'static str,
    down: &'static str,
    none_ready: &'static str,
    few_ready: &'static str,
    /// Alert that there are fewer than two, where there should be more.
    few: Option<&'static str>,
    /// Alert that none leads, where one does.
    none_leads: Option<&'static str>,
    errors: &'static str,
}

const API: Part = Part {
    pod: "virt-api",
    series: "virt_api",
    without: "machines cannot be created, changed, started or reached",
    down: "VirtAPIDown",
    none_ready: "NoReadyVirtAPI",
    few_ready: "LowReadyVirtAPICount",
    few: Some("LowVirtAPICount"),
    none_leads: None,
    errors: "VirtApiRESTErrorsBurst",
};
const CONTROLLER: Part = Part {
    pod: "virt-controller",
    series: "virt_controller",
    without: "machines are not started, stopped or reported",
    down: "VirtControllerDown",
    none_ready: "NoReadyVirtController",
    few_ready: "LowReadyVirtControllersCount",
    few: Some("LowVirtControllersCount"),
    none_leads: Some("NoLeadingVirtController"),
    errors: "VirtControllerRESTErrorsBurst",
};
const HANDLER: Part = Part {
    pod: "virt-handler",
    series: "virt_handler",
    without: "guests go on and are neither started, stopped nor reported",
    down: "VirtHandlerDown",
    none_ready: "NoReadyVirtHandler",
    few_ready: "LowReadyVirtHandlerCount",
    few: None,
    none_leads: None,
    errors: "VirtHandlerRESTErrorsBurst",
};
const OPERATOR: Part = Part {
    pod: "virt-operator",
    series: "virt_operator",
    without: "the installation is not repaired, changed or removed, and its certificates are not renewed",
    down: "VirtOperatorDown",
    none_ready: "NoReadyVirtOperator",
    few_ready: "LowReadyVirtOperatorsCount",
    few: Some("LowVirtOperatorCount"),
    none_leads: Some("NoLeadingVirtOperator"),
    errors: "VirtOperatorRESTErrorsBurst",
};
const PARTS: [Part; 4] = [API, CONTROLLER, HANDLER, OPERATOR];

/// Recording rules about machines: name, upstream's older name, expression.
const OF_MACHINES: &[(&str, Option<&str>, &str)] = &[
    (
        "namespace:kubevirt_vm:sum",
        Some("kubevirt_number_of_vms"),
        "sum by (namespace) (count by (name, namespace) (kubevirt_vm_info))",
    ),
    (
        "node:kubevirt_vmi_phase:sum",
        None,
        "sum by (node, phase, os, workload, flavor, instance_type, preference, guest_os_kernel_release, guest_os_machine, guest_os_arch, guest_os_name, guest_os_version_id) (kubevirt_vmi_info)",
    ),
    (
        "vmi:kubevirt_vmi_memory_used_bytes:sum",
        Some("kubevirt_vmi_memory_used_bytes"),
        "sum by (name, namespace) (kubevirt_vmi_memory_available_bytes - kubevirt_vmi_memory_usable_bytes)",
    ),
    (
        "vmi:kubevirt_vmi_memory_available_bytes:sum",
        None,
        "sum by (name, namespace) (kubevirt_vmi_memory_available_bytes)",
    ),
    (
        "vmi:kubevirt_vmi_memory_headroom_ratio:sum",
        None,
        "sum by (name, namespace) (kubevirt_vmi_memory_usable_bytes) / sum by (name, namespace) (kubevirt_vmi_memory_available_bytes)",
    ),
    (
        "vmi:kubevirt_vmi_vcpu:count",
        None,
        "count by (node, namespace, name) (count by (node, namespace, name, id) (kubevirt_vmi_vcpu_seconds_total))",
    ),
    (
        "vmi:kubevirt_vmi_pgmajfaults:rate5m",
        None,
        "sum by (name, namespace) (rate(kubevirt_vmi_memory_pgmajfault_total[5m]))",
    ),
    (
        "vmi:kubevirt_vmi_pgmajfaults:rate30m",
        None,
        "sum by (name, namespace) (rate(kubevirt_vmi_memory_pgmajfault_total[30m]))",
    ),
    (
        "vmi:kubevirt_vmi_swap_traffic_bytes:rate5m",
        None,
        "sum by (name, namespace) (rate(kubevirt_vmi_memory_swap_in_traffic_bytes[5m]) + rate(kubevirt_vmi_memory_swap_out_traffic_bytes[5m]))",
    ),
    (
        "vmi:kubevirt_vmi_swap_traffic_bytes:rate30m",
        None,
        "sum by (name, namespace) (rate(kubevirt_vmi_memory_swap_in_traffic_bytes[30m]) + rate(kubevirt_vmi_memory_swap_out_traffic_bytes[30m]))",
    ),
];

/// The groups of rules, as Prometheus and its operator read them, for an installation in `namespace` whose control plane has that many
/// `replicas`.
pub fn groups(namespace: &str, replicas: u8) -> Value {
    let recorded: Vec<Value> = PARTS.iter().flat_map(|part| recorded(part, namespace)).chain(of_machines()).collect();
    let mut alerts: Vec<Value> = PARTS.iter().flat_map(|part| alerts(part, namespace, replicas)).collect();
    alerts.push(rollout(namespace));
    alerts.extend(alerts_of_machines());
    json!([{"name": "kubevirt.recording.rules", "rules": recorded}, {"name": "kubevirt.alert.rules", "rules": alerts}])
}

fn up(part: &Part) -> String {
    format!("cluster:kubevirt_{}_up:sum", part.series)
}

fn ready(part: &Part) -> String {
    format!("cluster:kubevirt_{}_ready:sum", part.series)
}

fn recorded(part: &Part, namespace: &str) -> Vec<Value> {
    let Part { pod, series, .. } = part;
    // A sum of nothing is nothing, and an alert of it would stay silent.
    let count = |of: &str| format!("sum({of}{{namespace=\"{namespace}\", pod=~\"{pod}-.*\"}}) or vector(0)");
    let (is_up, is_ready) = (count("up"), count(&format!("kubevirt_{series}_ready_status")));
    let mut rules = vec![
        json!({"record": up(part), "expr": is_up}),
        json!({"record": format!("kubevirt_{series}_up"), "expr": is_up}),
        json!({"record": ready(part), "expr": is_ready}),
    ];
    if part.none_leads.is_some() {
        rules.push(json!({"record": format!("kubevirt_{series}_ready"), "expr": is_ready}));
    }
    rules
}

fn of_machines() -> impl Iterator<Item = Value> {
    OF_MACHINES.iter().flat_map(|(name, alias, expr)| {
        std::iter::once(name).chain(alias).map(move |name| json!({"record": name, "expr": expr}))
    })
}

/// How bad it is: for the user of machines, and for who runs the installation.
#[derive(Clone, Copy)]
enum Severity {
    Critical,
    Warning,
    /// Concerns a machine, not the installation.
    OfMachine,
}

fn alert(name: &str, expr: String, lasting: &str, severity: Severity, summary: String, description: String) -> Value {
    let (severity, health) = match severity {
        Severity::Critical => ("critical", "critical"),
        Severity::Warning => ("warning", "warning"),
        Severity::OfMachine => ("warning", "none"),
    };
    json!({
        "alert": name, "expr": expr, "for": lasting,
        "labels": {
            "severity": severity, "operator_health_impact": health,
            "kubernetes_operator_part_of": "kubevirt", "kubernetes_operator_component": "kubevirt"
        },
        "annotations": {"summary": summary, "description": description}
    })
}

fn alerts(part: &Part, namespace: &str, replicas: u8) -> Vec<Value> {
    let Part { pod, series, without, .. } = part;
    let (up, ready) = (up(part), ready(part));
    let look = format!("kubectl -n {namespace} get pods -l kubevirt.io={pod}");
    let mut all = vec![
        alert(
            part.down,
            format!("{up} == 0"),
            "10m",
            Severity::Critical,
            format!("No {pod} is running."),
            format!("Without it {without}. Look at: {look}"),
        ),
        alert(
            part.none_ready,
            format!("{ready} == 0 and {up} > 0"),
            "10m",
            Severity::Critical,
            format!("No {pod} is ready."),
            format!("Without it {without}. Look at: {look}, and its log"),
        ),
        alert(
            part.few_ready,
            format!("{ready} > 0 and {ready} < {up}"),
            "10m",
            Severity::Warning,
            format!("Some of the running {pod} are not ready."),
            format!("Look at: {look}, and the log of those that are not"),
        ),
    ];
    let is_many = part.pod == OPERATOR.pod || replicas > 1;
    if let Some(name) = part.few.filter(|_| is_many) {
        all.push(alert(
            name,
            format!("{up} == 1"),
            "60m",
            Severity::Warning,
            format!("Only one {pod} is running."),
            format!("If it ends too, {without}. Look at: {look}"),
        ));
    }
    if let Some(name) = part.none_leads {
        all.push(alert(
            name,
            format!("sum(kubevirt_{series}_leading_status{{namespace=\"{namespace}\"}}) == 0"),
            "10m",
            Severity::Critical,
            format!("No {pod} leads."),
            format!("Only the one that holds the lease works; without it {without}. Look at: kubectl -n {namespace} get lease {pod}"),
        ));
    }
    let requests = |codes: &str| {
        format!(
            "sum(rate(kubevirt_rest_client_requests_total{{namespace=\"{namespace}\", pod=~\"{pod}-.*\"{codes}}}[5m]))"
        )
    };
    let failed = requests(", code=~\"<error>|4..|5..\"");
    all.push(alert(
        part.errors,
        format!("{failed} / {} >= 0.8", requests("")),
        "5m",
        Severity::Warning,
        format!("Four of five requests of {pod} to the API server fail."),
        format!("It may have lost rights or its way to the API server. Look at: kubectl -n {namespace} logs -l kubevirt.io={pod}"),
    ));
    all
}

/// By kube-state-metrics.
fn rollout(namespace: &str) -> Value {
    let of = |series: &str| {
        format!("kube_daemonset_status_{series}{{namespace=\"{namespace}\", daemonset=\"virt-handler\"}}")
    };
    alert(
        "VirtHandlerDaemonSetRolloutFailing",
        format!("{} - {} != 0", of("desired_number_scheduled"), of("number_ready")),
        "15m",
        Severity::Warning,
        "virt-handler is not ready on every node that should have it.".to_owned(),
        format!(
            "Machines are not managed on those. Look at: kubectl -n {namespace} get pods -o wide -l kubevirt.io=virt-handler"
        ),
    )
}

fn alerts_of_machines() -> Vec<Value> {
    let unhealthy = "sum by (name, namespace, status) (kubevirt_vm_info{status_group=~\"starting|error\"}) > 0";
    let on_node = "sum by (name, namespace) (kubevirt_vmi_info{node!=\"\"})";
    vec![
        alert(
            "VMCannotBeEvicted",
            "kubevirt_vmi_non_evictable > 0".to_owned(),
            "1m",
            Severity::OfMachine,
            "A machine blocks the drain of its node.".to_owned(),
            "{{ $labels.namespace }}/{{ $labels.name }} on {{ $labels.node }} is to be migrated when its node is drained, and cannot be.".to_owned(),
        ),
        alert(
            "VirtualMachineStuckInUnhealthyState",
            format!("{unhealthy} unless on (name, namespace) {on_node}"),
            "10m",
            Severity::OfMachine,
            "A machine does not get to a node.".to_owned(),
            "{{ $labels.namespace }}/{{ $labels.name }} says {{ $labels.status }}. Look at: kubectl -n {{ $labels.namespace }} describe vm,vmi {{ $labels.name }}".to_owned(),
        ),
        alert(
            "VirtualMachineStuckOnNode",
            format!("{unhealthy} and on (name, namespace) {on_node}"),
            "5m",
            Severity::OfMachine,
            "A machine is on a node and does not start.".to_owned(),
            "{{ $labels.namespace }}/{{ $labels.name }} says {{ $labels.status }}. Look at: kubectl -n {{ $labels.namespace }} describe vmi {{ $labels.name }}".to_owned(),
        ),
        alert(
            "KubeVirtVMGuestMemoryAvailableLow",
            "vmi:kubevirt_vmi_memory_headroom_ratio:sum < 0.03".to_owned(),
            "30m",
            Severity::OfMachine,
            "A guest has almost no memory left.".to_owned(),
            "Of the memory of {{ $labels.namespace }}/{{ $labels.name }} {{ $value | humanizePercentage }} can be used. Give it more, or run less in it.".to_owned(),
        ),
        alert(
            "KubeVirtVMGuestMemoryPressure",
            "vmi:kubevirt_vmi_memory_headroom_ratio:sum < 0.05 and on (name, namespace) \
             (vmi:kubevirt_vmi_pgmajfaults:rate5m > 5 or vmi:kubevirt_vmi_swap_traffic_bytes:rate5m > 1048576)"
                .to_owned(),
            "5m",
            Severity::OfMachine,
            "A guest is short of memory and slow because of it.".to_owned(),
            "{{ $labels.namespace }}/{{ $labels.name }} swaps, or reads its programs from disk again and again. Give it more memory, or run less in it.".to_owned(),
        ),
    ]
}
