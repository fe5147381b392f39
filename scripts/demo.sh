#!/usr/bin/env bash
# From nothing to the console of a real guest. In a terminal the console is interactive (leave it with Ctrl+]); without one, what the
# guest prints is shown up to its login prompt. Everything is left running. May be run again.
set -euo pipefail
cd "$(dirname "$0")/.."

data_dir=${FERROVIRT_DATA_DIR:-/var/lib/ferrovirt}
listen=${FERROVIRT_LISTEN:-127.0.0.1:7443}
kubeconfig=${FERROVIRT_KUBECONFIG:-$HOME/.kube/ferrovirt.yaml}
bin=$(realpath -m "${CARGO_TARGET_DIR:-target}/release")
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "Packages"
scripts/setup.sh
step "Build (a few minutes the first time)"
scripts/build.sh
step "Demo guest"
image=target/guest/demo.qcow2
guest/build.sh "$image"

step "Start"
mkdir -p "$(dirname "$kubeconfig")"
if ! "${sudo[@]}" "$bin/ferrovirt" status --data-dir "$data_dir" >/dev/null 2>&1; then
  "${sudo[@]}" "$bin/ferrovirt" up --data-dir "$data_dir" --listen "$listen" --write-kubeconfig "$kubeconfig"
  [ "$(id -u)" = 0 ] || sudo chown "$(id -u):$(id -g)" "$kubeconfig"
fi
"${sudo[@]}" "$bin/ferrovirt" image --data-dir "$data_dir" import ferrovirt/demo-guest:latest "$image"

export KUBECONFIG=$kubeconfig PATH=$bin:$PATH
step "A virtual machine"
kubectl apply -f examples/vm-demo.yaml
if [ "$(kubectl get vm demo -o 'jsonpath={.status.ready}')" != true ]; then
  virtctl start demo 2>/dev/null || true
fi

step "Its console"
if [ -t 0 ] && [ -t 1 ]; then
  virtctl console demo || true
else
  scripts/console-until.sh demo 'login: *$' 180
fi

step "Ready"
kubectl wait --for=condition=Ready vm/demo --timeout=60s >/dev/null
kubectl get vms,vmis,pods
cat <<TXT

Go on with
  export KUBECONFIG=$kubeconfig PATH=$bin:\$PATH
  virtctl console demo          # user demo, password demo; leave with Ctrl+]
  kubectl get vms,vmis,pods
  ferrovirt down                # stops the control plane; the guest goes on
TXT
