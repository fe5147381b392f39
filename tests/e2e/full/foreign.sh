# shellcheck shell=bash
# Another KubeVirt is there: refused by name, and nothing of it is touched until it is gone.
refused_for() { kubevirt '.status.conditions[?(@.type=="Synchronized")].message' | grep -F "$1"; }
is_refusing() {
  [[ $(state) == *"Available=False/DeploymentFailed"*"Degraded=True/DeploymentFailed"*"Synchronized=False/ExistingDeployment"* ]] || failed "its conditions: $(state)"
  nothing_installed || failed "installed all the same: $(installed)"
}

# --- a resource that another operator follows -------------------------------------------------------------------------------------
kubectl apply -f manifests/crds/kubevirts.yaml >/dev/null
kubectl create namespace theirs >/dev/null
cat >"$work/theirs.yaml" <<'END'
apiVersion: kubevirt.io/v1
kind: KubeVirt
metadata: {name: kubevirt, namespace: theirs, finalizers: [kubevirt.io/foregroundDeleteKubeVirt]}
spec: {}
END
eventually "KubeVirt resources can be made" kubectl apply -f "$work/theirs.yaml"
kubectl -n theirs patch kv kubevirt --subresource=status --type=merge \
  -p '{"status":{"phase":"Deployed","targetDeploymentConfig":"{\"id\":\"8ad8\",\"namespace\":\"theirs\",\"registry\":\"quay.io/kubevirt\"}"}}' >/dev/null
apply_operator a
apply_resource a
eventually "another KubeVirt resource is refused by name" refused_for 'theirs/kubevirt'
is_refusing
kubectl -n theirs delete kv kubevirt --wait=false >/dev/null
theirs=$(versions_of -n theirs kv)
told_in_log() { kubectl -n kubevirt logs -l kubevirt.io=virt-operator --tail=-1 | grep 'another operator follows' | wc -l; }
times=$(told_in_log)
told_again() { [ "$(told_in_log)" -gt "$times" ]; }
kubectl -n kubevirt annotate kv kubevirt example.org/look=again >/dev/null
eventually "the operator looks at it again, being deleted" told_again
[ "$(versions_of -n theirs kv)" = "$theirs" ] || failed "it was touched: $(kubectl -n theirs get kv -o yaml)"
passed "and does not touch it"

# --- a definition that is left of it -----------------------------------------------------------------------------------------------
kubectl apply -f - >/dev/null <<'END'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: virtualmachines.kubevirt.io, labels: {app.kubernetes.io/managed-by: virt-operator, kubevirt.io: ""}}
spec:
  group: kubevirt.io
  scope: Namespaced
  names: {plural: virtualmachines, singular: virtualmachine, kind: VirtualMachine, listKind: VirtualMachineList}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
END
their_definition() { kubectl get crd virtualmachines.kubevirt.io -o 'jsonpath={.metadata.uid} {.metadata.labels} {.metadata.annotations}'; }
theirs=$(their_definition)
kubectl -n theirs patch kv kubevirt --type=merge -p '{"metadata":{"finalizers":null}}' >/dev/null
eventually "another KubeVirt's definition is refused by name" refused_for 'CustomResourceDefinition virtualmachines.kubevirt.io'
is_refusing
[ "$(their_definition)" = "$theirs" ] || failed "it was touched"
passed "and not touched"
kubectl delete crd virtualmachines.kubevirt.io >/dev/null
kubectl delete namespace theirs >/dev/null
