//! Putting the server together, and its front door.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use fv_runtime::rest::Measured;
use serde_json::Value;
use tower::{Layer as _, ServiceExt as _};

use crate::admission::{Admission, AdmitAll};
use crate::handlers;
use crate::identity::UserInfo;
use crate::kinds;
use crate::limits::{Flow, Limits};
use crate::pod_logs::{NoPodLogs, PodLogs};
use crate::registry::{AggregatedGroup, AggregatedResource, Registry};
use crate::status::Status;
use crate::store::Store;

/// An API group served by another component, under `/apis/<group>/<version>`.
#[derive(Debug, Clone)]
pub struct AggregatedApi {
    /// Group name.
    pub group: String,
    /// Versions (preferred first), each with the resources discovery lists.
    pub versions: Vec<(String, Vec<AggregatedResource>)>,
    /// Gets the requests with their full path and the `UserInfo` extension.
    pub router: Router,
}

/// A path outside the API groups that another component serves to whoever is authenticated.
#[derive(Debug, Clone)]
pub(crate) struct OtherPath {
    pub(crate) path: &'static str,
    pub(crate) router: Router,
}

/// What `/version` says.
#[derive(Debug, Clone)]
pub struct VersionInfo {
    /// Major version.
    pub major: String,
    /// Minor version.
    pub minor: String,
    /// `v1.35.4`
    pub git_version: String,
}

impl Default for VersionInfo {
    fn default() -> Self {
        VersionInfo { major: "1".into(), minor: "35".into(), git_version: "v1.35.4".into() }
    }
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A definition handed in by the embedder is not accepted.
    #[error("install CustomResourceDefinition {name}: {status}")]
    Crd {
        /// Its name.
        name: String,
        /// The refusal.
        status: Box<Status>,
    },
    /// A namespace or priority class every cluster has cannot be made.
    #[error("create {resource}/{name}: {status}")]
    Standard {
        /// Plural name of the resource.
        resource: String,
        /// Its name.
        name: String,
        /// The refusal.
        status: Box<Status>,
    },
    /// A stored definition cannot be served.
    #[error("serve stored CustomResourceDefinition {name}: {reason}")]
    Stored {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// The host that requests of in-process clients are counted under.
const IN_PROCESS: &str = "in-process";

/// Collects the parts of a server.
pub struct ApiServerBuilder {
    store: Store,
    admission: Arc<dyn Admission>,
    crds: Vec<Value>,
    pod_logs: Arc<dyn PodLogs>,
    aggregated: Vec<AggregatedApi>,
    others: Vec<OtherPath>,
    version: VersionInfo,
    limits: Limits,
}

impl ApiServerBuilder {
    /// A server over a store.
    pub fn new(store: Store) -> Self {
        ApiServerBuilder {
            store,
            admission: Arc::new(AdmitAll),
            crds: Vec::new(),
            pod_logs: Arc::new(NoPodLogs),
            aggregated: Vec::new(),
            others: Vec::new(),
            version: VersionInfo::default(),
            limits: Limits::default(),
        }
    }

    /// Decides about writes.
    pub fn admission(mut self, admission: Arc<dyn Admission>) -> Self {
        self.admission = admission;
        self
    }

    /// A CustomResourceDefinition (as JSON) which is created, or brought up to date, at the start.
    pub fn crd(mut self, definition: Value) -> Self {
        self.crds.push(definition);
        self
    }

    /// Where `pods/log` comes from.
    pub fn pod_logs(mut self, pod_logs: Arc<dyn PodLogs>) -> Self {
        self.pod_logs = pod_logs;
        self
    }

    /// Mounts another component's API group.
    pub fn aggregate(mut self, api: AggregatedApi) -> Self {
        self.aggregated.push(api);
        self
    }

    /// Has requests for `path`, from whoever is authenticated, answered by `router`.
    pub fn path(mut self, path: &'static str, router: Router) -> Self {
        self.others.push(OtherPath { path, router });
        self
    }

    /// What `/version` says.
    pub fn version(mut self, version: VersionInfo) -> Self {
        self.version = version;
        self
    }

    /// What clients outside the process may ask for.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes the standard namespaces, installs the definitions and returns the server.
    pub async fn build(self) -> Result<ApiServer, StartError> {
        let groups = self
            .aggregated
            .iter()
            .map(|api| AggregatedGroup { group: api.group.clone(), versions: api.versions.clone() })
            .collect();
        let core = Arc::new(Core {
            store: self.store,
            registry: Registry::new(groups),
            admission: self.admission,
            pod_logs: self.pod_logs,
            aggregated: self.aggregated,
            others: self.others,
            version: self.version,
            definitions: tokio::sync::Mutex::new(()),
            event_sweep: kinds::Sweep::default(),
            flow: Flow::new(&self.limits),
        });
        kinds::bootstrap::standard(&core).await?;
        kinds::bootstrap::definitions(&core, self.crds).await?;
        Ok(ApiServer { core })
    }
}

impl std::fmt::Debug for ApiServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServerBuilder").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Everything handlers share.
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) pod_logs: Arc<dyn PodLogs>,
    pub(crate) aggregated: Vec<AggregatedApi>,
    pub(crate) others: Vec<OtherPath>,
    pub(crate) version: VersionInfo,
    /// Held while the registry is brought in line with the stored definitions.
    pub(crate) definitions: tokio::sync::Mutex<()>,
    pub(crate) event_sweep: kinds::Sweep,
    pub(crate) flow: Flow,
}

