#!/usr/bin/env bash
# Builds programs of the Kubernetes that go.mod pins, and the etcd it is made for (Debian's is too old for streaming lists):
# `build.sh [kube-apiserver kubectl …]`, all of them when none is named.
# They go to $FERROVIRT_KUBERNETES_DIR (default: the user's cache directory); what is up to date is left alone.
# Prints that directory. Needs Go; the sources come through Go's ordinary module download.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"

all=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd)
[ $# -gt 0 ] || set -- "${all[@]}"
command -v go >/dev/null || { echo "Go is missing: install it (1.25 or later), then run this again." >&2; exit 1; }

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
out=${FERROVIRT_KUBERNETES_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/ferrovirt/kubernetes-$version}
mkdir -p "$out"

# Without these the programs call themselves v0.0.0, and clients and servers refuse each other's versions.
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
done
stamp=$(cat go.mod go.sum build.sh | sha256sum | cut -d' ' -f1)

for program; do
  case " ${all[*]} " in
    *" $program "*) ;;
    *) echo "$program is not one of: ${all[*]}" >&2; exit 1 ;;
  esac
  (
    # Two callers may want the same program at the same time.
    flock 9
    if [ -x "$out/$program" ] && [ "$(cat "$out/.$program.stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
    echo "Building $program $version (minutes the first time)" >&2
    package=k8s.io/kubernetes/cmd/$program
    [ "$program" = etcd ] && package=go.etcd.io/etcd/server/v3
    CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$out/.$program.new" "$package"
    mv "$out/.$program.new" "$out/$program"
    echo "$stamp" >"$out/.$program.stamp"
  ) 9>"$out/.$program.lock"
done
echo "$out"
