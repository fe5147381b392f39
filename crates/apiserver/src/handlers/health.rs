//! `/healthz`, `/livez`, `/readyz`: how the server is, as a whole and check by check.

use std::fmt::Write as _;

use axum::response::Response;
use http::{StatusCode, Uri};

use super::request::Params;
use super::respond;
use crate::server::Core;

/// Whether a path is one that tells of the whole, to whoever asks.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/livez" | "/readyz")
}

/// The names of the checks behind a path, and what is wrong where one fails.
fn checks(core: &Core, root: &str) -> Vec<(&'static str, Option<String>)> {
    let mut checks = vec![("ping", None)];
    if root == "readyz" {
        checks.push(("store", core.store.full().map(|full| format!("the store is read-only: {full}"))));
    }
    checks
}

/// The answer to a probe: `ok`, or each check where that is asked for (`?verbose`) or one fails. `?exclude=` leaves one out.
pub(super) fn whole(core: &Core, uri: &Uri) -> Response {
    let root = uri.path().trim_start_matches('/');
    let params = Params::parse(uri).unwrap_or_default();
    let mut unknown: Vec<&str> = params.all("exclude").collect();
    let (mut text, mut failed) = (String::new(), false);
    // Writing to a text does not fail.
    for (name, wrong) in checks(core, root) {
        let _ = if params.all("exclude").any(|excluded| excluded == name) {
            unknown.retain(|excluded| *excluded != name);
            writeln!(text, "[+]{name} excluded: ok")
        } else if let Some(why) = wrong {
            failed = true;
            writeln!(text, "[-]{name} failed: {why}")
        } else {
            writeln!(text, "[+]{name} ok")
        };
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let _ = writeln!(text, "warn: some health checks cannot be excluded: no matches for {}", names.join(","));
    }
    if failed {
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{text}{root} check failed"));
    }
    match params.all("verbose").next() {
        None => respond::text(StatusCode::OK, "ok"),
        Some(_) => respond::text(StatusCode::OK, &format!("{text}{root} check passed\n")),
    }
}

/// The answer about one check (`/readyz/ping`); `None` when there is no such check.
pub(super) fn one(core: &Core, path: &str) -> Option<Response> {
    let (root, name) = path.trim_start_matches('/').split_once('/')?;
    if !is_probe(&format!("/{root}")) {
        return None;
    }
    let (_, wrong) = checks(core, root).into_iter().find(|(known, _)| *known == name)?;
    Some(match wrong {
        None => respond::text(StatusCode::OK, "ok"),
        Some(why) => respond::text(StatusCode::INTERNAL_SERVER_ERROR, &format!("internal server error: {why}\n")),
    })
}