/// The server; clones share it.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Core>,
}

impl ApiServer {
    /// The service for clients outside the process, within [`Limits`]: every request must carry a [`UserInfo`] extension.
    pub fn router(&self) -> Router {
        Router::new().fallback(admit).with_state(self.core.clone())
    }

    /// A client in process, without a socket, acting as this user. The [`Limits`] do not concern it.
    pub fn client_as(&self, user: UserInfo) -> kube::Client {
        self.client_in("default", user)
    }

    /// As [`client_as`](Self::client_as), with another default namespace.
    pub fn client_in(&self, namespace: &str, user: UserInfo) -> kube::Client {
        // The name by which the client owns what it writes.
        let agent = http::HeaderValue::from_str(&user.username).ok();
        let service = axum::Extension(user).layer(Router::new().fallback(serve).with_state(self.core.clone()));
        let service = Measured { host: IN_PROCESS.to_owned() }.layer(service);
        let service = service.map_request(move |mut request: http::Request<kube::client::Body>| {
            if let (Some(agent), None) = (&agent, request.headers().get(http::header::USER_AGENT)) {
                request.headers_mut().insert(http::header::USER_AGENT, agent.clone());
            }
            request.map(Body::new)
        });
        kube::Client::new(service, namespace)
    }

    /// The store beneath.
    pub fn store(&self) -> &Store {
        &self.core.store
    }

    /// What is served.
    pub fn registry(&self) -> &Registry {
        &self.core.registry
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("store", &self.core.store).finish_non_exhaustive()
    }
}

async fn admit(State(core): State<Arc<Core>>, request: Request) -> Response {
    handlers::admit(core, request).await
}

