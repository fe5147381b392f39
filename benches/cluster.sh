#!/usr/bin/env bash
# Prints the figures of Ferrovirt on a real Kubernetes, against plain pods of the same cluster. As root. Options are those of
# `fv-bench cluster` (`--help`).
#
# Starts a cluster of its own (tests/cluster) with optimised images built from this tree, and removes it whatever happens. Settings are in
# tests/cluster/lib/installation.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
. tests/cluster/lib/checks.sh
. tests/cluster/lib/installation.sh

# What it measures is others' time: its own needs no optimiser.
cargo build --quiet -p fv-benches
begin_cluster 1
make_version bench
make_guest
"${CARGO_TARGET_DIR:-target}/debug/fv-bench" cluster --manifests "$work/bench" --images "$work/images" \
  --guest "$IMAGES/kubevirt/demo-guest:e2e" --pause "$IMAGES/pause:test" "$@"
