//! One verb, one file.

mod console;
mod create;
mod expose;
mod instance;
mod port_forward;
mod ssh;
mod target;
mod version;
mod vm;
mod vnc;

use std::path::Path;
use std::process::ExitCode;

use crate::cli::{self, Cli, Command, CreateKind};
use crate::connect::Session;

pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Completion(completion) => {
            let mut grammar = cli::command(Path::new("virtctl"));
            clap_complete::generate(completion.shell, &mut grammar, "virtctl", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Create(create) => match create.kind {
            CreateKind::Vm(options) => {
                create::vm(&options, cli.global.namespace.as_deref()).map(|()| ExitCode::SUCCESS)
            }
        },
        Command::Version(options) => version::run(&options, &cli.global).await.map(|()| ExitCode::SUCCESS),
        Command::Ssh(options) => ssh::ssh(&options, &cli.global).await,
        Command::Scp(options) => ssh::scp(&options, &cli.global).await,
        command => on_cluster(command, &Session::open(&cli.global).await?).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn on_cluster(command: Command, session: &Session) -> anyhow::Result<()> {
    match command {
        Command::Start(options) => vm::start(session, &options).await,
        Command::Stop(options) => vm::stop(session, &options).await,
        Command::Restart(options) => vm::restart(session, &options).await,
        Command::Pause(options) => instance::pause(session, &options).await,
        Command::Unpause(options) => instance::unpause(session, &options).await,
        Command::SoftReboot(options) => instance::soft_reboot(session, &options.name).await,
        Command::Reset(options) => instance::reset(session, &options.name).await,
        Command::Guestosinfo(options) => instance::show(session, &options.name, "guestosinfo").await,
        Command::Userlist(options) => instance::show(session, &options.name, "userlist").await,
        Command::Fslist(options) => instance::show(session, &options.name, "filesystemlist").await,
        Command::Console(options) => console::run(session, &options).await,
        Command::Vnc(options) => vnc::run(session, &options).await,
        Command::Expose(options) => expose::run(session, &options).await,
        Command::PortForward(options) => port_forward::run(session, &options).await,
        // These need no cluster and were answered before.
        Command::Completion(_) | Command::Create(_) | Command::Version(_) | Command::Ssh(_) | Command::Scp(_) => Ok(()),
    }
}
