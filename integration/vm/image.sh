#!/bin/bash
# image.sh [--force]: build what vm.sh boots, in $DHOW_VM (default ~/.cache/dhow-vm): root.img, vmlinuz, initrd.
#
# Debian's packages, fetched from the archive that this machine's apt uses; needs root. Nothing is done if it is there
# and neither the list of packages nor a file of guest/ has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${DHOW_VM:-$HOME/.cache/dhow-vm}
suite=bookworm
kernel=linux-image-6.12-cloud-amd64
modules="virtio_pci virtio_blk virtio_console ext4 virtiofs overlay"
packages="systemd systemd-sysv dbus dbus-user-session libpam-systemd kmod procps iproute2 iptables util-linux e2fsprogs
    busybox-static uidmap apparmor libseccomp2 strace jq sudo attr acl checkpolicy python3 ca-certificates
    podman buildah conmon crun runc criu passt slirp4netns fuse-overlayfs netavark containerd docker.io tini catatonit
    containernetworking-plugins git bzip2 xz-utils zstd curl openssl skopeo umoci docker-registry $kernel"

die() { echo "image.sh: $*" >&2; exit 125; }
[ "$(id -u)" = 0 ] || die "needs root"
for tool in mmdebstrap:mmdebstrap mke2fs:e2fsprogs cpio:cpio xz:xz-utils; do
    command -v "${tool%:*}" >/dev/null || die "needs ${tool%:*} (apt install ${tool#*:})"
done
stamp=$({ echo "$suite $packages $modules"; cat "$0" "$here"/guest/*; } | sha256sum | cut -c1-16)
if [ "${1:-}" != --force ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi

mkdir -p "$out"
work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 | tr -d ' ' || true)
mirror=${mirror:-http://deb.debian.org/debian}

echo "the guest's image, in $out (a minute or two)"
names=$(echo $packages | tr ' ' ,)
# Recommended packages would be half of it again; and an image needs no fsync for each file.
mmdebstrap --quiet --variant=minbase --include="$names" --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root" "deb $mirror $suite main" "deb $mirror $suite-updates main" "deb ${mirror%debian*}debian-security $suite-security main"

# A user with subordinate ids and a service manager of its own, to which all useful controllers are delegated.
chroot "$root" useradd -m -u 1000 -s /bin/bash user
grep -q ^user: "$root/etc/subuid" || echo user:100000:65536 | tee -a "$root/etc/subuid" >>"$root/etc/subgid"
mkdir -p "$root/var/lib/systemd/linger" "$root/etc/systemd/system/user@.service.d"
touch "$root/var/lib/systemd/linger/user"
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >"$root/etc/systemd/system/user@.service.d/delegate.conf"
echo dhow-vm >"$root/etc/hostname"
printf '127.0.0.1 localhost dhow-vm\n' >"$root/etc/hosts"
# Without one systemd takes each boot for the first.
echo 00000000000000000000000000000d0c >"$root/etc/machine-id"
: >"$root/etc/resolv.conf"
install -m 755 "$here/guest/job" "$root/usr/local/sbin/vm-job"
install -m 644 "$here/guest/vm-job.service" "$root/etc/systemd/system/vm-job.service"
# Of no use to a test, and slow under emulation.
for unit in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udev-trigger.service \
    systemd-tmpfiles-setup-dev.service systemd-random-seed.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-journal-flush.service systemd-remount-fs.service systemd-pstore.service modprobe@.service kmod-static-nodes.service \
    systemd-modules-load.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount getty@.service serial-getty@.service \
    getty.target docker.service docker.socket containerd.service podman.service podman-auto-update.timer podman-restart.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer logrotate.timer \
    systemd-tmpfiles-clean.timer dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/vm.conf"

# The initrd: busybox and the modules that lead to the root disk.
version=$(basename "$root"/lib/modules/*)
cp "$root/boot/vmlinuz-$version" "$work/vmlinuz"
find "$root/lib/modules/$version" -name '*.ko.xz' -print0 | xargs -0 -r xz -d
rm -rf "$root/lib/modules/$version/kernel/"{sound,drivers/gpu,drivers/media,net/wireless} "$root"/boot/{vmlinuz,initrd.img,System.map}-*
chroot "$root" depmod "$version"
mkdir -p "$work"/initrd/{bin,dev,proc,sys,root,modules}
cp "$root/bin/busybox" "$work/initrd/bin/"
install -m 755 "$here/guest/init" "$work/initrd/init"
for module in $modules; do chroot "$root" modprobe -S "$version" --show-depends "$module"; done |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
    while read -r path; do cp "$root$path" "$work/initrd/modules/"; basename "$path"; done >"$work/initrd/modules/order"
(cd "$work/initrd" && find . | cpio -o -H newc --quiet) >"$work/initrd.img"

mke2fs -q -t ext4 -m 0 -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$work/root.img" 8G
mv "$work/root.img" "$work/vmlinuz" "$out/"
mv "$work/initrd.img" "$out/initrd"
echo "$stamp" >"$out/stamp"
echo "$(du -sh "$out" | cut -f1) in $out"
