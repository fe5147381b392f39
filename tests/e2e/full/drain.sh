# shellcheck shell=bash
# A node is drained: its guests shut down, those that may run elsewhere come back there, none comes back to the drained node.
roams mover node1 node2
boot=$(boot_id mover)
right=$(guest right)

kubectl drain node1 --ignore-daemonsets --delete-emptydir-data --timeout="${patience}s" >"$work/output" 2>&1 || failed "drain: $(cat "$work/output")"
passed "node1 is drained"
no_launcher_on() { [ -z "$(kubectl get pods -A -l kubevirt.io=virt-launcher --field-selector "spec.nodeName=$1" -o name)" ]; }
no_domain_on() { [ -z "$(domains "$1")" ]; }
no_launcher_on node1 || failed "launcher pods are on node1: $(kubectl get pods -l kubevirt.io=virt-launcher -o wide)"
eventually "and without a guest" no_domain_on node1
eventually "the guest that may run anywhere comes back" other_boot mover "$boot"
is vmi/mover .status.nodeName node2 || failed "it is on $(field vmi/mover .status.nodeName)"
eventually "the guest that may run there only waits for its node" is vm/left .status.printableStatus ErrorUnschedulable
no_launcher_on node1 || failed "launcher pods are on node1: $(kubectl get pods -l kubevirt.io=virt-launcher -o wide)"
[ "$(guest right)" = "$right" ] || failed "the guest of node2 is another: $right, now $(guest right)"
passed "the guest of node2 is the one it was"
kubectl uncordon node1 >/dev/null
eventually "with its node back it runs again" other_boot left none
is vmi/left .status.nodeName node1 || failed "it is on $(field vmi/left .status.nodeName)"
