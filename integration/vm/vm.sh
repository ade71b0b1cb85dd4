#!/bin/bash
# vm.sh [--user NAME] [--share DIR]... [--timeout S] [--mem MB] [--console] [--icount] [--selinux] [--] COMMAND...
#
# Boot the image of image.sh (built when it is missing), run COMMAND in it, print what it prints, end with its status.
# The guest has Linux 6.12, cgroup v2 alone, systemd as its first process, AppArmor, and no network but loopback. Its
# disk is a snapshot: nothing is kept. A share is the same directory as here, read-only. --user (the image has one,
# `user`) runs it below that user's service manager. --icount makes the guest's clock count instructions: times repeat,
# however busy this machine is. --selinux: that in AppArmor's place, without a policy. Statuses of its own: 124 out of
# time, 125 the machine failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${DHOW_VM:-$HOME/.cache/dhow-vm}
die() { echo "vm.sh: $*" >&2; exit 125; }

user=root limit=1800 mem=3072 console= lsm=apparmor icount=() shares=()
while [ $# -gt 0 ]; do
    case $1 in
    --user) user=$2; shift 2 ;;
    --share) shares+=("$(readlink -f "$2")"); shift 2 ;;
    --timeout) limit=$2; shift 2 ;;
    --mem) mem=$2; shift 2 ;;
    --console) console=1; shift ;;
    --selinux) lsm=selinux; shift ;;
    --icount) icount=(-icount shift=0,sleep=off); shift ;;
    --) shift; break ;;
    -*) die "unknown option $1" ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || die "no command"
command -v qemu-system-x86_64 >/dev/null || die "needs qemu-system-x86_64 (apt install qemu-system-x86)"
virtiofsd=
for path in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do [ -x "$path" ] && virtiofsd=$path; done
[ -n "$virtiofsd" ] || die "needs virtiofsd (apt install qemu-system-common, or virtiofsd)"
sh -c "exec bash '$here/image.sh'" >&2 || exit 125

work=$(mktemp -d)
pids=()
cleanup() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 143' INT TERM HUP

{ echo '#!/bin/bash'; printf '%q ' "$@"; echo; } >"$work/command"
echo "$user" >"$work/user"
printf '%s\n' "${shares[@]}" | grep . >"$work/shares" || true
tar cf "$work/job.tar" -C "$work" command user shares
devices=()
for n in "${!shares[@]}"; do
    socket=$work/share$n
    "$virtiofsd" --socket-path="$socket" -o source="${shares[$n]}" -o cache=always 2>"$socket.log" &
    pids+=($!)
    for _ in $(seq 500); do [ -S "$socket" ] && break; sleep 0.01; done
    [ -S "$socket" ] || die "virtiofsd for ${shares[$n]}: $(cat "$socket.log")"
    devices+=(-chardev "socket,id=fs$n,path=$socket" -device "vhost-user-fs-pci,chardev=fs$n,tag=share$n,queue-size=1024")
done
for port in out status; do
    path=$work/$port
    [ $port = status ] || path=/dev/stdout
    devices+=(-chardev "file,id=$port,path=$path,append=on" -device "virtserialport,chardev=$port,name=$port")
done

# Known of emulation: several TCG threads now and then break a guest's kernel, and its clock need not be tested.
timeout --foreground -k 5 "$limit" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -nic none \
    -machine q35,memory-backend=mem -accel tcg,thread=single,tb-size=512 -cpu max,-la57 -smp 2 -m "$mem" "${icount[@]}" \
    -object "memory-backend-memfd,id=mem,size=${mem}M,share=on" \
    -kernel "$out/vmlinuz" -initrd "$out/initrd" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check psi=1 security=$lsm systemd.show_status=false systemd.unified_cgroup_hierarchy=1" \
    -drive "if=none,id=root,file=$out/root.img,format=raw,snapshot=on,cache=unsafe" -device virtio-blk-pci,drive=root \
    -drive "if=none,id=job,file=$work/job.tar,format=raw,readonly=on" -device virtio-blk-pci,drive=job \
    -chardev "file,id=console,path=$work/console" -serial chardev:console \
    -device virtio-serial-pci "${devices[@]}" </dev/null &
pids+=($!)
wait $! && ended=0 || ended=$?
[ -z "$console" ] || cat "$work/console" >&2
[ $ended != 124 ] || { echo "vm.sh: not done after $limit s" >&2; exit 124; }
said=$(tail -n 1 "$work/status" 2>/dev/null || true)
case $said in
"exit "*) exit "${said#exit }" ;;
*) tail -n 20 "$work/console" >&2; die "the machine failed: ${said:-it never came to the command} (qemu: $ended)" ;;
esac
