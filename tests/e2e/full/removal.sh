# shellcheck shell=bash
# Refused while there are machines, when asked to; complete after that, also when the operator dies meanwhile.
change_kubevirt '{"uninstallStrategy":"BlockUninstallIfWorkloadsExist"}'
refused "removal is refused while guests run" \
  'Rejecting the uninstall request, since there are still Virtual Machine Instances present. Either delete all KubeVirt related workloads or change the uninstall strategy before uninstalling KubeVirt.' \
  kubectl -n kubevirt delete kv kubevirt --wait=false
for name in $(kubectl get vm -o 'jsonpath={.items[*].metadata.name}'); do virtctl stop "$name"; done
no_instances() { [ -z "$(kubectl get vmi -A -o name)" ]; }
eventually "the guests are stopped" no_instances
refused "and while machines are there" 'there are still Virtual Machines present' kubectl -n kubevirt delete kv kubevirt --wait=false
kubectl delete vm --all --timeout="${patience}s" >/dev/null
kubectl get clusterroles,clusterrolebindings,roles,rolebindings -A -o json >"$work/access.json"
kubectl -n kubevirt delete kv kubevirt --wait=false >/dev/null
kill_operator
kubevirt_gone() { [ -z "$(kubectl -n kubevirt get kv -o name)" ]; }
eventually "the installation is removed, though an operator was killed" kubevirt_gone
nothing_installed || failed "left: $(installed)"
left=$(kubectl get crd,apiservice -o name | grep 'kubevirt\.io$' | grep -vE '/(kubevirts|v1|v1alpha3)\.kubevirt\.io$' || true)
[ -z "$left" ] || failed "left: $left"
passed "nothing of it is left"
bystanders | diff "$work/bystanders" - || failed "what only looks like ours was touched"
passed "and what only looks like ours is untouched"
for node in node1 node2; do
  [ -z "$(domains "$node")" ] || failed "a domain is left on $node"
done
# What an operator tries when its rights are gone is not of interest.
audit >"$work/audit.json"
kubectl delete -f "$work/a/kubevirt-operator.yaml" --timeout="${patience}s" >/dev/null
no_word_of_it() {
  ! kubectl get crds,apiservices,clusterroles,clusterrolebindings,priorityclasses,namespaces -o name | grep kubevirt | grep -v kubevirt-handler-extra
}
eventually "the operator is removed with its manifest" no_word_of_it
