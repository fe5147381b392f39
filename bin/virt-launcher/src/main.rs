//! The program of a VM's launcher pod. The pod holds what the VM uses of Kubernetes; nothing of the VM depends on this process.
//!
//! `run` serves the guest's DHCP from a file the handler wrote and stays until the handler releases the pod. `console-log` copies the
//! guest's console log to standard output. `probe` tells whoever runs the pod whether the guest is ready. On Kubernetes `install`
//! brings this program into containers of containerDisk images, where `container-disk` keeps the image present. All keep their state
//! in the share directory only, so any may be killed and started again at any time.

mod args;
mod console_log;
mod container_disk;
mod dhcp;
mod log;
mod probe;
mod run;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    // Other pods' launchers have the same user: they may not look into this process.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let command = match args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(message) => {
            log::line(format_args!("virt-launcher: {message}\n\n{}", args::USAGE));
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Run(args) => run::run(&args),
        Command::ConsoleLog(args) => console_log::follow(&args),
        Command::Install(args) => container_disk::install(&args),
        Command::ContainerDisk => match container_disk::hold() {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Probe(args) => match probe::report(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Help => std::io::stdout().write_all(args::USAGE.as_bytes()),
        Command::Version => writeln!(std::io::stdout(), "virt-launcher {}", env!("CARGO_PKG_VERSION")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(format_args!("virt-launcher: {error}"));
            ExitCode::FAILURE
        }
    }
}
