//! `fv-clients`: real clients against our server and the real one, each in processes of its own.

#![allow(clippy::print_stdout)]

mod programs;
mod rust;
mod session;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use futures::StreamExt as _;
use fv_apiserver::{ApiServer, UserInfo};
use fv_conformance::diff::diff;
use fv_conformance::known::Known;
use fv_conformance::servers::{self, Processes, Program};
use tokio_util::sync::CancellationToken;

use crate::programs::Client;
use crate::session::Session;

/// Sessions played at the same time.
const AT_ONCE: usize = 4;
/// Differences of a step that are shown; after a line too many, every one that follows differs.
const SHOWN: usize = 8;

/// Plays sessions of kubectl against our API server and a real kube-apiserver, and compares what it prints; then lets other clients
/// work with each.
#[derive(Parser)]
struct Arguments {
    /// Only sessions and clients whose name contains this (then no entry of the list of known differences counts as stale).
    #[arg(long)]
    only: Option<String>,
    /// Where kube-apiserver, etcd and kubectl are, as tests/cluster/build.sh prints it.
    #[arg(long, env = "FERROVIRT_KUBERNETES_DIR")]
    kubernetes: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Our server, as this program starts it.
    #[command(hide = true)]
    Serve(servers::Serve),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(Command::Serve(options)) = &arguments.command {
        servers::serve(options, collector).await?;
        return Ok(ExitCode::SUCCESS);
    }
    // Dropping the servers is what ends their processes.
    tokio::select! {
        outcome = clients(&arguments) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
    }
}

/// Collects garbage and empties namespaces, as the embedded mode does and kube-controller-manager does beside the real server.
fn collector(server: &ApiServer) {
    let never = CancellationToken::new();
    let client = |name: &str| server.client_as(UserInfo::admin(name));
    tokio::spawn(fv_standalone::gc::run(client("system:garbage-collector"), never.clone()));
    tokio::spawn(fv_standalone::namespaces::run(client("system:namespace-controller"), never));
}

async fn clients(arguments: &Arguments) -> Result<ExitCode> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = arguments.kubernetes.clone().map_or_else(servers::default_programs, Ok)?;
    for name in ["kube-apiserver", "etcd", "kube-controller-manager", "kubectl"] {
        let program = programs.join(name);
        ensure!(program.is_file(), "{} is missing: tests/cluster/build.sh {name} makes it", program.display());
    }
    let ours = Program::Ours(std::env::current_exe().context("find this program")?);
    let real = Program::Real { programs: programs.clone(), durable: false, collector: true };
    let (mut ours, mut real) = tokio::try_join!(started(ours), started(real))?;

    let mut sessions = session::read(&here.join("sessions"))?;
    if let Some(only) = &arguments.only {
        sessions.retain(|s| format!("kubectl/{}", s.name).contains(only.as_str()));
    }
    let known = Known::read(&here.join("differences.yaml"))?;
    let mut faults = 0;
    if !sessions.is_empty() {
        faults += kubectl_sessions(&ours, &real, &programs, &sessions, &known, arguments.only.is_none()).await?;
    }
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name == only);
    if wanted("rust") {
        for (which, server) in [("ours", &mut ours), ("real", &mut real)] {
            let begin = Instant::now();
            let worked = rust::against(server, |line| println!("  {which}: {line}")).await;
            faults += report("rust", which, begin, worked);
        }
    }
    if wanted("go") {
        faults += run(&Client::go(&here.join("go")).await?, [("ours", &mut ours), ("real", &mut real)]).await;
    }
    if wanted("python") {
        faults += run(&Client::python(&here.join("python")).await?, [("ours", &mut ours), ("real", &mut real)]).await;
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A server with the definitions of the corpus.
async fn started(program: Program) -> Result<Processes> {
    let mut server = Processes::new(program, &std::env::temp_dir()).await?;
    server.start()?;
    server.ready().await?;
    servers::install(server.client()).await?;
    Ok(server)
}

/// Runs a client against each server; returns how often it failed.
async fn run(client: &Client, servers: [(&str, &mut Processes); 2]) -> usize {
    let mut failed = 0;
    for (which, server) in servers {
        let begin = Instant::now();
        let told = |line: &str| println!("  {which}: {line}");
        failed += report(client.name, which, begin, client.against(server, told).await);
    }
    failed
}

/// Says how a client did with a server; returns how often it failed.
fn report(client: &str, which: &str, begin: Instant, worked: Result<()>) -> usize {
    match worked {
        Ok(()) => {
            println!("{client}: works with {which}; {:.1} s.", begin.elapsed().as_secs_f64());
            0
        }
        Err(error) => {
            println!("== {client} does not work with {which}: {error:#}");
            1
        }
    }
}

/// Returns how many steps differ unexpectedly, and how many entries of the list are stale (if that is asked for).
async fn kubectl_sessions(
    ours: &Processes,
    real: &Processes,
    tools: &Path,
    sessions: &[Session],
    known: &Known,
    all: bool,
) -> Result<usize> {
    let (mut faults, mut steps, begin) = (0, 0, Instant::now());
    let both = sessions.iter().enumerate().map(|(number, session)| async move {
        let played = async |server, which| session::play(server, tools, number, session).await.context(which);
        let (a, b) = tokio::try_join!(played(ours, "ours"), played(real, "real"))?;
        Ok::<_, anyhow::Error>((session, a, b))
    });
    let mut both = futures::stream::iter(both).buffered(AT_ONCE);
    while let Some(played) = both.next().await {
        let (session, a, b) = played?;
        steps += session.steps.len();
        for (at, (step, (a, b))) in session.steps.iter().zip(a.iter().zip(&b)).enumerate() {
            let differences = diff(a, b);
            let differences = differences.iter().filter(|d| !known.covers(&session.name, at + 1, &d.at));
            let differences: Vec<String> = differences.map(ToString::to_string).collect();
            if !differences.is_empty() {
                println!("== kubectl/{} step {}: {step}", session.name, at + 1);
                differences.iter().take(SHOWN).for_each(|difference| println!("{difference}"));
                if let Some(more) = differences.len().checked_sub(SHOWN + 1) {
                    println!("and {} more places", more + 1);
                }
                faults += 1;
            }
        }
    }
    let took = begin.elapsed().as_secs_f64();
    println!("kubectl: {} sessions, {steps} steps, {faults} steps differ unexpectedly; {took:.1} s.", sessions.len());
    if all {
        for entry in known.unused() {
            println!("== differences of kubectl: {} {:?} no longer differs: remove it", entry.sequence, entry.steps);
            faults += 1;
        }
    }
    Ok(faults)
}
