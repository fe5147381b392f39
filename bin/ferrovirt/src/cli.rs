//! The grammar of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Virtual machines on one machine, behind a Kubernetes-compatible API.
#[derive(Debug, Parser)]
#[command(name = "ferrovirt", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the API server, the controllers and the node agent.
    Up(Up),
    /// Stop them; guests go on unless asked otherwise.
    Down(Down),
    /// Say whether the instance runs, and which guests do.
    Status(At),
    /// Say what this machine lacks, with the exact remedy.
    Doctor,
    /// Write the objects and keys into one file; the instance may be running.
    Backup(Backup),
    /// Put a backup in the place of the objects and keys of an instance that does not run.
    Restore(Restore),
    /// Disk images for containerDisk volumes, without a registry.
    Image(Image),
}

/// Which instance.
#[derive(Clone, Debug, Args)]
pub(crate) struct At {
    /// Directory of the instance's objects, keys, images and disks; it tells instances apart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ferrovirt", env = "FERROVIRT_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) at: At,
    /// Address of the API server.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7443")]
    pub(crate) listen: SocketAddr,
    /// Where to write the administrator's kubeconfig [default: kubeconfig in the data directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) write_kubeconfig: Option<PathBuf>,
    /// Stay in the foreground and log to standard error.
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Registry reached by plain http (HOST:PORT); may be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) insecure_registry: Vec<String>,
    /// Feature that is off by default; may be repeated.
    #[arg(long, value_name = "GATE", value_parser = [fv_standalone::up::HOST_DISK])]
    pub(crate) feature_gate: Vec<String>,
    /// The virt-launcher program [default: beside this one].
    #[arg(long, value_name = "FILE")]
    pub(crate) launcher: Option<PathBuf>,
    /// Start a private libvirt daemon even where the system's runs.
    #[arg(long)]
    pub(crate) private_libvirt: bool,
    /// Tell the parent, on standard output, when ready; used by `up` without --foreground.
    #[arg(long, hide = true)]
    pub(crate) notify: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) at: At,
    /// Shut the guests down too, and end everything of the instance on the machine. Its data stays: `up` starts the
    /// guests again by their run strategies.
    #[arg(long)]
    pub(crate) stop_vms: bool,
    /// As --stop-vms, and delete the data directory: every object, image and disk.
    #[arg(long)]
    pub(crate) purge: bool,
    /// Every instance that left traces on this machine, not only that of --data-dir.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) at: At,
    /// The file to make. It holds secrets: only its owner may read it. Images and disks of guests are not in it.
    pub(crate) file: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) at: At,
    /// A file that `backup` made, or a database that an earlier restore or upgrade put aside.
    pub(crate) file: PathBuf,
    /// Restore over what the instance has; that is kept beside it.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Image {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Copy a raw or qcow2 file into the store, under the name containerDisk volumes give.
    Import {
        /// Image name, for example `demo:latest`.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// List the images.
    Ls,
    /// Forget a name, and the image when nothing else needs it.
    Rm {
        /// Image name.
        name: String,
    },
}
