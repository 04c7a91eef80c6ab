# What the scripts of a release have in common. For bash, to be sourced.
# shellcheck shell=bash disable=SC2034

shopt -s inherit_errexit
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/debian.sh
. "$here/tests/debian.sh"

target=${CARGO_TARGET_DIR:-$here/target}
dist=$target/dist
tools=$target/tools
work=$target/dist-work # what the files of a release are made from

# The compiler of a release. Another one makes other bytes.
rust=1.95.0
architectures=(amd64 arm64)

version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$here/Cargo.toml")

# The time of everything in a release is that of the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8 TZ=UTC
umask 022

# The name that Rust has for an architecture.
rust_target() {
    case $1 in
    amd64) echo x86_64-unknown-linux-musl ;;
    arm64) echo aarch64-unknown-linux-musl ;;
    *) die "unknown architecture: $1" ;;
    esac
}

# The released executable of an architecture.
binary_of() { printf '%s/sealift-%s-linux-%s\n' "$dist" "$version" "$1"; }

# The one that runs here.
host_binary() { binary_of "$(dpkg --print-architecture)"; }

# Prints the compiler's flags that keep this machine's folders out of what it writes.
remapped() { # FLAG
    printf '%s\n' "$1$here=/sealift" "$1${CARGO_HOME:-$HOME/.cargo}=/cargo"
}

# Runs cargo-zigbuild, with zig as the C compiler and linker.
zig_cargo() { # COMMAND ARGUMENT...
    local flags
    flags=$(remapped --remap-path-prefix= | tr '\n' '\037')
    env -u RUSTFLAGS \
        CARGO_ENCODED_RUSTFLAGS="${flags%?}" CFLAGS="$(remapped -ffile-prefix-map= | tr '\n' ' ')" \
        CARGO_TARGET_DIR="$target/dist-build" CARGO_INCREMENTAL=0 \
        CARGO_ZIGBUILD_ZIG_PATH="$tools/zig/ziglang/zig" CARGO_ZIGBUILD_CACHE_DIR="$target/dist-build/zigbuild" \
        ZIG_GLOBAL_CACHE_DIR="$target/dist-build/zig" ZIG_LOCAL_CACHE_DIR="$target/dist-build/zig" \
        "$tools/zig/bin/cargo-zigbuild" "$1" --manifest-path "$here/Cargo.toml" --locked "${@:2}"
}
