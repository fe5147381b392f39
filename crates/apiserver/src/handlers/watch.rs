//! `watch`: a stream of changes, one JSON document a line.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::choose::{Filter, invalid_option};
use super::respond::{self, Shape};
use super::{Context, view};
use crate::codec;
use crate::meta::MetaExt as _;
use crate::status::Status;
use crate::store::{Change, Event, Gone, Object, Watcher};

/// How often a quiet watch is told how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Events read from the history at a time.
const BATCH: usize = 64;
/// A watch ends after about this long when the client names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A client's wish is honoured up to this, which keeps the arithmetic of clocks safe.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3600);

const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Where a watch begins.
enum Start {
    /// After a revision the client knows.
    After(u64),
    /// With everything there is, as additions; then (for streaming lists) a bookmark which says so.
    Everything { announce: bool },
}

pub(super) fn watch(context: &mut Context) -> Result<Response, Status> {
    let filter = Filter::parse(context)?;
    let target = context.target.clone();
    let prefix = target.prefix();
    let start = start(context)?;
    let timeout = match context.params.number::<u64>("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds).min(LONGEST_TIMEOUT),
        _ => DEFAULT_TIMEOUT + Duration::from_secs(u64::from(rand::random::<u16>()) % 1800),
    };
    let bookmarks = context.params.flag("allowWatchBookmarks");
    let store = &context.core.store;
    let table = &target.resource.storage;
    let opened = match start {
        Start::After(after) => store.watch(table, after).map(|watcher| (None, watcher, false)),
        Start::Everything { announce } => {
            store.list_and_watch(table, &prefix).map(|(listing, watcher)| (Some(listing), watcher, announce))
        }
    };
    let (listing, watcher, announce) = match opened {
        Ok(opened) => opened,
        Err(gone) => return Ok(streaming(context, Body::from(error_line(&too_old(gone))))),
    };
    let now = Instant::now();
    let withdrawn =
        target.version_info().filter(|_| !target.resource.builtin()).map(|version| version.withdrawn.clone());
    let mut feed = Feed {
        withdrawn: withdrawn.map(|token| Box::pin(token.cancelled_owned())),
        view: View { context: light(context), columns_sent: false },
        filter,
        prefix,
        initial: VecDeque::new(),
        announce: None,
        watcher,
        ready: VecDeque::new(),
        bookmarks,
        deadline: now + timeout,
        alarm: Box::pin(tokio::time::sleep_until(next_alarm(bookmarks, now, now + timeout))),
        last_bookmark: 0,
        finished: false,
    };
    if let Some(listing) = listing {
        feed.announce = (announce && bookmarks).then_some(listing.revision);
        feed.initial = listing.objects.into();
    }
    // In one place: an event moves nothing but what it tells.
    let body = Body::from_stream(stream::unfold(Box::new(feed), |mut feed| async move {
        let line = feed.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(line), feed))
    }));
    Ok(streaming(context, body))
}

/// A context for the life of the stream, without what only the request needed.
fn light(context: &Context) -> Context {
    Context {
        core: context.core.clone(),
        target: context.target.clone(),
        params: context.params.clone(),
        headers: http::HeaderMap::new(),
        user: context.user.clone(),
        format: context.format,
        warnings: Vec::new(),
        seat: context.seat.clone(),
    }
}

