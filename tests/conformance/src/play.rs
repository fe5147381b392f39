//! One sequence against one server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::{Answer, Client};
use crate::corpus::{Action, Sequence, Step};
use crate::normalise::Normaliser;

/// How long `EVENTS` and `until` wait for what was announced.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long `EVENTS` goes on listening for events that should not come.
const LINGER: Duration = Duration::from_millis(150);

struct Watch {
    events: mpsc::UnboundedReceiver<Value>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Player<'a> {
    client: &'a Client,
    variables: HashMap<String, String>,
    watches: HashMap<String, Watch>,
    normaliser: Normaliser,
}

/// Plays a sequence; one observation per step.
pub async fn play(client: &Client, sequence: &Sequence) -> Result<Vec<Value>> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": sequence.namespace}});
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    let made = client.send("POST", "/api/v1/namespaces", &headers, namespace.to_string().into()).await?;
    anyhow::ensure!(made.code == 201, "create namespace {}: {}", sequence.namespace, made.body);
    let mut player = Player {
        client,
        variables: HashMap::from([("ns".to_owned(), sequence.namespace.clone())]),
        watches: HashMap::new(),
        normaliser: Normaliser::default(),
    };
    let mut observed = Vec::with_capacity(sequence.steps.len());
    for step in &sequence.steps {
        // A request that gets no answer is an observation too: the other server may have given one.
        let observation = player.step(step).await.unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
        observed.push(observation);
    }
    Ok(observed)
}

impl Player<'_> {
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.variables {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        repeated(&text)
    }

    async fn step(&mut self, step: &Step) -> Result<Value> {
        match &step.action {
            Action::Request { .. } => {
                let answer = self.until(step).await?;
                for (name, pointer) in &step.save {
                    let value = answer.body.pointer(pointer).cloned().unwrap_or_default();
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    self.variables.insert(name.clone(), text);
                }
                let observed = json!({
                    "code": answer.code, "media": answer.media, "warnings": answer.warnings, "body": answer.body,
                });
                let mut observed = self.normaliser.apply(observed, step.managed);
                for pointer in &step.ignore {
                    remove(&mut observed["body"], pointer);
                }
                Ok(observed)
            }
            Action::Watch { name, path, headers } => self.watch(name, &self.fill(path), headers).await,
            Action::Events { name, count } => {
                let watch = self.watches.get_mut(name).with_context(|| format!("no watch is named {name:?}"))?;
                let mut events = Vec::new();
                let end = Instant::now() + PATIENCE;
                while events.len() < *count {
                    match tokio::time::timeout_at(end, watch.events.recv()).await {
                        Ok(Some(event)) => events.push(event),
                        _ => break,
                    }
                }
                while let Ok(Some(event)) = tokio::time::timeout(LINGER, watch.events.recv()).await {
                    events.push(event);
                }
                let events = events.into_iter().map(|e| self.normaliser.apply(e, step.managed)).collect::<Vec<_>>();
                Ok(json!({ "events": events }))
            }
            Action::Repeat { count, request } => {
                for i in 0..*count {
                    self.variables.insert("i".to_owned(), i.to_string());
                    let answer = self.send(request).await?;
                    anyhow::ensure!(answer.code < 300, "repetition {i}: {}", answer.body);
                }
                Ok(json!({}))
            }
        }
    }

    /// Sends the request of a step, again and again while it waits for something.
    async fn until(&self, step: &Step) -> Result<Answer> {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.send(&step.action).await?;
            let there = step.until.iter().all(|(pointer, wanted)| {
                if pointer == "code" {
                    return *wanted == json!(answer.code);
                }
                answer.body.pointer(pointer).unwrap_or(&Value::Null) == wanted
            });
            if there || Instant::now() > end {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn send(&self, action: &Action) -> Result<Answer> {
        let Action::Request { method, path, headers, body } = action else {
            anyhow::bail!("only a request can be sent");
        };
        let headers: Vec<_> = headers.iter().map(|(k, v)| (k.clone(), self.fill(v))).collect();
        let body = body.as_deref().map(|b| self.fill(b)).unwrap_or_default();
        self.client.send(method, &self.fill(path), &headers, body.into()).await
    }

    async fn watch(&mut self, name: &str, path: &str, headers: &[(String, String)]) -> Result<Value> {
        let (sender, events) = mpsc::unbounded_channel();
        let (opened, code) = oneshot::channel();
        let (client, path, headers) = (self.client.clone(), path.to_owned(), Arc::new(headers.to_vec()));
        let task = tokio::spawn(async move {
            let mut opened = Some(opened);
            let tell = |code| {
                if let Some(opened) = opened.take() {
                    let _ = opened.send(code);
                }
            };
            let line = |value| {
                if !is_periodic_bookmark(&value) {
                    let _ = sender.send(value);
                }
            };
            // The end of the stream closes the channel; a broken one shows as missing events.
            let _ = client.stream(&path, &headers, tell, line).await;
        });
        let code = tokio::time::timeout(PATIENCE, code).await;
        self.watches.insert(name.to_owned(), Watch { events, task });
        Ok(json!({"code": code.ok().and_then(Result::ok)}))
    }
}

/// Writes out `<<3*ab>>` as `ababab`, for what is large.
fn repeated(text: &str) -> String {
    let Some((before, rest)) = text.split_once("<<") else { return text.to_owned() };
    let Some((inner, after)) = rest.split_once(">>") else { return text.to_owned() };
    let times = inner.split_once('*').and_then(|(count, what)| Some(what.repeat(count.parse().ok()?)));
    let written = times.unwrap_or_else(|| format!("<<{inner}>>"));
    format!("{before}{written}{}", repeated(after))
}

/// Whether an event only says how far a quiet watch has come: when servers say so is theirs to choose.
fn is_periodic_bookmark(event: &Value) -> bool {
    let ends_initial_events = event.pointer("/object/metadata/annotations/k8s.io~1initial-events-end").is_some();
    event["type"] == "BOOKMARK" && event.pointer("/object/metadata").is_some() && !ends_initial_events
}

/// Takes the place a pointer names out of a value.
fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(map)) = value.pointer_mut(parent) {
        map.shift_remove(&last.replace("~1", "/").replace("~0", "~"));
    }
}
