#!/usr/bin/env bash
# Proves that the test cluster is a cluster: starts one of its own, uses what tests rely on, removes it, and looks for leftovers.
#
#   tests/cluster/smoke.sh        with CLUSTER_NODES=1|2 (default: 2). As root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export CLUSTER_NAME=${CLUSTER_NAME:-smoke-$$} CLUSTER_NODES=${CLUSTER_NODES:-2}
. "$here/lib/checks.sh"
cluster() { "$here/cluster.sh" "$@"; }

before=$(mktemp)
work=$(mktemp -d)
forward=
finish() {
  status=$?
  trap '' INT TERM
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
  if [ $status != 0 ] && [ -n "${KUBECONFIG:-}" ]; then
    kubectl get pods,services -A -o wide || true
    kubectl get events -A --sort-by=.lastTimestamp | tail -n 20 || true
  fi
  cluster down
  nothing_left "$before" "$root" || status=1
  rm -rf "$work" "$before"
  [ $status = 0 ] && echo "ok      nothing is left behind"
  exit $status
}
trap finish EXIT


"$root/scripts/traces.sh" >"$before"
cluster up
settings=$(cluster env)
eval "$settings"
export KUBECONFIG
kubernetes=$("$here/build.sh" kubectl)
kubectl() { "$kubernetes/kubectl" "$@"; }
nodes=$(seq -f node%g "$CLUSTER_NODES")
last=node$CLUSTER_NODES

[ "$(kubectl get nodes -o name | wc -l)" = "$CLUSTER_NODES" ]
passed "$CLUSTER_NODES nodes run $(kubectl get node node1 -o jsonpath='{.status.nodeInfo.kubeletVersion}')"

# --- pods on every node, images from the registry ---------------------------------------------------------------------------
pod() { # NAME NODE SCRIPT
  cat <<END
apiVersion: v1
kind: Pod
metadata: {name: $1, labels: {app: ${1%-*}}}
spec:
  nodeSelector: {kubernetes.io/hostname: $2}
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "$IMAGES/busybox:test", command: [sh, -c, "$3"]}
---
END
}
{
  for node in $nodes; do pod "web-$node" "$node" "echo $node >/tmp/index.html; exec httpd -f -v -p 8080 -h /tmp"; done
  pod client-0 node1 "exec sleep 100000"
  printf '%s\n' 'apiVersion: v1' 'kind: Service' 'metadata: {name: web}' 'spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}'
} | kubectl apply -f - >/dev/null
kubectl wait pod --all --for condition=Ready --timeout=60s >/dev/null
passed "pods of images from the registry are Ready"

get() { kubectl exec client-0 -- timeout 2 wget -q -O - "$1"; }
for node in $nodes; do
  ip=$(kubectl get pod "web-$node" -o jsonpath='{.status.podIP}')
  answers() { [ "$(get "http://$ip:8080/")" = "$node" ]; }
  within 10 "a pod of node1 reaches a pod of $node" answers
done
service=$(kubectl get service web -o jsonpath='{.spec.clusterIP}')
answered_by() { for _ in $(seq 30); do [ "$(get "http://$service/")" != "$1" ] || return 0; done; return 1; }
for node in $nodes; do within 10 "the service reaches its pod on $node" answered_by "$node"; done
api() { kubectl exec client-0 -- nc -w 2 10.96.0.1 443 </dev/null; }
within 10 "a pod reaches the API server at its service address" api

# --- volumes on demand -------------------------------------------------------------------------------------------------------
kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "$IMAGES/busybox:test", command: [sh, -c, "echo kept >/data/file; exec sleep 100000"], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
END
kept() { [ "$(cat "$CLUSTER_DIR"/volumes/*/file)" = kept ]; }
within 30 "a claim gets a volume, and a pod writes to it" kept
kubectl delete pod/writer pvc/data --timeout=60s >/dev/null
no_volume() { [ -z "$(ls "$CLUSTER_DIR/volumes")" ]; }
within 30 "which goes with its claim" no_volume

# --- what kubectl does through the API server ----------------------------------------------------------------------------------
logged() { kubectl logs "web-$last" | grep -q "$(kubectl get pod client-0 -o jsonpath='{.status.podIP}')"; }
within 10 "kubectl logs shows the request with the client's own address" logged
[ "$(echo through | kubectl exec -i "web-$last" -- sed s/thr/thr/)" = through ]
passed "kubectl exec carries input and output"
kubectl port-forward "pod/web-$last" :8080 >"$work/forward" 2>&1 &
forward=$!
forwarded() {
  local port
  port=$(sed -n 's/.*127\.0\.0\.1:\([0-9]*\) ->.*/\1/p' "$work/forward")
  [ "$(curl -s --max-time 2 "http://127.0.0.1:$port/")" = "$last" ]
}
within 10 "kubectl port-forward reaches a pod from outside" forwarded
kill "$forward"
forward=

# --- who may do what ---------------------------------------------------------------------------------------------------------
as_node1() { kubectl --kubeconfig "$CLUSTER_DIR/pki/node1.kubeconfig" "$@"; }
refused "a node may not read a secret of no pod of its own" Forbidden as_node1 get secret none
refused "a node may not give itself a restricted label" "is not allowed to" as_node1 label node node1 node-restriction.kubernetes.io/x=y
kubectl create namespace strict >/dev/null
kubectl label namespace strict pod-security.kubernetes.io/enforce=restricted >/dev/null
refused "pod security refuses what the namespace does not allow" "violates PodSecurity" \
  kubectl -n strict run no --image "$IMAGES/busybox:test" --privileged
kubectl create serviceaccount nobody >/dev/null
refused "an account without a role may do nothing" Forbidden kubectl --as system:serviceaccount:default:nobody get pods
audited() { grep -q '"username":"system:serviceaccount:default:nobody"\|"impersonatedUser":{"username":"system:serviceaccount:default:nobody"' "$CLUSTER_DIR/world/log/audit.json"; }
within 5 "the audit log has it" audited

# --- each node has a libvirt of its own --------------------------------------------------------------------------------------
for node in $nodes; do
  guest() {
    cluster enter "$node" sh -ec '
      echo "<domain type=\"qemu\"><name>probe</name><memory>65536</memory><os><type machine=\"q35\">hvm</type></os></domain>" >/tmp/probe-$0.xml
      virsh -q -c qemu:///system create /tmp/probe-$0.xml
      rm /tmp/probe-$0.xml
      [ "$(virsh -c qemu:///system list --name | xargs)" = probe ]
      virsh -q -c qemu:///system destroy probe' "$node"
  }
  guest >"$work/output" 2>&1 || { echo "FAILED  a guest on $node: $(cat "$work/output")"; exit 1; }
  passed "libvirt of $node starts a guest and knows only its own"
done

# --- parts end and come back -------------------------------------------------------------------------------------------------
for service in kubelet containerd; do
  cluster restart node1 $service
  joined() { kubectl wait node/node1 --for condition=Ready --timeout=0s && kubectl exec client-0 -- true; }
  within 40 "$service of node1 restarts" joined
done
[ "$(kubectl get pod web-node1 -o jsonpath='{.status.containerStatuses[0].restartCount}')" = 0 ]
passed "its pods did not notice"
