# shellcheck shell=bash
# A fresh installation, a guest on each node, and bystanders with names that look like ours.
apply_operator a
apply_resource a
eventually "version a is installed, with the phase and conditions of a finished installation" runs_version a
eventually "it takes virtual machines" is_usable
answers_as a || failed "virt-api calls itself $(kubectl get --raw /apis/subresources.kubevirt.io/v1/version)"
passed "virt-api calls itself version a"

kubectl apply -f - >/dev/null <<'END'
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: kubevirt-ca-extra, namespace: kubevirt}}
- {apiVersion: v1, kind: Service, metadata: {name: virt-api-extra, namespace: kubevirt, labels: {kubevirt.io: virt-api}}, spec: {ports: [{port: 80}]}}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: kubevirt-handler-extra, labels: {kubevirt.io: ""}}, rules: []}
- {apiVersion: v1, kind: Namespace, metadata: {name: bystander}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: kubevirt-controller, namespace: bystander, labels: {kubevirt.io: ""}}}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: kubevirt-controller, namespace: bystander}, rules: []}
END
bystanders() {
  versions_of -n kubevirt configmap/kubevirt-ca-extra service/virt-api-extra
  versions_of clusterrole/kubevirt-handler-extra namespace/bystander
  versions_of -n bystander serviceaccount/kubevirt-controller role/kubevirt-controller
}
bystanders >"$work/bystanders"

for place in left:node1 right:node2; do
  machine "${place%:*}" "${place#*:}" | kubectl apply -f - >/dev/null
  virtctl start "${place%:*}"
done
for place in left:node1 right:node2; do
  eventually "guest ${place%:*} answers" other_boot "${place%:*}" none
  is "vmi/${place%:*}" .status.nodeName "${place#*:}" || failed "guest ${place%:*} is on $(field "vmi/${place%:*}" .status.nodeName)"
done
passed "each on the node that its nodeSelector names"
remember_guests
