#!/usr/bin/env bash
# Builds the optimised programs into target/release.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cargo build --release -p ferrovirt -p virtctl
# By this name in the PATH kubectl finds it: `kubectl virt`.
ln -sf virtctl "$target/release/kubectl-virt"
# The launcher is in every pod: it is built for size, and takes its place beside the others.
cargo build --profile launcher -p virt-launcher
install -m 755 "$target/launcher/virt-launcher" "$target/release/virt-launcher"
