#!/usr/bin/env bash
# Prints the table of figures. As root; needs what `make bench` builds. Options are those of fv-bench (`--help`).
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath -m "${CARGO_TARGET_DIR:-target}/release")
for program in ferrovirt virtctl virt-launcher fv-bench; do
  [ -x "$bin/$program" ] || { echo "$bin/$program is missing: run 'make bench', which builds it" >&2; exit 1; }
done
image=$PWD/target/guest/demo.qcow2
[ -f "$image" ] || guest/build.sh "$image"
exec "$bin/fv-bench" run --programs "$bin" --image "$image" "$@"
