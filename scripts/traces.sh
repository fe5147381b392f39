#!/usr/bin/env bash
# Lists what Ferrovirt and its tests could leave on a machine, one thing a line, in a stable order: to compare before and after.
set -uo pipefail
ip -o link show | awk '{sub(/@.*/, "", $2); print "link " $2}'
ls /run/netns 2>/dev/null | sed 's/^/netns /'
nft list tables 2>/dev/null
grep -E 'ferrovirt|/run/netns|libvirt|/podns|/pods/[^ ]+/volumes/' /proc/self/mountinfo | awk '{print "mount " $5}'
find /run/ferrovirt -mindepth 1 -maxdepth 1 2>/dev/null
find /var/lib /var/tmp /tmp -maxdepth 1 \( -name '*ferrovirt*' -o -name 'fv-*' \) 2>/dev/null
find "${FERROVIRT_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ferrovirt/guest}" -mindepth 1 2>/dev/null
find /etc/libvirt/qemu -name 'fv-*.xml' 2>/dev/null
find /var/log/libvirt -name 'fv-*.log*' 2>/dev/null | sort
find /sys/fs/cgroup -maxdepth 3 -type d -name '*ferrovirt*' 2>/dev/null
# One that has ended and waits for its parent is no trace.
for process in /proc/[0-9]*; do
  name=$(cat "$process/comm" 2>/dev/null) || continue
  ! grep -qs '^State:[[:space:]]*Z' "$process/status" || continue
  case $name in
    qemu-system* | libvirtd | virtlogd | ferrovirt | virt-launcher | docker-registry | etcd | containerd | kubelet | kube-*) echo "process $name" ;;
  esac
done | sort
true
