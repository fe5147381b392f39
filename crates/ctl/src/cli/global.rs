//! Flags of every command: kubectl's.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

/// The variable that holds the token when no flag does. Unlike a flag, it is not in the list of processes.
pub const TOKEN_VARIABLE: &str = "VIRTCTL_TOKEN";

/// Which cluster, namespace and user; kubectl's flags.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Path to the kubeconfig file to use.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The name of the kubeconfig context to use.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The name of the kubeconfig cluster to use.
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// The name of the kubeconfig user to use.
    #[arg(long, global = true)]
    pub user: Option<String>,
    /// The namespace of the request.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// The address of the Kubernetes API server.
    #[arg(short, long, global = true)]
    pub server: Option<String>,
    /// Bearer token for authentication to the API server.
    #[arg(long, global = true, env = TOKEN_VARIABLE, hide_env_values = true)]
    pub token: Option<String>,
    /// User to impersonate.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to impersonate; may be repeated.
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub impersonate_groups: Vec<String>,
    /// UID to impersonate.
    #[arg(long = "as-uid", global = true, value_name = "UID")]
    pub impersonate_uid: Option<String>,
    /// Certificate file of the server's authority.
    #[arg(long, global = true, value_name = "FILE")]
    pub certificate_authority: Option<PathBuf>,
    /// Client certificate file.
    #[arg(long, global = true, value_name = "FILE")]
    pub client_certificate: Option<PathBuf>,
    /// Key file of the client certificate.
    #[arg(long, global = true, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Name in the server's certificate, if not its host.
    #[arg(long, global = true, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Do not check the server's certificate.
    #[arg(long, global = true)]
    pub insecure_skip_tls_verify: bool,
    // An open console, VNC or port is not cut off.
    /// How long an answer is waited for, such as 30s or 2m.
    #[arg(long, global = true, value_name = "DURATION", value_parser = timeout)]
    pub request_timeout: Option<Duration>,
    /// Verbosity; from 6 on, requests are shown on stderr.
    #[arg(short, long = "v", global = true, value_name = "LEVEL", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    pub verbosity: i32,
}

impl Global {
    /// The flags that make another virtctl reach the same cluster as the same user, but for the namespace and for the token, which
    /// belongs into [`TOKEN_VARIABLE`].
    pub fn words(&self) -> Vec<String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
        let mut flags = vec![
            ("kubeconfig", path(&self.kubeconfig)),
            ("context", self.context.clone()),
            ("cluster", self.cluster.clone()),
            ("user", self.user.clone()),
            ("server", self.server.clone()),
            ("as", self.impersonate.clone()),
            ("as-uid", self.impersonate_uid.clone()),
            ("certificate-authority", path(&self.certificate_authority)),
            ("client-certificate", path(&self.client_certificate)),
            ("client-key", path(&self.client_key)),
            ("tls-server-name", self.tls_server_name.clone()),
            ("insecure-skip-tls-verify", self.insecure_skip_tls_verify.then(|| "true".into())),
            ("request-timeout", self.request_timeout.map(|limit| format!("{}ms", limit.as_millis()))),
            ("v", (self.verbosity != 0).then(|| self.verbosity.to_string())),
        ];
        flags.extend(self.impersonate_groups.iter().map(|group| ("as-group", Some(group.clone()))));
        flags.into_iter().filter_map(|(flag, value)| value.map(|value| format!("--{flag}={value}"))).collect()
    }
}

/// Whole seconds, or a duration as Go writes it.
fn timeout(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    // The parser reads more than Go does.
    let is_go = text.chars().all(|c| c.is_ascii_digit() || "hmsuµn.".contains(c));
    let parsed = if is_go { text.parse::<SignedDuration>().ok() } else { None };
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "use a whole number of seconds, or numbers with a time unit, such as 1s, 2m or 1h30m".into())
}
