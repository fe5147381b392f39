//! `fv-bench`: measures built programs and prints one table, each figure beside a floor measured in the same run.
//!
//! It ends with an error when something does not work, never because of a figure.

mod api;
mod bare;
mod cluster;
mod floor;
mod import;
mod instance;
mod load;
mod memory;
mod process;
mod stats;
mod table;
mod versus;
mod vms;
mod wire;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::bare::Bare;
use crate::instance::{Instance, Options};
use crate::memory::{Idlers, Look, both};
use crate::stats::{difference, median, mib, more, ratio, seconds, time};
use crate::table::{Row, Table};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure a whole instance.
    Run(Options),
    /// Measure the API server against kube-apiserver.
    Apiserver(versus::Options),
    /// Measure Ferrovirt on a real Kubernetes.
    Cluster(cluster::Options),
    /// Our API server, as `apiserver` starts it.
    #[command(hide = true)]
    Serve(fv_conformance::servers::Serve),
    /// The endpoint that does nothing, for comparison; prints its address.
    #[command(hide = true)]
    BareServer {
        /// Where its certificates lie.
        pki: PathBuf,
    },
    /// One end of a connection: answers.
    #[command(hide = true)]
    Answer { address: SocketAddr },
    /// The other end: asks, and prints what it found.
    #[command(hide = true)]
    Ask {
        address: SocketAddr,
        #[arg(long)]
        seconds: u64,
    },
    /// The other end of a web server's.
    #[command(hide = true)]
    Fetch { address: SocketAddr, path: String },
}

pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

