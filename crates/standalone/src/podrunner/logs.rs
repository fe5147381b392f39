//! `kubectl logs`: container logs, straight from the files the processes append to.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use fv_apiserver::{LogOptions, LogStream, PodLogs, Status};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::sandbox::Paths;
use crate::instance::Instance;

const CHUNK: usize = 16 * 1024;
/// How often a followed log is looked at for more.
const POLL: Duration = Duration::from_millis(250);

/// Reads the logs of the pods of one instance.
#[derive(Clone, Debug)]
pub struct PodLogReader {
    instance: Instance,
}

impl PodLogReader {
    pub fn new(instance: Instance) -> Self {
        Self { instance }
    }
}

fn unsupported(option: &str) -> Status {
    Status::bad_request(format!(
        "{option} is not available: the embedded pod runner keeps the plain output of the current run only"
    ))
}

#[async_trait::async_trait]
impl PodLogs for PodLogReader {
    async fn logs(&self, pod: &Value, options: LogOptions) -> Result<LogStream, Status> {
        for (given, name) in [
            (options.previous, "previous"),
            (options.timestamps, "timestamps"),
            (options.since_seconds.is_some(), "sinceSeconds"),
            (options.since_time.is_some(), "sinceTime"),
        ] {
            if given {
                return Err(unsupported(name));
            }
        }
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let paths = Paths::of(&self.instance, uid);
        let waiting = |_: io::Error| {
            Status::bad_request(format!(
                "container \"{}\" in pod \"{name}\" is waiting to start: ContainerCreating",
                options.container
            ))
        };
        if options.container.contains('/') {
            return Err(waiting(io::ErrorKind::InvalidInput.into()));
        }
        let path = paths.log(&options.container);
        let mut file = tokio::fs::File::open(&path).await.map_err(waiting)?;
        let start = match options.tail_lines {
            None => 0,
            Some(lines) => tail_start(&path, lines).await.map_err(|e| internal(&path, &e))?,
        };
        file.seek(SeekFrom::Start(start)).await.map_err(|e| internal(&path, &e))?;
        let record = options.follow.then(|| paths.dir.join(format!("{}.json", options.container)));
        let limit = options.limit_bytes.unwrap_or(u64::MAX);
        Ok(read(Reader { file, record, left: limit, position: start }))
    }
}

fn internal(path: &Path, error: &io::Error) -> Status {
    Status::internal(format!("read log {}: {error}", path.display()))
}

struct Reader {
    file: tokio::fs::File,
    /// With `follow`: the container's record, which tells whether more can come.
    record: Option<PathBuf>,
    left: u64,
    position: u64,
}

fn read(reader: Reader) -> BoxStream<'static, Result<Bytes, io::Error>> {
    stream::try_unfold(reader, |mut reader| async move {
        loop {
            if reader.left == 0 {
                return Ok(None);
            }
            let wanted = usize::try_from(reader.left).unwrap_or(CHUNK).min(CHUNK);
            let mut buffer = vec![0; wanted];
            let count = reader.file.read(&mut buffer).await?;
            if count > 0 {
                buffer.truncate(count);
                reader.left -= count as u64;
                reader.position += count as u64;
                return Ok(Some((Bytes::from(buffer), reader)));
            }
            let Some(record) = &reader.record else { return Ok(None) };
            let ended = !runs(record).await;
            if reader.file.metadata().await?.len() < reader.position {
                // The log began anew.
                reader.position = reader.file.seek(SeekFrom::Start(0)).await?;
            } else if ended {
                return Ok(None);
            } else {
                tokio::time::sleep(POLL).await;
            }
        }
    })
    .boxed()
}

async fn runs(record: &Path) -> bool {
    let Ok(text) = tokio::fs::read(record).await else { return false };
    serde_json::from_slice::<Value>(&text).is_ok_and(|record| !record["process"].is_null())
}

/// Offset of the last `lines` lines, found from the end in chunks.
async fn tail_start(path: &Path, lines: u64) -> io::Result<u64> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut end = file.metadata().await?.len();
    let total = end;
    let mut seen = 0;
    let mut buffer = vec![0; CHUNK];
    while end > 0 {
        let begin = end.saturating_sub(CHUNK as u64);
        let length = usize::try_from(end - begin).unwrap_or(CHUNK);
        file.seek(SeekFrom::Start(begin)).await?;
        file.read_exact(&mut buffer[..length]).await?;
        for index in (0..length).rev() {
            let at = begin + index as u64;
            // The newline that ends the last line begins no further one.
            if buffer[index] == b'\n' && at + 1 != total {
                seen += 1;
                if seen == lines {
                    return Ok(at + 1);
                }
            }
        }
        if lines == 0 {
            return Ok(total);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_needs_the_time_of_each_line_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let reader = PodLogReader::new(Instance::open(dir.path()).unwrap());
        for (name, options) in [
            ("previous", LogOptions { previous: true, ..LogOptions::default() }),
            ("timestamps", LogOptions { timestamps: true, ..LogOptions::default() }),
            ("sinceSeconds", LogOptions { since_seconds: Some(1), ..LogOptions::default() }),
            ("sinceTime", LogOptions { since_time: Some("2026-01-01T00:00:00Z".into()), ..LogOptions::default() }),
        ] {
            let refused = reader.logs(&Value::Null, options).await.err().unwrap();
            assert!(refused.message.starts_with(&format!("{name} is not available")), "{name}: {}", refused.message);
        }
    }

    #[tokio::test]
    async fn the_tail_is_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let long = "x".repeat(CHUNK + 10);
        tokio::fs::write(&path, format!("one\n{long}\nthree\n")).await.unwrap();
        let total = 4 + (long.len() as u64 + 1) + 6;
        assert_eq!(tail_start(&path, 0).await.unwrap(), total);
        assert_eq!(tail_start(&path, 1).await.unwrap(), total - 6);
        assert_eq!(tail_start(&path, 2).await.unwrap(), 4);
        assert_eq!(tail_start(&path, 9).await.unwrap(), 0);
    }
}
