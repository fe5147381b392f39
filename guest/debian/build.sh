#!/bin/sh
# Builds an ordinary Debian guest: systemd, the real cloud-init, OpenSSH, qemu-guest-agent, of the suite this machine runs. See ../README.md.
#
#   guest/debian/build.sh OUTPUT.qcow2
#
# Needs root for mmdebstrap; nothing is installed here, no loop device is used. The result is kept under $FERROVIRT_GUEST_CACHE
# (default ~/.cache/ferrovirt/guest) until the versions of its packages or these sources change.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=guest/debian/build.sh
. "$here/../lib.sh"

[ $# -eq 1 ] || die "usage: guest/debian/build.sh OUTPUT.qcow2"
need mmdebstrap:mmdebstrap zstd:zstd mke2fs:e2fsprogs mkfs.vfat:dosfstools qemu-img:qemu-utils
[ "$(id -u)" = 0 ] || die "must run as root (make e2e does)"

choose_kernel
pin $loader_packages
packages="$kernel initramfs-tools zstd systemd-sysv udev dbus libpam-systemd kmod iproute2 procps sudo
    netplan.io systemd-resolved cloud-init openssh-server qemu-guest-agent"

# --- where from: the Debian archives this machine uses -------------------------------------------------------------------
sources=$(apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
    awk -F'|' '$1 == "Debian" { print $2, $3, $4 }' | sort -u)
[ -n "$sources" ] || die "apt knows no Debian archive; run apt-get update"

# --- cached? The key holds every package's version, as apt would install them into an empty system ------------------------
# shellcheck disable=SC2086
plan=$(apt-get -s -o Dir::State::status=/dev/null -o APT::Install-Recommends=false install $packages 2>&1) ||
    { echo "$plan" >&2; die "apt cannot install the guest's packages"; }
image=$cache/debian-$( { echo "$pins"; echo "$plan" | sed -n 's/^Inst //p' | sort; } | (cd "$here" && key_of build.sh ../lib.sh rootfs)).qcow2
if [ -f "$image" ]; then deliver "$image" "$1"; exit 0; fi

# --- the system -----------------------------------------------------------------------------------------------------------
make_work
set -- "$1" --variant=minbase --mode=root --architectures=amd64 --aptopt='APT::Install-Recommends "false"'
for option in $(apt-config dump | sed -n 's/^\(Acquire::\(http\|https\|Check-Valid-Until\|Check-Date\|Retries\|ForceIPv4\)[^ ]*\) "\([^" ]\{1,\}\)";$/\1=\3/p'); do
    set -- "$@" --aptopt="${option%%=*} \"${option#*=}\""
done
# Nothing that only a person reads, and none of the drivers for hardware that no guest has.
for path in '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' '/usr/share/i18n/*' '/usr/share/lintian/*' '/usr/share/bug/*' \
    '/usr/share/bash-completion/*' '/usr/share/zsh/*'; do
    set -- "$@" --dpkgopt="path-exclude=$path"
done
for drivers in sound net/wireless net/bluetooth net/mac80211 net/nfc drivers/gpu drivers/media drivers/infiniband drivers/net/wireless drivers/net/ethernet/mellanox \
    drivers/net/ethernet/broadcom drivers/net/ethernet/chelsio drivers/net/ethernet/qlogic drivers/net/ethernet/netronome drivers/net/usb \
    drivers/net/wan drivers/net/can drivers/net/fddi drivers/net/hamradio drivers/iio drivers/isdn drivers/staging drivers/bluetooth \
    drivers/scsi/lpfc drivers/scsi/qla2xxx drivers/scsi/bfa drivers/scsi/be2iscsi drivers/scsi/aic7xxx drivers/scsi/megaraid drivers/scsi/mpt3sas \
    drivers/hwmon drivers/mtd drivers/mmc drivers/memstick drivers/platform drivers/power drivers/leds drivers/thunderbolt drivers/comedi \
    drivers/crypto drivers/edac drivers/firewire drivers/nfc drivers/parport drivers/pcmcia drivers/soundwire drivers/w1 drivers/usb/serial drivers/usb/misc \
    fs/afs fs/ceph fs/gfs2 fs/jfs fs/nilfs2 fs/ocfs2 fs/orangefs fs/reiserfs fs/smb fs/ubifs fs/bcachefs fs/coda; do
    set -- "$@" --dpkgopt="path-exclude=/lib/modules/*/kernel/$drivers/*" --dpkgopt="path-exclude=/usr/lib/modules/*/kernel/$drivers/*"
done
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$suite" ] || die "/etc/os-release names no release"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"
echo "$sources" | sed "s|^|deb [signed-by=$keyring] |" >"$work/sources.list"

cat >"$work/customize" <<'HOOK'
#!/bin/sh
set -eu
root=$1
# Timers and services that only cost time and memory in a guest that lives for minutes.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    logrotate.timer man-db.timer systemd-pstore.service systemd-networkd-wait-online@.service; do
    ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl enable systemd-networkd.service systemd-resolved.service ssh.service
chroot "$root" passwd -q -l root
ln -sfn /run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
# Made by the first boot of each machine.
rm -f "$root"/etc/ssh/ssh_host_* "$root"/var/lib/dbus/machine-id "$root"/var/lib/systemd/random-seed
: >"$root/etc/machine-id"
rm -f "$root"/var/log/*.log "$root"/var/log/apt/*
HOOK
chmod 755 "$work/customize"

say "debian $suite: packages (a few minutes)"
output=$1; shift
mmdebstrap "$@" --include="$(echo $packages | tr ' ' ,)" \
    --essential-hook="cp -r --no-preserve=ownership '$here/rootfs/.' \"\$1\"" --dpkgopt=force-confold --dpkgopt=force-confdef \
    --customize-hook="$work/customize" "$suite" "$work/system" "$work/sources.list" >"$work/mmdebstrap.log" 2>&1 ||
    { tail -n 60 "$work/mmdebstrap.log" >&2; die "mmdebstrap failed"; }

# --- the disk -------------------------------------------------------------------------------------------------------------
vmlinuz=$(echo "$work"/system/boot/vmlinuz-*) initrd=$(echo "$work"/system/boot/initrd.img-*)
[ -f "$vmlinuz" ] && [ -f "$initrd" ] || die "the kernel package left no kernel and initrd in /boot"
mv "$vmlinuz" "$initrd" "$work/"
vmlinuz=$work/${vmlinuz##*/} initrd=$work/${initrd##*/}
fetch
say "disk ($(du -sm "$work/system" | cut -f1) MiB of files, initrd $(($(stat -c %s "$initrd") / 1048576)) MiB)"
truncate -s 2G "$work/root.img"
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -t ext4 -m 0 -L debian-root -d "$work/system" "$work/root.img"
make_disk "$vmlinuz" "$initrd" \
    "root=LABEL=debian-root ro $kernel_words systemd.show_status=yes" DEBIAN 131072 "$work/root.img"

# Compressed as distributions' own cloud images are.
qemu-img convert -q -c -f raw -O qcow2 "$disk" "$work/debian.qcow2"
mv "$work/debian.qcow2" "$image.tmp.$$" && mv "$image.tmp.$$" "$image"
# Those that nobody asked for in two weeks.
find "$cache" -maxdepth 1 -name 'debian-*.qcow2' -atime +14 -delete
deliver "$image" "$output"
