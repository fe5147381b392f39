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
if running=$("${sudo[@]}" "$bin/ferrovirt" status --data-dir "$data_dir" 2>/dev/null); then
  kubeconfig=$(sed -n 's/^export KUBECONFIG=//p' <<<"$running")
  [ -r "$kubeconfig" ] || {
    echo "Ferrovirt runs already, and its kubeconfig $kubeconfig cannot be read: 'ferrovirt down', then run this again." >&2
    exit 1
  }
else
  mkdir -p "$(dirname "$kubeconfig")"
  "${sudo[@]}" "$bin/ferrovirt" up --data-dir "$data_dir" --listen "$listen" --write-kubeconfig "$kubeconfig"
  [ "$(id -u)" = 0 ] || sudo chown "$(id -u):$(id -g)" "$kubeconfig"
fi
"${sudo[@]}" "$bin/ferrovirt" image --data-dir "$data_dir" import ferrovirt/demo-guest:latest "$image"

export KUBECONFIG=$kubeconfig PATH=$bin:$PATH
step "A virtual machine"
kubectl apply -f examples/vm-hello.yaml
deadline=$((SECONDS + 180))
until state=$(kubectl get vm hello -o 'jsonpath={.status.printableStatus}') && [ "$state" = Running ]; do
  [ "$SECONDS" -lt "$deadline" ] || { echo "hello does not run: $state (see kubectl describe vm hello)" >&2; exit 1; }
  sleep 0.3
done

step "Its console"
if [ -t 0 ] && [ -t 1 ]; then
  virtctl console hello || true
else
  scripts/console-until.sh hello 'login: *$' 180
fi

step "Ready"
kubectl wait --for=condition=Ready vm/hello --timeout=60s >/dev/null
kubectl get vms,vmis,pods
cat <<TXT

Go on with
  export KUBECONFIG=$kubeconfig PATH=$bin:\$PATH
  virtctl console hello         # user demo, password demo; leave with Ctrl+]
  kubectl apply -f examples/vm-demo.yaml && virtctl start demo && virtctl console demo
  ferrovirt down                # stops the control plane; the guests go on
TXT
