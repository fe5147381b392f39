//! What users ask of a running guest.

use fv_hypervisor::fake::Call;
use fv_hypervisor::{DomainState, PauseReason};
use fv_stream::agent::{AgentError, AgentQuery, DomainVerb, NodeAgent, VmiRef};
use serde_json::json;

use crate::support::{NODE, World, until, uuid};

fn conflict(result: Result<(), AgentError>) -> String {
    match result {
        Err(AgentError::Conflict(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pause_and_unpause_are_carried_out_and_told() {
    let world = World::new().await;
    let running = world.start().await;
    let handler = &running.handler;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    assert_eq!(conflict(handler.act(NODE, &vmi, DomainVerb::Unpause).await), "VMI is not paused");
    handler.act(NODE, &vmi, DomainVerb::Pause).await.unwrap();
    // Legal at once, without waiting for the event that will tell.
    assert_eq!(conflict(handler.act(NODE, &vmi, DomainVerb::Pause).await), "VMI is already paused");
    assert_eq!(conflict(handler.act(NODE, &vmi, DomainVerb::SoftReboot).await), "VMI is paused");
    // Whoever has the answer finds the status that goes with it.
    assert_eq!(world.condition(&vmi, "Paused").await.unwrap().1, "PausedByUser");
    handler.act(NODE, &vmi, DomainVerb::Unpause).await.unwrap();
    assert_eq!(world.condition(&vmi, "Paused").await, None);
    handler.act(NODE, &vmi, DomainVerb::SoftReboot).await.unwrap();
    handler.act(NODE, &vmi, DomainVerb::Reset).await.unwrap();
    assert_eq!((world.hypervisor.count(Call::Reboot), world.hypervisor.count(Call::Reset)), (1, 1));
}

#[tokio::test]
async fn disk_error_is_told_and_can_be_resumed_from() {
    let world = World::new().await;
    let running = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    world.hypervisor.set_state(uuid(&vmi), DomainState::Paused(PauseReason::IoError));
    until("the condition", async || world.condition(&vmi, "Paused").await.is_some_and(|c| c.1 == "PausedIOError"))
        .await;
    running.handler.act(NODE, &vmi, DomainVerb::Unpause).await.unwrap();
    until("no condition", async || world.condition(&vmi, "Paused").await.is_none()).await;
}

#[tokio::test]
async fn requests_for_what_is_not_here_are_refused() {
    let world = World::new().await;
    let running = world.start().await;
    let handler = &running.handler;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let stranger = VmiRef { uid: uuid::Uuid::new_v4().to_string(), ..vmi.clone() };
    assert!(matches!(handler.act(NODE, &stranger, DomainVerb::Pause).await, Err(AgentError::NotFound(_))));
    let renamed = VmiRef { name: "other".into(), ..vmi.clone() };
    assert!(matches!(handler.act(NODE, &renamed, DomainVerb::Pause).await, Err(AgentError::NotFound(_))));
    assert!(matches!(handler.act("node2", &vmi, DomainVerb::Pause).await, Err(AgentError::Unreachable(_))));
    world.hypervisor.disconnect("test");
    until("the gate", async || {
        matches!(
            handler.act(NODE, &vmi, DomainVerb::Pause).await,
            Err(AgentError::Conflict(_) | AgentError::Internal(_))
        )
    })
    .await;
}

#[tokio::test]
async fn guest_agent_is_asked_and_missed() {
    let world = World::new().await;
    let running = world.start().await;
    let handler = &running.handler;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    assert!(matches!(handler.query(NODE, &vmi, AgentQuery::UserList).await, Err(AgentError::Conflict(_))));
    assert!(world.condition(&vmi, "AgentConnected").await.is_none());
    let os = json!({"id": "debian", "pretty-name": "Debian", "kernel-release": "6"});
    world.hypervisor.agent_answers("guest-get-osinfo", Some(os));
    world.hypervisor.agent_answers("guest-network-get-interfaces", Some(json!([])));
    world.hypervisor.agent_answers("guest-get-users", Some(json!([{"user": "root", "login-time": 1.5}])));
    world.hypervisor.tell(uuid(&vmi), fv_hypervisor::DomainEventKind::AgentConnected);
    until("the condition", async || world.condition(&vmi, "AgentConnected").await.is_some()).await;
    let status = world.get(&vmi).await.status.unwrap();
    assert_eq!(status.guest_os_info.unwrap().id.as_deref(), Some("debian"));
    let users = handler.query(NODE, &vmi, AgentQuery::UserList).await.unwrap();
    assert_eq!(users["items"][0]["userName"], "root");
    world.hypervisor.tell(uuid(&vmi), fv_hypervisor::DomainEventKind::AgentDisconnected);
    until("no condition", async || world.condition(&vmi, "AgentConnected").await.is_none()).await;
}

#[tokio::test]
async fn document_of_the_domain_is_shown() {
    let world = World::new().await;
    let running = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let xml = running.handler.domain_xml(NODE, &vmi).await.unwrap();
    assert!(xml.contains(&vmi.uid));
}
