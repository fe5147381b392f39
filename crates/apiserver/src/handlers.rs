//! The verbs.

mod apply;
mod body;
mod choose;
mod context;
mod create;
mod delete;
mod duration;
mod eviction;
mod fresh;
mod front;
mod get;
mod health;
mod list;
mod logs;
mod modify;
mod pod_binding;
mod request;
mod respond;
mod review;
mod scale;
mod view;
mod watch;
mod weight;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;

pub(crate) use context::Context;
pub(crate) use create::create_object;
pub(crate) use delete::{DeleteOptions, delete_object};
pub(crate) use front::admit;
pub(crate) use modify::{Part, modify};
pub(crate) use request::{Params, Target, key_of};
pub(crate) use respond::{Format, Shape};

use crate::identity::UserInfo;
use crate::limits::Seat;
use crate::registry::builtin::CREATE_ONLY;
use crate::server::Core;
use crate::status::Status;

/// Answers any request.
pub(crate) async fn serve(core: Arc<Core>, mut request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if health::is_probe(&path) {
        return health::whole(&core, request.uri());
    }
    let Some(user) = request.extensions().get::<UserInfo>().cloned() else {
        return respond::failure(&Status::unauthorized(), &[]);
    };
    let user = match user.impersonated(request.headers_mut()) {
        Ok(user) => user,
        Err(status) => return respond::failure(&status, &[]),
    };
    // For the routers behind this one.
    request.extensions_mut().insert(user.clone());
    if path == "/version" || path == "/version/" {
        return respond::json(StatusCode::OK, &version(&core), &[]);
    }
    if let Some(answer) = health::one(&core, &path) {
        return answer;
    }
    if let Some(other) = core.others.iter().find(|other| other.path == path) {
        return forward(&other.router, request).await;
    }
    for api in &core.aggregated {
        let below = |version: &str| {
            let rest = path.strip_prefix(&format!("/apis/{}/{version}/", api.group));
            rest.is_some_and(|r| !r.is_empty())
        };
        if api.versions.iter().any(|(version, _)| below(version)) {
            return forward(&api.router, request).await;
        }
    }
    if request.method() == Method::GET
        && let Some(response) = view::documents(&core, request.uri(), request.headers())
    {
        return response;
    }
    let Some(target) = Target::parse(&core.registry.tables(), &path) else {
        return nothing_there(&path);
    };
    dispatch(core, user, target, request).await
}

