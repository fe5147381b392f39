//! The grammar of the command line: types only.

mod booleans;
mod expose;
mod global;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use self::expose::Expose;
pub use self::global::{Global, TOKEN_VARIABLE};

/// Control virtual machines: console, VNC, start, stop and what else kubectl cannot do.
#[derive(Debug, Parser)]
#[command(name = "virtctl", version, disable_version_flag = true, propagate_version = false)]
// As upstream: of a flag that is given twice the last counts.
#[command(args_override_self = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The grammar, under the name the program was called by: `kubectl virt` when it is installed as kubectl's plugin.
pub fn command(program: &Path) -> clap::Command {
    let is_plugin = program.file_stem().is_some_and(|name| name == "kubectl-virt" || name == "kubectl_virt");
    let command = booleans::take_values(Cli::command());
    if is_plugin { command.bin_name("kubectl virt") } else { command }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a virtual machine.
    Start(Start),
    /// Stop a virtual machine.
    Stop(Stop),
    /// Restart a virtual machine.
    Restart(Stop),
    /// Pause a virtual machine.
    Pause(OnInstance),
    /// Unpause a virtual machine.
    Unpause(OnInstance),
    /// Ask the guest of a virtual machine instance to reboot.
    SoftReboot(Instance),
    /// Reset a virtual machine instance, as its reset button would.
    Reset(Instance),
    /// Connect to the serial console of a virtual machine instance.
    Console(Console),
    /// Open a VNC connection to a virtual machine instance.
    Vnc(Vnc),
    /// Forward local ports to a virtual machine or virtual machine instance.
    PortForward(PortForward),
    /// Expose a virtual machine or virtual machine instance as a new Service.
    Expose(Expose),
    /// Open an SSH connection to a virtual machine instance.
    Ssh(Ssh),
    /// Copy files to or from a virtual machine instance.
    Scp(Scp),
    /// Return guest agent info about the operating system.
    Guestosinfo(Instance),
    /// Return the list of logged in users on the guest.
    Userlist(Instance),
    /// Return the list of file systems on the guest.
    Fslist(Instance),
    /// Print the client and server version.
    Version(Version),
    /// Create a manifest of the given kind.
    Create(Create),
    /// Print the completion script of a shell.
    Completion(Completion),
}

#[derive(Debug, Args)]
pub struct Start {
    /// Name of the VM.
    pub name: String,
    /// Start the VM in paused state.
    #[arg(long)]
    pub paused: bool,
    /// Check only, change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// Name of the VM.
    pub name: String,
    /// Do not wait for the guest; needs --grace-period=0 to take effect at once.
    #[arg(long)]
    pub force: bool,
    /// Seconds the guest has to shut down; negative keeps the VM's own setting.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub grace_period: i64,
    /// Check only, change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct OnInstance {
    /// `vm NAME`, `vmi NAME`, or just the name.
    #[arg(required = true, num_args = 1..=2, value_name = "[vm|vmi] NAME")]
    pub target: Vec<String>,
    /// Check only, change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Instance {
    /// Name of the VMI.
    pub name: String,
}

