#!/usr/bin/env bash
# Ferrovirt on a real Kubernetes: installed by one custom resource, a guest run, everything that manages it killed, removed again.
#
#   tests/e2e/cluster.sh        as root; `make e2e` runs it
#
# Starts a cluster of its own (tests/cluster) with images built from this tree, and removes it whatever happens. Settings are in
# tests/cluster/lib/installation.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
. tests/cluster/lib/checks.sh
. tests/cluster/lib/installation.sh

# tells COMPONENT PATTERN: one of its pods has a line like this among its metrics.
tells() {
  local pod
  for pod in $(kubectl -n kubevirt get pods -l "kubevirt.io=$1" -o 'jsonpath={.items[*].metadata.name}'); do
    kubectl get --raw "/api/v1/namespaces/kubevirt/pods/https:$pod:8443/proxy/metrics" >"$work/metrics" || return 1
    ! grep -qE "$2" "$work/metrics" || return 0
  done
  echo "no line like $2"
  return 1
}
# Every endpoint of the Service for Prometheus serves metrics.
scraped() {
  local addresses address
  addresses=$(kubectl -n kubevirt get endpoints kubevirt-prometheus-metrics -o 'jsonpath={.subsets[*].addresses[*].ip}')
  [ "$(wc -w <<<"$addresses")" -ge 4 ] || return 1
  for address in $addresses; do
    cluster enter node1 curl -fsSk --max-time 10 "https://$address:8443/metrics" >"$work/metrics" || return 1
    grep -q '^kubevirt_info' "$work/metrics" || return 1
  done
}

# hoard NAME: a process takes memory in its QEMU's control group until the kernel ends it, and QEMU, which goes first.
hoard() {
  local uid
  uid=$(field "vmi/$1" .metadata.uid)
  # shellcheck disable=SC2016 # for the shell in there
  cluster enter node1 sh -c '
    group=$(find /sys/fs/cgroup/memory -type d -path "*/ferrovirt-$0/*.libvirt-qemu")
    [ -d "$group" ] && echo $$ >"$group/cgroup.procs" && echo 1000 >"/proc/$1/oom_score_adj" && exec tail /dev/zero' \
    "${uid//-/}" "$(qemu "$1")"
}
# kill_sandbox NAME: the process that holds the namespaces of its pod.
kill_sandbox() {
  local uid
  uid=$(kubectl get pods -l "vm.kubevirt.io/name=$1" -o 'jsonpath={.items[0].metadata.uid}')
  # shellcheck disable=SC2016 # for the shell in there
  cluster enter node1 sh -c '
    for process in /proc/[0-9]*; do
      [ "$(cat "$process/comm" 2>/dev/null)" = pause ] && grep -q "pod$0" "$process/cgroup" || continue
      kill -KILL "${process#/proc/}"
      exit
    done
    exit 1' "$uid"
}

begin_cluster 1
make_virtctl
make_version e2e
make_guest

# --- install ---------------------------------------------------------------------------------------------------------------
SECONDS=0
apply_operator e2e
apply_resource e2e
eventually "the installation is Available" is_available
eventually "it takes virtual machines" is_usable

# --- a guest -----------------------------------------------------------------------------------------------------------------
machine demo | kubectl apply -f - >/dev/null
virtctl start demo
eventually "the machine runs" is vm/demo .status.printableStatus Running
scripts/console-until.sh demo 'login: *$' "$patience" >"$work/console"
passed "its console shows a login prompt"
eventually "its page answers" other_boot demo none
boot=$(boot_id demo) pid=$(qemu demo)
virtctl expose vm demo --name demo-page --port 80
service() { cluster enter node1 curl -fsS --max-time 3 "http://$(field service/demo-page .spec.clusterIP)/"; }
eventually "and behind a Service" service
kubectl delete service demo-page >/dev/null

machine bad | sed -n '/^apiVersion/,$p' | sed 's/name: cloudinit$/name: system/' >"$work/bad.yaml"
refused "a machine that contradicts itself is refused with its causes" 'disks\[1\].name' kubectl apply -f "$work/bad.yaml"
kubectl create serviceaccount viewer >/dev/null
kubectl create rolebinding viewer --clusterrole=kubevirt.io:view --serviceaccount=default:viewer >/dev/null
viewer=system:serviceaccount:default:viewer
kubectl get vm demo --as="$viewer" >/dev/null
passed "whoever may view sees the machine"
refused "and may not stop it" 'is forbidden' kubectl create --as="$viewer" -f /dev/null \
  --raw /apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/demo/stop

