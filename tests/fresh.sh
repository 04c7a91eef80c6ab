#!/usr/bin/env bash
# fresh.sh [SUITE...]: runs `make demo` and `make test` on a fresh minimal Debian of each suite, by default
# bookworm and trixie. Needs root, debootstrap, and the Rust toolchain that this host has.
#
# A fresh machine has git, make, gcc, libc6-dev, ca-certificates, the toolchain, and a clone of the last commit,
# nothing else. Files, mounts and processes are its own; the kernel, /dev, /sys and the network are the host's.
# COMMAND replaces what is run on it. The folders are in $SEALIFT_FRESH_DIR, by default target/fresh: SUITE.base is
# the machine as it comes, SUITE what the last run made of it, SUITE.log what that printed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/debian.sh
. "$here/tests/debian.sh"
fresh=${SEALIFT_FRESH_DIR:-$here/target/fresh}
COMMAND=${COMMAND:-make demo && make test}

# Runs as the first process of new namespaces, and becomes the machine's init.
enter() {
    set -euo pipefail
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    mount --bind "$toolchain" "$root/opt/rust"
    mount -o remount,bind,ro "$root/opt/rust"
    cd "$root"
    pivot_root . mnt
    umount --lazy /mnt
    cd /root/sealift
    local code=0
    /usr/bin/env -i HOME=/root USER=root SHELL=/bin/bash TERM=dumb LANG=C.UTF-8 CARGO_TERM_COLOR=never \
        PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        bash -c "$COMMAND" || code=$?
    exit "$code"
}

# Makes a fresh machine.
prepare() {
    local suite=$1 base=$fresh/$1.base
    root=$fresh/$1
    if [ ! -e "$base" ]; then
        remove_root "$base.part"
        bootstrap "$suite" "$base.part" "$root.debootstrap.log" git make gcc libc6-dev ca-certificates
        mv "$base.part" "$base"
    fi
    remove_root "$root"
    cp -a "$base" "$root"
    mkdir "$root/opt/rust" "$root/root/.cargo"
    cp "${CARGO_HOME:-$HOME/.cargo}/config.toml" "$root/root/.cargo/" 2>/dev/null || true
    cp /etc/pip.conf "$root/etc/" 2>/dev/null || true
    git clone -q --no-hardlinks "$here" "$root/root/sealift"
}

[ "$(id -u)" -eq 0 ] || die "not root: it builds and enters a Debian in $fresh"
command -v debootstrap >/dev/null || die "debootstrap is missing: run tests/engines/install.sh fresh"
toolchain=$(cd "$here" && rustc --print sysroot)
export -f enter
export root toolchain COMMAND
[ $# -gt 0 ] || set -- bookworm trixie
mkdir -p "$fresh"
failed=()
for suite; do
    prepare "$suite"
    say "$suite: $COMMAND (output in $root.log)"
    if unshare --mount --pid --fork --kill-child --ipc --uts bash -c enter >"$root.log" 2>&1 </dev/null; then
        say "$suite: all good"
    else
        say "$suite: failed; the end of $fresh/$suite.log:"
        tail -n 30 "$fresh/$suite.log" >&2
        failed+=("$suite")
    fi
done
[ ${#failed[@]} -eq 0 ]
