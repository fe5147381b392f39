//! Reading one blob: over the network in async code, resumed where a connection breaks; consumed and verified in blocking code.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use oci_client::client::BlobResponse;
use oci_client::errors::DigestError;
use oci_client::{Client, Reference};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Receiver, Sender};

use super::PullError;
use super::error::chain;
use super::manifest::Descriptor;

/// How often a broken connection is taken up again without a byte in between.
const RESUMES: u32 = 4;

/// Sends the bytes of a blob to `sink`, then closes it. Errors go there too. Returns when the reader is gone.
pub(super) async fn feed(
    client: &Client,
    reference: &Reference,
    blob: &Descriptor,
    sink: Sender<Result<Bytes, PullError>>,
) {
    if sink.is_closed() {
        return;
    }
    if let Err(error) = download(client, reference, blob, &sink).await {
        let _ = sink.send(Err(error)).await;
    }
}

async fn download(
    client: &Client,
    reference: &Reference,
    blob: &Descriptor,
    sink: &Sender<Result<Bytes, PullError>>,
) -> Result<(), PullError> {
    let registry = reference.resolve_registry();
    let (mut at, mut failures) = (0_u64, 0);
    loop {
        let reason = match request(client, reference, blob, at).await {
            Ok((mut stream, mut skip)) => loop {
                match stream.next().await {
                    None if at >= blob.size => return Ok(()),
                    None => break "the answer ended early".to_owned(),
                    Some(Ok(mut bytes)) => {
                        let skipped = skip.min(bytes.len() as u64);
                        bytes.advance(skipped as usize);
                        skip -= skipped;
                        if bytes.is_empty() {
                            continue;
                        }
                        failures = 0;
                        at += bytes.len() as u64;
                        if sink.send(Ok(bytes)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Some(Err(error)) => {
                        if let Some(DigestError::VerificationError { expected, actual }) =
                            error.get_ref().and_then(|inner| inner.downcast_ref::<DigestError>())
                        {
                            let (expected, actual) = (expected.clone(), actual.clone());
                            return Err(PullError::WrongDigest { what: "layer", expected, actual });
                        }
                        break chain(&error);
                    }
                }
            },
            Err(error @ PullError::Unreachable { .. }) if at > 0 => error.to_string(),
            Err(error) => return Err(error),
        };
        failures += 1;
        if failures > RESUMES {
            return Err(PullError::Interrupted { registry: registry.into(), reason });
        }
        tracing::debug!(registry, at, reason, "resuming blob");
        tokio::time::sleep(Duration::from_millis(250 << failures)).await;
    }
}

type ByteStream = futures::stream::BoxStream<'static, Result<Bytes, io::Error>>;

/// The blob from `at` on, and how many bytes of the answer to skip because the registry ignores ranges.
async fn request(
    client: &Client,
    reference: &Reference,
    blob: &Descriptor,
    at: u64,
) -> Result<(ByteStream, u64), PullError> {
    let failed = |error| PullError::from_client(error, &reference.whole(), reference.resolve_registry());
    // By digest alone: a manifest's `urls` would send us to hosts of its author's choice.
    let digest = blob.digest.as_str();
    if at == 0 {
        return Ok((client.pull_blob_stream(reference, digest).await.map_err(failed)?.stream, 0));
    }
    match client.pull_blob_stream_partial(reference, digest, at, None).await.map_err(failed)? {
        BlobResponse::Full(stream) => Ok((stream.stream, at)),
        BlobResponse::Partial(stream) => Ok((stream.stream, 0)),
    }
}

/// The other end of [`feed`]: a blocking reader that counts and hashes.
pub(super) struct BlobReader {
    source: Receiver<Result<Bytes, PullError>>,
    current: Bytes,
    blob: Descriptor,
    hash: Sha256,
    read: u64,
    failure: Option<PullError>,
    finished: bool,
    progress: Box<dyn FnMut(u64) + Send>,
}

impl BlobReader {
    pub(super) fn new(
        source: Receiver<Result<Bytes, PullError>>,
        blob: Descriptor,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Self {
        Self {
            source,
            current: Bytes::new(),
            blob,
            hash: Sha256::new(),
            read: 0,
            failure: None,
            finished: false,
            progress: Box::new(progress),
        }
    }

    /// Why reading failed, where it was not the content's fault.
    pub(super) fn take_failure(&mut self) -> Option<PullError> {
        self.failure.take()
    }

    /// Reads what is left and checks size and digest.
    pub(super) fn finish(mut self) -> Result<(), PullError> {
        let copied = io::copy(&mut self, &mut io::sink());
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let layer = |reason: String| PullError::Layer { digest: self.blob.digest.clone(), reason };
        copied.map_err(|error| layer(error.to_string()))?;
        if self.read != self.blob.size {
            return Err(layer(format!("it is {} bytes long, the manifest says {}", self.read, self.blob.size)));
        }
        let actual = format!("sha256:{}", hex::encode(self.hash.finalize()));
        if actual != self.blob.digest {
            return Err(PullError::WrongDigest { what: "layer", expected: self.blob.digest, actual });
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<()> {
        match self.source.blocking_recv() {
            Some(Ok(bytes)) => {
                self.read += bytes.len() as u64;
                if self.read > self.blob.size {
                    self.failure = Some(PullError::Layer {
                        digest: self.blob.digest.clone(),
                        reason: format!("it is longer than the {} bytes the manifest says", self.blob.size),
                    });
                    return Err(io::Error::other("blob too long"));
                }
                self.hash.update(&bytes);
                self.current = bytes;
                (self.progress)(self.read);
                Ok(())
            }
            Some(Err(error)) => {
                let message = error.to_string();
                self.failure = Some(error);
                Err(io::Error::other(message))
            }
            // Closed in the middle: the future that fed us was dropped.
            None if self.read < self.blob.size => {
                self.failure = Some(PullError::Cancelled);
                Err(io::Error::other("cancelled"))
            }
            None => {
                self.finished = true;
                Ok(())
            }
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.finished {
            if self.failure.is_some() {
                return Err(io::Error::other("blob failed"));
            }
            self.next()?;
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
