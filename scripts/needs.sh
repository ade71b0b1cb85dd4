#!/bin/sh
# needs.sh demo|test: install what that needs from Debian's archive, if it is missing. The one list of packages.
set -eu

missing=
need() { # PACKAGE FILE...: the package, unless one of the files is there
    package=$1
    shift
    for file in "$@"; do [ -e "$file" ] && return; done
    missing="$missing $package"
}

case ${1:-} in
demo | test) ;;
*) echo "usage: needs.sh demo|test" >&2 && exit 2 ;;
esac

need busybox-static /bin/busybox /usr/bin/busybox # the rootfs of demo and tests
if [ "$1" = test ]; then
    # libseccomp judges our seccomp compiler; a dev-dependency links it
    need libseccomp-dev /usr/include/seccomp.h
    # newuidmap, for containers without root
    need uidmap /usr/bin/newuidmap
    # what a start costs is counted with the one, network devices are made with the other
    need strace /usr/bin/strace
    need iproute2 /sbin/ip /usr/sbin/ip /bin/ip
    # dhowctl's registry, its certificates, and those who read what it writes
    need docker-registry /usr/bin/docker-registry
    need openssl /usr/bin/openssl
    need skopeo /usr/bin/skopeo
    need umoci /usr/bin/umoci
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
