#!/usr/bin/env bash
# The tour a newcomer takes after `make demo`, with a look at each stop whether it is true. Needs the instance that the demo left running:
# FERROVIRT_KUBECONFIG (or KUBECONFIG), FERROVIRT_DATA_DIR and FERROVIRT_LISTEN name it, as in scripts/demo.sh. Leaves it running, too. Ends at
# the first thing that is not as it should be.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$(realpath -m "${CARGO_TARGET_DIR:-target}/release")
export KUBECONFIG=${FERROVIRT_KUBECONFIG:-${KUBECONFIG:-$HOME/.kube/ferrovirt.yaml}} PATH=$bin:$PATH
patience=${FERROVIRT_TOUR_PATIENCE:-180}
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo -E)

show() { printf '\n$ %s\n' "$*"; "$@"; }
die() {
  printf '\ntour: %s\n' "$*" >&2
  kubectl get vms,vmis,pods >&2 || true
  kubectl get events >&2 || true
  exit 1
}
field() { kubectl get "$1" demo --ignore-not-found -o "jsonpath={$2}"; }
# is WHAT KIND PATH VALUE: waits until a field of `demo` has the value.
is() {
  local deadline=$((SECONDS + patience)) seen
  until seen=$(field "$2" "$3") && [ "$seen" = "$4" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "$1: $2 $3 is '$seen', not '$4'"
    sleep 0.3
  done
  printf '  %s\n' "$1"
}
# none WHAT KUBECTL-GET…: waits until nothing of the kind is there.
none() {
  local deadline=$((SECONDS + patience)) what=$1 left
  shift
  while left=$(kubectl get "$@" -o name) && [ -n "$left" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "$left is still there"
    sleep 0.3
  done
  printf '  no %s any more\n' "$what"
}
# page [NAME], boot_id [NAME]: of `demo`, or of another machine.
page() {
  local ip
  ip=$(kubectl get vmi "${1:-demo}" --ignore-not-found -o 'jsonpath={.status.interfaces[0].ipAddress}')
  [ -n "$ip" ] && curl -fsS --max-time 3 "http://$ip/" 2>/dev/null
}
boot_id() { page "$@" | sed -n 's/.*boot id: //p'; }
# another BOOT_ID [NAME]: waits until the page shows another boot of the guest than this one.
another() {
  local deadline=$((SECONDS + patience)) now
  until now=$(boot_id "${2:-demo}") && [ -n "$now" ] && [ "$now" != "$1" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "no other boot of the guest than '$1' answers (now '${now:-none}')"
    sleep 0.3
  done
  printf '  the guest serves its page, boot %s\n' "$now"
}

show kubectl get vms,vmis,pods
another none hello
hello=$(boot_id hello) || die "the machine of make demo does not answer any more"

show kubectl apply -f examples/vm-demo.yaml
show virtctl start demo
show scripts/console-until.sh demo 'login: *$' "$patience"
is "it runs" vm .status.printableStatus Running
another none
uid=$(field vmi .metadata.uid) boot=$(boot_id)

show virtctl pause vm demo
is "it is paused" vm .status.printableStatus Paused
if page >/dev/null; then die "a paused guest answers"; fi
printf '  its page does not answer\n'
show virtctl unpause vm demo
is "it runs" vm .status.printableStatus Running
[ "$(boot_id)" = "$boot" ] || die "unpausing booted the guest anew"

show virtctl soft-reboot demo
another "$boot"
[ "$(field vmi .metadata.uid)" = "$uid" ] || die "a soft reboot made another instance"
boot=$(boot_id)

show virtctl restart demo
another "$boot"
[ "$(field vmi .metadata.uid)" != "$uid" ] || die "a restart kept the instance"
is "it runs" vm .status.printableStatus Running

show virtctl stop demo
none vmi vmi demo --ignore-not-found
is "it is stopped" vm .status.printableStatus Stopped

show virtctl start demo
is "it runs" vm .status.printableStatus Running
another none
show scripts/console-until.sh demo 'login: *$' "$patience"

show kubectl delete vm demo --timeout="${patience}s"
none vmi vmi demo --ignore-not-found
none "pod of it" pods -l vm.kubevirt.io/name=demo

ip=$(kubectl get vmi hello -o 'jsonpath={.status.interfaces[0].ipAddress}')
show "${sudo[@]}" "$bin/ferrovirt" down
if kubectl get --raw /healthz >/dev/null 2>&1; then die "the API still answers"; fi
curl -fsS --max-time 3 "http://$ip/" | grep -q "boot id: $hello" || die "the guest of make demo went down too"
printf '  the guest serves its page, boot %s\n' "$hello"
show "${sudo[@]}" "$bin/ferrovirt" up --listen "${FERROVIRT_LISTEN:-127.0.0.1:7443}" --write-kubeconfig "$KUBECONFIG"
[ "$(id -u)" = 0 ] || sudo chown "$(id -u):$(id -g)" "$KUBECONFIG"
kubectl wait --for=condition=Ready vm/hello --timeout="${patience}s" >/dev/null || die "the guest is not taken over"
another none hello
[ "$(boot_id hello)" = "$hello" ] || die "the guest of make demo was booted anew"
printf '  the guest is the one it was\n'

skipped=
if command -v go >/dev/null; then
  printf '\n$ tests/compat (the typed client of upstream)\n'
  (cd tests/compat && go run . --kubeconfig "$KUBECONFIG") || die "tests/compat failed"
else
  skipped=' Skipped, because Go is not installed: the typed client of upstream (tests/compat).'
fi
printf '\nThe tour is over; all was as it should be.%s\n' "$skipped"
