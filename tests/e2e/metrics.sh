#!/usr/bin/env bash
# Metrics, as a real Prometheus scrapes them from an instance of this script's own with a real guest.
#
#   tests/e2e/metrics.sh        as root; `make e2e` runs it
#
#   FERROVIRT_BIN    folder of ferrovirt, virtctl, virt-launcher (default: target/release)
#   E2E_PATIENCE     seconds anything may take (default 300)
#   E2E_LOGS         where logs go when it fails (default: target/e2e-metrics)
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
bin=$(realpath -m "${FERROVIRT_BIN:-${CARGO_TARGET_DIR:-target}/release}")
logs=$(realpath -m "${E2E_LOGS:-target/e2e-metrics}")
patience=${E2E_PATIENCE:-300}
. tests/cluster/lib/checks.sh

fatal() { echo "metrics: $*" >&2; exit 2; }
[ "$(id -u)" = 0 ] || fatal "must run as root ('make e2e' does)"
for program in ferrovirt virtctl virt-launcher; do
  [ -x "$bin/$program" ] || fatal "$bin/$program is missing: run 'make e2e', which builds it, or set FERROVIRT_BIN"
done
for program in prometheus promtool kubectl curl; do
  command -v "$program" >/dev/null || fatal "$program is missing: run scripts/setup.sh e2e"
done

