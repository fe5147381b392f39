# shellcheck shell=bash
# Ferrovirt on a test cluster of the script's own: words for tests/e2e. They need $root, this repository, and checks.sh.
#
#   E2E_PROFILE    cargo profile of the programs in the images (default: release)
#   E2E_PATIENCE   seconds that anything may take (default: 300)

profile=${E2E_PROFILE:-release}
patience=${E2E_PATIENCE:-300}
work=$(mktemp -d)
cluster() { "$root/tests/cluster/cluster.sh" "$@"; }
failed() { echo "FAILED  $*"; exit 1; }
# eventually WHAT COMMAND…: until it succeeds.
eventually() { within "$patience" "$@"; }

# begin_cluster NODES: starts it, with kubectl for it. It goes with the script, which fails when anything stays.
begin_cluster() {
  export CLUSTER_NAME=${CLUSTER_NAME:-e2e-$$} CLUSTER_NODES=$1
  # The guest's image is kept for the next run: no trace of this one.
  guest/build.sh "$work/guest.qcow2" >"$work/output" 2>&1 || failed "the guest's image: $(tail -n 40 "$work/output")"
  scripts/traces.sh >"$work/before"
  trap finish EXIT
  cluster up
  local settings kubernetes
  settings=$(cluster env)
  eval "$settings"
  export KUBECONFIG
  kubernetes=$(tests/cluster/build.sh kubectl)
  PATH=$kubernetes:$PATH
}
# make_virtctl: it is there by its name.
make_virtctl() {
  local folder=$profile
  cargo build --quiet --profile "$profile" -p virtctl
  [ "$profile" != dev ] || folder=debug
  PATH=$(realpath -m "${CARGO_TARGET_DIR:-target}/$folder"):$PATH
}

finish() {
  status=$?
  trap '' INT TERM
  kill_jobs
  if [ $status != 0 ] && [ -n "${KUBECONFIG:-}" ]; then
    kubectl get kubevirts,pods,vms,vmis -A -o wide || true
    kubectl get events -A --sort-by=.lastTimestamp | tail -n 30 || true
    kubectl -n kubevirt logs -l kubevirt.io --all-containers --prefix --tail=15 || true
  fi
  cluster down
  nothing_left "$work/before" "$root" || status=1
  rm -rf "$work"
  [ $status = 0 ] && echo "ok      nothing is left behind"
  exit $status
}
# What runs beside the script, such as a watch.
kill_jobs() {
  local pids
  pids=$(jobs -p)
  # shellcheck disable=SC2086 # one word each
  [ -z "$pids" ] || kill $pids 2>/dev/null || true
}

# make_version TAG: images of this tree that call themselves so are in the registry, manifests that name them in $work/TAG.
make_version() {
  cargo xtask image --profile "$profile" --tag "$1" --version "$1" --push "$REGISTRY/kubevirt" --output "$work/images" \
    >"$work/output" 2>&1 ||
    failed "images of version $1: $(tail -n 40 "$work/output")"
  cargo xtask manifests --registry "$IMAGES/kubevirt" --tag "$1" --out "$work/$1"
  passed "images and manifests of version $1 are made"
}
# make_guest: the image of the guest that machine starts.
make_guest() {
  cargo xtask image demo-guest --tag e2e --push "$REGISTRY/kubevirt" --output "$work/guest" >"$work/output" 2>&1 ||
    failed "the guest's image: $(tail -n 40 "$work/output")"
}

# --- the installation ------------------------------------------------------------------------------------------------------------
apply_operator() { kubectl apply -f "$work/$1/kubevirt-operator.yaml" >/dev/null; }
# apply_resource TAG: asks for an installation. There is no KVM here.
apply_resource() {
  kubectl apply -f "$work/$1/kubevirt-cr.yaml" >/dev/null
  change_kubevirt '{"configuration":{"developerConfiguration":{"useEmulation":true}}}'
}
# change_kubevirt SPEC: merges it into the resource's.
change_kubevirt() { kubectl -n kubevirt patch kv kubevirt --type=merge -p "{\"spec\":$1}" >/dev/null; }
is_available() { kubectl -n kubevirt wait kv kubevirt --for condition=Available --timeout=5s; }
# Virtual machines can be made and run.
is_usable() {
  kubectl get --raw /apis/subresources.kubevirt.io/v1/healthz &&
    [ "$(kubectl get nodes -l kubevirt.io/schedulable=true -o name | wc -l)" = "$CLUSTER_NODES" ]
}
# ready COMPONENT
ready() { kubectl -n kubevirt wait pod -l "kubevirt.io=$1" --for=condition=Ready --timeout=5s; }

# --- machines --------------------------------------------------------------------------------------------------------------------
# machine NAME [NODE]: a machine of that name, to run on that node.
machine() {
  local place=''
  [ -z "${2:-}" ] || place="      nodeSelector: {kubernetes.io/hostname: $2}\n"
  sed "s#ferrovirt/demo-guest:latest#$IMAGES/kubevirt/demo-guest:e2e#; s/\(name\|app\|domain\): demo$/\1: $1/; s#^      domain:\$#$place&#" \
    examples/vm-demo.yaml
}
# field OBJECT PATH, is OBJECT PATH VALUE: an object in the default namespace, as vm/demo.
field() { kubectl get "$1" --ignore-not-found -o "jsonpath={$2}"; }
is() { [ "$(field "$1" "$2")" = "$3" ]; }
# page NAME: what the guest's web server says, asked from a node.
page() {
  local ip
  ip=$(field "vmi/$1" '.status.interfaces[0].ipAddress')
  [ -n "$ip" ] && cluster enter node1 curl -fsS --max-time 3 "http://$ip/"
}
boot_id() { page "$1" 2>/dev/null | sed -n 's/.*boot id: //p'; }
# other_boot NAME ID, same_boot NAME ID
other_boot() { local now; now=$(boot_id "$1") && [ -n "$now" ] && [ "$now" != "$2" ]; }
same_boot() { [ "$(boot_id "$1")" = "$2" ]; }
# qemu NAME: its pid on its node.
qemu() {
  local uid
  uid=$(field "vmi/$1" .metadata.uid)
  cluster enter "$(field "vmi/$1" .status.nodeName)" sh -c "cat /run/libvirt/qemu/*fv-$uid*.pid"
}
domains() { cluster enter "$1" virsh -c qemu:///system list --all --name | tr -d '[:space:]'; }
launchers() { kubectl get pods -l kubevirt.io=virt-launcher -o 'jsonpath={.items[*].status.phase}'; }
no_launcher() { [ -z "$(launchers)" ]; }
