#!/usr/bin/env bash
# Installs what the tests need: packages on this host, and one Debian in a folder
# per engine that this host's own release does not carry.
#
#   tests/engines/install.sh          what `make test` needs (docker 20.10 and 28)
#   tests/engines/install.sh all      what `make test-all` needs (docker 26 besides)
#   tests/engines/install.sh lint     only what `make lint` needs
#
# Run again it does nothing and says nothing. The folders go to
# $SEALIFT_ENGINES_DIR, by default target/engines, named after Debian's suites.
# Nothing is ever mounted in a finished one: tests/support binds it elsewhere.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
engines=${SEALIFT_ENGINES_DIR:-$here/target/engines}
default_mirror=http://deb.debian.org/debian
recipe=1 # raise it when what goes into a folder changes

say() { printf 'install.sh: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]
}

# The host's own docker.io serves as docker 20.10 only where it is that, and where
# no system containerd runs: dockerd would join that one instead of its own.
host_is_docker20() {
    [ ! -e /run/containerd/containerd.sock ] || return 1
    local version
    if [ -x /usr/sbin/dockerd ]; then
        version=$(/usr/sbin/dockerd --version 2>/dev/null)
    elif installed docker-ce || installed containerd.io; then
        return 1 # docker.io would displace them
    else
        version=$(apt-cache policy docker.io 2>/dev/null)
        if [ -z "$version" ]; then
            apt_update
            version=$(apt-cache policy docker.io 2>/dev/null)
        fi
    fi
    [[ $version == *version\ 20.10.* || $version == *Candidate:\ 20.10.* ]]
}

apt_updated=
apt_update() {
    [ -z "$apt_updated" ] || return 0
    say "apt-get update"
    apt-get update -qq || die "apt-get update failed: is a Debian or Ubuntu mirror reachable?"
    apt_updated=1
}

# Services must not start because a test needs a program.
policy=/usr/sbin/policy-rc.d
policy_is_ours=
deny_services() {
    [ -e "$policy" ] && return 0
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    policy_is_ours=1
}

install_packages() {
    local missing=() name
    for name in "$@"; do
        installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    [ "$(id -u)" -eq 0 ] || die "not root; please install: ${missing[*]}"
    apt_update
    say "installing ${missing[*]}"
    deny_services
    local log
    log=$(mktemp)
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 "${missing[@]}" >"$log" 2>&1 </dev/null ||
        { cat "$log" >&2 && die "could not install: ${missing[*]}"; }
    rm -f "$log"
}

# Unmounts everything at or below a folder, the deepest first.
unmount_below() {
    local point
    while IFS= read -r point; do
        umount "$point" 2>/dev/null || umount --lazy "$point"
    done < <(awk -v p="$1" '$5 == p || index($5, p "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r)
}

remove_part() {
    [ -e "$1" ] || return 0
    unmount_below "$1"
    rm -rf --one-file-system "$1"
}

part=
cleanup() {
    [ -z "$policy_is_ours" ] || rm -f "$policy"
    [ -z "$part" ] || remove_part "$part"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The Debian mirror that this host uses, where it uses one.
debian_mirror() {
    local found
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -vE '^[[:space:]]*#' | grep -oE 'https?://[^][:space:]]+/debian/?([[:space:]]|$)' | head -n 1 || true)
    found=${found%%[[:space:]]*}
    printf '%s\n' "${SEALIFT_DEBIAN_MIRROR:-${found:-$default_mirror}}"
}

# What this host's apt needs in order to reach a mirror, its folder needs too.
carry_apt_settings() {
    local root=$1 value
    apt-config dump |
        grep -E '^Acquire::(http|https|Retries|ForceIPv4|ForceIPv6|Check-Valid-Until|Check-Date|Max-FutureTime)(::| )' \
            >"$root/etc/apt/apt.conf.d/00host" || true
    # A mirror frozen at a date will do for tests: what it signs is still checked.
    printf '%s;\n' 'APT::Install-Recommends "false"' 'Acquire::Languages "none"' \
        'Acquire::Check-Valid-Until "false"' >"$root/etc/apt/apt.conf.d/01small"
    printf 'force-unsafe-io\n' >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
    # A private CA of a mirror or proxy, by either of its ways.
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp -rL /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    eval "$(apt-config shell value Acquire::https::CAInfo)"
    if [ -n "${value:-}" ] && [ -f "$value" ]; then
        mkdir -p "$root$(dirname "$value")"
        cp -L "$value" "$root$value"
    fi
    cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
    cp -L /etc/hosts "$root/etc/hosts" 2>/dev/null || true
}

# build SUITE PACKAGE...: a minimal Debian of that suite with these packages.
build() {
    local suite=$1 folder=$engines/$1 mirror proxy=''
    shift
    local stamp="$recipe $*"
    [ "$(cat "$folder/etc/sealift-engine" 2>/dev/null)" != "$stamp" ] || return 0
    [ "$(id -u)" -eq 0 ] || die "not root: the $suite engine cannot be built in $engines"

    mkdir -p "$engines"
    exec 9>"$engines/.lock"
    flock 9
    [ "$(cat "$folder/etc/sealift-engine" 2>/dev/null)" != "$stamp" ] || return 0

    mirror=$(debian_mirror)
    say "building the $suite engine from $mirror"
    part=$engines/.$suite.part
    remove_part "$part"
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "${proxy:-}" ] || [ "$proxy" = DIRECT ] || export http_proxy=$proxy
    # Newer suites have no script of their own in an older debootstrap: sid's is theirs.
    local script=/usr/share/debootstrap/scripts/sid log=$engines/$suite.log
    debootstrap --variant=minbase --include=ca-certificates \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        "$suite" "$part" "$mirror" "$script" >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2 && die "debootstrap of $suite failed; all of it is in $log"; }

    printf '#!/bin/sh\nexit 101\n' >"$part$policy"
    chmod 755 "$part$policy"
    carry_apt_settings "$part"
    mount -t proc proc "$part/proc"
    mount --rbind /sys "$part/sys"
    mount --make-rslave "$part/sys"
    mount --rbind /dev "$part/dev"
    mount --make-rslave "$part/dev"
    chroot "$part" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} sh -ec '
        update-ca-certificates >/dev/null 2>&1 || true
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "$@"
        apt-get clean
        rm -rf /var/lib/apt/lists/*' sh "$@" >>"$log" 2>&1 </dev/null ||
        { tail -n 20 "$log" >&2 && die "installing $* in $suite failed; all of it is in $log"; }
    unmount_below "$part"

    mkdir "$part/sealift" # where tests/support binds a daemon's own files
    printf '%s\n' "$stamp" >"$part/etc/sealift-engine"
    if [ -e "$folder" ]; then
        mv "$folder" "$engines/.$suite.old"
        rm -rf --one-file-system "$engines/.$suite.old"
    fi
    mv "$part" "$folder"
    part=
    exec 9>&-
}

what=${1:-test}
case $what in lint | test | all) ;; *) die "usage: install.sh [lint|all]" ;; esac
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    die "this needs apt (Debian 12 or Ubuntu); elsewhere please install by hand what this script names"
fi

install_packages codespell shellcheck
[ "$what" != lint ] || exit 0

install_packages apache2-utils busybox-static ca-certificates curl debian-archive-keyring debootstrap \
    docker-registry e2fsprogs hyperfine openssl podman procps skopeo strace util-linux xz-utils
if host_is_docker20; then
    install_packages docker.io containerd
else
    build bookworm docker.io containerd
fi
build forky docker.io docker-cli docker-buildx containerd skopeo crane oras
[ "$what" != all ] || build trixie docker.io docker-cli containerd
