//! Running cases, many at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::strategy::cases;
use crate::client::Client;
use crate::diff::{Difference, diff};
use crate::known::Known;
use crate::normalise::Normaliser;

/// Cases in flight.
const WORKERS: usize = 16;
/// A mismatch is made smaller by at most so many tries.
const SHRINKS: usize = 300;
/// No case may take longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// An object of a kind and what is done to it, one after another.
#[derive(Debug, Clone)]
pub struct Case {
    /// Word in names and in the list of known differences: `generated/<theme>`.
    pub theme: &'static str,
    /// Collection below which the object is made.
    pub collection: &'static str,
    /// The object without its name.
    pub object: Value,
    /// What is done to the object.
    pub patches: Vec<Patch>,
}

/// One patch.
#[derive(Debug, Clone)]
pub struct Patch {
    /// Media type.
    pub media: &'static str,
    /// Of the request, with its question mark; or empty.
    pub query: &'static str,
    /// Body; that of an apply patch gets the object's name.
    pub body: Value,
}

/// Server-side apply.
pub const APPLY: &str = "application/apply-patch+yaml";

/// A case on which the servers disagree, made small.
#[derive(Debug)]
pub struct Mismatch {
    /// The case.
    pub case: Case,
    /// What differs: step (1 is the create) and place.
    pub differences: Vec<(usize, Difference)>,
}

struct Pair<'a> {
    ours: &'a Client,
    real: &'a Client,
    known: &'a Known,
    names: AtomicUsize,
}

/// Plays `count` cases from a seed; stops a worker at its first mismatch.
pub async fn run(ours: &Client, real: &Client, known: &Known, seed: u64, count: usize) -> Result<Vec<Mismatch>> {
    let pair = Pair { ours, real, known, names: AtomicUsize::new(0) };
    let workers = (0..WORKERS).map(|worker| pair.worker(seed, worker, count.div_ceil(WORKERS)));
    let found = futures::future::try_join_all(workers).await?;
    Ok(found.into_iter().flatten().collect())
}

impl Pair<'_> {
    async fn worker(&self, seed: u64, worker: usize, count: usize) -> Result<Option<Mismatch>> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(worker as u64).to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let strategy = cases();
        for _ in 0..count {
            let mut tree =
                strategy.new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("generate a case: {reason}"))?;
            let case = tree.current();
            let differences = self.compare(&case).await?;
            if differences.is_empty() {
                continue;
            }
            let mut smallest = Mismatch { case, differences };
            let mut went = tree.simplify();
            for _ in 0..SHRINKS {
                if !went {
                    break;
                }
                let case = tree.current();
                let differences = self.compare(&case).await?;
                went = if differences.is_empty() {
                    tree.complicate()
                } else {
                    smallest = Mismatch { case, differences };
                    tree.simplify()
                };
            }
            return Ok(Some(smallest));
        }
        Ok(None)
    }

    async fn compare(&self, case: &Case) -> Result<Vec<(usize, Difference)>> {
        let name = format!("g{}", self.names.fetch_add(1, Ordering::Relaxed));
        let both = async { tokio::try_join!(observe(self.ours, case, &name), observe(self.real, case, &name)) };
        let (ours, real) = tokio::time::timeout(DEADLINE, both)
            .await
            .map_err(|_| anyhow::anyhow!("a generated case is not done after {} s: {case:?}", DEADLINE.as_secs()))??;
        let mut differences = Vec::new();
        for (at, (a, b)) in ours.iter().zip(&real).enumerate() {
            for difference in diff(a, b) {
                if !self.known.covers(&format!("generated/{}", case.theme), at + 1, &difference.at) {
                    differences.push((at + 1, difference));
                }
            }
            // What follows a disagreement only repeats it.
            if !differences.is_empty() {
                break;
            }
        }
        Ok(differences)
    }
}

async fn observe(client: &Client, case: &Case, name: &str) -> Result<Vec<Value>> {
    let header = |media: &str| [("content-type".to_owned(), media.to_owned())];
    let mut object = case.object.clone();
    object["metadata"]["name"] = json!(name);
    let mut normaliser = Normaliser::default();
    let mut observed = Vec::new();
    let created = client.send("POST", case.collection, &header("application/json"), object.to_string().into()).await?;
    let made = created.code == 201;
    let mut look = |a: crate::client::Answer| normaliser.apply(json!({"code": a.code, "body": a.body}), true);
    observed.push(look(created));
    if !made {
        return Ok(observed);
    }
    let path = format!("{}/{name}", case.collection);
    for Patch { media, query, body } in &case.patches {
        let mut body = body.clone();
        if *media == APPLY {
            body["metadata"]["name"] = json!(name);
        }
        let path = format!("{path}{query}");
        match client.send("PATCH", &path, &header(media), body.to_string().into()).await {
            Ok(answer) => observed.push(look(answer)),
            // A server that breaks off has failed in this case, which is told as any other difference.
            Err(error) => {
                observed.push(json!({"error": format!("{error:#}")}));
                break;
            }
        }
    }
    Ok(observed)
}
