# shellcheck shell=bash
# A node dies. From afar nobody can tell that from a node that is not heard, so nothing happens to its machines until its administrator says
# that it is off; then those that may run elsewhere do.
roams roamer node2 node1
boot=$(boot_id roamer)
uid=$(field vmi/roamer .metadata.uid)

# The power goes: what is left of the node holds no guest and says nothing.
cluster kill node2 kubelet
cluster enter node2 sh -c 'for process in /proc/[0-9]*; do
  case $(cat "$process/comm" 2>/dev/null) in virt-handler | qemu-system*) kill -9 "${process#/proc/}" ;; esac
done'
not_ready() { [ "$(kubectl get node node2 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" != True ]; }
eventually "node2 is not ready" not_ready
is vmi/roamer .metadata.uid "$uid" && is vmi/roamer .status.phase Running || failed "its instance is $(field vmi/roamer .status.phase)"
passed "which is no reason to start its machines elsewhere"
kubectl taint nodes node2 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute >/dev/null
eventually "an administrator's word is" is vmi/roamer .status.nodeName node1
eventually "the guest runs there" other_boot roamer "$boot"
told_why() { kubectl get events -o 'jsonpath={.items[?(@.reason=="NodeOutOfService")].involvedObject.name}' | grep -qw roamer; }
eventually "events tell why" told_why
boot=$(boot_id roamer)

cluster start node2 kubelet
ready_again() { ! not_ready; }
eventually "node2 is back" ready_again
kubectl taint nodes node2 node.kubernetes.io/out-of-service- >/dev/null
eventually "the guest that may only run there is started anew" other_boot right none
same_boot roamer "$boot" || failed "the guest that runs elsewhere by now is another one"
nothing_of_it_is_left() { ! cluster enter node2 find /var/lib/ferrovirt /run/ferrovirt /var/log/libvirt -name "*$uid*" | grep .; }
eventually "nothing of the other is left on node2" nothing_of_it_is_left
kubectl delete vm roamer --timeout="${patience}s" >/dev/null
remember_guests
