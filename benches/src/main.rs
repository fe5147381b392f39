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
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::bare::Bare;
use crate::instance::{Instance, Options};
use crate::memory::{Look, Sleeper};
use crate::stats::{difference, median, mib, ratio, seconds, time};
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
    let at_rest = idle(&instance, options, table).await?;
    progress("importing images");
    imports(&instance, options, table)?;
    instance.import(vms::IMAGE, &options.image)?;
    let uid = starts(&instance, options, table).await?;
    memories(&instance, options, &at_rest, uid, table).await?;
    progress("asking the API server");
    let durable = api::Durable::measure(&instance.work)?;
    table.section(&format!("API server with {} objects of 1 KiB, through TLS", options.objects));
    api::through_tls(&instance, options, durable, table).await?;
    let full = process::memory(instance.pid)?;
    table.fact("ferrovirt's memory then", format!("{} RSS, {} PSS", mib(full.rss), mib(full.pss)), "");
    table.section("API server in process");
    api::in_process(&instance.work, options, durable, table).await?;
    progress("cleaning up");
    instance.purge()
}

fn sizes(options: &Options, table: &mut Table) -> Result<()> {
    table.section("Programs");
    for (name, aim) in [("ferrovirt", ""), ("virtctl", ""), ("virt-launcher", "< 1 MiB")] {
        let path = options.programs.join(name);
        let size = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
        #[allow(clippy::cast_precision_loss)]
        table.fact(name, mib(size as f64 / 1024.0), aim);
    }
    Ok(())
}

/// Processor time and memory of an instance that has nothing to do.
async fn idle(instance: &Instance, options: &Options, table: &mut Table) -> Result<Look> {
    // What the start left to do is over by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    progress("watching it idle");
    table.section("At rest, no VM");
    let share = cpu_share(instance.pid, options.idle).await?;
    table.fact(format!("ferrovirt, processor over {} s", options.idle), share, "< 1 % of a core");
    let look = Look::at(instance, &[])?;
    table.fact("ferrovirt", both(look.ferrovirt), "≤ 40 MiB RSS");
    table.fact("libvirtd", both(look.libvirtd), "");
    table.fact("its supervisor", both(look.supervisor), "");
    Ok(look)
}

async fn cpu_share(pid: u32, over: u64) -> Result<String> {
    let before = process::cpu_seconds(pid)?;
    tokio::time::sleep(Duration::from_secs(over)).await;
    #[allow(clippy::cast_precision_loss)]
    let share = (process::cpu_seconds(pid)? - before) / over as f64 * 100.0;
    Ok(format!("{share:.2} % of a core"))
}

fn both(memory: process::Memory) -> String {
    format!("{} RSS, {} PSS", mib(memory.rss), mib(memory.pss))
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

/// VMs one by one, each followed by its floors, so that a noisy machine is noisy for both. The last one stays.
async fn starts(instance: &Instance, options: &Options, table: &mut Table) -> Result<String> {
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
    let (ours, floor) = (median(&seconds(&running)), median(&seconds(&created)));
    table.row(Row {
        what: "create → Running".into(),
        ours: time(ours),
        floor: format!("{} (virsh create, same domain)", time(floor)),
        against: difference(ours, floor),
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
    table.row(Row {
        what: "QEMU's memory beyond the guest's".into(),
        ours: mib(Look::at(instance, &all.last().map(|s| s.uid.clone()).into_iter().collect::<Vec<_>>())?.qemu[0]),
        floor: format!("{} (plain QEMU)", mib(median(&beyond))),
        against: String::new(),
        aim: String::new(),
    });
    all.pop().map(|s| s.uid).context("no VM was started")
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
    at_rest: &Look,
    uid: String,
    table: &mut Table,
) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let with_one = Look::at(instance, std::slice::from_ref(&uid))?;
    let sleeper = Sleeper::start()?;
    let names: Vec<String> = (1..options.vms).map(|i| format!("many{i}")).collect();
    progress(&format!("{} more VMs", names.len()));
    let begin = std::time::Instant::now();
    let mut uids = vms::start_many(&instance.client, &names).await.with_context(|| instance.last_words())?;
    let took = begin.elapsed().as_secs_f64();
    uids.push(uid);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let with_many = Look::at(instance, &uids)?;
    let asleep = sleeper.memory()?;

    #[allow(clippy::cast_precision_loss)]
    let more = names.len() as f64;
    table.section(&format!("Memory of {} VMs ({} with an empty disk only)", options.vms, names.len()));
    for (count, look) in [(0, at_rest), (1, &with_one), (options.vms, &with_many)] {
        table.fact(format!("ferrovirt at {count}"), both(look.ferrovirt), if count == 0 { "≤ 40 MiB RSS" } else { "" });
    }
    for (count, look) in [(0, at_rest), (1, &with_one), (options.vms, &with_many)] {
        table.fact(format!("libvirtd at {count}"), both(look.libvirtd), "");
        table.fact(format!("  its supervisor at {count}"), both(look.supervisor), "");
    }
    let launchers: Vec<f64> = with_many.pods.iter().map(|m| m.rss).collect();
    let launchers_pss: Vec<f64> = with_many.pods.iter().map(|m| m.pss).collect();
    table.row(Row {
        what: "a launcher process, median".into(),
        ours: format!("{} RSS, {} PSS", mib(median(&launchers)), mib(median(&launchers_pss))),
        floor: format!("{} RSS (sleep)", mib(asleep.rss)),
        against: ratio(median(&launchers), asleep.rss),
        aim: "≈ 2 MiB RSS".into(),
    });
    #[allow(clippy::cast_precision_loss)]
    table.fact("launcher processes a VM", format!("{:.1}", with_many.pods.len() as f64 / uids.len() as f64), "");
    table.fact("QEMU beyond the guest, median", mib(median(&with_many.qemu)), "");
    table.fact(
        "a VM's memory outside QEMU (PSS)",
        mib((with_many.outside_qemu() - with_one.outside_qemu()) / more),
        "≤ 4 MiB",
    );
    table.fact(
        "  of it ferrovirt, libvirtd",
        format!(
            "{}, {}",
            mib((with_many.ferrovirt.pss - with_one.ferrovirt.pss) / more),
            mib((with_many.libvirtd.pss - with_one.libvirtd.pss) / more)
        ),
        "",
    );
    table.fact(format!("{} VMs at once, create → Running, a VM", names.len()), time(took / more), "");
    progress("watching it with all of them");
    let share = cpu_share(instance.pid, options.idle / 2).await?;
    table.fact(format!("ferrovirt, processor over {} s", options.idle / 2), share, "");
    let mut all = names;
    all.push(format!("bench{}", options.rounds - 1));
    progress("deleting them");
    vms::delete(&instance.client, &all).await
}
