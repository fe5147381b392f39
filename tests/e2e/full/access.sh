# shellcheck shell=bash
# Who may do what: users by Kubernetes' own roles, an agent on the objects of its node only.
kubectl create serviceaccount watcher >/dev/null
kubectl create serviceaccount worker >/dev/null
kubectl create rolebinding watcher --clusterrole=view --serviceaccount=default:watcher >/dev/null
kubectl create rolebinding worker --clusterrole=edit --serviceaccount=default:worker >/dev/null
as() { local who=$1; shift; kubectl --as="system:serviceaccount:default:$who" "$@"; }
may_view() { as watcher get vm left; }
eventually "who has Kubernetes' role view sees machines" may_view
refused "and changes none" 'is forbidden' as watcher label vm left seen=yes
may_edit() { as worker label vm left seen=yes; }
eventually "who has its role edit does" may_edit
refused "who has none sees none" 'is forbidden' as nobody get vm left

# With the token of one of its pods, as the agent of node1 has it.
agent_kubeconfig() {
  local pod token
  pod=$(kubectl -n kubevirt get pods -l kubevirt.io=virt-handler --field-selector "spec.nodeName=$1" -o 'jsonpath={.items[0].metadata.name}')
  token=$(kubectl -n kubevirt create token kubevirt-handler --bound-object-kind=Pod --bound-object-name="$pod")
  kubectl config view --raw --flatten --minify >"$work/agent"
  kubectl --kubeconfig="$work/agent" config set-credentials agent --token="$token" >/dev/null
  kubectl --kubeconfig="$work/agent" config set-context --current --user=agent >/dev/null
}
agent_kubeconfig node1
as_agent() { kubectl --kubeconfig="$work/agent" "$@"; }
as_agent annotate vmi left written=yes >/dev/null
as_agent annotate node node1 written=yes >/dev/null
passed "the agent of a node writes its objects"
refused "and no instance of another node" 'may not write objects of node node2' as_agent annotate vmi right written=yes
refused "nor that node" 'may not write objects of node node2' as_agent annotate node node2 written=yes
kubectl delete serviceaccount/watcher serviceaccount/worker rolebinding/watcher rolebinding/worker >/dev/null
