# shellcheck shell=bash
# From version a to b and back, with operators killed at random, and half-way. The guests notice nothing.

# watch_states: what the resource says from now on in $work/states. A watch ends when the definition of what it watches is replaced.
watch_states() {
  (
    trap 'kill "$watch" 2>/dev/null || true' EXIT
    trap exit TERM
    while sleep 0.1; do
      kubectl -n kubevirt get kv kubevirt --watch -o 'jsonpath={.status.phase} {.status.observedKubeVirtVersion} {.status.targetKubeVirtVersion} {range .status.conditions[*]}{.type}={.status}/{.reason} {end}{"\n"}' &
      watch=$!
      wait "$watch" || true
    done
  ) >"$work/states" 2>/dev/null &
  watcher=$!
}
end_watch() { kill "$watcher"; wait "$watcher" 2>/dev/null || true; }
# said PATTERN…: the resource was in a state that has all of them.
said() {
  local lines pattern
  lines=$(cat "$work/states")
  for pattern; do lines=$(grep -F -- "$pattern" <<<"$lines") || failed "no state with $*: $(sort -u "$work/states")"; done
}
writes() { by_operators | wc -l; }
# in_order WRITES PATTERN…: after so many writes of operators the first to each came in this order.
in_order() {
  local from=$1 pattern last=0 at
  shift
  for pattern; do
    at=$(by_operators | tail -n "+$((from + 1))" | grep -n -m 1 -F -- "$pattern" | cut -d: -f1 || true)
    [ -n "$at" ] && [ "$at" -gt "$last" ] || failed "$pattern is not written where it should be: $(by_operators | tail -n "+$((from + 1))")"
    last=$at
  done
}
handlers_are() { [[ $(kubectl -n kubevirt get daemonset virt-handler -o 'jsonpath={.spec.template.spec.containers[0].image}') == *":$1" ]]; }
handlers_stay_ahead() { ! handlers_are "$1" || [ -n "$(images_but "$1")" ]; }
# outdated_are COUNT: so many machines have launchers of the other version, by their labels and in the resource's status.
outdated_are() {
  [ "$(kubevirt .status.outdatedVirtualMachineInstanceWorkloads)" = "$1" ] &&
    [ "$(kubectl get vmis -l kubevirt.io/outdatedLauncherImage -o name | wc -l)" = "$1" ]
}

# --- a to b, by the new manifest, while operators die -------------------------------------------------------------------------------
watch_states
from=$(writes)
launcher_pods=$(versions_of pods -l kubevirt.io=virt-launcher | cut -d' ' -f1,2)
apply_operator b
for _ in 1 2 3 4 5; do
  sleep $((1 + RANDOM % 5)) # the moment of a death is what is random here
  kill_operator
done
eventually "version b is installed, though operators were killed five times" runs_version b
end_watch
said "Deployed a b" Available=True/UpdateInProgress Progressing=True/UpdateInProgress Degraded=True/UpdateInProgress
said "Deployed b b" Available=True/AllComponentsReady Progressing=False/AllComponentsReady Degraded=False/AllComponentsReady
passed "its conditions told of the update, and of its end"
if grep -F 'Available=False' "$work/states"; then failed "it was not Available in between"; fi
passed "it was Available all the time"
in_order "$from" "update daemonsets/virt-handler" "update deployments/virt-controller" "update deployments/virt-api"
passed "node agents came first, then virt-controller, then virt-api"
answers_as b || failed "virt-api calls itself $(kubectl get --raw /apis/subresources.kubevirt.io/v1/version)"
passed "virt-api calls itself version b"
[ "$(versions_of pods -l kubevirt.io=virt-launcher | cut -d' ' -f1,2)" = "$launcher_pods" ] || failed "launcher pods were replaced"
undisturbed
eventually "the machines with launchers of version a are marked and counted" outdated_are 2
twice=$(by_operators | cut -d' ' -f1 | uniq | sort | uniq -d)
[ -z "$twice" ] || failed "wrote, let another write, and wrote again: $twice"
passed "one operator at a time led, of $(by_operators | cut -d' ' -f1 | uniq | wc -l)"

# --- back by spec.imageTag, and forth again half-way ---------------------------------------------------------------------------------
change_kubevirt '{"imageTag":"a"}'
eventually "spec.imageTag: node agents are being taken back to version a" handlers_are a
change_kubevirt '{"imageTag":null}'
eventually "and half-way everything to version b" runs_version b
undisturbed

# --- back by the old manifest ----------------------------------------------------------------------------------------------------------
from=$(writes)
apply_operator a
eventually "the old manifest takes everything back to version a" runs_version a
in_order "$from" "update daemonsets/virt-handler" "update deployments/virt-controller" "update deployments/virt-api"
undisturbed
eventually "no launcher is of another version any more" outdated_are 0
bystanders | diff "$work/bystanders" - || failed "what only looks like ours was touched"
