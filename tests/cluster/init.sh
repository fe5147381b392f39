#!/usr/bin/env bash
# The first process of a place, in its new namespaces: makes its view of the files, then only reaps. Started by lib/places.sh.
#
#   init.sh PLACE DIRECTORY
set -euo pipefail
place=$1
dir=$2

# /proc is still the machine's: this is the pid by which the machine knows this process.
read -r stat </proc/self/stat
pid=${stat%% *}
since=$(sed 's/.*) //' <<<"$stat" | cut -d' ' -f20)

# over DIRECTORY…: what is written there is this place's alone; what the machine has there shows through.
over() {
  local path upper
  for path in "$@"; do
    upper=$dir/files/over${path//\//-}
    mkdir -p "$upper/upper" "$upper/work"
    mount -t overlay -o "lowerdir=$path,upperdir=$upper/upper,workdir=$upper/work" overlay "$path"
  done
}

# own DIRECTORY…: this place's alone, on a plain filesystem (containerd's snapshots and copies by reflink need one).
own() {
  local path
  for path in "$@"; do
    mkdir -p "$dir/files$path" "$path"
    mount --bind "$dir/files$path" "$path"
  done
}

# The controllers this place sees begin at its own cgroups: kubelet and libvirtd take them for the machine's.
own_cgroups() {
  local point kind options
  local -a points=()
  while read -r _ point kind options _; do
    case $kind in cgroup | cgroup2) points+=("$point $kind $options") ;; esac
  done </proc/mounts
  umount --recursive --lazy /sys
  mount -t sysfs sysfs /sys
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for line in "${points[@]}"; do
    read -r point kind options <<<"$line"
    mkdir -p "$point"
    case $kind in
      cgroup2) mount -t cgroup2 cgroup2 "$point" ;;
      # Only the controllers, not the flags of the mount.
      cgroup)
        local controllers
        controllers=$(tr , '\n' <<<"$options" | grep -vE '^(rw|ro|nosuid|nodev|noexec|relatime|noatime|xattr|clone_children|release_agent=.*)$' | paste -sd,)
        [[ $controllers != name=* ]] || controllers=none,$controllers
        mount -t cgroup -o "$controllers" cgroup "$point"
        ;;
    esac
  done
}

# Kubelet insists on some settings of the machine's kernel. It gets to see them; the machine keeps its own.
pretend_sysctls() {
  local setting path
  mkdir -p "$dir/files/sysctl"
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 \
    kernel/keys/root_maxbytes=25000000; do
    path=/proc/sys/${setting%=*}
    [ -e "$path" ] || continue
    echo "${setting#*=}" >"$dir/files/sysctl/${setting//\//-}"
    mount --bind "$dir/files/sysctl/${setting//\//-}" "$path"
  done
}

hostname "$place"
[ "$place" = world ] || own_cgroups
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
over /etc /var
own /var/lib/containerd /var/lib/kubelet /var/lib/libvirt /var/lib/ferrovirt /var/log /var/tmp
# Volumes made on demand: one directory for the controller that makes them and the nodes that use them, where that controller has them.
mkdir -p "${dir%/*}/volumes" /tmp/hostpath_pv
mount --bind "${dir%/*}/volumes" /tmp/hostpath_pv
echo '127.0.0.1 localhost' >/etc/hosts
echo "$place" >/etc/hostname
# Nobody answers names here, and nobody has to be asked first to find out.
echo 'options attempts:1 timeout:1' >/etc/resolv.conf
if [ "$place" != world ]; then
  pretend_sysctls
  # A /dev/kvm without the processor's support only slows libvirt down (about a minute for each guest).
  if [ -e /dev/kvm ] && grep -q '^flags' /proc/cpuinfo && ! grep -qwE 'vmx|svm' /proc/cpuinfo; then
    install -m 000 /dev/null "$dir/files/no-kvm"
    mount --bind "$dir/files/no-kvm" /dev/kvm
  fi
  mkdir -p /run/hugepages
  mount -t hugetlbfs hugetlbfs /run/hugepages 2>/dev/null || rmdir /run/hugepages
  # Mounts of pods reach the agents in other pods by it.
  mount --make-rshared /
fi

# Complete only now: whoever waits reads it.
echo "$pid $since" >"$dir/init.new"
mv "$dir/init.new" "$dir/init"
while :; do
  sleep infinity &
  wait || true
done
