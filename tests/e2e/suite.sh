#!/usr/bin/env bash
# The suite that the embedded mode passes (bin/ferrovirt/tests/e2e), on a real Kubernetes with Ferrovirt installed.
#
#   tests/e2e/suite.sh [CASES…]     as root; `make e2e` runs it. Without names all cases run; what the cluster cannot do is skipped, and listed.
#
# Starts a cluster of its own (tests/cluster) with images built from this tree, and removes it whatever happens. Settings are in
# tests/cluster/lib/installation.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
. tests/cluster/lib/checks.sh
. tests/cluster/lib/installation.sh

begin_cluster 1
cargo build --quiet -p ferrovirt -p virtctl
suite=$(cargo test --quiet -p ferrovirt --test e2e --no-run --message-format=json |
  sed -n 's/.*"name":"e2e".*"executable":"\([^"]*\)".*/\1/p')
[ -x "$suite" ] || failed "the suite was not built"
make_version e2e
make_guest
apply_operator e2e
apply_resource e2e
change_kubevirt '{"configuration":{"developerConfiguration":{"featureGates":["HostDisk"]}}}' # its cases want it
eventually "the installation is Available" is_available
eventually "it takes virtual machines" is_usable
# In the node: there its guests' processes are, and the way to their addresses.
cluster enter node1 env PATH="$PATH" FERROVIRT_E2E_KUBECONFIG="$KUBECONFIG" FERROVIRT_E2E_IMAGE="$IMAGES/kubevirt/demo-guest:e2e" \
  "$suite" --test-threads 2 "$@"
passed "the suite"
