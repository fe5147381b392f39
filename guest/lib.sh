# What both guests' builders share; sourced, not run. The caller has set `here` to its own folder and `name` to its own name.
#
# Everything is made without loop devices, mounts of images or installed boot loaders: packages are unpacked, file systems are
# filled by their mkfs, the partition table is written byte by byte.
umask 022
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=1700000000
PATH=$PATH:/usr/sbin:/sbin

die() { echo "$name: $*" >&2; exit 1; }
say() { echo "guest: $*" >&2; }

# need PROGRAM:PACKAGE…
need() {
    missing=
    for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"; done
    [ -z "$missing" ] || die "these packages are missing: apt-get install$missing"
    [ "$(dpkg --print-architecture)" = amd64 ] || die "only amd64 is supported"
}

candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p' | grep -v '^(none)$' || true; }

# The general kernel, because the cloud flavour has neither e1000e nor (in 6.1) AHCI; 6.12 where there is a choice, because
# its zstd compression starts three seconds sooner without KVM than the xz of Debian 12's 6.1. Sets `kernel`.
choose_kernel() {
    kernel=
    for meta in linux-image-6.12-amd64 linux-image-amd64; do
        kernel=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/^  Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
        [ -z "$kernel" ] || break
    done
    [ -n "$kernel" ] || die "no kernel package found; run apt-get update"
}

# What `make_disk` takes from packages.
loader_packages='grub-common grub-pc-bin grub-efi-amd64-bin mtools'

# pin PACKAGE…: sets `pins`, PACKAGE=VERSION for each.
pin() {
    pins=
    for package in "$@"; do
        version=$(candidate "$package")
        [ -n "$version" ] || die "package $package not found; run apt-get update"
        pins="$pins $package=$version"
    done
    # A library of GRUB's programs that not every release splits off.
    version=$(candidate libdevmapper1.02.1)
    [ -z "$version" ] || pins="$pins libdevmapper1.02.1=$version"
}

# key_of FILE…: what, beside the words on standard input, makes a built image: the tools and these sources.
key_of() {
    { cat; qemu-img --version | head -n 1; mke2fs -V 2>&1; zstd --version
      find "$@" -type f | sort | while read -r file; do sha256sum "$file"; ls -l "$file" | cut -c1-10; done
    } | sha256sum | cut -c1-24
}

cache=${FERROVIRT_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ferrovirt/guest}

# make_work: a directory for this build, `work`, gone afterwards.
make_work() {
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' INT TERM
}

# deliver IMAGE OUTPUT: a copy of a cached image.
deliver() {
    touch -a "$1"
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.tmp.$$" && mv "$2.tmp.$$" "$2"
    say "$2 ($(( $(stat -c %s "$2") / 1048576 )) MiB, $kernel)"
}

# fetch: downloads `pins` and unpacks them, kernels into $work/kernel, the rest into $tools, whose programs come first from now on.
fetch() {
    say "fetching$pins"
    tools=$work/tools
    mkdir "$work/debs" "$tools" "$work/kernel"
    # shellcheck disable=SC2086
    ( cd "$work/debs" && apt-get -q -o APT::Sandbox::User=root download $pins >"$work/apt.log" 2>&1 ) || { cat "$work/apt.log" >&2; die "apt-get download failed"; }
    for deb in "$work"/debs/*.deb; do
        case ${deb##*/} in
            linux-image-*) dpkg-deb -x "$deb" "$work/kernel" ;;
            *) dpkg-deb -x "$deb" "$tools" ;;
        esac
    done
    PATH=$tools/usr/bin:$tools/usr/sbin:$tools/sbin:$tools/bin:$PATH
    LD_LIBRARY_PATH=$tools/lib/x86_64-linux-gnu:$tools/usr/lib/x86_64-linux-gnu
    export PATH LD_LIBRARY_PATH
}

