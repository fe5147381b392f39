#!/usr/bin/env bash
# The long end-to-end tests, on a real Kubernetes of two nodes: another KubeVirt is refused, installation, access, drift, upgrade and rollback under
# running guests, bad input and outages, a drain, a node that dies, removal, and what components may do against what they did.
#
#   tests/e2e/full.sh [SECTION…]     as root; `make e2e-full` runs it. Sections are the files of tests/e2e/full, all by default, in the
#                                    order below; `install` is always among them
#
# Starts a cluster of its own (tests/cluster) with images of two versions built from this tree, and removes it whatever happens. Settings
# are in tests/cluster/lib/installation.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
. tests/cluster/lib/checks.sh
. tests/cluster/lib/installation.sh
. tests/e2e/full/words.sh

sections=(foreign install access drift upgrade faults drain failover removal rights)
[ $# = 0 ] || sections=("$@")
begin_cluster 2
make_virtctl
make_version a
make_version b
make_guest
SECONDS=0
for section in "${sections[@]}"; do
  echo "--- $section"
  . "tests/e2e/full/$section.sh"
done
