#!/bin/bash
# test.sh [--user NAME] [TEST[:FILTER]]...: run test programs of this tree in the guest; all of them by default.
#
# They are built here and run there one test at a time. A program that fails does not keep the others from running.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
user=root
if [ "${1:-}" = --user ]; then user=$2; shift 2; fi

cd "$tree"
built=$(cargo test --locked --no-run --tests --message-format json |
    sed -n 's/.*"kind":\["test"\].*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p')
[ -n "$built" ] || { echo "test.sh: nothing was built" >&2; exit 125; }
[ $# -gt 0 ] || set -- $(echo "$built" | cut -d' ' -f1 | grep -vxE 'architecture|seccomp_speed|seccomp_oracle|start_cost|build_cost')

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
boot() { # "FLAGS" WISH...: the wishes, in one guest
    flags=$1
    shift
    script="cd $(printf %q "$tree"); export DHOW_TEST_PATIENCE=8; failed=0"
    for wish in "$@"; do
        program=$(echo "$built" | sed -n "s|^${wish%%:*} ||p")
        [ -n "$program" ] || { echo "test.sh: no test program ${wish%%:*}" >&2; exit 125; }
        filter=${wish#"${wish%%:*}"}
        script+="; echo; echo == $wish; $(printf %q "$program") --test-threads 1 --nocapture $(printf %q "${filter#:}") || failed=1"
    done
    script+="; exit \$failed"
    # shellcheck disable=SC2086 # a list
    "$here/vm.sh" --user "$user" --timeout 7200 --share "$tree" $flags -- bash -c "$script" |
        tee -a "$log" | grep --line-buffered -vE '^test .* \.\.\. ok$|^ok$' || { status=${PIPESTATUS[0]}; [ "$status" = 0 ] || failed=$status; }
}
others=() selinux=()
for wish in "$@"; do
    case $wish in selinux | selinux:*) selinux+=("$wish") ;; *) others+=("$wish") ;; esac
done
[ ${#others[@]} = 0 ] || boot "" "${others[@]}"
# A kernel has either AppArmor or SELinux.
[ ${#selinux[@]} = 0 ] || boot --selinux "${selinux[@]}"
printf '\n== in the guest\n'
awk '/^test result:/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$log"
grep -o 'skipped: .*' "$log" | sort | uniq -c || true
exit "$failed"
