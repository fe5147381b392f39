# Places: the namespaces the cluster lives in. `world` holds the network between the nodes, the control plane and the registry;
# the nodes are inside of its PID namespace, so that all ends with its first process. Sourced by cluster.sh.

node_places() { seq -f 'node%g' "$nodes"; }
places() { echo world && node_places; }

# Where the cgroups of this cluster are, in every hierarchy.
cgroup=ferrovirt-cluster-$name

# The hierarchies of this machine, as mounted.
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | sort -u; }

# host_pid PLACE: the pid of its first process, if that still runs.
host_pid() {
  local pid since
  read -r pid since 2>/dev/null <"$dir/$1/init" || return 1
  [ -n "$since" ] && [ "$(start_time "$pid")" = "$since" ] && echo "$pid"
}

# make_place PLACE: starts its first process (init.sh) in new namespaces and cgroups.
make_place() {
  local place=$1 into=() hierarchy file
  mkdir -p "$dir/$place/log" "$dir/$place/services"
  rm -f "$dir/$place/init"
  [ "$place" = world ] || into=(nsenter "--pid=/proc/$(host_pid world)/ns/pid" --)
  for hierarchy in $(hierarchies); do
    mkdir -p "$hierarchy/$cgroup/$place"
    # A new cpuset allows nothing at first.
    for file in cpuset.cpus cpuset.mems; do
      [ -e "$hierarchy/$file" ] || continue
      cat "$hierarchy/$file" >"$hierarchy/$cgroup/$file"
      cat "$hierarchy/$file" >"$hierarchy/$cgroup/$place/$file"
    done
  done
  (
    enter_cgroups "$place"
    exec setsid --fork "${into[@]}" setsid --fork unshare --mount --net --uts --ipc --pid --cgroup --fork --propagation private \
      bash "$here/init.sh" "$place" "$dir/$place" </dev/null >"$dir/$place/log/init.log" 2>&1 8<&-
  )
  wait_for 10 "$place" host_pid "$place"
}

# enter_cgroups PLACE: moves this (sub)shell. Namespaces alone leave it where it was.
enter_cgroups() {
  local hierarchy
  for hierarchy in $(hierarchies); do echo $BASHPID >"$hierarchy/$cgroup/$1/cgroup.procs"; done
}

# enter PLACE COMMAND…
enter() {
  local pid
  pid=$(host_pid "$1") || fatal "$1 does not run"
  (
    enter_cgroups "$1"
    shift
    exec nsenter --target "$pid" --mount --net --uts --ipc --pid --cgroup -- "$@" 8<&-
  )
}

# on_network PLACE COMMAND…: in its network namespace only, with this machine's files and pids.
on_network() {
  local pid
  pid=$(host_pid "$1") || fatal "$1 does not run"
  shift
  nsenter "--net=/proc/$pid/ns/net" -- "$@"
}

# daemon PLACE SERVICE COMMAND…: writes down how it is started, and starts it.
daemon() {
  local place=$1 service=$2
  shift 2
  {
    echo '#!/bin/sh'
    echo "echo \$\$ >'$dir/$place/services/$service.pid'"
    printf 'exec'
    printf ' %q' "$@"
    echo " >>'$dir/$place/log/$service.log' 2>&1 </dev/null"
  } >"$dir/$place/services/$service"
  service start "$place" "$service"
}

# launch PLACE FILE: what `daemon` wrote down.
launch() {
  rm -f "$2.pid"
  # Twice forked: its parent becomes the first process of the place, which reaps it at once.
  enter "$1" setsid --fork sh "$2"
  wait_for 10 "the start of ${2##*/} in $1" test -s "$2.pid"
}

# kubelet_answers PLACE FILE. It ends where its runtime is not ready for it yet; like a service manager, this starts it again then.
kubelet_answers() {
  enter "$1" curl -fsS --max-time 2 http://127.0.0.1:10248/healthz && return
  enter "$1" kill -0 "$(cat "$2.pid")" || launch "$1" "$2"
  return 1
}

# service start|stop|kill|restart PLACE SERVICE. Stopping waits until it has ended.
service() {
  local action=$1 place=$2 service=$3 file pid
  file=$dir/$place/services/$service
  [ -e "$file" ] || fatal "no service $service in $place; there are: $(find "$dir/$place/services" ! -name '*.pid' -type f -printf '%f ')"
  pid=$(cat "$file.pid" 2>/dev/null || true)
  case $action in
    start)
      [ -z "$pid" ] || ! enter "$place" kill -0 "$pid" 2>/dev/null || return 0
      launch "$place" "$file"
      [ "$service" != kubelet ] || wait_for 60 "$service in $place" kubelet_answers "$place" "$file"
      ;;
    stop | kill)
      [ -n "$pid" ] || return 0
      local signal=TERM
      [ "$action" = stop ] || signal=KILL
      enter "$place" sh -c "kill -$signal $pid 2>/dev/null; while kill -0 $pid 2>/dev/null; do sleep 0.02; done"
      rm -f "$file.pid"
      ;;
    restart)
      service stop "$place" "$service"
      service start "$place" "$service"
      ;;
  esac
}
