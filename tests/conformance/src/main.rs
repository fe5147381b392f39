//! `fv-conformance`: both servers, the corpus, generated cases, and proof that faults are noticed.

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use fv_conformance::corpus::{self, Sequence};
use fv_conformance::generate;
use fv_conformance::known::Known;
use fv_conformance::mutation::Mutation;
use fv_conformance::run;
use fv_conformance::servers::{Ours, Real, default_programs};

/// Plays request sequences against our API server and a real kube-apiserver, and compares.
#[derive(Parser)]
struct Arguments {
    /// Only sequences whose name contains this (then no entry of the list of known differences counts as stale).
    #[arg(long)]
    only: Option<String>,
    /// Generated cases.
    #[arg(long, default_value_t = 10_000)]
    cases: usize,
    /// Seed of the generated cases; the default is a new one each time, which the report names.
    #[arg(long)]
    seed: Option<u64>,
    /// Where kube-apiserver is, as tests/cluster/build.sh prints it.
    #[arg(long, env = "FERROVIRT_KUBERNETES_DIR")]
    kubernetes: Option<PathBuf>,
    /// Play behind one fault and report what it changes, instead of the usual run.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Do not try the faults at the end.
    #[arg(long)]
    no_mutations: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Dropping the servers is what ends their processes.
    tokio::select! {
        outcome = conformance(&arguments) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
    }
}

async fn conformance(arguments: &Arguments) -> Result<ExitCode> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sequences = corpus::read(&here.join("corpus"))?;
    if let Some(only) = &arguments.only {
        sequences.retain(|s| s.name.contains(only.as_str()));
        anyhow::ensure!(!sequences.is_empty() || arguments.cases > 0, "no sequence's name contains {only:?}");
    }
    let known = Known::read(&here.join("differences.yaml"))?;
    let programs = arguments.kubernetes.clone().map_or_else(default_programs, Ok)?;
    let begin = Instant::now();
    let (ours, real) = tokio::try_join!(Ours::start(arguments.mutation), Real::start(&programs))?;
    println!("Both servers are ready after {:.1} s.", begin.elapsed().as_secs_f64());

    let mut faults = 0;
    let begin = Instant::now();
    let (played, steps) = (sequences.len(), sequences.iter().map(|s| s.steps.len()).sum::<usize>());
    let outcomes = run::corpus(ours.client(), real.client(), sequences.clone()).await?;
    let findings = run::unexplained(&outcomes, &known);
    for finding in &findings {
        println!("{finding}");
    }
    faults += findings.len();
    let took = begin.elapsed().as_secs_f64();
    println!("Corpus: {played} sequences, {steps} steps, {} steps differ unexpectedly; {took:.1} s.", findings.len());

    let begin = Instant::now();
    let seed = arguments.seed.unwrap_or_else(rand_seed);
    let mismatches = generate::run(ours.client(), real.client(), &known, seed, arguments.cases).await?;
    for mismatch in &mismatches {
        println!("== generated/{}: {}", mismatch.case.theme, mismatch.case.object);
        mismatch.case.patches.iter().for_each(|patch| println!("   {}{} {}", patch.media, patch.query, patch.body));
        mismatch.differences.iter().for_each(|(step, difference)| println!("step {step} {difference}"));
    }
    faults += mismatches.len();
    let (count, took) = (arguments.cases, begin.elapsed().as_secs_f64());
    println!("Generated: {count} cases from seed {seed}, {} mismatches; {took:.1} s.", mismatches.len());

    if arguments.only.is_none() && arguments.mutation.is_none() {
        for entry in known.unused() {
            println!("== differences.yaml: {} {:?} no longer differs: remove it", entry.sequence, entry.steps);
            faults += 1;
        }
    }
    if arguments.only.is_none() && arguments.mutation.is_none() && !arguments.no_mutations {
        faults += mutations(&real, &known, &sequences).await?;
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays the sequences that can notice each fault; returns how many faults nobody noticed.
async fn mutations(real: &Real, known: &Known, sequences: &[Sequence]) -> Result<usize> {
    let mut unnoticed = 0;
    for mutation in Mutation::ALL {
        let ours = Ours::start(Some(mutation)).await?;
        let chosen: Vec<Sequence> = sequences
            .iter()
            .filter(|s| s.name.starts_with(mutation.theme()))
            .map(|s| s.in_namespace(&format!("{mutation:?}").to_lowercase()))
            .collect();
        let outcomes = run::corpus(ours.client(), real.client(), chosen).await?;
        let findings = run::unexplained(&outcomes, known);
        println!("Fault {mutation:?}: noticed by {} steps.", findings.len());
        unnoticed += usize::from(findings.is_empty());
    }
    Ok(unnoticed)
}

fn rand_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}
