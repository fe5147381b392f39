use fv_stream::agent::{AgentError, DomainVerb};
use http::Method;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{BASE, World, call};

const VM: &str = "Operation cannot be fulfilled on virtualmachine.kubevirt.io \"demo\": ";
const VMI: &str = "Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io \"demo\": ";

#[tokio::test(flavor = "multi_thread")]
async fn accepted_requests_are_202_with_an_empty_body_and_take_effect() {
    let world = World::new().await;
    world.add_vm("demo", "Halted", false).await;
    let dry = world.put("virtualmachines/demo/start", r#"{"dryRun": ["All"]}"#).await;
    assert_eq!((dry.code, dry.text.as_str()), (202, ""));
    assert_eq!(world.vms().get("demo").await.unwrap().spec.run_strategy.as_deref(), Some("Halted"));
    for body in ["{}", ""] {
        let answer = world.put("virtualmachines/demo/start", body).await;
        if body == "{}" {
            assert_eq!((answer.code, answer.text.as_str()), (202, ""));
        } else {
            assert_eq!(answer.refusal(409, "Conflict"), format!("{VM}Always does not support manual start requests"));
        }
    }
    assert_eq!(world.vms().get("demo").await.unwrap().spec.run_strategy.as_deref(), Some("Always"));
    world.add_vmi("demo", json!({})).await;
    let restart = world.put("virtualmachines/demo/restart", "gracePeriodSeconds: 0\n").await;
    assert_eq!((restart.code, restart.text.as_str()), (202, ""));
    assert_eq!(world.vmis().get("demo").await.unwrap().spec.termination_grace_period_seconds, Some(1));
    let requests = world.vms().get("demo").await.unwrap().status.unwrap().state_change_requests;
    assert_eq!(requests.iter().map(|r| r.action.as_str()).collect::<Vec<_>>(), ["Stop", "Start"]);
    let again = world.put("virtualmachines/demo/restart", "{}").await;
    assert_eq!(
        again.refusal(500, "InternalError"),
        "Internal error occurred: unable to complete request: stop/start already underway"
    );
    let stop = world.put("virtualmachines/demo/stop", r#"{"gracePeriod": 5}"#).await;
    assert_eq!((stop.code, stop.text.as_str()), (202, ""));
    assert_eq!(world.vms().get("demo").await.unwrap().spec.run_strategy.as_deref(), Some("Halted"));
    assert_eq!(world.vmis().get("demo").await.unwrap().spec.termination_grace_period_seconds, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_upstreams_codes_and_texts() {
    let world = World::new().await;
    let missing = world.put("virtualmachines/demo/start", "").await;
    assert_eq!(missing.refusal(404, "NotFound"), "virtualmachine.kubevirt.io \"demo\" not found");
    let missing = world.put("virtualmachineinstances/demo/pause", "").await;
    assert_eq!(missing.refusal(404, "NotFound"), "virtualmachineinstance.kubevirt.io \"demo\" not found");
    world.add_vm("demo", "Halted", false).await;
    let cases = [
        ("stop", "", 409, format!("{VM}VM is not running")),
        ("restart", "", 409, format!("{VM}RunStategy Halted does not support manual restart requests")),
        (
            "restart",
            r#"{"gracePeriodSeconds": 3}"#,
            400,
            "For force restart, only gracePeriod=0 is supported for now".into(),
        ),
    ];
    for (verb, body, code, text) in cases {
        let answer = world.put(&format!("virtualmachines/demo/{verb}"), body).await;
        assert_eq!(answer.refusal(code, if code == 400 { "BadRequest" } else { "Conflict" }), text);
    }
    for verb in ["start", "stop", "restart"] {
        for body in
            ["[", r#"{"dryRun": "All"}"#, r#"{"gracePeriod": "long", "gracePeriodSeconds": "long", "paused": "x"}"#]
        {
            let answer = world.put(&format!("virtualmachines/demo/{verb}"), body).await;
            let text = answer.refusal(400, "BadRequest");
            assert!(text.starts_with("Can not unmarshal Request body to struct, error: "), "{verb} {body}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_on_the_guest_are_200_with_an_empty_body() {
    let world = World::new().await;
    world.add_vmi("demo", json!({})).await;
    let paused = json!({"status": {"conditions": [{"type": "Paused", "status": "True"}]}});
    world.add_vmi("asleep", paused).await;
    world.add_vmi("early", json!({"status": {"phase": "Scheduled"}})).await;
    let cases = [
        ("demo", "pause", DomainVerb::Pause),
        ("asleep", "unpause", DomainVerb::Unpause),
        ("demo", "softreboot", DomainVerb::SoftReboot),
        ("demo", "reset", DomainVerb::Reset),
    ];
    for (name, verb, expected) in cases {
        let sub = format!("virtualmachineinstances/{name}/{verb}");
        if verb.ends_with("pause") {
            assert_eq!(world.put(&sub, r#"{"dryRun": ["All"]}"#).await.code, 200);
            assert!(world.agent.acts.lock().is_empty(), "a dry run does nothing");
        }
        let answer = world.put(&sub, "").await;
        assert_eq!((answer.code, answer.text.as_str()), (200, ""), "{verb}");
        assert_eq!(world.agent.acts.lock().drain(..).collect::<Vec<_>>(), [(format!("n1/default/{name}"), expected)]);
        let early = world.put(&format!("virtualmachineinstances/early/{verb}"), "").await;
        assert!(early.refusal(409, "Conflict").ends_with("VMI is not running"));
    }
    assert_eq!(
        world.put("virtualmachineinstances/demo/unpause", "").await.refusal(409, "Conflict"),
        format!("{VMI}VMI is not paused")
    );
    let refusals = [
        (AgentError::Conflict("VMI is rebooting".into()), 409, "Conflict", format!("{VMI}VMI is rebooting")),
        (
            AgentError::Internal("libvirt: timed out".into()),
            500,
            "InternalError",
            "Internal error occurred: libvirt: timed out".into(),
        ),
        (
            AgentError::Unreachable("n1".into()),
            500,
            "InternalError",
            "Internal error occurred: node n1 cannot be reached".into(),
        ),
        (
            AgentError::NotFound("demo".into()),
            404,
            "NotFound",
            "virtualmachineinstance.kubevirt.io \"demo\" not found".into(),
        ),
    ];
    for (error, code, reason, text) in refusals {
        *world.agent.refusal.lock() = Some(error);
        assert_eq!(world.put("virtualmachineinstances/demo/pause", "").await.refusal(code, reason), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_agent_answers_or_is_said_to_be_missing() {
    let world = World::new().await;
    world.add_vmi("demo", json!({})).await;
    world.add_vmi("tools", json!({"status": {"conditions": [{"type": "AgentConnected", "status": "True"}]}})).await;
    for (sub, asked) in [("guestosinfo", "GuestOsInfo"), ("userlist", "UserList"), ("filesystemlist", "FilesystemList")]
    {
        let none = world.get(&format!("virtualmachineinstances/demo/{sub}")).await;
        assert_eq!(none.refusal(404, "NotFound"), "demo: VMI does not have guest agent connected");
        let answer = world.get(&format!("virtualmachineinstances/tools/{sub}")).await;
        assert_eq!((answer.code, answer.json()["asked"].as_str()), (200, Some(asked)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_unknown_paths_and_wrong_methods_are_told_apart() {
    let world = World::new().await;
    world.add_vm("demo", "Halted", false).await;
    let path = format!("{BASE}/namespaces/default/virtualmachines/demo/start");
    assert_eq!(call(&world.anonymous, Method::PUT, &path, "").await.refusal(401, "Unauthorized"), "Unauthorized");
    assert_eq!(world.vms().get("demo").await.unwrap().spec.run_strategy.as_deref(), Some("Halted"));
    let text = world.put("virtualmachines/demo/explode", "").await.refusal(404, "NotFound");
    assert!(text.contains("virtualmachines/demo/explode"), "{text}");
    let text = world.call(Method::POST, &path, "").await.refusal(405, "MethodNotAllowed");
    assert!(text.contains("does not allow this method"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_serve_the_same_and_say_what_they_are() {
    let world = World::new().await;
    for api_version in ["v1", "v1alpha3"] {
        let base = format!("/apis/subresources.kubevirt.io/{api_version}");
        let version = world.call(Method::GET, &format!("{base}/version"), "").await.json();
        let git = version["gitVersion"].as_str().unwrap();
        assert!(git.starts_with('v') && git.contains("+ferrovirt."), "{git}");
        assert_eq!(world.call(Method::GET, &format!("{base}/healthz"), "").await.code, 200);
        let list = world.call(Method::GET, &base, "").await.json();
        let names: Vec<&str> =
            list["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
        assert_eq!(names, fv_virt_api::resources::NAMES);
    }
    let group = world.call(Method::GET, "/apis/subresources.kubevirt.io", "").await.json();
    assert_eq!((group["kind"].as_str(), group["name"].as_str()), (Some("APIGroup"), Some("subresources.kubevirt.io")));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_succeed_beside_writers_that_never_pause() {
    let world = World::new().await;
    world.add_vm("demo", "Manual", true).await;
    world.add_vmi("demo", json!({})).await;
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let vms = world.vms();
            tokio::spawn(async move {
                for count in 0.. {
                    let patch = json!({"metadata": {"annotations": {format!("w{writer}"): count.to_string()}}});
                    vms.patch("demo", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
                    // As busy as controllers get, not as busy as a loop can be.
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for _ in 0..10 {
        let answer = world.put("virtualmachines/demo/stop", "").await;
        assert_eq!(answer.code, 202, "{}", answer.text);
    }
    for writer in writers {
        assert!(!writer.is_finished());
        writer.abort();
    }
    let vm = world.vms().get("demo").await.unwrap();
    assert_eq!(vm.status.unwrap().state_change_requests.len(), 1);
    assert_eq!(vm.metadata.annotations.unwrap().len(), 3, "nobody's write was lost");
}
