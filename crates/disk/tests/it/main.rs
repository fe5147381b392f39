//! The image store, the registry puller and VM disks against the real programs: Debian's docker-registry, qemu-img, genisoimage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod guest;
mod pull;
mod store;
mod unpacked;
mod vm_dir;

use std::path::Path;
use std::process::Command;

use fv_disk::{ImageStore, StoreConfig};

/// A store below `dir`, keeping nothing in reserve.
fn store_config(dir: &Path) -> StoreConfig {
    StoreConfig { reserve_bytes: 0, ..StoreConfig::new(dir.join("images")) }
}

fn open_store(dir: &Path) -> ImageStore {
    ImageStore::open(store_config(dir)).unwrap()
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn qemu_img(args: &[&str]) -> String {
    run("qemu-img", args)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes that compress badly and differ by seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
