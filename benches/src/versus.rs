//! Our API server against kube-apiserver with etcd: the same client, the same objects, one after the other in each round.

mod load;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use fv_conformance::servers::{self, Program};

use crate::progress;
use crate::stats::{median, mib, rate, ratio, time};
use crate::table::{Row, Table};
use load::{Figures, Phase};

/// What `fv-bench apiserver` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where kube-apiserver and etcd are, as tests/cluster/build.sh prints it.
    #[arg(long, value_name = "DIR", env = "FERROVIRT_KUBERNETES_DIR")]
    pub(crate) kubernetes: Option<PathBuf>,
    /// Where to work; must be on the disk that is to be measured.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) under: PathBuf,
    /// Each server is started and measured so many times.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Objects of a kibibyte.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) objects: usize,
    /// Clients that watch.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) watchers: usize,
}

/// Fills the table.
pub(crate) async fn measure(options: &Options, table: &mut Table) -> Result<()> {
    ensure!(
        options.rounds > 0 && options.objects >= 1000 && options.watchers > 0,
        "--rounds and --watchers must be at least 1, --objects at least 1000"
    );
    let programs = options.kubernetes.clone().map_or_else(servers::default_programs, Ok)?;
    let ours = Program::Ours(std::env::current_exe().context("find this program")?);
    let real = Program::Real { programs, durable: true, collector: false };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        progress(&format!("round {round} of {}: ours", options.rounds));
        left.push(load::measure(ours.clone(), options).await.context("our server")?);
        progress(&format!("round {round} of {}: kube-apiserver", options.rounds));
        right.push(load::measure(real.clone(), options).await.context("kube-apiserver")?);
    }
    table.section(&format!(
        "API server alone with {} objects of 1 KiB, through TLS; the floor is kube-apiserver 1.35 and etcd; medians of {}",
        options.objects, options.rounds
    ));
    let both = Both { ours: left, real: right };
    for row in both.rows(options) {
        table.row(row);
    }
    Ok(())
}

/// The rounds of both servers.
struct Both {
    ours: Vec<Figures>,
    real: Vec<Figures>,
}

impl Both {
    fn rows(&self, options: &Options) -> Vec<Row> {
        let clients = load::CLIENTS;
        let mut rows = vec![
            self.time("start → ready", |f| f.ready, "0.2 s"),
            self.time("kill -9 → serving again", |f| f.back, ""),
        ];
        for (what, phase) in [
            (format!("create, {clients} clients"), (|f| &f.creates) as fn(&Figures) -> &Phase),
            (format!("update, {clients} clients"), |f| &f.updates),
            (format!("get, {clients} clients"), |f| &f.gets),
            (format!("list of {}", options.objects), |f| &f.lists),
        ] {
            rows.push(self.phase(&what, phase));
            rows.push(self.per_core(phase));
        }
        let watch = format!("create → seen by {} watches", options.watchers);
        rows.push(self.time(&format!("{watch}, median"), |f| f.watched.median, ""));
        rows.push(self.time(&format!("{watch}, p99"), |f| f.watched.p99, ""));
        rows.push(self.per_core(|f| &f.watched));
        rows.push(self.time("get, 1 client, median", |f| f.alone.median, ""));
        rows.push(self.time("get, 1 client, p99", |f| f.alone.p99, ""));
        rows.push(self.time("  while lists run, median", |f| f.beside_lists.median, "as without"));
        rows.push(self.time("  while lists run, p99", |f| f.beside_lists.p99, "as without"));
        rows.push(self.row(&format!("memory with {} objects, RSS", options.objects), |f| f.rss, mib, "≤ 0.1 ×"));
        rows
    }

    fn row(&self, what: &str, figure: impl Fn(&Figures) -> f64, unit: impl Fn(f64) -> String, aim: &str) -> Row {
        let middle = |rounds: &[Figures]| median(&rounds.iter().map(&figure).collect::<Vec<_>>());
        let (ours, real) = (middle(&self.ours), middle(&self.real));
        Row { what: what.into(), ours: unit(ours), floor: unit(real), against: ratio(ours, real), aim: aim.into() }
    }

    fn time(&self, what: &str, figure: impl Fn(&Figures) -> f64, aim: &str) -> Row {
        self.row(what, figure, time, aim)
    }

    /// Requests a second; and what a request took.
    fn phase(&self, what: &str, phase: fn(&Figures) -> &Phase) -> Row {
        let mut row = self.row(what, |f| phase(f).per_second, rate, "");
        let took = |quantile: fn(&Phase) -> f64| self.time("", |f| quantile(phase(f)), "");
        let (middle, late) = (took(|p| p.median), took(|p| p.p99));
        row.ours = format!("{}, median {}, p99 {}", row.ours, middle.ours, late.ours);
        row.floor = format!("{}, median {}, p99 {}", row.floor, middle.floor, late.floor);
        row
    }

    /// What the processes of the server would do in a second of one processor.
    fn per_core(&self, phase: fn(&Figures) -> &Phase) -> Row {
        self.row("  a second of a core", |f| phase(f).per_core, |n| format!("{n:.0}"), "≥ 2 ×")
    }
}