eventually "Prometheus finds all programs behind their Service" scraped
eventually "virt-api tells that it is ready" tells virt-api '^kubevirt_virt_api_ready_status 1$'
eventually "virt-operator tells that it leads" tells virt-operator '^kubevirt_virt_operator_leading_status 1$'
eventually "virt-controller counts the machine" tells virt-controller '^kubevirt_vmi_phase_count\{.*phase="running".*\} 1$'
eventually "and how long it took" tells virt-controller '^kubevirt_vmi_phase_transition_time_from_creation_seconds_count\{phase="Running"\} [1-9]'
eventually "virt-handler tells of its CPU time" tells virt-handler '^kubevirt_vmi_cpu_usage_seconds_total\{.*name="demo".*\} [0-9.]*[1-9]'
eventually "of its disks" tells virt-handler '^kubevirt_vmi_storage_read_traffic_bytes_total\{.*name="demo".*drive="system".*\} [1-9]'
eventually "and of its network" tells virt-handler '^kubevirt_vmi_network_transmit_bytes_total\{.*name="demo".*interface="default".*\} [1-9]'

virtctl pause vm demo
eventually "it is paused" is vm/demo .status.printableStatus Paused
refused "its page does not answer then" . page demo
virtctl unpause vm demo
eventually "it goes on" same_boot demo "$boot"

# --- everything that manages it dies --------------------------------------------------------------------------------------------
one_launcher_runs() { [ "$(launchers)" = Running ]; }
for component in virt-operator virt-controller virt-api virt-handler; do
  kubectl -n kubevirt delete pod -l "kubevirt.io=$component" --grace-period=0 --force >/dev/null 2>&1
  eventually "$component: killed, and ready again" ready "$component"
done
kubectl delete pod -l kubevirt.io=virt-launcher >/dev/null
eventually "the launcher pod: deleted, and replaced" one_launcher_runs
address=$(field vmi/demo '.status.interfaces[0].ipAddress')
kill_sandbox demo || failed "no sandbox of the launcher pod was found"
moved() { [ "$(field vmi/demo '.status.interfaces[0].ipAddress')" != "$address" ] && same_boot demo "$boot"; }
eventually "the pod's sandbox: killed, and the guest answers at its new address" moved
for service in libvirtd containerd kubelet; do
  cluster kill node1 "$service"
  cluster start node1 "$service"
  passed "$service: killed, and started again"
done
eventually "the node is ready" kubectl wait node --all --for=condition=Ready --timeout=5s
eventually "the guest is the one it was" same_boot demo "$boot"
[ "$(qemu demo)" = "$pid" ] || failed "QEMU is another process"
passed "in the same QEMU"
eventually "the machine is ready" is vm/demo .status.ready true

# --- a machine needs more memory than its pod may have ----------------------------------------------------------------------------------
machine hoarder | sed 's/^\( *\)memory:$/\1resources: {limits: {memory: 128Mi}}\n&/' | kubectl apply -f - >/dev/null
virtctl start hoarder
eventually "a machine with a limit runs" other_boot hoarder none
other=$(boot_id hoarder) other_pid=$(qemu hoarder)
agents() { kubectl -n kubevirt get pods -o 'jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount}{"\n"}{end}' | sort; }
agents >"$work/agents"
hoard hoarder >"$work/output" 2>&1 && failed "nothing bounds the memory of its QEMU"
ended() { ! cluster enter node1 kill -0 "$other_pid"; }
eventually "what takes more memory than its pod may have is ended, and its QEMU" ended
eventually "the machine starts again by its run strategy" other_boot hoarder "$other"
same_boot demo "$boot" || failed "the other guest was disturbed"
[ "$(qemu demo)" = "$pid" ] || failed "the other QEMU is another process"
agents | diff "$work/agents" - || failed "components were restarted"
passed "nobody else suffers"
kubectl delete vm hoarder --timeout="${patience}s" >/dev/null

# --- and everything still works ---------------------------------------------------------------------------------------------------
virtctl restart demo
eventually "a restart boots it anew" other_boot demo "$boot"
virtctl stop demo
eventually "it is stopped" is vm/demo .status.printableStatus Stopped
kubectl delete vm demo --timeout="${patience}s" >/dev/null
eventually "no pod is left" no_launcher
[ -z "$(domains node1)" ] || failed "a domain is left"
passed "and no domain"
kubectl -n kubevirt delete kv kubevirt --timeout="${patience}s" >/dev/null
passed "the installation is removed"
if kubectl get crd -o name | grep 'kubevirt\.io$' | grep -v '/kubevirts\.'; then failed "definitions are left"; fi
passed "with its definitions"