async fn serve(State(core): State<Arc<Core>>, request: Request) -> Response {
    handlers::serve(core, request).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Method, Request, StatusCode};
    use http_body_util::BodyExt as _;
    use serde_json::json;
    use tower::ServiceExt as _;

    use super::*;

    async fn send(server: &ApiServer, method: Method, path: &str, body: &Value) -> StatusCode {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let mut request = request.body(Body::from(body.to_string())).unwrap();
        request.extensions_mut().insert(UserInfo::admin("test"));
        server.router().oneshot(request).await.unwrap().status()
    }

    #[tokio::test(start_paused = true)]
    async fn one_small_object_among_many_is_light_work_and_all_of_them_are_heavy() {
        let server = crate::ApiServerBuilder::new(Store::memory()).build().await.unwrap();
        let path = "/api/v1/namespaces/default/configmaps";
        let map = |name: String| json!({"metadata": {"name": name}, "data": {"k": "v"}});
        for n in 0..300 {
            assert_eq!(send(&server, Method::POST, path, &map(format!("m{n}"))).await, StatusCode::CREATED);
        }
        let places = &server.core.flow.heavy;
        let _all = places.acquire_many(u32::try_from(places.available_permits()).unwrap()).await.unwrap();
        assert_eq!(send(&server, Method::POST, path, &map("another".into())).await, StatusCode::CREATED);
        let named = format!("{path}/m1");
        assert_eq!(send(&server, Method::PUT, &named, &map("m1".into())).await, StatusCode::OK);
        assert_eq!(send(&server, Method::GET, &named, &json!({})).await, StatusCode::OK);
        assert_eq!(send(&server, Method::GET, path, &json!({})).await, StatusCode::OK);
        assert_eq!(send(&server, Method::DELETE, &named, &json!({})).await, StatusCode::OK);
        assert_eq!(send(&server, Method::DELETE, path, &json!({})).await, StatusCode::GATEWAY_TIMEOUT);
    }

    #[tokio::test]
    async fn a_long_list_gives_way_to_other_tasks_piece_by_piece() {
        let server = crate::ApiServerBuilder::new(Store::memory()).build().await.unwrap();
        let path = "/api/v1/namespaces/default/configmaps";
        for n in 0..100 {
            let map = json!({"metadata": {"name": format!("m{n}")}, "data": {"k": "v".repeat(8 << 10)}});
            assert_eq!(send(&server, Method::POST, path, &map).await, StatusCode::CREATED);
        }
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(UserInfo::admin("test"));
        let mut body = server.router().oneshot(request).await.unwrap().into_body();
        let turns = Arc::new(AtomicUsize::new(0));
        let others = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                others.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut pieces = 0;
        while let Some(piece) = body.frame().await {
            piece.unwrap();
            pieces += 1;
        }
        other.abort();
        assert!(pieces > 10, "{pieces} pieces");
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns >= pieces, "another task had {turns} turns during {pieces} pieces");
    }

    #[tokio::test]
    async fn of_two_definitions_with_one_name_that_a_crash_left_established_one_is_served() {
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let definition = |plural: &str, status: Value| {
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.test.dev"), "uid": plural, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {
                    "group": "test.dev", "scope": "Cluster", "conversion": {"strategy": "None"},
                    "names": {"plural": plural, "singular": plural, "kind": "Thing", "listKind": "ThingList"},
                    "versions": [{"name": "v1", "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
                },
                "status": status,
            })
        };
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "x", "message": "x"});
        let accepted =
            json!({"conditions": [condition("NamesAccepted"), condition("Established")], "storedVersions": ["v1"]});
        let store = Store::memory();
        for plural in ["ones", "twos"] {
            let object = definition(plural, accepted.clone());
            let write = crate::store::Write {
                table: "apiextensions.k8s.io/customresourcedefinitions".into(),
                key: format!("{plural}.test.dev").into(),
                expect: crate::store::Expect::Absent,
                action: crate::store::Action::Put(crate::store::Encoded::new(&object)),
            };
            store.write(write).await.unwrap();
        }
        let server = crate::ApiServerBuilder::new(store).build().await.unwrap();
        let mut request = Request::get(definitions).body(Body::empty()).unwrap();
        request.extensions_mut().insert(UserInfo::admin("test"));
        let body = server.router().oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let list: Value = serde_json::from_slice(&body).unwrap();
        let established: Vec<bool> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| {
                let conditions = object["status"]["conditions"].as_array().unwrap();
                conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
            })
            .collect();
        assert_eq!(established, [true, false], "{list:#}");
        assert_eq!(send(&server, Method::GET, "/apis/test.dev/v1/ones", &json!({})).await, StatusCode::OK);
        assert_eq!(send(&server, Method::GET, "/apis/test.dev/v1/twos", &json!({})).await, StatusCode::NOT_FOUND);
    }
}
