#!/usr/bin/env bash
# Removes every trace of Ferrovirt from this machine: instances, guests, networks, files, built guest images. What stays: distribution
# packages, and the data of an instance that was given a --data-dir of its own and is stopped (`ferrovirt down --purge --data-dir DIR`).
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
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ferrovirt
rm -rf "${FERROVIRT_GUEST_CACHE:-$cache/guest}"
rmdir "$cache" 2>/dev/null || [ ! -d "$cache" ] || echo "The programs that tests are made with stay in $cache: delete it to be rid of them."
