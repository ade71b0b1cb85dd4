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
[ $# -gt 0 ] || set -- $(echo "$built" | cut -d' ' -f1 | grep -vxE 'architecture|seccomp_speed|seccomp_oracle|start_cost')

script="cd $(printf %q "$tree"); failed=0"
for wish in "$@"; do
    program=$(echo "$built" | sed -n "s|^${wish%%:*} ||p")
    [ -n "$program" ] || { echo "test.sh: no test program ${wish%%:*}" >&2; exit 125; }
    filter=${wish#"${wish%%:*}"}
    script+="; echo; echo == $wish; $(printf %q "$program") --test-threads 1 --nocapture $(printf %q "${filter#:}") || failed=1"
done
script+="; exit \$failed"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$here/vm.sh" --user "$user" --timeout 7200 --share "$tree" -- bash -c "$script" | tee "$log" | grep --line-buffered -vE '^test .* \.\.\. ok$|^ok$' || status=${PIPESTATUS[0]}
printf '\n== in the guest\n'
awk '/^test result:/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$log"
grep -o 'skipped: .*' "$log" | sort | uniq -c || true
exit "$status"
