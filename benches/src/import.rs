//! Image import against `cp` and against a digest of the same file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::instance::{Instance, run};

pub(crate) const MIB: u64 = 256;

/// Median-ready times of each way, in turns.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) import: Vec<Duration>,
    pub(crate) copy: Vec<Duration>,
    pub(crate) digest: Vec<Duration>,
}

pub(crate) fn measure(instance: &Instance, rounds: usize) -> Result<Times> {
    let mut times = Times::default();
    let copy = instance.work.join("copy.img");
    for round in 0..rounds {
        // Another content each time: the store would notice that it has it.
        let file = instance.work.join("import.img");
        fill(&file, round as u64 + 1)?;
        times.digest.push(timed(|| run(Command::new("sha256sum").arg(&file)).map(drop))?);
        times.copy.push(timed(|| {
            run(Command::new("cp").arg("--reflink=never").arg(&file).arg(&copy))?;
            // The store promises that an imported image survives a power cut.
            run(Command::new("sync").arg(&copy)).map(drop)
        })?);
        std::fs::remove_file(&copy)?;
        times.import.push(timed(|| instance.import(&format!("bench/import:{round}"), &file))?);
        std::fs::remove_file(&file)?;
    }
    Ok(times)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

/// A raw disk without a hole and without repetition.
fn fill(path: &Path, seed: u64) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..MIB * (1 << 20) / 8 {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}
