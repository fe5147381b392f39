#!/bin/sh
# Builds the demo guest: one bootable qcow2 from Debian packages and the files in rootfs/. See README.md.
#
#   guest/build.sh OUTPUT.qcow2
#
# Nothing is installed, mounted or loop-mounted; root is not needed. The same package versions and sources give the same
# bytes; the result is kept under $FERROVIRT_GUEST_CACHE (default ~/.cache/ferrovirt/guest) and copied from there next time.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=guest/build.sh
. "$here/lib.sh"

[ $# -eq 1 ] || die "usage: guest/build.sh OUTPUT.qcow2"
need cpio:cpio zstd:zstd xz:xz-utils mke2fs:e2fsprogs mkfs.vfat:dosfstools qemu-img:qemu-utils

choose_kernel
pin "$kernel" busybox-static kmod $loader_packages

image=$cache/demo-$(echo "$pins" | (cd "$here" && key_of build.sh lib.sh rootfs)).qcow2
if [ -f "$image" ]; then deliver "$image" "$1"; exit 0; fi

make_work
fetch
vmlinuz=$(echo "$work"/kernel/boot/vmlinuz-*)
release=${vmlinuz##*/vmlinuz-}

# --- kernel modules: the drivers wanted and what they need --------------------------------------------------------------
wanted='virtio_pci virtio_blk virtio_net virtio_scsi virtio_console virtio_balloon virtio-rng virtio_input
    sd_mod sr_mod ahci ata_piix ata_generic e1000 e1000e 8139cp pcnet32 xhci-pci ehci-pci uhci-hcd usbhid usb-storage
    isofs vfat nls_cp437 nls_ascii nls_iso8859-1 ext4 crc32c_generic button evdev pvpanic-pci pvpanic-mmio i6300esb'
all=$work/kernel
[ -d "$all/lib/modules/$release" ] || all=$work/kernel/usr
modules=$all/lib/modules/$release
[ -d "$modules" ] || die "$kernel has no modules for $release"
# kmod's commands are links to an absolute path.
mkdir "$work/bin"; ln -s "$(find "$tools" -path '*bin/kmod' -type f)" "$work/bin/depmod"; PATH=$work/bin:$PATH
# Most of a general kernel's drivers are out of the question here; unpacking them all would take most of the time.
mv "$modules/kernel" "$work/all-modules"
for dir in arch crypto lib fs net/core drivers/virtio drivers/block drivers/char drivers/ata drivers/scsi drivers/cdrom drivers/acpi \
    drivers/input drivers/misc drivers/watchdog drivers/usb drivers/hid drivers/ptp drivers/pps drivers/dca drivers/firmware \
    drivers/net/ethernet/intel drivers/net/ethernet/realtek drivers/net/ethernet/amd drivers/net/mii.ko* drivers/net/virtio_net.ko* \
    drivers/net/net_failover.ko* drivers/net/phy drivers/net/mdio; do
    for from in "$work"/all-modules/$dir; do
        [ -e "$from" ] || continue
        to=$modules/kernel/${from#"$work"/all-modules/}
        mkdir -p "${to%/*}"; mv "$from" "$to"
    done
done
find "$modules" -name '*.ko.xz' -print0 | xargs -0 -r -n 50 -P 4 xz -d
find "$modules" -name '*.ko.zst' -print0 | xargs -0 -r -n 50 zstd -q -d --rm
depmod -b "$all" "$release" 2>"$work/depmod.log" || { cat "$work/depmod.log" >&2; die "depmod failed for $release"; }
root=$work/root
mkdir -p "$root/lib/modules/$release"
cp "$modules"/modules.builtin "$modules"/modules.builtin.modinfo "$modules"/modules.order "$root/lib/modules/$release/"
for module in $wanted; do
    # Built-in ones have no file; a driver a later kernel dropped is no reason to fail, the boot test decides.
    line=$(grep -E "/$(echo "$module" | sed 's/[-_]/[-_]/g')\.ko:" "$modules/modules.dep") || { say "$module is built in or absent"; continue; }
    for file in $(echo "$line" | tr -d :); do
        [ -f "$root/lib/modules/$release/$file" ] || install -D -m 644 "$modules/$file" "$root/lib/modules/$release/$file"
    done
done
depmod -b "$root" "$release"
rm -f "$root/lib/modules/$release"/*.bin "$root/lib/modules/$release"/modules.builtin.modinfo

# --- userland -----------------------------------------------------------------------------------------------------------
for dir in bin sbin dev proc sys run tmp data root var/www/cgi-bin var/log usr/bin usr/sbin; do mkdir -p "$root/$dir"; done
chmod 700 "$root/root"; chmod 1777 "$root/tmp"
busybox=$tools/bin/busybox
[ -f "$busybox" ] || busybox=$tools/usr/bin/busybox
install -m 755 "$busybox" "$root/bin/busybox"
"$busybox" --list | while read -r applet; do
    case $applet in busybox) continue ;; init|getty|halt|poweroff|reboot|ifconfig|ip|route|udhcpc|modprobe|insmod|mdev|acpid) at=sbin ;; *) at=bin ;; esac
    ln -s /bin/busybox "$root/$at/$applet"
done
ln -s /sbin/init "$root/init"
( cd "$here/rootfs" && find . -type d -exec mkdir -p "$root/{}" \; && find . -type f ) | while read -r file; do
    mode=644; [ ! -x "$here/rootfs/$file" ] || mode=755
    install -m $mode "$here/rootfs/$file" "$root/$file"
done
ln -s /run/issue "$root/etc/issue"
ln -s /run/resolv.conf "$root/etc/resolv.conf"
ln -s /proc/mounts "$root/etc/mtab"
chmod 600 "$root/etc/shadow"

find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
# The numbers of the inodes and the owner of the builder must not show: `--reproducible` and `-R`.
( cd "$root" && find . | sort | cpio --quiet -o -H newc --reproducible -R 0:0 ) >"$work/initrd.cpio"
# A small window: unpacking must fit beside the kernel in a small guest.
zstd -q -19 --zstd=wlog=19 -T1 "$work/initrd.cpio" -o "$work/initrd"

# --- disk: 28 MiB to boot from, 35 MiB ext4 for /data --------------------------------------------------------------------
truncate -s 35M "$work/data.img"
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -t ext4 -m 0 -L demo-data -U 46564447-0000-4000-8000-000000000001 \
    -E hash_seed=46564447-0000-4000-8000-000000000002,lazy_itable_init=0 "$work/data.img"
make_disk "$vmlinuz" "$work/initrd" \
    "$kernel_words loglevel=3 net.ifnames=0" DEMO 57344 "$work/data.img"

qemu-img convert -q -f raw -O qcow2 "$disk" "$work/demo.qcow2"
mv "$work/demo.qcow2" "$image.tmp.$$" && mv "$image.tmp.$$" "$image"
deliver "$image" "$1"