le32() { printf "\\$(printf %o $(($1 & 255)))\\$(printf %o $(($1 >> 8 & 255)))\\$(printf %o $(($1 >> 16 & 255)))\\$(printf %o $(($1 >> 24 & 255)))"; }
# Cylinder/head/sector fields are "too large, use the LBA", as every partitioning tool writes them for such disks.
entry() { printf "\\$1\\376\\377\\377\\$2\\376\\377\\377"; le32 "$3"; le32 "$4"; }

# For both kernels. cx16: QEMU 7.2's emulation of cmpxchg16b leaves rubbish in the other flags until the next instruction that sets
# them; an interrupt just there returns with it and the guest dies of a double fault. The kernel, told so, does without.
kernel_words='console=tty0 console=ttyS0,115200 quiet random.trust_cpu=on no_timer_check mitigations=off clearcpuid=cx16'

# make_disk KERNEL INITRD COMMAND-LINE FAT-LABEL FAT-SECTORS EXT4-IMAGE: writes $work/disk.img, which BIOS and UEFI boot:
# MBR | GRUB's core image | FAT with kernel and initrd (also the EFI system partition) | the ext4 file system, from now on a partition.
make_disk() {
    fat_start=2048 fat_sectors=$5
    data_start=$((fat_start + fat_sectors)) data_sectors=$(( ($(stat -c %s "$6") + 511) / 512 ))
    disk=$work/disk.img
    cat >"$work/grub.cfg" <<CONFIG
linux (\$root)/vmlinuz $3
initrd (\$root)/initrd
boot
CONFIG
    grub-mkimage -d "$tools/usr/lib/grub/i386-pc" -O i386-pc -p '(,msdos1)/grub' -c "$work/grub.cfg" -o "$work/core.img" biosdisk part_msdos fat linux boot
    grub-mkimage -d "$tools/usr/lib/grub/x86_64-efi" -O x86_64-efi -p /grub -c "$work/grub.cfg" -o "$work/bootx64.efi" part_msdos fat linux boot
    [ "$(stat -c %s "$work/core.img")" -lt $((2047 * 512)) ] || die "GRUB's core image does not fit before the first partition"

    truncate -s $(((data_start + data_sectors) * 512)) "$disk"
    {
        head -c 440 "$tools/usr/lib/grub/i386-pc/boot.img"
        printf 'FvDG\000\000'
        entry 200 357 $fat_start $fat_sectors
        entry 000 203 $data_start $data_sectors
        head -c 32 /dev/zero
        printf '\125\252'
    } >"$work/mbr"
    # GRUB's boot sector tests for a drive number that some old BIOSes get wrong; its installer replaces the jump by two NOPs on hard disks.
    printf '\220\220' | dd of="$work/mbr" bs=1 seek=102 conv=notrunc status=none
    [ "$(stat -c %s "$work/mbr")" -eq 512 ] || die "partition table has the wrong size"
    dd if="$work/mbr" of="$disk" conv=notrunc status=none
    dd if="$work/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none

    # Large clusters: GRUB reads a file cluster by cluster, and with the usual 2 KiB ones the kernel takes three seconds longer.
    truncate -s $((fat_sectors * 512)) "$work/fat.img"
    mkfs.vfat --invariant -F 12 -s 64 -i 46564447 -n "$4" "$work/fat.img" >/dev/null
    export MTOOLS_SKIP_CHECK=1
    mkdir "$work/fat"
    cp "$1" "$work/fat/vmlinuz"
    cp "$2" "$work/fat/initrd"
    touch -d "@$SOURCE_DATE_EPOCH" "$work/fat/vmlinuz" "$work/fat/initrd" "$work/bootx64.efi"
    mmd -i "$work/fat.img" ::/EFI ::/EFI/BOOT
    mcopy -m -i "$work/fat.img" "$work/fat/vmlinuz" "$work/fat/initrd" ::/
    mcopy -m -i "$work/fat.img" "$work/bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
    dd if="$work/fat.img" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$6" of="$disk" bs=512 seek=$data_start conv=notrunc,sparse status=none
}
