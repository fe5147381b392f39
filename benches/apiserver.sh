#!/usr/bin/env bash
# Prints the figures of the API server against kube-apiserver and etcd. Options are those of `fv-bench apiserver` (`--help`);
# `--check` says only whether what builds kube-apiserver is there.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v go >/dev/null || { echo "Go is missing, which builds kube-apiserver to compare with: install it (1.25 or later)." >&2; exit 1; }
[ "${1:-}" != --check ] || exit 0
cargo build --quiet --release -p fv-benches
kubernetes=$(nice tests/cluster/build.sh kube-apiserver etcd)
exec "${CARGO_TARGET_DIR:-target}/release/fv-bench" apiserver --kubernetes "$kubernetes" "$@"