fn start(context: &Context) -> Result<Start, Status> {
    let params = &context.params;
    let matching = params.get("resourceVersionMatch");
    let version = match params.get("resourceVersion") {
        "" => 0,
        text => text.parse::<u64>().map_err(|e| {
            let detail = format!("Invalid value: {text:?}: {e}");
            Status::invalid(
                "meta.k8s.io",
                "ListOptions",
                "",
                vec![crate::status::Cause::new("FieldValueInvalid", detail, "resourceVersion")],
            )
        })?,
    };
    if params.has("continue") {
        return Err(Status::bad_request("a watch cannot go on from a continue token"));
    }
    if params.has("sendInitialEvents") {
        if matching != "NotOlderThan" {
            let detail = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(invalid_option("resourceVersionMatch", detail));
        }
        if params.flag("sendInitialEvents") {
            return Ok(Start::Everything { announce: true });
        }
    } else if !matching.is_empty() {
        let detail = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return Err(invalid_option("resourceVersionMatch", detail));
    }
    let current = context.core.store.revision();
    Ok(match version {
        0 if params.has("sendInitialEvents") => Start::After(current),
        0 => Start::Everything { announce: false },
        // A revision from another life of this store: the client has to list again.
        version if version > current => Start::After(0),
        version => Start::After(version),
    })
}

fn streaming(context: &Context, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    respond::add_warnings(headers, &context.warnings);
    response
}

fn too_old(gone: Gone) -> Status {
    Status::too_old(gone.requested, gone.oldest)
}

fn error_line(status: &Status) -> Bytes {
    line("ERROR", status.to_json().to_string().as_bytes())
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    // Of the very size: room that is left would have to be accounted for, in memory of its own.
    [b"{\"type\":\"", kind.as_bytes(), b"\",\"object\":", object, b"}\n"].concat().into()
}

/// Produces the lines of one watch. It holds at most one batch of events; a client that does not read keeps it waiting, and
/// when the history has moved on meanwhile the watch ends with 410.
struct Feed {
    view: View,
    filter: Filter,
    prefix: String,
    /// Objects that were there at the beginning and are still to be shown.
    initial: VecDeque<Arc<Object>>,
    /// Revision of a streaming list whose end is still to be told.
    announce: Option<u64>,
    watcher: Watcher,
    ready: VecDeque<Bytes>,
    bookmarks: bool,
    deadline: Instant,
    /// The time of the next bookmark, or the end. It stays set while events pass: with many watches, setting it anew for each event
    /// would be much of the work.
    alarm: Pin<Box<Sleep>>,
    /// The end of a custom resource.
    withdrawn: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    last_bookmark: u64,
    finished: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        let mut passed = 0_usize;
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.finished {
                return None;
            }
            if let Some(object) = self.initial.pop_front() {
                // Passing by many objects that are not selected must not keep the processor from others.
                passed += 1;
                if passed.is_multiple_of(BATCH) {
                    tokio::task::yield_now().await;
                }
                if let Err(status) = self.existing(&object) {
                    self.end(&status);
                }
                continue;
            }
            if let Some(revision) = self.announce.take() {
                return Some(self.view.bookmark(revision, true));
            }
            match self.watcher.take(BATCH) {
                Ok(events) if events.is_empty() => self.wait().await,
                Ok(events) => {
                    for event in &events {
                        if let Err(status) = self.push(event) {
                            self.end(&status);
                            break;
                        }
                    }
                    if self.ready.is_empty() {
                        tokio::task::yield_now().await;
                    }
                }
                Err(gone) => self.end(&too_old(gone)),
            }
        }
    }

    /// Shows an object that was there when the watch began. They are rendered one by one, as the client reads.
    fn existing(&mut self, object: &Arc<Object>) -> Result<(), Status> {
        if self.selects(object)? {
            let line = self.view.line("ADDED", object)?;
            self.ready.push_back(line);
        }
        Ok(())
    }

    fn end(&mut self, status: &Status) {
        self.ready.push_back(error_line(status));
        self.finished = true;
    }

    /// Waits for a change, the time of a bookmark, or the end.
    async fn wait(&mut self) {
        let withdrawn = async {
            match &mut self.withdrawn {
                Some(withdrawn) => withdrawn.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            alive = self.watcher.changed() => self.finished |= !alive,
            () = self.alarm.as_mut() => {
                self.finished |= self.alarm.deadline() >= self.deadline;
                self.alarm.as_mut().reset(next_alarm(self.bookmarks, Instant::now(), self.deadline));
                self.bookmark();
            }
            // The deletion of the last objects has been told.
            () = withdrawn => self.finished = true,
        }
    }

    /// Tells how far the watch has come, if that is news.
    fn bookmark(&mut self) {
        let position = self.watcher.position();
        if self.bookmarks && position > self.last_bookmark {
            self.last_bookmark = position;
            let line = self.view.bookmark(position, false);
            self.ready.push_back(line);
        }
    }

    fn selects(&self, object: &Object) -> Result<bool, Status> {
        Ok(object.key.starts_with(&self.prefix)
            && (self.filter.is_everything() || self.filter.matches(&self.view.context.target, object)?))
    }

    /// What a change means to a client that sees only what its selectors choose.
    fn push(&mut self, event: &Event) -> Result<(), Status> {
        let before = match &event.previous {
            Some(previous) => self.selects(previous)?,
            None => false,
        };
        let after = event.change != Change::Deleted && self.selects(&event.object)?;
        let line = match (before, after) {
            (false, false) => return Ok(()),
            (false, true) => self.view.line("ADDED", &event.object)?,
            (true, true) => self.view.line("MODIFIED", &event.object)?,
            (true, false) if event.change == Change::Deleted => self.view.line("DELETED", &event.object)?,
            (true, false) => match &event.previous {
                Some(previous) => self.view.left(previous, event.revision)?,
                None => return Ok(()),
            },
        };
        self.ready.push_back(line);
        Ok(())
    }
}