fn progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {text} (load {})", process::load());
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")
        .and_then(|runtime| {
            runtime.block_on(async {
                match cli.command {
                    Command::Run(options) => interruptible(async |table| measure(&options, table).await).await,
                    Command::Apiserver(options) => {
                        interruptible(async |table| {
                            say(&format!("{}; load {} at the start\n", process::machine(), process::load()));
                            versus::measure(&options, table).await
                        })
                        .await
                    }
                    Command::Cluster(options) => {
                        interruptible(async |table| {
                            heading();
                            cluster::measure(&options, table).await
                        })
                        .await
                    }
                    Command::Answer { address } => wire::answer(address),
                    Command::Ask { address, seconds } => print(&wire::ask(address, Duration::from_secs(seconds))?),
                    Command::Fetch { address, path } => print(&wire::fetch(address, &path)?),
                    Command::Serve(options) => fv_conformance::servers::serve(&options, |_| ()).await,
                    Command::BareServer { pki } => floor::serve_bare(&pki).await,
                }
            })
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever ends it, what it started and its traces go; the table has what was measured until then.
async fn interruptible(work: impl AsyncFnOnce(&mut Table) -> Result<()>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut table = Table::default();
    let outcome = tokio::select! {
        outcome = Box::pin(work(&mut table)) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    say(&table.render());
    outcome
}

/// What it runs on.
fn heading() {
    let emulated = if std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|c| c.contains(" vmx") || c.contains(" svm")) {
        ""
    } else {
        ", guests in software emulation"
    };
    say(&format!("{}{emulated}; load {} at the start\n", process::machine(), process::load()));
}

/// For the process that started this one.
fn print(found: &impl serde::Serialize) -> Result<()> {
    say(&serde_json::to_string(found)?);
    Ok(())
}

async fn measure(options: &Options, table: &mut Table) -> Result<()> {
    ensure!(
        options.rounds > 0 && options.vms > 1 && options.idle > 1,
        "--rounds must be at least 1, --vms and --idle at least 2"
    );
    heading();
    progress("starting an instance");
    let instance = Instance::start(options).await?;
    sizes(options, table)?;
    let idlers = Idlers::start(&instance).await?;
    let at_rest = idle(&instance, options, &idlers, table).await?;
    progress("importing images");
    imports(&instance, options, table)?;
    instance.import(vms::IMAGE, &options.image)?;
    let alone = starts(&instance, options, table).await?;
    memories(&instance, options, &idlers, &at_rest, alone, table).await?;
    progress("asking the API server");
    let durable = api::Durable::measure(&instance.work)?;
    table.section(&format!("API server with {} objects of 1 KiB, through TLS", options.objects));
    let before = process::memory(instance.pid)?;
    let stored = api::through_tls(&instance, options, durable, &idlers.endpoint, table).await?;
    let full = process::memory(instance.pid)?;
    #[allow(clippy::cast_precision_loss)]
    let floor = before.rss + stored as f64 / 1024.0;
    table.row(Row {
        what: "ferrovirt's memory then".into(),
        ours: both(full),
        floor: format!("{} RSS (before, and the objects' JSON)", mib(floor)),
        against: ratio(full.rss, floor),
        aim: String::new(),
    });
    table.section("API server in process");
    api::in_process(&instance.work, options, durable, table).await?;
    progress("cleaning up");
    instance.purge()
}

fn sizes(options: &Options, table: &mut Table) -> Result<()> {
    table.section("Programs");
    let ours = |name: &str| kilobytes(&options.programs.join(name));
    table.fact("ferrovirt", mib(ours("ferrovirt")?), "");
    let (virtctl, kubectl) = (ours("virtctl")?, kilobytes(&in_path("kubectl")?)?);
    table.row(Row {
        what: "virtctl".into(),
        ours: mib(virtctl),
        floor: format!("{} (kubectl)", mib(kubectl)),
        against: ratio(virtctl, kubectl),
        aim: String::new(),
    });
    table.fact("virt-launcher", mib(ours("virt-launcher")?), "< 1 MiB");
    Ok(())
}

/// Size of a file.
fn kilobytes(path: &Path) -> Result<f64> {
    let size = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.len();
    #[allow(clippy::cast_precision_loss)]
    Ok(size as f64 / 1024.0)
}

/// Where an installed program is.
fn in_path(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not installed"))
}

/// Processor time and memory of an instance that has nothing to do.
async fn idle(instance: &Instance, options: &Options, idlers: &Idlers, table: &mut Table) -> Result<Look> {
    // What the start left to do is over by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    progress("watching it idle");
    table.section("At rest, no VM");
    processor(instance, idlers, options.idle, "< 1 % of a core", table).await?;
    Look::at(instance, idlers, &[])
}

/// A line for the processor time of `ferrovirt` and of the bare endpoint in the same seconds.
async fn processor(instance: &Instance, idlers: &Idlers, over: u64, aim: &str, table: &mut Table) -> Result<()> {
    let pids = (instance.pid, idlers.endpoint.pid()?);
    let used = || anyhow::Ok((process::cpu_seconds(pids.0)?, process::cpu_seconds(pids.1)?));
    let before = used()?;
    tokio::time::sleep(Duration::from_secs(over)).await;
    let after = used()?;
    #[allow(clippy::cast_precision_loss)]
    let share = |before: f64, after: f64| (after - before) / over as f64 * 100.0;
    let (ours, floor) = (share(before.0, after.0), share(before.1, after.1));
    let percent = |share: f64| format!("{share:.2} %");
    table.row(Row {
        what: format!("ferrovirt, processor over {over} s"),
        ours: format!("{} of a core", percent(ours)),
        floor: format!("{} (bare endpoint)", percent(floor)),
        against: more(ours, floor, percent),
        aim: aim.into(),
    });
    Ok(())
}

fn imports(instance: &Instance, options: &Options, table: &mut Table) -> Result<()> {
    let times = import::measure(instance, options.rounds.min(3))?;
    #[allow(clippy::cast_precision_loss)]
    let speed = |times: &[Duration]| import::MIB as f64 / median(&seconds(times));
    let ours = speed(&times.import);
    table.section(&format!("Image import ({} MiB raw, no holes)", import::MIB));
    for (floor, is) in [(speed(&times.copy), "(cp and sync)"), (speed(&times.digest), "(sha256sum)")] {
        table.row(Row {
            what: "ferrovirt image import".into(),
            ours: format!("{ours:.0} MiB/s"),
            floor: format!("{floor:.0} MiB/s {is}"),
            against: ratio(ours, floor),
            aim: String::new(),
        });
    }
    Ok(())
}

/// The one VM that stays, and its floors.
struct Alone {
    uid: String,
    bare: Bare,
    /// Median of `virsh create`, in seconds.
    created: f64,
}

/// VMs one by one, each followed by its floors, so that a noisy machine is noisy for both. The last one stays.
async fn starts(instance: &Instance, options: &Options, table: &mut Table) -> Result<Alone> {
    let (mut running, mut booted, mut created, mut plain, mut beyond) = (vec![], vec![], vec![], vec![], vec![]);
    let mut all = Vec::new();
    let mut bare: Option<Bare> = None;
    for round in 0..options.rounds {
        progress(&format!("VM {} of {}", round + 1, options.rounds));
        let name = format!("bench{round}");
        let sent = std::time::Instant::now();
        let started = vms::start(&instance.client, &vms::manifest(&name, Some(vms::IMAGE)), &[vms::RUNNING]).await?;
        vms::await_marker(&vms::node_dir(instance, &started.uid).join("console.log")).await?;
        booted.push(sent.elapsed());
        running.push(started.steps[vms::RUNNING]);
        let floor = match bare.take() {
            Some(bare) => bare,
            None => Bare::of(instance, &started.uid)?,
        };
        let floor = bare.insert(floor);
        if round + 1 < options.rounds {
            vms::delete(&instance.client, &[name]).await?;
        }
        created.push(floor.create()?);
        let (took, memory) = floor.boot().await?;
        plain.push(took);
        beyond.push(memory);
        all.push(started);
    }
    table.section(&format!("A VM with {} MiB and the demo guest, medians of {}", vms::GUEST_MIB, options.rounds));
    let (ours, created) = (median(&seconds(&running)), median(&seconds(&created)));
    table.row(Row {
        what: "create → Running".into(),
        ours: time(ours),
        floor: format!("{} (virsh create, same domain)", time(created)),
        against: difference(ours, created),
        aim: "≤ floor + 0.4 s".into(),
    });
    for step in [vms::VMI_CREATED, vms::POD_CREATED, vms::POD_RUNNING, vms::SCHEDULED] {
        let times: Vec<f64> = all.iter().filter_map(|s| s.steps.get(step)).map(Duration::as_secs_f64).collect();
        table.fact(format!("  {step} after"), time(median(&times)), "");
    }
    let (ours, floor) = (median(&seconds(&booted)), median(&seconds(&plain)));
    table.row(Row {
        what: format!("create → {:?} of the guest", vms::MARKER),
        ours: time(ours),
        floor: format!("{} (plain QEMU, same disk)", time(floor)),
        against: difference(ours, floor),
        aim: String::new(),
    });
    writes(&all, table);
    let (uid, bare) = all.pop().map(|s| s.uid).zip(bare).context("no VM was started")?;
    let (ours, floor) = (memory::qemu_beyond_guest(&uid)?, median(&beyond));
    table.row(Row {
        what: "QEMU's memory beyond the guest's".into(),
        ours: mib(ours),
        floor: format!("{} (plain QEMU)", mib(floor)),
        against: ratio(ours, floor),
        aim: String::new(),
    });
    Ok(Alone { uid, bare, created })
}

/// Writes to the API until Running. Events are counted apart: they tell people, nothing waits for them.
fn writes(all: &[vms::Started], table: &mut Table) {
    #[allow(clippy::cast_precision_loss)]
    let count = |events: bool| {
        let per_vm = |s: &vms::Started| {
            s.writes.iter().filter(|(kind, _)| (*kind == "Event") == events).map(|(_, n)| n).sum::<usize>()
        };
        median(&all.iter().map(|s| per_vm(s) as f64).collect::<Vec<_>>())
    };
    let kinds = all.last().map(|s| {
        s.writes
            .iter()
            .filter(|(kind, _)| *kind != "Event")
            .map(|(kind, n)| format!("{kind} {n}"))
            .collect::<Vec<_>>()
            .join(", ")
    });
    let text = format!("{:.0} ({}) and {:.0} events", count(false), kinds.unwrap_or_default(), count(true));
    table.fact("API writes until Running", text, "≤ 10");
}

/// Memory with one VM and with many.
async fn memories(
    instance: &Instance,
    options: &Options,
    idlers: &Idlers,
    at_rest: &Look,
    alone: Alone,
    table: &mut Table,
) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let with_one = Look::at(instance, idlers, std::slice::from_ref(&alone.uid))?;
    let mut plain = alone.bare.without_system()?;
    let names: Vec<String> = (1..options.vms).map(|i| format!("many{i}")).collect();
    progress(&format!("{} more VMs", names.len()));
    let begin = std::time::Instant::now();
    let uids = vms::start_many(&instance.client, &names).await.with_context(|| instance.last_words())?;
    let took = begin.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let with_many = Look::at(instance, idlers, &[uids, vec![alone.uid]].concat())?;
    let plain = plain.beyond()?;

    #[allow(clippy::cast_precision_loss)]
    let begun = names.len() as f64;
    table.section(&format!("Memory of {} VMs ({} with an empty disk only)", options.vms, names.len()));
    memory::processes(&[(0, at_rest), (1, &with_one), (options.vms, &with_many)], table);
    let qemu = median(&with_many.qemu);
    table.row(Row {
        what: "QEMU beyond the guest, median".into(),
        ours: mib(qemu),
        floor: format!("{} (plain QEMU, empty disk)", mib(plain)),
        against: ratio(qemu, plain),
        aim: String::new(),
    });
    memory::a_vm(&with_one, &with_many, begun, table);
    let each = took / begun;
    table.row(Row {
        what: format!("{} VMs at once, create → Running, a VM", names.len()),
        ours: time(each),
        floor: format!("{} (virsh create, one by one)", time(alone.created)),
        against: ratio(each, alone.created),
        aim: String::new(),
    });
    progress("watching it with all of them");
    processor(instance, idlers, options.idle / 2, "", table).await?;
    let mut all = names;
    all.push(format!("bench{}", options.rounds - 1));
    progress("deleting them");
    vms::delete(&instance.client, &all).await
}
