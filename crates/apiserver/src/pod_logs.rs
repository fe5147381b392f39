//! The port to container logs.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::status::Status;

/// Query of `pods/log`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Container; never empty, the server picks the only or the default one.
    pub container: String,
    /// Stream until the client goes.
    pub follow: bool,
    /// The instance before the last restart.
    pub previous: bool,
    /// Prefix each line with its time.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only this many bytes.
    pub limit_bytes: Option<u64>,
    /// Only lines younger than this.
    pub since_seconds: Option<u64>,
    /// Only lines younger than this time of day, as RFC 3339 has it.
    pub since_time: Option<String>,
}

/// Log bytes as they come.
pub type LogStream = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// Reads container logs.
#[async_trait]
pub trait PodLogs: Send + Sync {
    /// The log of one container of a pod (given as stored).
    async fn logs(&self, pod: &Value, options: LogOptions) -> Result<LogStream, Status>;
}

/// No pods run here.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPodLogs;

#[async_trait]
impl PodLogs for NoPodLogs {
    async fn logs(&self, _: &Value, _: LogOptions) -> Result<LogStream, Status> {
        Err(Status::new(501, "NotImplemented", "this server runs no pods and has no logs"))
    }
}