/// When a watch that waits has something to do by itself.
fn next_alarm(bookmarks: bool, now: Instant, deadline: Instant) -> Instant {
    if bookmarks { deadline.min(now + BOOKMARK_EVERY) } else { deadline }
}

/// Renders events in the shape and version of the request.
struct View {
    context: Context,
    columns_sent: bool,
}

impl View {
    fn line(&mut self, kind: &str, object: &Arc<Object>) -> Result<Bytes, Status> {
        let target = &self.context.target;
        if self.context.format.shape == Shape::Object
            && codec::same_as_stored(&target.resource, &target.version)
            && codec::is_current(&target.resource, object)
        {
            return Ok(line(kind, &object.body));
        }
        let value = codec::decode(&target.resource, &target.version, object)?;
        self.value(kind, &value)
    }

    /// An object which no longer matches: its last matching state, at the revision of the change.
    fn left(&mut self, previous: &Object, revision: u64) -> Result<Bytes, Status> {
        let target = &self.context.target;
        let mut value = codec::decode(&target.resource, &target.version, previous)?;
        value.meta_mut().insert("resourceVersion".into(), json!(revision.to_string()));
        self.value("DELETED", &value)
    }

    fn value(&mut self, kind: &str, value: &Value) -> Result<Bytes, Status> {
        let shaped = match self.context.format.shape {
            Shape::Object => return Ok(line(kind, value.to_string().as_bytes())),
            Shape::PartialMetadata => view::partial(value),
            Shape::Table => {
                let meta = json!({"resourceVersion": value.meta_str("resourceVersion")});
                let headers = !std::mem::replace(&mut self.columns_sent, true);
                view::table(&self.context, &[value], &meta, headers)?
            }
        };
        Ok(line(kind, shaped.to_string().as_bytes()))
    }

    fn bookmark(&self, revision: u64, initial_events_end: bool) -> Bytes {
        let target = &self.context.target;
        let mut object = json!({
            "kind": target.resource.kind,
            "apiVersion": target.resource.api_version(&target.version),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_events_end {
            object["metadata"]["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        match self.context.format.shape {
            Shape::Object => {}
            Shape::PartialMetadata => object = view::partial(&object),
            Shape::Table => {
                object = json!({
                    "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [],
                    "metadata": object["metadata"], "rows": [],
                });
            }
        }
        line("BOOKMARK", object.to_string().as_bytes())
    }
}
