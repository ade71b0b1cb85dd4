#!/bin/sh
# The static release binaries, at build/dhow and build/dhowctl. musl makes the smallest; where its target is not installed
# and rustup can't add it, glibc does. TARGET chooses another. The runtime is built without the images' code, small; the
# image tool with its own profile, fast.
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

# ring has some C in it, which the host's compiler can make for musl too
export CC_x86_64_unknown_linux_musl="${CC_x86_64_unknown_linux_musl:-gcc}"
# `--version` and `docker info` tell it
DHOW_COMMIT=${DHOW_COMMIT:-$(git rev-parse HEAD 2>/dev/null || true)}
export DHOW_COMMIT
mkdir -p build
build() { # BINARY PROFILE [FLAG...]
    binary=$1
    profile=$2
    shift 2
    cargo build --locked --profile "$profile" "$@" --bin "$binary" --target "$TARGET"
    cp "${CARGO_TARGET_DIR:-target}/$TARGET/$profile/$binary" "build/$binary.new"
    mv "build/$binary.new" "build/$binary"
    echo "build/$binary: $(stat -c %s "build/$binary") bytes, $TARGET"
}
build dhow release --no-default-features
build dhowctl ctl
