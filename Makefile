# Everything a newcomer needs is `make demo` and `make test`. As root, or as a user who may use sudo.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env "PATH=$$PATH")

.PHONY: help demo test e2e e2e-cluster e2e-full conformance clients bench bench-cluster clean-host cluster-up cluster-down images setup build fmt clippy crds

help:            ## Show the targets.
	@grep -hE '^[a-z0-9-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

demo:            ## Install what is missing, build, start Ferrovirt, boot a VM, show its console.
	scripts/demo.sh

test: setup      ## The whole test suite that needs no cluster.
	cargo build --workspace --bins
	guest/build.sh target/guest/demo.qcow2
	$(SUDO) cargo test --workspace --no-fail-fast

e2e: setup build e2e-cluster ## End-to-end tests: on a real Kubernetes, and with an ordinary Debian guest.
	scripts/setup.sh e2e
	kubernetes=$$(tests/cluster/build.sh) && $(SUDO) env FERROVIRT_KUBERNETES_DIR="$$kubernetes" cargo test -p fv-virt-api --test kubernetes -- --ignored
	kubernetes=$$(tests/cluster/build.sh) && $(SUDO) env FERROVIRT_KUBERNETES_DIR="$$kubernetes" tests/e2e/suite.sh
	$(SUDO) tests/e2e/metrics.sh
	$(SUDO) tests/e2e/run.sh

e2e-cluster: setup ## The first of them: installed on a real Kubernetes of one node, everything killed under a guest, removed.
	scripts/setup.sh cluster
	kubernetes=$$(tests/cluster/build.sh) && $(SUDO) env FERROVIRT_KUBERNETES_DIR="$$kubernetes" tests/e2e/cluster.sh

e2e-full: setup  ## The long ones, on two nodes: upgrade, rollback, drift, outages, drain, removal, rights.
	scripts/setup.sh cluster
	kubernetes=$$(tests/cluster/build.sh) && $(SUDO) env FERROVIRT_KUBERNETES_DIR="$$kubernetes" tests/e2e/full.sh $(SECTIONS)

conformance: setup clients ## Compare the API server with a real kube-apiserver: a corpus, generated cases, faults, and real clients.
	cargo build -p fv-conformance
	target/debug/fv-conformance --kubernetes "$$(nice tests/cluster/build.sh kube-apiserver etcd)" $(CONFORMANCE)

clients: setup   ## The part of it with real clients: kubectl, client-go, controller-runtime, Python, kube-rs.
	cargo build -p fv-clients
	target/debug/fv-clients --kubernetes "$$(nice tests/cluster/build.sh kube-apiserver etcd kube-controller-manager kubectl)" $(CLIENTS)

bench: setup     ## Measure, each line against a floor of the same run.
	benches/apiserver.sh --check
	scripts/build.sh
	cargo build --release -p fv-benches
	guest/build.sh target/guest/demo.qcow2
	$(SUDO) benches/run.sh
	benches/apiserver.sh

bench-cluster: setup ## Measure on a real Kubernetes, against plain pods of the same cluster.
	scripts/setup.sh cluster
	kubernetes=$$(tests/cluster/build.sh) && $(SUDO) env FERROVIRT_KUBERNETES_DIR="$$kubernetes" benches/cluster.sh $(BENCH)

clean-host:      ## Remove every trace of Ferrovirt from this machine, and nothing else.
	$(SUDO) scripts/clean-host.sh

cluster-up:      ## Start a real Kubernetes of CLUSTER_NODES=1|2 nodes in namespaces of its own, for tests.
	scripts/setup.sh cluster
	cargo build -p xtask
	kubernetes=$$(tests/cluster/build.sh) && $(SUDO) FERROVIRT_KUBERNETES_DIR="$$kubernetes" tests/cluster/cluster.sh up

cluster-down:    ## End it and remove all of it.
	$(SUDO) tests/cluster/cluster.sh down

images: setup    ## The container images as an OCI image layout, in target/images.
	cargo xtask image

setup:           ## Install the distribution packages that are missing.
	scripts/setup.sh

build:           ## The programs, optimised, in target/release.
	scripts/build.sh

fmt:             ## Format the sources.
	cargo fmt --all

clippy: setup    ## Lint the sources.
	cargo clippy --workspace --all-targets -- -D warnings

crds:            ## Write manifests from the types.
	cargo xtask crds
	cargo xtask manifests
