//! virtctl: what `kubectl` cannot do to a virtual machine. Commands, flags, texts and exit codes are upstream's; each verb has a file.

mod address;
pub mod cli;
mod commands;
mod connect;
mod output;
mod socket;
mod subresource;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::FromArgMatches;

/// Runs virtctl with the arguments of the process, as `virtctl` or as the plugin `kubectl virt`.
pub async fn run() -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let cli = match cli::Cli::from_arg_matches(&cli::command(&program).get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match commands::run(cli).await {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
