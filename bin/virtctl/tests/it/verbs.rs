use fv_stream::agent::DomainVerb;
use serde_json::json;

use crate::support::World;

const CONFLICT: &str = "Operation cannot be fulfilled on virtualmachine.kubevirt.io \"demo\":";

#[tokio::test(flavor = "multi_thread")]
async fn start_stop_and_restart_speak_as_upstream() {
    let world = World::new().await;
    assert_eq!(
        world.complains(&["start", "demo"]).await,
        "Error starting VirtualMachine virtualmachine.kubevirt.io \"demo\" not found"
    );
    world.add_vm("Halted").await;
    assert_eq!(world.says(&["start", "demo", "--dry-run"]).await, "Dry Run execution\nVM demo was scheduled to start");
    let dry = world.says(&["start", "demo", "--dry-run=true"]).await;
    assert_eq!(dry, "Dry Run execution\nVM demo was scheduled to start");
    assert_eq!(world.says(&["start", "demo"]).await, "VM demo was scheduled to start");
    assert_eq!(
        world.complains(&["start", "demo"]).await,
        format!("Error starting VirtualMachine {CONFLICT} Always does not support manual start requests")
    );
    world.add_vmi(&json!([])).await;
    assert_eq!(
        world.complains(&["start", "demo"]).await,
        format!("Error starting VirtualMachine {CONFLICT} VM is already running")
    );
    assert_eq!(world.says(&["restart", "demo"]).await, "VM demo was scheduled to restart");
    assert_eq!(
        world.complains(&["restart", "demo"]).await,
        "Error restarting VirtualMachine Internal error occurred: unable to complete request: stop/start already underway"
    );
    assert_eq!(world.says(&["stop", "demo"]).await, "VM demo was scheduled to stop");
    assert_eq!(
        world.complains(&["stop", "demo"]).await,
        format!(
            "Error stopping VirtualMachine {CONFLICT} Halted only supports manual stop requests with a shorter graceperiod"
        )
    );
    assert_eq!(
        world.says(&["stop", "demo", "--force=true", "--grace-period=0"]).await,
        "VM demo was scheduled to stop"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_contradict_each_other_are_refused_before_anything_is_sent() {
    let world = World::new().await;
    for (args, text) in [
        (&["stop", "demo", "--force"][..], "Must both use --force=true and set --grace-period."),
        (&["restart", "demo", "--force"], "Must both use --force=true and set --grace-period."),
        (&["restart", "demo", "--force=false", "--grace-period=5"], "Can not set gracePeriod without --force=true"),
        (&["restart", "demo", "--grace-period", "5"], "Can not set gracePeriod without --force=true"),
        (
            &["restart", "demo", "--force", "--grace-period", "5"],
            "Can not set gracePeriod greater than 0 with --force=true",
        ),
        (
            &["port-forward", "demo", "80"],
            "target 'demo' must be type/name or type/name/namespace, for example vmi/myvm",
        ),
        (&["port-forward", "pod/demo", "80"], "unsupported resource type 'pod': use vm or vmi"),
        (&["port-forward", "vmi/demo", "sctp/80"], "protocol 'sctp' of 'sctp/80' is not supported: use tcp or udp"),
    ] {
        assert_eq!(world.complains(args).await, text, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_on_the_guest_speak_as_upstream() {
    let world = World::new().await;
    world.add_vm("Always").await;
    assert_eq!(
        world.complains(&["pause", "vmi", "demo"]).await,
        "Error pausing VirtualMachineInstance demo: virtualmachineinstance.kubevirt.io \"demo\" not found"
    );
    assert!(world.complains(&["pause", "vm", "nobody"]).await.starts_with("Error getting VirtualMachine nobody: "));
    world.add_vmi(&json!([{"type": "AgentConnected", "status": "True"}])).await;
    for (args, said, verb) in [
        (&["pause", "vm", "demo"][..], "VMI demo was scheduled to pause", DomainVerb::Pause),
        (&["pause", "demo"], "VMI demo was scheduled to pause", DomainVerb::Pause),
        (&["soft-reboot", "demo"], "VMI demo was scheduled to soft reboot", DomainVerb::SoftReboot),
        (&["reset", "demo"], "VMI demo was scheduled to reset", DomainVerb::Reset),
    ] {
        assert_eq!(world.says(args).await, said);
        assert_eq!(world.acts.lock().drain(..).collect::<Vec<_>>(), [verb]);
    }
    assert!(world.complains(&["unpause", "vmi", "demo"]).await.ends_with("VMI is not paused"));
    for verb in ["guestosinfo", "userlist", "fslist"] {
        assert!(world.says(&[verb, "demo"]).await.contains("\"hostname\": \"guest\""));
    }
    let version = world.says(&["version"]).await;
    assert!(version.contains("Client Version: ") && version.contains("Server Version: "), "{version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strange_name_reaches_no_other_path() {
    let world = World::new().await;
    world.add_vm("Halted").await;
    for name in ["demo/start?x=", "..", "a b", "ä"] {
        let text = world.complains(&["start", name]).await;
        assert!(text.starts_with("Error starting VirtualMachine "), "{name}: {text}");
    }
    assert_eq!(world.vms().get("demo").await.unwrap().spec.run_strategy.as_deref(), Some("Halted"));
}

#[tokio::test]
async fn expose_says_what_is_missing_and_what_a_server_without_services_offers_instead() {
    let world = World::new().await;
    let error = world.complains(&["expose", "vm", "demo", "--name", "web", "--port", "80"]).await;
    assert!(
        error.contains(r#"error fetching VirtualMachine: virtualmachines.kubevirt.io "demo" not found"#),
        "{error}"
    );
    world.add_vm("Halted").await;
    let error = world.complains(&["expose", "vm", "demo", "--name", "web"]).await;
    assert!(error.contains("couldn't find port via --port flag or introspection"), "{error}");
    let error = world.complains(&["expose", "vm", "demo", "--name", "web", "--port", "80"]).await;
    assert!(error.contains("this server has no Services") && error.contains("virtctl port-forward"), "{error}");
    let error = world.complains(&["expose", "pod", "demo", "--name", "web", "--port", "80"]).await;
    assert!(error.contains("unsupported resource type 'pod'"), "{error}");
}
