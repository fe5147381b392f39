# What every part uses. Sourced by cluster.sh.

fatal() { echo "cluster $name: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$here/cluster.sh" >&2; exit 2; }

# Progress: one line a step, with the seconds since the start.
begin=$(date +%s%N)
say() {
  local tenths=$((($(date +%s%N) - begin) / 100000000))
  printf '%4d.%d s  %s\n' $((tenths / 10)) $((tenths % 10)) "$*"
}

# wait_for SECONDS WHAT COMMAND…: until the command succeeds.
wait_for() {
  local seconds=$1 what=$2 until
  shift 2
  until=$(($(date +%s) + seconds))
  while ! "$@" >/dev/null 2>&1; do
    if [ "$(date +%s)" -ge "$until" ]; then
      echo "cluster $name: gave up waiting for $what after $seconds s" >&2
      exit 1
    fi
    sleep 0.1
  done
}

# start_time PID: with the pid it identifies a process for good.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# need PROGRAM PACKAGE…: every program that is not there is named with its package.
need() {
  local missing=()
  while [ $# -gt 0 ]; do
    command -v "$1" >/dev/null || missing+=("$2")
    shift 2
  done
  [ ${#missing[@]} = 0 ] || fatal "install ${missing[*]} (scripts/setup.sh cluster does)"
}
