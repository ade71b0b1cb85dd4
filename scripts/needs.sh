#!/bin/sh
# needs.sh demo|test|test-callers|test-vm: install what that needs from Debian's archive, if it is missing. The one list of packages.
set -eu

missing=
need() { # PACKAGE FILE...: the package, unless one of the files is there
    package=$1
    shift
    for file in "$@"; do [ -e "$file" ] && return; done
    missing="$missing $package"
}

case ${1:-} in
demo | test | test-callers | test-vm) ;;
*) echo "usage: needs.sh demo|test|test-callers|test-vm" >&2 && exit 2 ;;
esac

need busybox-static /bin/busybox /usr/bin/busybox # the rootfs of demo and tests
if [ "$1" = test-vm ]; then
    # the guest: the emulator with virtiofsd, and what its disk is made with
    need qemu-system-x86 /usr/bin/qemu-system-x86_64
    need qemu-system-common /usr/lib/qemu/virtiofsd /usr/libexec/virtiofsd
    need mmdebstrap /usr/bin/mmdebstrap
    need e2fsprogs /sbin/mke2fs /usr/sbin/mke2fs
    need cpio /bin/cpio /usr/bin/cpio
    need xz-utils /usr/bin/xz
    # the tests are built here
    need libseccomp-dev /usr/include/seccomp.h
fi
if [ "$1" = test ] || [ "$1" = test-callers ]; then
    # libseccomp judges our seccomp compiler; a dev-dependency links it
    need libseccomp-dev /usr/include/seccomp.h
    # newuidmap, for containers without root; what mounts layers there if the kernel doesn't
    need uidmap /usr/bin/newuidmap
    need fuse-overlayfs /usr/bin/fuse-overlayfs
    # what a start costs is counted with the one, network devices are made with the other
    need strace /usr/bin/strace
    need iproute2 /sbin/ip /usr/sbin/ip /bin/ip
    # the callers that dhow has to serve (integration/caller_*.rs), and what they need
    need docker.io /usr/sbin/dockerd
    need containerd /usr/bin/containerd
    need podman /usr/bin/podman
    need conmon /usr/bin/conmon
    need catatonit /usr/bin/catatonit
    need buildah /usr/bin/buildah
    need containernetworking-plugins /usr/lib/cni/bridge
    need docker-registry /usr/bin/docker-registry
    need iptables /usr/sbin/iptables
    need tini /usr/bin/tini
    need curl /usr/bin/curl
    # dhowctl's registry, its certificates, and those who read what it writes
    need openssl /usr/bin/openssl
    need skopeo /usr/bin/skopeo
    need umoci /usr/bin/umoci
    # what a build's ADD takes
    need git /usr/bin/git /usr/local/bin/git
    need bzip2 /bin/bzip2 /usr/bin/bzip2
    need xz-utils /usr/bin/xz
    need zstd /usr/bin/zstd
    # an agent for a build's RUN --mount=type=ssh, and who asks it
    need openssh-client /usr/bin/ssh-agent
fi
if [ "$1" = test-callers ]; then
    need debootstrap /usr/sbin/debootstrap
    need slirp4netns /usr/bin/slirp4netns
fi

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "$0: please install:$missing" >&2
    exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list
apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends $missing >/dev/null
}
