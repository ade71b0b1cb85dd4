#!/bin/sh
# The static release binary, at build/dhow. musl makes the smallest; where its target is not installed and rustup can't
# add it, glibc does. TARGET chooses another.
set -eu

gnu=$(rustc -vV | sed -n 's/^host: //p')
musl=$(uname -m)-unknown-linux-musl
has_musl() { ls "$(rustc --print sysroot)/lib/rustlib/$musl/lib"/libstd-* >/dev/null 2>&1; }

if [ -z "${TARGET:-}" ]; then
    TARGET=$gnu
    if has_musl || { timeout 120 rustup target add "$musl" >/dev/null 2>&1 && has_musl; }; then
        TARGET=$musl
    fi
fi
case $TARGET in
*-gnu) export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" ;;
esac

# `--version` and `docker info` tell it
DHOW_COMMIT=${DHOW_COMMIT:-$(git rev-parse HEAD 2>/dev/null || true)}
export DHOW_COMMIT
cargo build --locked --release --bin dhow --target "$TARGET"
mkdir -p build
cp "${CARGO_TARGET_DIR:-target}/$TARGET/release/dhow" build/dhow.new
mv build/dhow.new build/dhow
echo "build/dhow: $(stat -c %s build/dhow) bytes, $TARGET"
