#!/usr/bin/env bash
# The tour a newcomer takes after `make demo`, with a look at each stop whether it is true. Needs the instance that the demo left running:
# FERROVIRT_KUBECONFIG (or KUBECONFIG) names it. Ends at the first thing that is not as it should be.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$(realpath -m "${CARGO_TARGET_DIR:-target}/release")
export KUBECONFIG=${FERROVIRT_KUBECONFIG:-${KUBECONFIG:-$HOME/.kube/ferrovirt.yaml}} PATH=$bin:$PATH
patience=${FERROVIRT_TOUR_PATIENCE:-180}

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
gone() {
  kubectl wait --for=delete "$1/demo" --timeout="${patience}s" >/dev/null || die "$1 demo is still there"
  printf '  no %s any more\n' "$1"
}
page() {
  local ip
  ip=$(field vmi '.status.interfaces[0].ipAddress')
  [ -n "$ip" ] && curl -fsS --max-time 3 "http://$ip/" 2>/dev/null
}
boot_id() { page | sed -n 's/.*boot id: //p'; }
# another BOOT_ID: waits until the page shows another boot of the guest than this one.
another() {
  local deadline=$((SECONDS + patience)) now
  until now=$(boot_id) && [ -n "$now" ] && [ "$now" != "$1" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "no other boot of the guest than '$1' answers (now '${now:-none}')"
    sleep 0.3
  done
  printf '  the guest serves its page, boot %s\n' "$now"
}

is "the demo's machine runs" vm .status.printableStatus Running
show kubectl get vms,vmis,pods
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
gone vmi
is "it is stopped" vm .status.printableStatus Stopped

show virtctl start demo
is "it runs" vm .status.printableStatus Running
another none
show scripts/console-until.sh demo 'login: *$' "$patience"

show kubectl delete vm demo --timeout="${patience}s"
gone vmi
[ -z "$(kubectl get pods -o name)" ] || kubectl wait --for=delete pods --all --timeout="${patience}s" >/dev/null || die "a pod is left"
printf '  no pods any more\n'

if command -v go >/dev/null; then
  printf '\n$ tests/compat (the typed client of upstream)\n'
  (cd tests/compat && go run . --kubeconfig "$KUBECONFIG") || die "tests/compat failed"
else
  printf '\ntests/compat: skipped, go is not installed\n'
fi
printf '\nThe tour is over; all was as it should be.\n'
