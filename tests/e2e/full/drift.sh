# shellcheck shell=bash
# What is installed is put back as it should be, wherever it is changed, and what only looks like ours stays as it is.
restored() { eventually "$1" is_restored "$2" "$3" "$4"; }
# is_restored OBJECT PATH VALUE, where the version was another before.
is_restored() { [ "$(kubectl -n kubevirt get "$1" -o "jsonpath=$2" 2>/dev/null)" = "$3" ]; }
kk() { kubectl -n kubevirt "$@" >/dev/null 2>&1; }

kk delete deployment virt-controller
restored "a Deployment that was deleted is back" deployment/virt-controller '{.metadata.labels.kubevirt\.io}' virt-controller
kk patch deployment virt-api --type=json -p '[{"op":"add","path":"/spec/template/spec/hostNetwork","value":true}]'
restored "a field somebody added to a Deployment is gone" deployment/virt-api '{.spec.template.spec.hostNetwork}' ''
kk patch clusterrole kubevirt-handler --type=json -p '[{"op":"add","path":"/rules/-","value":{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}}]'
no_secrets() { ! kubectl get clusterrole kubevirt-handler -o yaml | grep secrets; }
eventually "a rule somebody added to a ClusterRole is gone" no_secrets
kk delete clusterrolebinding kubevirt-controller
restored "a ClusterRoleBinding that was deleted is back" clusterrolebinding/kubevirt-controller '{.roleRef.name}' kubevirt-controller
kk patch validatingwebhookconfiguration virt-api-validator --type=json -p '[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]'
restored "a webhook's failurePolicy is what it was" validatingwebhookconfiguration/virt-api-validator '{.webhooks[0].failurePolicy}' Fail
kk delete mutatingwebhookconfiguration virt-api-mutator
restored "a webhook configuration that was deleted is back" mutatingwebhookconfiguration/virt-api-mutator '{.metadata.labels.kubevirt\.io}' virt-api
kk label crd virtualmachines.kubevirt.io app.kubernetes.io/managed-by-
restored "a label that was taken from a definition is back" crd/virtualmachines.kubevirt.io '{.metadata.labels.app\.kubernetes\.io/managed-by}' virt-operator
kk delete apiservice v1.subresources.kubevirt.io
restored "an APIService that was deleted is back" apiservice/v1.subresources.kubevirt.io '{.spec.service.name}' virt-api
kk delete secret kubevirt-virt-api-certs
restored "a certificate that was deleted is made anew" secret/kubevirt-virt-api-certs '{.type}' kubernetes.io/tls
eventually "everything is ready again" runs_version a
bystanders | diff "$work/bystanders" - || failed "what only looks like ours was touched"
passed "what only looks like ours is untouched"
undisturbed
