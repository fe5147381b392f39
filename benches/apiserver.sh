#!/usr/bin/env bash
# Prints the figures of the API server against kube-apiserver and etcd. Options are those of `fv-bench apiserver` (`--help`).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --release -p fv-benches
kubernetes=$(nice tests/cluster/build.sh kube-apiserver etcd)
exec "${CARGO_TARGET_DIR:-target}/release/fv-bench" apiserver --kubernetes "$kubernetes" "$@"
