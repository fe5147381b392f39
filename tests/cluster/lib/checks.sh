# shellcheck shell=bash
# Words in which scripts say what holds. They use $work, a folder of the script's own.

passed() { echo "ok      $* ($SECONDS s)"; }
# within SECONDS WHAT COMMAND…: until it succeeds.
within() {
  local seconds=$1 what=$2 until
  shift 2
  until=$(($(date +%s) + seconds))
  while ! "$@" >"$work/output" 2>&1; do
    [ "$(date +%s)" -lt "$until" ] || { echo "FAILED  $what; last: $(tail -n 5 "$work/output")"; exit 1; }
    sleep 0.2
  done
  passed "$what"
}
# refused WHAT PATTERN COMMAND…: must fail, saying so.
refused() {
  local what=$1 pattern=$2
  shift 2
  if "$@" >"$work/output" 2>&1 || ! grep -q "$pattern" "$work/output"; then
    echo "FAILED  $what: $(cat "$work/output")"
    exit 1
  fi
  passed "$what"
}
# nothing_left BEFORE ROOT: compares with what scripts/traces.sh printed into the file BEFORE.
nothing_left() {
  local left
  left=$(comm -13 <(sort "$1") <("$2/scripts/traces.sh" | sort))
  [ -z "$left" ] || { printf 'FAILED  nothing is left behind, but:\n%s\n' "$left"; return 1; }
}
