#!/usr/bin/env bash
# Installs the distribution packages that are missing. Needs apt, and root or sudo; may be run any number of times.
#
#   scripts/setup.sh            what building and `make test` need
#   scripts/setup.sh cluster    and what the test cluster needs
#   scripts/setup.sh e2e        and what the end-to-end tests need
#
# Of libvirt the service runs afterwards, where the machine has services; of nothing else.
set -euo pipefail

# What must be there, and the package that brings it.
needs=(
  "program:qemu-system-x86_64:qemu-system-x86" "program:qemu-img:qemu-utils" "program:libvirtd:libvirt-daemon-system"
  "program:virsh:libvirt-clients" "program:virt-xml-validate:libvirt-clients" "program:xmllint:libxml2-utils"
  "program:nft:nftables" "program:ip:iproute2" "program:gcc:gcc" "program:make:make" "program:pkg-config:pkg-config"
  "program:cpio:cpio" "program:zstd:zstd" "program:xz:xz-utils" "program:mke2fs:e2fsprogs" "program:genisoimage:genisoimage" "program:docker-registry:docker-registry"
  "program:mcopy:mtools" "program:mkfs.vfat:dosfstools" "program:curl:curl" "program:ssh:openssh-client" "program:unshare:util-linux"
  "program:kubectl:kubernetes-client" "program:setfattr:attr"
  "file:/usr/lib/cni/bridge /opt/cni/bin/bridge:containernetworking-plugins"
  "file:/usr/share/OVMF/OVMF_CODE.fd /usr/share/OVMF/OVMF_CODE_4M.fd:ovmf"
  "file:/bin/busybox:busybox-static"
  "library:libvirt:libvirt-dev"
)
case ${1:-} in
  "") ;;
  cluster)
    needs+=("program:etcd:etcd-server" "program:containerd:containerd" "program:runc:runc" "program:openssl:openssl"
      "program:flock:util-linux")
    command -v go >/dev/null || { echo "Go is missing: install it (1.25 or later), then run this again." >&2; exit 1; }
    ;;
  e2e) needs+=("program:prometheus:prometheus" "program:promtool:prometheus" "program:curl:curl") ;;
  *) echo "$1: not a target; there are: cluster, e2e" >&2; exit 2 ;;
esac

present() {
  local kind=$1 what=$2 path
  case $kind in
    program) PATH=$PATH:/usr/sbin:/sbin command -v "$what" >/dev/null ;;
    file) for path in $what; do [ -e "$path" ] && return 0; done; return 1 ;;
    library) command -v pkg-config >/dev/null && pkg-config --exists "$what" ;;
  esac
}

missing=()
for need in "${needs[@]}"; do
  IFS=: read -r kind what package <<<"$need"
  present "$kind" "$what" || missing+=("$package")
done
if ! command -v cargo >/dev/null; then
  echo "Rust is missing: install it (rustup), then run this again." >&2
  exit 1
fi
# The demo guest is made from packages that are downloaded, not installed: their list must be there.
lists=yes
if command -v apt-cache >/dev/null && [ -z "$(apt-cache policy busybox-static 2>/dev/null | grep -v none | grep Candidate)" ]; then
  lists=
fi
[ ${#missing[@]} -eq 0 ] && [ -n "$lists" ] && exit 0

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
if ! command -v apt-get >/dev/null; then
  echo "Install these packages (this machine has no apt-get): ${missing[*]}" >&2
  exit 1
fi
sudo=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "Run as root, or install sudo; needed packages: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
"${sudo[@]}" apt-get update -qq
[ -n "${missing[*]}" ] || exit 0
echo "Installing: ${missing[*]}"
# Tests run these programs themselves: their packages start no service, now or at the next boot.
services="etcd containerd docker-registry prometheus"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nfor word; do case " %s " in *" ${word%%%%.service} "*) exit 101 ;; esac; done\n' "$services" | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
fi
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
if command -v systemctl >/dev/null; then
  for service in $services; do
    # What was there before stays as it is.
    case " ${missing[*]} " in *" $service "* | *" $service-server "*) "${sudo[@]}" systemctl disable --quiet "$service" ;; esac
  done
fi
