//! The corpus against two servers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::Value;

use crate::client::Client;
use crate::corpus::Sequence;
use crate::diff::{Difference, diff};
use crate::known::Known;
use crate::play::play;

/// Sequences played at the same time.
const AT_ONCE: usize = 8;
/// No sequence may take longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// How one sequence went.
#[derive(Debug)]
pub struct Outcome {
    /// The sequence.
    pub sequence: Sequence,
    /// Steps (from 1) with their differences.
    pub steps: Vec<(usize, Vec<Difference>)>,
}

/// A difference that the list of known ones does not explain.
#[derive(Debug)]
pub struct Finding<'a> {
    /// The sequence.
    pub sequence: &'a Sequence,
    /// The step, from 1.
    pub step: usize,
    /// What differs.
    pub differences: Vec<&'a Difference>,
}

/// Plays every sequence on both servers.
pub async fn corpus(ours: &Client, real: &Client, sequences: Vec<Sequence>) -> Result<Vec<Outcome>> {
    let mut outcomes: Vec<Outcome> = futures::stream::iter(sequences)
        .map(|sequence| one(ours, real, sequence))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_>>()?;
    outcomes.sort_by(|a, b| a.sequence.name.cmp(&b.sequence.name));
    Ok(outcomes)
}

async fn one(ours: &Client, real: &Client, sequence: Sequence) -> Result<Outcome> {
    let both = async {
        let (a, b) = tokio::join!(play(ours, &sequence), play(real, &sequence));
        Ok::<_, anyhow::Error>((a.context("ours")?, b.context("real")?))
    };
    let (a, b) = tokio::time::timeout(DEADLINE, both)
        .await
        .with_context(|| format!("{}: not done after {} s", sequence.name, DEADLINE.as_secs()))??;
    let steps = a.iter().zip(&b).enumerate();
    let steps = steps.map(|(at, (a, b)): (usize, (&Value, &Value))| (at + 1, diff(a, b)));
    let steps = steps.filter(|(_, differences)| !differences.is_empty()).collect();
    Ok(Outcome { sequence, steps })
}

/// What the list of known differences leaves over.
pub fn unexplained<'a>(outcomes: &'a [Outcome], known: &Known) -> Vec<Finding<'a>> {
    let mut findings = Vec::new();
    for outcome in outcomes {
        for (step, differences) in &outcome.steps {
            let left: Vec<&Difference> =
                differences.iter().filter(|d| !known.covers(&outcome.sequence.name, *step, &d.at)).collect();
            if !left.is_empty() {
                findings.push(Finding { sequence: &outcome.sequence, step: *step, differences: left });
            }
        }
    }
    findings
}

impl std::fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.sequence.steps.get(self.step - 1).map_or("", |s| s.text.as_str());
        writeln!(f, "== {} step {}: {text}", self.sequence.name, self.step)?;
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        Ok(())
    }
}
