#!/bin/sh
# test.sh [all|callers] [TARGET]: all tests, or those of the real callers with the long ones among them; then what was
# skipped and why.
#
# Unit tests need no root and run as `nobody` when we are root. Conformance and integration need root for what they
# make; a test that can't run here prints `skipped: [NAME: ]REASON`.
set -u

part=${1:-all}
target=${2:-}
threads=$(nproc)
[ "$threads" -le 4 ] || threads=4
log=$(mktemp)
trap 'rm -f "$log" "$log".*' EXIT
failed=0
long=

step() { # TITLE COMMAND...: what it prints is kept for the summary
    printf '\n== %s\n' "$1"
    shift
    { "$@" 2>&1; echo $? >"$log.status"; } | tee -a "$log"
    [ "$(cat "$log.status")" = 0 ] || failed=1
}

cargo_test() { cargo test --locked ${target:+--target "$target"} "$@" -- --test-threads "$threads" --nocapture $long; }
unit_tests() {
    [ "$(id -u)" = 0 ] || { cargo_test --lib; return; }
    binary=$(cargo test --locked ${target:+--target "$target"} --lib --no-run --message-format json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [ -n "$binary" ] || { cargo_test --lib; return; } # it doesn't compile: say why
    # nobody may not be able to reach our build directory
    copy=$(mktemp -d) && cp "$binary" "$copy/unit" && chmod 755 "$copy"
    (cd "$copy" && setpriv --reuid nobody --regid nogroup --clear-groups ./unit --test-threads "$threads")
    status=$?
    rm -rf "$copy"
    return $status
}

if [ "$part" = callers ]; then
    long=--include-ignored
    step "the real callers, as root" cargo_test --no-fail-fast --test 'caller_*'
else
    step "unit tests, without root" unit_tests
    as="as root"
    [ "$(id -u)" = 0 ] || as="without root"
    step "conformance and integration, $as" cargo_test --no-fail-fast --test '*' --bins
    [ "$(id -u)" = 0 ] || echo "skipped: what needs root: run make test as root" | tee -a "$log"
fi

printf '\n== summary\n'
awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 } END { printf "%d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
grep -o 'skipped: .*' "$log" | sort | uniq -c | sed 's/^ *\([0-9]*\) skipped: /skipped (\1): /'
grep -q 'skipped: ' "$log" || echo "nothing skipped"
if [ $failed = 1 ]; then
    # each test program ends with the names of those that failed
    awk '/^failures:$/ { names = 1; next } /^test result:/ { names = 0 } names && /^    [^ ]+$/ { print "FAILED:" $0 }' "$log" | tr -s ' ' | sort -u
    grep 'could not compile' "$log" | sort -u
    echo FAILED
fi
exit $failed
