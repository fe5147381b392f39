//! ferrovirt: virtual machines behind a Kubernetes API, on one machine.

mod backup;
mod cli;
mod image;
mod lifecycle;
mod log;
mod output;
mod start;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::output::complain;

fn main() -> ExitCode {
    // Before any thread: this process may have been started to become something else.
    fv_hypervisor::daemon::supervise_if_asked();
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "internal-container") {
        return become_container(words.next().as_deref().map(Path::new));
    }
    fv_host::memory::economise();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn become_container(spec: Option<&Path>) -> ExitCode {
    let Some(path) = spec else {
        complain("error: internal-container needs the path of a specification; it is not for users");
        return ExitCode::FAILURE;
    };
    // The pod runner opens the gate once it has noted down who we are. If it dies before, nobody ever knows of this process.
    let mut gate = [0];
    if std::io::stdin().read_exact(&mut gate).is_err() || gate != [fv_standalone::podrunner::GO] {
        complain("error: internal-container is started by the pod runner; it is not for users");
        return ExitCode::FAILURE;
    }
    match fv_host::container::ContainerSpec::read(path) {
        Ok(spec) => fv_host::container::exec_in_sandbox(&spec),
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// In-process requests to the API run on the caller's stack, which unoptimised builds make deep.
const STACK: usize = 4 * 1024 * 1024;

pub(crate) fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).thread_stack_size(STACK).enable_all().build()
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up(options) if options.foreground => start::in_foreground(options).map(|()| ExitCode::SUCCESS),
        Command::Up(options) => start::in_background(&options),
        Command::Down(options) => lifecycle::down(&options).map(|()| ExitCode::SUCCESS),
        Command::Status(options) => lifecycle::status(&options),
        Command::Doctor => Ok(lifecycle::doctor()),
        Command::Backup(options) => backup::backup(&options).map(|()| ExitCode::SUCCESS),
        Command::Restore(options) => backup::restore(&options).map(|()| ExitCode::SUCCESS),
        Command::Image(options) => image::run(options).map(|()| ExitCode::SUCCESS),
    }
}
