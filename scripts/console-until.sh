#!/usr/bin/env bash
# console-until.sh VMI PATTERN SECONDS [TEXT…]: shows the serial console until a line matches PATTERN, typing each TEXT (and Enter)
# first. For scripts; exits 1 when the time is up.
set -euo pipefail
vmi=$1 pattern=$2 seconds=$3
shift 3

work=$(mktemp -d)
mkfifo "$work/in"
virtctl console "$vmi" --timeout 3 <"$work/in" >"$work/out" 2>"$work/err" &
pid=$!
exec 3>"$work/in"
finish() {
  exec 3>&- || true
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

for text in "$@"; do printf '%s\r' "$text" >&3; done
shown=0
for ((tick = 0; tick < seconds * 5; tick++)); do
  size=$(stat -c %s "$work/out")
  if [ "$size" -gt "$shown" ]; then
    tail -c "+$((shown + 1))" "$work/out" | head -c "$((size - shown))" | tr -d '\r'
    shown=$size
  fi
  if tr -d '\r' <"$work/out" | grep -qE "$pattern"; then
    echo
    exit 0
  fi
  kill -0 "$pid" 2>/dev/null || { cat "$work/err" >&2; exit 1; }
  # A guest that has long been at its prompt shows it again.
  [ $((tick % 25)) -ne 24 ] || printf '\r' >&3
  sleep 0.2
done
echo "no line like '$pattern' on the console of $vmi within $seconds s" >&2
cat "$work/err" >&2
exit 1
