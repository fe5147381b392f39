# shellcheck shell=bash
# What several sections say; sourced by full.sh.

# kubevirt PATH: a field of the resource.
kubevirt() { kubectl -n kubevirt get kv kubevirt --ignore-not-found -o "jsonpath={$1}"; }
# state: phase, observed and target version, and the conditions in order.
state() {
  kubevirt '.status.phase} {.status.observedKubeVirtVersion} {.status.targetKubeVirtVersion'
  kubectl -n kubevirt get kv kubevirt -o 'jsonpath={range .status.conditions[*]}{.type}={.status}/{.reason}{"\n"}{end}' | sort | tr '\n' ' ' | sed 's/^/ /'
}
settled="Available=True/AllComponentsReady Created=True/AllResourcesCreated Degraded=False/AllComponentsReady Progressing=False/AllComponentsReady "
# runs_version TAG: everything is of it, and ready.
runs_version() {
  [ "$(state)" = "Deployed $1 $1 $settled" ] && [ -z "$(images_but "$1")" ] && [ "$(kubevirt .status.observedGeneration)" = "$(kubevirt .metadata.generation)" ]
}
# images_but TAG: images of components that are of another version. What is on its way out is not counted.
images_but() {
  kubectl -n kubevirt get pods -l 'kubevirt.io in (virt-api,virt-controller,virt-handler)' \
    -o 'jsonpath={range .items[?(!@.metadata.deletionTimestamp)]}{.spec.containers[0].image}{"\n"}{end}' | grep -v ":$1$" || true
}
answers_as() { kubectl get --raw /apis/subresources.kubevirt.io/v1/version | grep -q "ferrovirt\.$1\""; }

# guest NAME: its node, its boot and its QEMU process, which tell it from any other; guests: of all that there are.
guest() { echo "$1 $(field "vmi/$1" .status.nodeName) boot $(boot_id "$1") pid $(qemu "$1")"; }
guests() {
  local name
  for name in $(kubectl get vmi -o 'jsonpath={.items[*].metadata.name}'); do guest "$name"; done
}
# roams NAME NODE OTHER: a guest that may run anywhere runs on NODE, for OTHER takes none meanwhile.
roams() {
  kubectl cordon "$3" >/dev/null
  machine "$1" | kubectl apply -f - >/dev/null
  virtctl start "$1"
  eventually "a guest that may run anywhere runs on $2" other_boot "$1" none
  kubectl uncordon "$3" >/dev/null
  is "vmi/$1" .status.nodeName "$2" || failed "it is on $(field "vmi/$1" .status.nodeName)"
}
remember_guests() { guests >"$work/guests"; }
same_guests() { guests | diff "$work/guests" - >&2; }
undisturbed() { eventually "the guests are the ones they were, in the same QEMU" same_guests; }

# versions_of: names and versions of objects, to tell later whether anybody touched them.
versions_of() { kubectl get "$@" -o 'jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid} {.metadata.resourceVersion}{"\n"}{end}'; }
installed() { kubectl get crds,clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,services,configmaps,secrets,deployments,daemonsets,pdb,apiservices,priorityclasses,validatingwebhookconfigurations,mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings -A -l "${1:-ferrovirt.io/installed-by}" -o name; }
nothing_installed() { [ -z "$(installed)" ]; }

# audit: the API server's log so far; by_operators: what operators wrote to what is installed, oldest first: `pod verb resource/name`.
audit() { cat "$CLUSTER_DIR/world/log/audit.json"; }
by_operators() {
  audit | grep -E '"verb":"(create|update|patch|delete)"' | grep '"username":"system:serviceaccount:kubevirt:kubevirt-operator"' |
    grep -v '"resource":"leases"' |
    sed -nE 's/.*"verb":"([a-z]+)".*"authentication\.kubernetes\.io\/pod-name":\["([^"]+)"\].*"objectRef":\{"resource":"([^"]+)"[^}]*"name":"([^"]+)".*"responseStatus":.*"code":2[0-9][0-9].*/\2 \1 \3\/\4/p'
}
kill_operator() {
  local pods
  mapfile -t pods < <(kubectl -n kubevirt get pods -l kubevirt.io=virt-operator -o name)
  [ ${#pods[@]} = 0 ] || kubectl -n kubevirt delete --force --grace-period=0 "${pods[RANDOM % ${#pods[@]}]}" >/dev/null 2>&1 || true
}
