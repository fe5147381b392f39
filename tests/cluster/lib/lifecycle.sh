# Up and down. Sourced by cluster.sh.

cluster_up() {
  need go golang etcd etcd-server containerd containerd runc runc docker-registry docker-registry openssl openssl curl curl \
    nft nftables ip iproute2 nsenter util-linux flock util-linux libvirtd libvirt-daemon-system gcc gcc
  case $dir/ in
    /etc/* | /var/* | /run/* | /proc/* | /sys/*) fatal "CLUSTER_DIR=$dir: the nodes have directories of their own there" ;;
  esac
  hierarchies | grep -qx '/sys/fs/cgroup/.*cpu.*' || fatal "the cgroup v1 controllers are not mounted; others are not supported yet"
  build_programs
  if healthy; then
    say "runs already: export KUBECONFIG=$dir/kubeconfig"
    return
  fi
  [ ! -e "$dir" ] || cluster_down
  mkdir -p "$dir"
  echo "$nodes" >"$dir/nodes"
  # Half a cluster is of no use to anybody, and its logs are.
  trap 'keep_logs_and_remove' EXIT
  local place
  for place in $(places); do make_place "$place"; done
  make_network
  for place in $(node_places); do join_network "$place"; done
  say "network: 198.18.$(network).0/24"
  make_certificates
  say "certificates"
  start_registry
  start_api_server
  for place in $(node_places); do prepare_node "$place"; done
  wait_for 20 "the registry" registry_ready
  push_test_images
  say "registry, with the test images"
  wait_for 60 "the API server" api_ready
  wait_for 20 "the role of the proxies" allow_proxies
  wait_for 20 "the storage class" add_storage_class
  start_controllers
  say "API server"
  for place in $(node_places); do start_node "$place"; done
  for place in $(node_places); do
    wait_for 60 "$place to be Ready" joined "$place"
    wait_for 30 "libvirtd of $place" enter "$place" test -S /run/libvirt/libvirt-sock
    say "$place is Ready"
  done
  wait_for 20 "the default service account" kubectl get serviceaccount default
  [ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID" "$dir" "$dir/kubeconfig"
  trap - EXIT
  say "export KUBECONFIG=$dir/kubeconfig"
}

build_programs() {
  kubernetes=$("$here/build.sh")
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p xtask
  xtask=${CARGO_TARGET_DIR:-$root/target}/debug/xtask
}

push_test_images() {
  "$xtask" image pause busybox --output "$dir/images" --push "$(world_ip):$registry_port" --tag test >"$dir/world/log/images.log" 2>&1 ||
    { cat "$dir/world/log/images.log" >&2; exit 1; }
}

healthy() {
  local place
  [ "$(cat "$dir/nodes" 2>/dev/null)" = "$nodes" ] || return 1
  for place in $(places); do host_pid "$place" >/dev/null || return 1; done
  api_ready >/dev/null || return 1
  for place in $(node_places); do joined "$place" >/dev/null || return 1; done
}

keep_logs_and_remove() {
  rm -rf "$dir.failed"
  mkdir -p "$dir.failed"
  (cd "$dir" && cp --parents ./*/log/*.log "$dir.failed/" 2>/dev/null) || true
  cluster_down
  echo "cluster $name: could not be started; logs: $dir.failed" >&2
}

cluster_down() {
  local pid hierarchy
  # Its end is the end of every process in there, and with the last one the namespaces go.
  if pid=$(host_pid world); then
    kill -KILL "$pid"
    while [ -e "/proc/$pid" ] && [ "$(start_time "$pid")" != "" ]; do sleep 0.02; done
  fi
  remove_network
  for hierarchy in $(hierarchies); do remove_cgroup "$hierarchy/$cgroup"; done
  rm -rf "$dir"
  rmdir "$(dirname "$dir")" 2>/dev/null || true
  # Where the places had their volumes mounted. Removing it would take it from another cluster.
  ip -o link show | grep -q ': fvc[0-9]' || rmdir /tmp/hostpath_pv 2>/dev/null || true
}

# Removes a cgroup and those in it, as soon as the last process has left them.
remove_cgroup() {
  [ -d "$1" ] || return 0
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ -d "$1" ] || return 0
    sleep 0.1
  done
  fatal "processes are left in $1: $(find "$1" -name cgroup.procs -exec cat {} + | sort -un | xargs)"
}

cluster_status() {
  host_pid world >/dev/null || { echo "cluster $name does not run"; return 1; }
  nodes=$(cat "$dir/nodes")
  kubernetes=$("$here/build.sh" kubectl)
  local place service pid
  for place in $(places); do
    for service in "$dir/$place/services/"*; do
      case $service in *.pid) continue ;; esac
      pid=$(cat "$service.pid" 2>/dev/null || true)
      if [ -n "$pid" ] && enter "$place" kill -0 "$pid" 2>/dev/null; then pid="runs (pid $pid in $place)"; else pid="does not run"; fi
      printf '%-8s %-24s %s\n' "$place" "${service##*/}" "$pid"
    done
  done
  kubectl get nodes
}

cluster_env() {
  host_pid world >/dev/null || fatal "does not run"
  printf '%s=%q\n' KUBECONFIG "$dir/kubeconfig" CLUSTER_DIR "$dir" CLUSTER_NODES "$(cat "$dir/nodes")" \
    REGISTRY "$(world_ip):$registry_port" IMAGES "registry:$registry_port" API "https://$(world_ip):6443"
}