work=$(mktemp -d /var/tmp/ferrovirt-metrics.XXXXXX)
chmod 755 "$work" # QEMU runs as users of its own and must reach its disks
data=$work/data prometheus_pid=
before=$work/before
finish() {
  status=$?
  trap '' INT TERM
  [ -z "$prometheus_pid" ] || { kill "$prometheus_pid" && wait "$prometheus_pid"; } 2>/dev/null || true
  if [ $status != 0 ]; then
    rm -rf "$logs"
    mkdir -p "$logs"
    cp "$work"/*.log "$work"/*.txt "$data"/*.log "$logs/" 2>/dev/null || true
    echo "metrics: logs are in $logs" >&2
  fi
  "$bin/ferrovirt" down --data-dir "$data" --purge >/dev/null 2>&1 || true
  nothing_left "$before" "$root" || status=1
  rm -rf "$work"
  exit $status
}
scripts/traces.sh >"$before"
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

guest/build.sh "$work/guest.qcow2" >/dev/null

free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo $port
}
eventually() { within "$patience" "$@"; }
server=127.0.0.1:$(free_port)
export KUBECONFIG=$work/kubeconfig PATH=$bin:$PATH HOME=$work

# --- an instance with a guest ------------------------------------------------------------------------------------------------
ferrovirt up --data-dir "$data" --listen "$server" --write-kubeconfig "$KUBECONFIG" --private-libvirt >"$work/up.log" 2>&1
ferrovirt image --data-dir "$data" import ferrovirt/demo-guest:latest "$work/guest.qcow2" >"$work/import.log" 2>&1
kubectl apply -f examples/vm-demo.yaml >/dev/null
virtctl start demo >/dev/null
is() { [ "$(kubectl get vm demo -o 'jsonpath={.status.printableStatus}')" = "$1" ]; }
eventually "the machine runs" is Running

# --- the text itself -----------------------------------------------------------------------------------------------------------
has_disks() { kubectl get --raw /metrics >"$work/metrics.txt" && grep -q '^kubevirt_vmi_storage_iops_read_total{' "$work/metrics.txt"; }
eventually "metrics tell of its disks" has_disks
# Upstream's names that promtool's rules do not like. Anything else it says is our fault.
cat >"$work/upstream" <<'LIST'
kubevirt_vm_error_status_last_transition_timestamp_seconds counter metrics should have "_total" suffix
kubevirt_vm_migrating_status_last_transition_timestamp_seconds counter metrics should have "_total" suffix
kubevirt_vm_non_running_status_last_transition_timestamp_seconds counter metrics should have "_total" suffix
kubevirt_vm_running_status_last_transition_timestamp_seconds counter metrics should have "_total" suffix
kubevirt_vm_starting_status_last_transition_timestamp_seconds counter metrics should have "_total" suffix
kubevirt_vmi_phase_count non-histogram and non-summary metrics should not have "_count" suffix
LIST
promtool check metrics <"$work/metrics.txt" >"$work/promtool.txt" 2>&1 || true
# Labels of instances keep their case, as upstream.
sed -i "/^kubevirt_vmi_.* label names should be written in 'snake_case' not 'camelCase'\$/d" "$work/promtool.txt"
if grep -vxFf "$work/upstream" "$work/promtool.txt"; then
  echo "FAILED  promtool check metrics"
  exit 1
fi
passed "promtool finds no fault but upstream's names"

# --- recording rules and alerts ------------------------------------------------------------------------------------------------------
{ promtool check rules manifests/prometheus-rules.yaml && promtool test rules tests/e2e/rules-test.yaml; } >"$work/rules.txt" 2>&1 || {
  cat "$work/rules.txt"
  echo "FAILED  promtool: rules"
  exit 1
}
passed "promtool takes the rules, and they tell what they should"

# --- a Prometheus ----------------------------------------------------------------------------------------------------------------
in_config() { kubectl config view --raw --minify -o "jsonpath={$1}" | base64 -d; }
(umask 077 && in_config '.users[0].user.client-key-data' >"$work/client.key")
in_config '.users[0].user.client-certificate-data' >"$work/client.crt"
in_config '.clusters[0].cluster.certificate-authority-data' >"$work/ca.crt"
cat >"$work/prometheus.yaml" <<YAML
global: {scrape_interval: 2s, scrape_timeout: 2s}
scrape_configs:
- job_name: ferrovirt
  scheme: https
  honor_labels: true
  tls_config: {ca_file: ca.crt, cert_file: client.crt, key_file: client.key}
  static_configs: [{targets: ["$server"]}]
YAML
address=127.0.0.1:$(free_port)
prometheus --config.file="$work/prometheus.yaml" --storage.tsdb.path="$work/tsdb" --web.listen-address="$address" >"$work/prometheus.log" 2>&1 &
prometheus_pid=$!
# finds QUERY: the query has a result.
finds() { [ -n "$(promtool query instant "http://$address" "$1")" ]; }
finds_none() { [ -z "$(promtool query instant "http://$address" "$1")" ]; }
eventually "Prometheus scrapes" finds 'up{job="ferrovirt"} == 1'
eventually "and counts the running instance" finds 'kubevirt_vmi_phase_count{phase="running"} == 1'
eventually "its CPU time grows" finds 'rate(kubevirt_vmi_cpu_usage_seconds_total{name="demo",namespace="default"}[1m]) > 0'
eventually "it has sent packets" finds 'kubevirt_vmi_network_transmit_packets_total{name="demo",interface!=""} > 0'
eventually "its disk was read" finds 'sum(kubevirt_vmi_storage_read_traffic_bytes_total{name="demo"}) > 1e5'
eventually "upstream's performance audit gets its quantile" finds \
  'histogram_quantile(0.95, kubevirt_vmi_phase_transition_time_from_creation_seconds_bucket{phase="Running"}) < 3600'
eventually "every component is ready" finds \
  'kubevirt_virt_api_ready_status + kubevirt_virt_controller_ready_status + kubevirt_virt_handler_ready_status == 3'
virtctl stop demo >/dev/null
eventually "the machine is stopped" is Stopped
eventually "a stopped machine has no series of a guest" finds_none '{__name__=~"kubevirt_vmi_(cpu|memory|vcpu|network|storage).*",name="demo"}'
eventually "and is counted as stopped" finds 'kubevirt_vm_info{name="demo",status_group="non_running"} == 1'
finds 'min_over_time(up{job="ferrovirt"}[10m]) == 1' || { echo "FAILED  a scrape failed"; exit 1; }
passed "no scrape failed"
