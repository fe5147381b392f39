use super::*;

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a timestamp")
}

fn node(label: Option<&str>, heartbeat: Option<&str>) -> NodeFacts {
    let mut node = json!({"metadata": {"name": "n1", "resourceVersion": "7", "labels": {"zone": "a"}, "annotations": {"note": "x"}}});
    if let Some(label) = label {
        node["metadata"]["labels"]["kubevirt.io/schedulable"] = label.into();
    }
    if let Some(heartbeat) = heartbeat {
        node["metadata"]["annotations"]["kubevirt.io/heartbeat"] = heartbeat.into();
    }
    NodeFacts::of(&serde_json::from_value(node).expect("a node"))
}

fn guest(name: &str) -> ObjectRef {
    let key = ObjectKey::new("ns", name);
    ObjectRef { api_version: "kubevirt.io/v1", kind: "VirtualMachineInstance", key, uid: format!("uid-{name}") }
}

fn plan(node: NodeFacts, guests: &[&str]) -> Plan {
    let guests = guests.iter().map(|name| guest(name)).collect();
    decide(&Observed { node: Arc::new(node), guests, ..Observed::default() }, now())
}

#[test]
fn a_node_is_marked_when_its_agent_missed_its_heartbeats_and_not_before() {
    let after = |seconds| Requeue::After(Duration::from_secs(seconds));
    let cases = [
        ("beat just now", Some("true"), Some(r#""2026-01-01T12:00:00Z""#), false, after(300)),
        ("one beat late", Some("true"), Some(r#""2026-01-01T11:57:00Z""#), false, after(120)),
        ("almost too late", Some("true"), Some(r#""2026-01-01T11:55:01Z""#), false, after(1)),
        ("too late", Some("true"), Some(r#""2026-01-01T11:55:00Z""#), true, Requeue::OnChange),
        ("away for a day", Some("true"), Some(r#""2025-12-31T12:00:00Z""#), true, Requeue::OnChange),
        ("its clock is ahead", Some("true"), Some(r#""2026-01-01T13:00:00Z""#), false, after(300)),
        ("it said so itself", Some("false"), Some(r#""2026-01-01T11:00:00Z""#), false, Requeue::OnChange),
        ("no node of guests", None, Some(r#""2026-01-01T11:00:00Z""#), false, Requeue::OnChange),
        ("never a heartbeat", Some("true"), None, false, Requeue::OnChange),
        ("not a time", Some("true"), Some(r#""yesterday""#), false, Requeue::OnChange),
        ("not as JSON", Some("true"), Some("2026-01-01T11:00:00Z"), false, Requeue::OnChange),
    ];
    for (what, label, heartbeat, marked, requeue) in cases {
        let plan = plan(node(label, heartbeat), &["a"]);
        assert_eq!(!plan.effects.is_empty(), marked, "{what}");
        assert_eq!(plan.requeue, requeue, "{what}");
        assert_eq!((plan.status, plan.events), (None, Vec::new()), "{what}");
    }
}

#[test]
fn guests_may_start_elsewhere_only_by_the_word_of_an_administrator_whom_nothing_contradicts() {
    let with = |taints: &[&str], ready: Option<&str>, heartbeat: Option<&str>| {
        let taints: Vec<_> = taints.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
        let conditions: Vec<_> = ready.iter().map(|word| json!({"type": "Ready", "status": word})).collect();
        let mut node =
            json!({"metadata": {"name": "n1"}, "spec": {"taints": taints}, "status": {"conditions": conditions}});
        if let Some(at) = heartbeat {
            node["metadata"]["annotations"] = json!({"kubevirt.io/heartbeat": format!("\"{at}\"")});
        }
        NodeFacts::of(&serde_json::from_value(node).expect("a node")).fencing(now())
    };
    let (old, long_ago) = (Some("2026-01-01T11:57:30Z"), Some("2025-12-01T12:00:00Z"));
    let unreachable = &["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"][..];
    let off = &["node.kubernetes.io/unreachable", OUT_OF_SERVICE][..];
    let doubtful = |seconds| Fencing::Doubtful(Duration::from_secs(seconds));
    for (what, taints, ready, heartbeat, expected) in [
        ("all is well", &[][..], Some("True"), old, Fencing::None),
        ("silent", unreachable, Some("Unknown"), long_ago, Fencing::None),
        ("its kubelet is ill", unreachable, Some("False"), long_ago, Fencing::None),
        ("tainted, but ready", off, Some("True"), long_ago, Fencing::None),
        ("tainted, its agent lives", off, Some("False"), Some("2026-01-01T11:59:00Z"), doubtful(90)),
        ("tainted, its agent's clock is ahead", off, Some("Unknown"), Some("2026-01-01T12:30:00Z"), doubtful(150)),
        ("tainted, its agent may just live", off, Some("Unknown"), Some("2026-01-01T11:57:31Z"), doubtful(1)),
        ("off", off, Some("Unknown"), old, Fencing::Proven),
        ("off for a month", off, Some("False"), long_ago, Fencing::Proven),
        ("off, conditions never reported", off, None, long_ago, Fencing::Proven),
        ("off, never had an agent", off, Some("Unknown"), None, Fencing::Proven),
    ] {
        assert_eq!(with(taints, ready, heartbeat), expected, "{what}");
    }
    assert_eq!(NodeFacts::default().fencing(now()), Fencing::None, "nothing is known");
}

#[test]
fn a_controller_that_has_just_begun_to_listen_gives_agents_time_to_beat() {
    for (since, marked) in [
        ("2026-01-01T12:00:00Z", None),
        ("2026-01-01T11:57:31Z", None),
        ("2026-01-01T11:57:30Z", Some(())),
        ("2025-01-01T12:00:00Z", Some(())),
    ] {
        let node = Arc::new(node(Some("true"), Some(r#""2026-01-01T10:00:00Z""#)));
        let plan = decide(&Observed { node, guests: vec![], since: since.parse().expect("a timestamp") }, now());
        assert_eq!(plan.effects.first().map(drop), marked, "{since}");
        assert_eq!(plan.requeue == Requeue::OnChange, marked.is_some(), "{since}");
    }
}

#[test]
fn marking_names_the_version_it_was_decided_on_and_nothing_but_the_label() {
    let plan = plan(node(Some("true"), Some(r#""2026-01-01T11:00:00Z""#)), &[]);
    let expected = json!({"metadata": {"resourceVersion": "7", "labels": {"kubevirt.io/schedulable": "false"}}});
    assert_eq!(plan.effects.len(), 1);
    assert_eq!(plan.effects[0].effect, Effect::PatchNode { name: "n1".into(), patch: expected });
}

#[test]
fn guests_of_a_silent_agent_are_told_of_and_not_touched() {
    let plan = plan(node(Some("true"), Some(r#""2026-01-01T11:00:00Z""#)), &["a", "b"]);
    // The one write is to the node.
    assert_eq!(plan.effects.len(), 1);
    assert!(plan.status.is_none());
    let told: Vec<_> = plan.effects[0].done.iter().map(|event| (event.about.key.to_string(), event.reason)).collect();
    let expected = ["/n1", "ns/a", "ns/b"].map(|about| (about.to_owned(), "NodeUnresponsive"));
    assert_eq!(told, expected);
    for event in &plan.effects[0].done {
        assert!(event.message.contains("2026-01-01T11:00:00Z"), "{}", event.message);
    }
}
