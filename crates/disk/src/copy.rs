//! Copying an untrusted stream into a new file: hashed, sparse, capped, and never filling the disk to the brim.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use sha2::{Digest as _, Sha256};

use crate::safe_fs::{Dir, is_no_space};

/// Bytes handled at a time.
const CHUNK: usize = 1 << 20;
/// Smallest run of zeros that becomes a hole.
const BLOCK: usize = 64 << 10;
/// Bytes written between looks at the free space.
const SPACE_INTERVAL: u64 = 64 << 20;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What bounds a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_bytes: u64,
    /// Free bytes to leave on the file system.
    pub(crate) reserve_bytes: u64,
}

#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
    TooLarge { max: u64 },
    NoSpace { available: u64 },
}

/// What was copied.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Hex digits of the SHA-256 of all bytes, holes included.
    pub(crate) sha256: String,
    pub(crate) length: u64,
}

/// Copies `input` to `output`, a new file in the file system of `dir`.
pub(crate) fn copy_stream(
    input: &mut dyn Read,
    output: &File,
    dir: &Dir,
    limits: Limits,
    mut progress: impl FnMut(u64),
) -> Result<Copied, CopyError> {
    pipeline(output, dir, limits, |sink| {
        loop {
            let mut chunk = vec![0; CHUNK];
            let filled = fill(input, &mut chunk).map_err(CopyError::Read)?;
            chunk.truncate(filled);
            if chunk.is_empty() {
                return Ok(());
            }
            sink.put(chunk)?;
            progress(sink.length);
        }
    })
}

/// Copies a regular file, skipping its holes.
pub(crate) fn copy_file(
    input: &File,
    output: &File,
    dir: &Dir,
    limits: Limits,
    mut progress: impl FnMut(u64),
) -> Result<Copied, CopyError> {
    let length = input.metadata().map_err(CopyError::Read)?.len();
    pipeline(output, dir, limits, |sink| {
        while sink.length < length {
            let (start, end) = next_data(input, sink.length, length).map_err(CopyError::Read)?;
            sink.skip(start - sink.length)?;
            while sink.length < end {
                let mut chunk = vec![0; CHUNK.min((end - sink.length) as usize)];
                // Shorter than a moment ago: somebody is writing to it.
                input.read_exact_at(&mut chunk, sink.length).map_err(CopyError::Read)?;
                sink.put(chunk)?;
                progress(sink.length);
            }
            progress(sink.length);
        }
        Ok(())
    })
}

/// The next range with data at or after `at`.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<(u64, u64)> {
    use rustix::fs::{SeekFrom, seek};
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.min(length),
        Err(rustix::io::Errno::NXIO) => return Ok((length, length)),
        // File systems without holes.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => return Ok((at, length)),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(length).clamp(start, length);
    Ok((start, end))
}

fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Runs `produce` with a sink that writes here and hashes on another core.
fn pipeline(
    output: &File,
    dir: &Dir,
    limits: Limits,
    produce: impl FnOnce(&mut Sink<'_>) -> Result<(), CopyError>,
) -> Result<Copied, CopyError> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Piece>(8);
        let hasher = scope.spawn(move || {
            let mut hash = Sha256::new();
            for piece in receiver {
                match piece {
                    Piece::Data(bytes) => hash.update(&*bytes),
                    Piece::Zeros(mut count) => {
                        while count > 0 {
                            let now = count.min(BLOCK as u64);
                            hash.update(&ZEROS[..now as usize]);
                            count -= now;
                        }
                    }
                }
            }
            hex::encode(hash.finalize())
        });
        let mut sink = Sink { output, dir, limits, length: 0, unchecked: u64::MAX, hasher: sender };
        let result = produce(&mut sink);
        let length = sink.length;
        // Closes the channel, which ends the hasher.
        drop(sink);
        let sha256 = hasher.join().map_err(|_| CopyError::Read(io::Error::other("the hashing thread died")))?;
        result?;
        output.set_len(length).map_err(write_error(dir))?;
        Ok(Copied { sha256, length })
    })
}

enum Piece {
    Data(Arc<Vec<u8>>),
    Zeros(u64),
}

struct Sink<'a> {
    output: &'a File,
    dir: &'a Dir,
    limits: Limits,
    length: u64,
    /// Bytes written since the free space was looked at.
    unchecked: u64,
    hasher: std::sync::mpsc::SyncSender<Piece>,
}

impl Sink<'_> {
    fn grow(&mut self, by: u64) -> Result<u64, CopyError> {
        let at = self.length;
        self.length = at
            .checked_add(by)
            .filter(|length| *length <= self.limits.max_bytes)
            .ok_or(CopyError::TooLarge { max: self.limits.max_bytes })?;
        Ok(at)
    }

    fn skip(&mut self, count: u64) -> Result<(), CopyError> {
        self.grow(count)?;
        if count > 0 {
            self.hash(Piece::Zeros(count))?;
        }
        Ok(())
    }

    fn put(&mut self, chunk: Vec<u8>) -> Result<(), CopyError> {
        let mut at = self.grow(chunk.len() as u64)?;
        if self.unchecked >= SPACE_INTERVAL {
            let available = self.dir.space().map_err(|error| CopyError::Write(error.source))?.available;
            if available < self.limits.reserve_bytes {
                return Err(CopyError::NoSpace { available });
            }
            self.unchecked = 0;
        }
        let chunk = Arc::new(chunk);
        self.hash(Piece::Data(Arc::clone(&chunk)))?;
        for block in chunk.chunks(BLOCK) {
            if block != &ZEROS[..block.len()] {
                self.output.write_all_at(block, at).map_err(write_error(self.dir))?;
                self.unchecked = self.unchecked.saturating_add(block.len() as u64);
            }
            at += block.len() as u64;
        }
        Ok(())
    }

    fn hash(&self, piece: Piece) -> Result<(), CopyError> {
        self.hasher.send(piece).map_err(|_| CopyError::Read(io::Error::other("the hashing thread died")))
    }
}

fn write_error(dir: &Dir) -> impl FnOnce(io::Error) -> CopyError {
    let available = dir.space().map_or(0, |space| space.available);
    move |error| if is_no_space(&error) { CopyError::NoSpace { available } } else { CopyError::Write(error) }
}

/// Bytes a file occupies on its file system.
pub(crate) fn disk_usage(file: &File) -> u64 {
    rustix::fs::fstat(file.as_fd()).map_or(0, |stat| stat.st_blocks.max(0) as u64 * 512)
}
