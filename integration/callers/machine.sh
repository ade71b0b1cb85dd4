#!/bin/sh
# machine.sh NAME DIR RUNTIME: a machine within this one, until standard input ends.
#
# It has mount, pid, network, ipc and cgroup namespaces of its own, and its own copies (by overlay, in memory) of /etc, /var,
# /root and /usr/local, so a daemon in it is configured as on any machine, at its usual paths, and nothing of what it does
# is left here, whatever crashes when. The runtime is at /usr/local/bin/ under its own name. DIR/ready has the pid of its pid 1 once it is up.
set -eu

hierarchies() { # each: mount point, type, options; cgroup v2 alone is one, at the top
    awk '$5 ~ "^/sys/fs/cgroup(/[^/]*)?$" && / - cgroup2? / { path = $5; sub(".* - ", ""); print path, $1, $3 }' /proc/self/mountinfo
}
tops() { hierarchies | cut -d ' ' -f 1; }
is_v2_alone() { [ -e /sys/fs/cgroup/cgroup.controllers ]; }
# all controllers for the cgroups below: each by itself, since one that can't be had should not stand in the others' way
hand_down() { for controller in $(cat "$1/cgroup.controllers"); do echo "+$controller" >"$1/cgroup.subtree_control" || true; done 2>/dev/null; }

outside() {
    for top in $(tops); do
        ours=$top/$name
        is_v2_alone && hand_down "$top"
        mkdir "$ours"
        # v1's cpuset starts empty, and an empty one takes no process
        for file in cpuset.cpus cpuset.mems; do
            [ -e "$top/$file" ] && [ -z "$(cat "$ours/$file")" ] && cat "$top/$file" >"$ours/$file"
        done
    done
    "$0" join || true
    for top in $(tops); do
        # the kernel takes a moment to forget the processes that it killed
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            find "$top/$name" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.2
        done
    done
    [ -n "${DHOW_KEEP:-}" ] || rm -rf "$dir"
}

join() {
    for top in $(tops); do echo 0 >"$top/$name/cgroup.procs"; done
    exec unshare --cgroup "$0" split
}

split() {
    if is_v2_alone; then
        # a cgroup with processes can't give controllers to others, so all live one below the namespace's root
        mkdir "/sys/fs/cgroup/$name/init"
        echo 0 >"/sys/fs/cgroup/$name/init/cgroup.procs"
    fi
    exec unshare --mount --pid --net --ipc --fork --kill-child "$0" inside
}

own_copy() { # DIRECTORY...
    for path; do
        copy=$dir/copy$path
        mkdir -p "$copy/upper" "$copy/work"
        mount -t overlay -o "lowerdir=$path,upperdir=$copy/upper,workdir=$copy/work" overlay "$path"
    done
}

own_cgroups() {
    list=$(hierarchies)
    umount -R /sys
    mount -t sysfs sysfs /sys # of our network namespace
    case $list in
    '/sys/fs/cgroup '*)
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        hand_down /sys/fs/cgroup
        return
        ;;
    esac
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    printf '%s\n' "$list" | while read -r path type options; do
        mkdir -p "$path"
        if [ "$type" = cgroup2 ]; then
            mount -t cgroup2 cgroup2 "$path"
            continue
        fi
        options=$(printf '%s' "$options" | sed 's/^rw,//')
        case $path in */systemd) options=none,name=systemd ;; esac
        mount -t cgroup -o "$options" cgroup "$path"
    done
}

inside() {
    read -r outer _ </proc/self/stat # the old /proc knows us by our pid outside
    mount --make-rprivate /
    # what other tests have mounted in there is not ours to see
    awk '$5 ~ "^/tmp/" { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l 2>/dev/null || true
    mount -t tmpfs -o mode=755 tmpfs "$dir/copy"
    own_copy /etc /var /root /usr/local
    # overlays of the engines' own don't stand on ours
    for path in /run /var/tmp /var/lib/docker /var/lib/containerd /var/lib/containers; do
        mkdir -p "$path"
        mount -t tmpfs -o mode=755 tmpfs "$path"
    done
    mkdir -p /run/lock
    ip link set lo up
    own_cgroups
    mount -t proc proc /proc
    cp "$runtime" /usr/local/bin/
    mount --make-rshared / # as on most machines
    echo "$outer" >"$dir/ready.new" && mv "$dir/ready.new" "$dir/ready"
    # pid 1 reaps; the end of standard input ends it, and with it all that runs here
    exec tini -s -- cat >/dev/null
}

case $1 in
join | split | inside) "$1" ;;
*)
    export name="$1" dir="$2" runtime="$3"
    mkdir -p "$dir/copy"
    outside
    ;;
esac
