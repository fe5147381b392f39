#!/usr/bin/env bash
# Removes every trace of Ferrovirt from this machine: instances, guests, networks, files. Distribution packages stay.
set -euo pipefail
cd "$(dirname "$0")/.."
program=
for candidate in "${CARGO_TARGET_DIR:-target}/release/ferrovirt" "${CARGO_TARGET_DIR:-target}/debug/ferrovirt" "$(command -v ferrovirt || true)"; do
  [ -x "$candidate" ] && program=$candidate && break
done
if [ -n "$program" ]; then
  "$program" down --all --purge
elif [ -d /run/ferrovirt ] || [ -d /var/lib/ferrovirt ]; then
  echo "an instance is there but no ferrovirt program to end it: run 'make build' first" >&2
  exit 1
fi
rmdir /run/ferrovirt 2>/dev/null || true
rm -f "$HOME/.kube/ferrovirt.yaml"
