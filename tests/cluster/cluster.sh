#!/usr/bin/env bash
# A real Kubernetes on this machine, in namespaces of its own, for tests. README.md beside this file says what it is made of.
#
#   tests/cluster/cluster.sh up                      start it (does nothing when it runs already)
#   tests/cluster/cluster.sh down                    end it and remove all of it
#   tests/cluster/cluster.sh status                  what runs
#   tests/cluster/cluster.sh env                     shell assignments for its users: KUBECONFIG, REGISTRY, IMAGES, …
#   tests/cluster/cluster.sh enter PLACE [COMMAND…]  run a command (default: a shell) in `world` or `node1`, `node2`
#   tests/cluster/cluster.sh stop|kill|start|restart PLACE SERVICE    e.g. restart node1 kubelet
#
# As root.
#   CLUSTER_NAME    lets several run side by side (default: ferrovirt)
#   CLUSTER_NODES   1 or 2 (default: 1)
#   CLUSTER_DIR     where its files are (default: target/cluster/CLUSTER_NAME)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

name=${CLUSTER_NAME:-ferrovirt}
nodes=${CLUSTER_NODES:-1}
dir=$(realpath -m "${CLUSTER_DIR:-${CARGO_TARGET_DIR:-$root/target}/cluster/$name}")

# shellcheck source-path=SCRIPTDIR
for part in common places network certificates control-plane node lifecycle; do
  source "$here/lib/$part.sh"
done

[ "$(id -u)" = 0 ] || fatal "must run as root ('make cluster-up' does)"
[[ $name =~ ^[a-z0-9][a-z0-9-]{0,30}$ ]] || fatal "CLUSTER_NAME=$name: lower-case letters, digits and dashes, at most 31"
[[ $nodes =~ ^[12]$ ]] || fatal "CLUSTER_NODES=$nodes: must be 1 or 2"

command=${1:-}
shift || true
case $command in
  # One change at a time: the second of two `up` finds it running.
  up | down) exec 8<"$here"; flock 8; "cluster_$command" ;;
  status) cluster_status ;;
  env) cluster_env ;;
  enter) [ $# -ge 1 ] || usage; place=$1; shift; enter "$place" "${@:-bash}" ;;
  stop | kill | start | restart) [ $# = 2 ] || usage; service "$command" "$1" "$2" ;;
  *) usage ;;
esac
