# shellcheck shell=bash
# Bad input and outages: what is wrong is told where users look, nobody else is hindered, and it goes on when it is put right.
says() { [[ $(kubectl get vm -n "${3:-default}" "$1" -o 'jsonpath={.status.printableStatus}') =~ ^($2)$ ]]; }

# --- images, places and quotas that are not there -----------------------------------------------------------------------------------
kubectl create namespace faulty >/dev/null
machine unpulled | sed 's#demo-guest:e2e#nothing:e2e#' | kubectl -n faulty apply -f - >/dev/null
machine nowhere node9 | kubectl -n faulty apply -f - >/dev/null
for name in unpulled nowhere; do virtctl -n faulty start "$name"; done
eventually "an image that cannot be pulled is told" says unpulled 'ErrImagePull|ImagePullBackOff' faulty
eventually "so is that no node fits" says nowhere ErrorUnschedulable faulty

kubectl -n faulty create quota pods --hard=pods=0 >/dev/null
machine crowded | kubectl -n faulty apply -f - >/dev/null
virtctl -n faulty start crowded
told_of_quota() {
  local kind
  for kind in vm vmi; do
    kubectl -n faulty get "$kind" crowded -o 'jsonpath={.status.conditions[*].message}' | grep 'exceeded quota: pods' || return 1
  done
}
eventually "an exceeded quota is told in the conditions of VM and VMI" told_of_quota
kubectl -n faulty patch quota pods --type=merge -p '{"spec":{"hard":{"pods":"9","limits.cpu":"8","limits.memory":"8Gi"}}}' >/dev/null
eventually "it runs once the quota is raised, with the limits that the quota asks for" says crowded Running faulty
kubectl delete namespace faulty --wait=false >/dev/null

# --- virt-api is away, and nobody brings it back ---------------------------------------------------------------------------------------
no_pods_of() { [ -z "$(kubectl -n kubevirt get pods -l "kubevirt.io=$1" -o name)" ]; }
for component in virt-operator virt-api; do
  kubectl -n kubevirt scale deployment "$component" --replicas=0 >/dev/null
  eventually "$component is away" no_pods_of "$component"
done
machine late >"$work/late.yaml"
refused "no machine can be made, which is said" 'failed calling webhook' kubectl apply -f "$work/late.yaml"
kubectl run bystander --image="$IMAGES/busybox:test" --restart=Never --command -- sleep 600 >/dev/null
eventually "pods of others are made" kubectl wait pod bystander --for=condition=Ready --timeout=5s
kubectl get pods -A >/dev/null
kubectl delete pod bystander --grace-period=0 --force >/dev/null 2>&1
passed "listed and deleted"
is_stale() { [ "$(kubectl get apiservice v1.subresources.kubevirt.io -o 'jsonpath={.status.conditions[?(@.type=="Available")].status}')" = False ]; }
eventually "its aggregated API is known to be away" is_stale
refused "no machine can be stopped, which is said" 'unable to handle the request' virtctl stop left
kubectl api-resources 2>/dev/null | grep -q '^deployments ' || failed "the APIs of others are not found"
passed "the APIs of others are found"
kubectl create namespace stale >/dev/null
kubectl delete namespace stale --wait=false >/dev/null
undisturbed
kubectl -n kubevirt scale deployment virt-operator --replicas=2 >/dev/null
eventually "an operator brings virt-api back" runs_version a
eventually "it takes virtual machines again" is_usable
stale_is_gone() { ! kubectl get namespace stale; }
eventually "a namespace that was deleted meanwhile is gone" stale_is_gone

# --- a node without its agent ------------------------------------------------------------------------------------------------------------
agents() { kubectl -n kubevirt get pods -l kubevirt.io=virt-handler -o 'jsonpath={.items[*].spec.nodeName}'; }
agents_are() { [ "$(agents | tr ' ' '\n' | sort | tr '\n' ' ')" = "$1" ]; }
change_kubevirt '{"workloads":{"nodePlacement":{"nodeSelector":{"kubernetes.io/hostname":"node1"}}}}'
eventually "node2 has no agent any more" agents_are 'node1 '
machine late node2 | kubectl apply -f - >/dev/null
virtctl start late
eventually "a machine for it waits, and says so" says late ErrorUnschedulable
[ "$(guest right)" = "$(grep '^right ' "$work/guests")" ] || failed "the guest there is another one"
passed "the guest there runs on"
change_kubevirt '{"workloads":null}'
eventually "with an agent again the machine runs" says late Running
kubectl delete vm late --timeout="${patience}s" >/dev/null
undisturbed

# --- a node whose libvirt is removed -----------------------------------------------------------------------------------------------------
# finding NODE: why it takes guests or not; agent_of NODE: its pod, and how often that was started anew.
finding() { field "node/$1" '.status.conditions[?(@.type=="VirtualizationReady")].reason'; }
finds() { [ "$(finding "$1")" = "$2" ] && is "node/$1" '.metadata.labels.kubevirt\.io/schedulable' "$3"; }
agent_of() {
  kubectl -n kubevirt get pods -l kubevirt.io=virt-handler --field-selector "spec.nodeName=$1" \
    -o 'jsonpath={.items[*].metadata.uid} {.items[*].status.containerStatuses[0].restartCount}'
}
eventually "node2 takes guests" finds node2 LibvirtReady true
agent=$(agent_of node2)
pid=$(qemu right)
cluster stop node2 libvirtd
# What a package leaves behind is no daemon either: a program that cannot be started, no socket.
libvirtd=$(cluster enter node2 sh -c 'command -v libvirtd')
cluster enter node2 sh -ec 'rm -f /run/libvirt/libvirt-sock /run/libvirt/libvirt-sock-ro; mount --bind /dev/null "$0"' "$libvirtd"
eventually "a node without libvirt takes no guests, and says what is missing" finds node2 LibvirtMissing false
told_of_libvirt() { kubectl get events -A -o 'jsonpath={.items[?(@.reason=="LibvirtMissing")].involvedObject.name}' | grep -qw node2; }
eventually "so does an event" told_of_libvirt
finds node1 LibvirtReady true || failed "the other node says $(finding node1)"
machine late node2 | kubectl apply -f - >/dev/null
virtctl start late
eventually "a machine for it waits, and says so" says late ErrorUnschedulable
[ "$(qemu right)" = "$pid" ] && cluster enter node2 kill -0 "$pid" || failed "QEMU of the guest there is another process, or none"
[ "$(guest right)" = "$(grep '^right ' "$work/guests")" ] || failed "the guest there is another one"
passed "the guest there runs on"
cluster enter node2 umount "$libvirtd"
cluster start node2 libvirtd
eventually "with its libvirt again the node takes guests" finds node2 LibvirtReady true
[ "$(agent_of node2)" = "$agent" ] || failed "the agent was started anew, although the libvirt is the one it used"
eventually "the machine that waited runs" says late Running
virtctl pause vm right
eventually "the guest is managed again: paused" says right Paused
virtctl unpause vm right
eventually "and running" says right Running
kubectl delete vm late --timeout="${patience}s" >/dev/null
undisturbed
faulty_is_gone() { ! kubectl get namespace faulty; }
eventually "all that was faulty could be deleted with its namespace" faulty_is_gone