async fn forward(router: &Router, request: Request) -> Response {
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// 404 for a path that is not served. Kubernetes says so with a Status below the core group and with plain text elsewhere.
fn nothing_there(path: &str) -> Response {
    if path.starts_with("/api/") {
        return respond::failure(&Status::no_such_path(), &[]);
    }
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn version(core: &Core) -> serde_json::Value {
    json!({
        "major": core.version.major,
        "minor": core.version.minor,
        "gitVersion": core.version.git_version,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn dispatch(core: Arc<Core>, user: UserInfo, target: Target, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let seat = parts.extensions.remove::<Seat>();
    let params = match Params::parse(&parts.uri) {
        Ok(params) => params,
        Err(status) => return respond::failure(&status, &[]),
    };
    let log = target.subresource == "log";
    let format = match Format::negotiate(&parts.headers) {
        Ok(format) => format,
        // Logs are text whatever the client says it accepts.
        Err(_) if log => Format { shape: Shape::Object, yaml: false },
        Err(status) => return respond::failure(&status, &[]),
    };
    let mut context =
        Context { core, target, params, headers: parts.headers, user, format, warnings: Vec::new(), seat };
    if let Some(warning) = context.target.version_info().and_then(|v| v.deprecation_warning.clone()) {
        context.warn(warning);
    }
    let body = match body::read(&parts.method, body).await {
        Ok(body) => body,
        Err(status) => return respond::failure(&status, &[]),
    };
    if let Err(status) = fresh::wait(&context, &parts.method).await {
        return respond::failure(&status, &context.warnings);
    }
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    // Our own components wait for nobody.
    let heavy = context.seat.is_some() && weight::heavy(&context, &parts.method, body.len());
    let places = context.core.flow.heavy.clone();
    let work = async move {
        // While the body came, or others went first, the definition may have gone or changed.
        if !reads && !context.target.resource.builtin() {
            match Target::parse(&context.core.registry.tables(), parts.uri.path()) {
                Some(target) => context.target = target,
                None => return nothing_there(parts.uri.path()),
            }
        }
        match route(&mut context, &parts.method, body).await {
            Ok(response) => response,
            Err(status) => respond::failure(&status, &context.warnings),
        }
    };
    if heavy {
        return weight::apart(places, work).await;
    }
    if reads {
        return work.await;
    }
    // A write goes on to its end, with all that follows from it, even when the client hangs up meanwhile.
    match tokio::spawn(work).await {
        Ok(response) => response,
        Err(error) => respond::failure(&Status::internal(format!("the request was not completed: {error}")), &[]),
    }
}

async fn route(context: &mut Context, method: &Method, body: bytes::Bytes) -> Result<Response, Status> {
    let target = &context.target;
    let named = !target.name.is_empty();
    let watching = context.params.flag("watch");
    if !target.subresource.is_empty() {
        return subresource(context, method, body).await;
    }
    if target.resource.verbs == CREATE_ONLY {
        return match (method.as_str(), named) {
            ("POST", false) => review::create(context, &body),
            (_, true) => Err(Status::no_such_path()),
            _ => Err(not_allowed(context, method)),
        };
    }
    match (method.as_str(), named) {
        ("GET", true) => get::get(context),
        ("GET", false) if watching => watch::watch(context),
        ("GET", false) => list::list(context),
        // In all namespaces at once one may only look.
        ("POST" | "PUT" | "PATCH" | "DELETE", false) if target.resource.namespaced() && target.namespace.is_empty() => {
            if target.resource.builtin() {
                return Err(Status::method_unknown());
            }
            Ok(respond::text(StatusCode::NOT_FOUND, "404 page not found\n"))
        }
        ("POST", false) => create::create(context, body).await,
        ("PUT", true) => modify::put(context, Part::Main, body).await,
        ("PATCH", true) => modify::patch(context, Part::Main, body).await,
        ("DELETE", true) => delete::delete(context, body).await,
        ("DELETE", false) if target.resource.verbs.contains(&"deletecollection") => {
            delete::delete_collection(context, body).await
        }
        _ => Err(not_allowed(context, method)),
    }
}

async fn subresource(context: &mut Context, method: &Method, body: bytes::Bytes) -> Result<Response, Status> {
    let known = context.target.version_info().and_then(|v| v.subresource(&context.target.subresource));
    let Some(known) = known else {
        if context.target.resource.builtin() {
            return Err(Status::no_such_path());
        }
        return Ok(respond::text(StatusCode::NOT_FOUND, "404 page not found\n"));
    };
    let name = known.name.clone();
    match (name.as_str(), method.as_str()) {
        ("status", "GET") => get::get(context),
        ("status", "PUT") => modify::put(context, Part::Status, body).await,
        ("status", "PATCH") => modify::patch(context, Part::Status, body).await,
        ("finalize", "PUT") => modify::put(context, Part::Finalize, body).await,
        ("eviction", "POST") => eviction::evict(context, body).await,
        ("token", "POST") => Err(review::refuse_token(context)),
        ("binding", "POST") => pod_binding::bind(context, body).await,
        ("log", "GET") => logs::logs(context).await,
        ("scale", "GET") => scale::get(context),
        ("scale", "PUT") => scale::put(context, body).await,
        ("scale", "PATCH") => scale::patch(context, body).await,
        _ => Err(not_allowed(context, method)),
    }
}

fn not_allowed(context: &Context, method: &Method) -> Status {
    if context.target.resource.builtin() {
        return Status::method_unknown();
    }
    let verb = match method.as_str() {
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        other => return Status::new(405, "MethodNotAllowed", format!("method {other} is not supported")),
    };
    Status::method_not_allowed(&context.target.resource.group, &context.target.resource.plural, verb)
}
