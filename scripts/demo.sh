#!/bin/sh
# One container through its whole life, each command shown with its output. Needs root; leaves nothing behind.
set -eu

dhow=$(realpath "${1:-build/dhow}")
id=demo-$$

[ "$(id -u)" = 0 ] || { echo "demo.sh: root is needed (a container without root: see README.md)" >&2; exit 1; }
scratch=$(mktemp -d)
bundle=$scratch/bundle
clean_up() {
    "$dhow" --root "$scratch/state" delete --force "$id" 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM HUP

if [ -t 1 ]; then bold='\033[1m' plain='\033[0m'; else bold='' plain=''; fi
heading() { printf "\n${bold}\$ %s${plain}\n" "$*"; }
show() { # dhow ARGUMENT...: as typed, then its output; the state is kept in our own directory
    heading "$*"
    shift
    "$dhow" --root "$scratch/state" "$@"
}
say() { printf '\n# %s\n' "$*"; }
status() { "$dhow" --root "$scratch/state" state "$id" | sed -n 's/.*"status": "\(.*\)".*/\1/p'; }
expect() { # STATUS: wait for it, five seconds at most
    tries=0
    while [ "$(status)" != "$1" ]; do
        tries=$((tries + 1))
        [ $tries -le 50 ] || { echo "demo.sh: $id is $(status), not $1" >&2; exit 1; }
        sleep 0.1
    done
    echo "status: $1"
}

say "A bundle is a config.json and a root file system; here it is busybox."
mkdir -p "$bundle/rootfs/bin" "$bundle/rootfs/etc"
echo 'root:x:0:0:root:/:/bin/sh' >"$bundle/rootfs/etc/passwd"
cp "$(command -v busybox)" "$bundle/rootfs/bin/busybox"
for name in sh cat echo hostname id ls mount ps sleep; do ln -s busybox "$bundle/rootfs/bin/$name"; done
cd "$bundle"
show dhow spec
sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"hostname": "runc"/"hostname": "demo"/' \
    -e 's/^\([[:space:]]*\)"sh"$/\1"sh", "-c", "echo started as $(id -un) on $(hostname); exec sleep 1000"/' config.json
show dhow validate .

say "All is made, nothing of it runs yet."
show dhow create "$id"
show dhow state "$id"

say "Its program begins."
show dhow start "$id"
expect running
show dhow exec "$id" ps
show dhow list

say "Frozen, and thawed."
show dhow pause "$id"
expect paused
show dhow resume "$id"
expect running

say "And its end."
show dhow kill "$id" KILL
expect stopped
show dhow delete "$id"
show dhow list

say "Done: nothing is left."
