//! Requests that are answered at once.

use fv_api::meta::common_names::{HANDLER_CLIENT, HANDLER_SERVER};
use fv_stream::agent::{AgentError, AgentQuery, DomainVerb, NodeAgent};
use serde_json::json;

use crate::agent::demo;
use crate::cluster::{Cluster, NODE, until};

#[tokio::test]
async fn requests_reach_the_agent_of_the_node_and_its_answers_come_back() {
    let mut cluster = Cluster::start().await;
    let nodes = cluster.nodes().await;
    for verb in [DomainVerb::Pause, DomainVerb::Unpause, DomainVerb::SoftReboot, DomainVerb::Reset] {
        nodes.act(NODE, &demo(), verb).await.unwrap();
    }
    for query in [AgentQuery::GuestOsInfo, AgentQuery::UserList, AgentQuery::FilesystemList] {
        let answer = nodes.query(NODE, &demo(), query).await.unwrap();
        assert_eq!(answer, json!({"answer": format!("{query:?}")}));
    }
    assert_eq!(nodes.domain_xml(NODE, &demo()).await.unwrap(), "<domain/>");
    let expected = ["Pause", "Unpause", "SoftReboot", "Reset", "GuestOsInfo", "UserList", "FilesystemList", "xml"];
    let expected: Vec<String> = expected.iter().map(|what| format!("n1 default/demo 0b6f4d5e {what}")).collect();
    assert_eq!(*cluster.agent.asked.lock(), expected);
}

#[tokio::test]
async fn refusals_keep_their_meaning_over_the_wire() {
    let mut cluster = Cluster::start().await;
    let nodes = cluster.nodes().await;
    let refusals: [fn() -> AgentError; 5] = [
        || AgentError::NotFound("default/demo".into()),
        || AgentError::Conflict("VMI is not running".into()),
        || AgentError::Busy("Active VNC connection. Request denied.".into()),
        || AgentError::Internal("libvirt is away".into()),
        || AgentError::Unreachable("n1".into()),
    ];
    for refusal in refusals {
        *cluster.agent.refusal.lock() = Some(refusal());
        let error = nodes.act(NODE, &demo(), DomainVerb::Pause).await.unwrap_err();
        assert_eq!(format!("{error:?}"), format!("{:?}", refusal()));
    }
}

/// The text of a failure to reach a node.
async fn unreachable(nodes: &fv_stream::RemoteNodes, node: &str) -> Option<String> {
    match nodes.act(node, &demo(), DomainVerb::Pause).await {
        Err(error @ AgentError::Unreachable(_)) => Some(error.to_string()),
        _ => None,
    }
}

#[tokio::test]
async fn a_handler_that_is_away_is_named_with_the_reason() {
    let mut cluster = Cluster::start().await;
    let nodes = cluster.nodes().await;
    let text = unreachable(&nodes, "n2").await.unwrap();
    assert!(text.contains("no virt-handler pod runs on node n2"), "{text}");
    cluster.add_handler("virt-handler-b", "n3", false).await;
    let named = "has no address yet";
    until(async || unreachable(&nodes, "n3").await.filter(|text| text.contains(named))).await;
    cluster.handler.cancel();
    // While it stops it may also reset a connection that it has not looked at.
    let refused = |text: &String| text.contains("virt-handler at 127.0.0.1:") && text.contains("refused");
    until(async || unreachable(&nodes, NODE).await.filter(refused)).await;
    cluster.remove_handler("virt-handler-a").await;
    let named = "no virt-handler pod runs on node n1";
    until(async || unreachable(&nodes, NODE).await.filter(|text| text.contains(named))).await;
}

#[tokio::test]
async fn another_pod_on_the_node_takes_over() {
    let mut cluster = Cluster::start().await;
    let nodes = cluster.nodes().await;
    cluster.remove_handler("virt-handler-a").await;
    cluster.add_handler("virt-handler-b", NODE, true).await;
    until(async || nodes.act(NODE, &demo(), DomainVerb::Pause).await.ok()).await;
}

#[tokio::test]
async fn only_virt_api_is_served() {
    let mut cluster = Cluster::start().await;
    // A certificate of the right authority with the wrong name: another component's.
    for name in [HANDLER_SERVER, "system:admin"] {
        let nodes = cluster.nodes_as(name).await;
        let error = nodes.act(NODE, &demo(), DomainVerb::Pause).await.unwrap_err().to_string();
        assert!(error.contains("403") && error.contains(HANDLER_CLIENT), "{error}");
        let console = nodes.open(NODE, &demo(), fv_stream::agent::StreamTarget::Console).await;
        assert!(console.err().unwrap().to_string().contains("403"));
    }
    assert!(cluster.agent.asked.lock().is_empty());
}
