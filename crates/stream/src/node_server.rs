//! The node agent as a server: what virt-handler mounts on port 8186.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query as UrlQuery, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, put};
use fv_api::meta::common_names;
use fv_runtime::tls::PeerCertificate;
use http::{StatusCode, header};
use serde::Deserialize;

use crate::agent::{AgentError, AgentQuery, DomainVerb, NodeAgent, StreamTarget, VmiRef};
use crate::relay::{Farewell, relay};
use crate::upgrade::Handshake;
use crate::wire::{CONSOLE, DOMAIN_XML, QUERIES, Query, Refusal, VERBS, VNC};

/// What the routes need.
#[derive(Clone)]
struct Node {
    agent: Arc<dyn NodeAgent>,
    name: Arc<str>,
}

#[derive(Deserialize)]
struct Target {
    namespace: String,
    name: String,
}

/// The routes of the node `name`. Only virt-api is served: the connection must have been accepted by [`fv_runtime::tls::serve`] with
/// client certificates required.
pub fn router(agent: Arc<dyn NodeAgent>, name: &str) -> Router {
    let path = |word: &str| format!("/v1/namespaces/{{namespace}}/virtualmachineinstances/{{name}}/{word}");
    let mut router = Router::new();
    for (word, verb) in VERBS {
        router = router.route(&path(word), put(move |node, target, query| act(node, target, query, verb)));
    }
    for (word, query) in QUERIES {
        router = router.route(&path(word), get(move |node, target, url| ask(node, target, url, query)));
    }
    router
        .route(&path(DOMAIN_XML), get(domain_xml))
        .route(&path(CONSOLE), any(console))
        .route(&path(VNC), any(vnc))
        .layer(from_fn(only_virt_api))
        .with_state(Node { agent, name: name.into() })
}

async fn only_virt_api(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerCertificate>().and_then(PeerCertificate::common_name);
    if peer.as_deref() == Some(common_names::HANDLER_CLIENT) {
        return next.run(request).await;
    }
    tracing::warn!(?peer, "a client that is not virt-api was refused");
    let text = format!("this server is for {} only", common_names::HANDLER_CLIENT);
    (StatusCode::FORBIDDEN, text).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, axum::Json(self)).into_response()
    }
}

type Answer = Result<Response, Refusal>;

fn vmi(target: Target, query: &Query) -> VmiRef {
    VmiRef { namespace: target.namespace, name: target.name, uid: query.uid.clone() }
}

async fn act(
    State(node): State<Node>,
    Path(target): Path<Target>,
    UrlQuery(query): UrlQuery<Query>,
    verb: DomainVerb,
) -> Answer {
    node.agent.act(&node.name, &vmi(target, &query), verb).await?;
    Ok(StatusCode::OK.into_response())
}

async fn ask(
    State(node): State<Node>,
    Path(target): Path<Target>,
    UrlQuery(url): UrlQuery<Query>,
    query: AgentQuery,
) -> Answer {
    Ok(axum::Json(node.agent.query(&node.name, &vmi(target, &url), query).await?).into_response())
}

async fn domain_xml(State(node): State<Node>, Path(target): Path<Target>, UrlQuery(query): UrlQuery<Query>) -> Answer {
    let xml = node.agent.domain_xml(&node.name, &vmi(target, &query)).await?;
    Ok(([(header::CONTENT_TYPE, "application/xml")], xml).into_response())
}

async fn console(
    State(node): State<Node>,
    Path(target): Path<Target>,
    UrlQuery(query): UrlQuery<Query>,
    request: Request,
) -> Answer {
    open(&node, &vmi(target, &query), StreamTarget::Console, request).await
}

async fn vnc(
    State(node): State<Node>,
    Path(target): Path<Target>,
    UrlQuery(query): UrlQuery<Query>,
    request: Request,
) -> Answer {
    let stream = StreamTarget::Vnc { preserve_session: query.preserve_session };
    open(&node, &vmi(target, &query), stream, request).await
}

async fn open(node: &Node, vmi: &VmiRef, target: StreamTarget, mut request: Request) -> Answer {
    let handshake = Handshake::of(&mut request).map_err(|e| AgentError::Internal(e.to_string()))?;
    let guest = node.agent.open(&node.name, vmi, target).await?;
    let response = handshake.response();
    tokio::spawn(async move {
        match handshake.socket().await {
            Ok(socket) => {
                let ended = relay(socket, guest, Farewell::Close).await;
                tracing::debug!(?ended, "a guest stream ended");
            }
            Err(error) => tracing::debug!(%error, "virt-api left before its stream began"),
        }
    });
    Ok(response)
}