#[derive(Debug, Args)]
pub struct Console {
    /// Name of the VMI.
    pub name: String,
    /// Minutes to wait until the VMI is ready.
    #[arg(long, default_value_t = 5)]
    pub timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Viewer {
    Tiger,
    Chicken,
    Real,
    RemoteViewer,
}

#[derive(Debug, Args)]
pub struct Vnc {
    /// Name of the VMI.
    pub name: String,
    /// Local address or host name to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub address: String,
    /// Open a port for a viewer of your own and print it, start none.
    #[arg(long)]
    pub proxy_only: bool,
    /// Local port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Refuse to take over another client's session.
    #[arg(long)]
    pub preserve_session: bool,
    /// Viewer to start; by default the first that is installed.
    #[arg(long)]
    pub vnc_type: Option<Viewer>,
    /// Path of the viewer.
    #[arg(long)]
    pub vnc_path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PortForward {
    /// `vm/NAME[/NAMESPACE]` or `vmi/NAME[/NAMESPACE]`.
    pub target: String,
    /// `[protocol/]local[:target]`, for example `tcp/8080:80`.
    #[arg(required = true)]
    pub ports: Vec<String>,
    /// Local address or host name to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub address: String,
    /// Use standard input and output in place of a local port; takes one port.
    #[arg(long)]
    pub stdio: bool,
}

#[derive(Debug, Args)]
pub struct SshOptions {
    /// User to log in as.
    #[arg(short = 'l', long)]
    pub username: Option<String>,
    /// Private key to use.
    #[arg(short = 'i', long)]
    pub identity_file: Option<PathBuf>,
    /// Known hosts file; by default ~/.ssh/kubevirt_known_hosts.
    #[arg(long)]
    pub known_hosts: Option<PathBuf>,
    /// Port of the guest's SSH server.
    #[arg(short = 'p', long, default_value_t = 22)]
    pub port: u16,
    /// Further options for the local ssh or scp, for example `-t "-o LogLevel=ERROR"`; may be repeated.
    #[arg(short = 't', long, allow_hyphen_values = true)]
    pub local_ssh_opts: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Ssh {
    /// `[user@]vm|vmi/NAME[/NAMESPACE]`.
    pub target: String,
    /// Command to run in the guest.
    #[arg(short, long)]
    pub command: Option<String>,
    #[command(flatten)]
    pub options: SshOptions,
}

#[derive(Debug, Args)]
pub struct Scp {
    /// Local path, or `[user@]vm|vmi/NAME[/NAMESPACE]:path`.
    pub source: String,
    /// Local path, or `[user@]vm|vmi/NAME[/NAMESPACE]:path`.
    pub destination: String,
    /// Copy directories with what is in them.
    #[arg(short, long)]
    pub recursive: bool,
    /// Keep times and modes.
    #[arg(long)]
    pub preserve: bool,
    #[command(flatten)]
    pub options: SshOptions,
}

#[derive(Debug, Args)]
pub struct Version {
    /// Client version only, without a server.
    #[arg(short, long)]
    pub client: bool,
}

#[derive(Debug, Args)]
pub struct Create {
    #[command(subcommand)]
    pub kind: CreateKind,
}

#[derive(Debug, Subcommand)]
pub enum CreateKind {
    /// Print a VirtualMachine manifest.
    Vm(CreateVm),
}

#[derive(Debug, Args)]
pub struct CreateVm {
    /// Name of the VM; a random one when not given.
    #[arg(long)]
    pub name: Option<String>,
    /// Run strategy.
    #[arg(long, default_value = "Always")]
    pub run_strategy: String,
    /// Memory of the guest.
    #[arg(long, default_value = "512Mi")]
    pub memory: String,
    /// Seconds the guest has to shut down.
    #[arg(long, default_value_t = 180)]
    pub termination_grace_period: i64,
    /// Disk from an image: `src:IMAGE[,name:NAME][,bootorder:N]`; may be repeated.
    #[arg(long, value_name = "src:IMAGE")]
    pub volume_containerdisk: Vec<String>,
    /// Disk from a PersistentVolumeClaim: `src:CLAIM[,name:NAME][,bootorder:N]`; may be repeated.
    #[arg(long, value_name = "src:CLAIM")]
    pub volume_pvc: Vec<String>,
    // Hides the global flag of this name, as upstream's does: a manifest needs no cluster's user.
    /// User that cloud-init makes.
    #[arg(long)]
    pub user: Option<String>,
    /// File with that user's password.
    #[arg(long)]
    pub password_file: Option<PathBuf>,
    /// SSH public key of that user; may be repeated.
    #[arg(long)]
    pub ssh_key: Vec<String>,
    /// Cloud-init data source.
    #[arg(long, value_enum, default_value_t = CloudInit::Nocloud)]
    pub cloud_init: CloudInit,
    /// Base64 encoded cloud-init user data.
    #[arg(long)]
    pub cloud_init_user_data: Option<String>,
    /// Base64 encoded cloud-init network data.
    #[arg(long)]
    pub cloud_init_network_data: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CloudInit {
    Nocloud,
    Configdrive,
    None,
}

#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    pub shell: clap_complete::Shell,
}
