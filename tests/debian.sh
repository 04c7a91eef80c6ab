# Functions for scripts that install Debian's packages or build a Debian in a folder.
# For bash, to be sourced. Who calls install_packages calls remove_policy when it exits.
# shellcheck shell=bash

program=${0##*/} # what messages begin with
say() { printf '%s: %s\n' "$program" "$*" >&2; }
die() {
    say "$*"
    exit 1
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]
}

# Runs apt-get, silent unless it fails. It waits for other users of apt and dpkg, ten minutes at most:
# DPkg::Lock::Timeout covers dpkg's lock, but not those of apt's lists and archives.
apt_get() {
    local log tries
    log=$(mktemp)
    for tries in {1..120}; do
        if DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C.UTF-8 \
            apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1 </dev/null; then
            rm -f "$log"
            return 0
        fi
        grep -q 'Could not get lock' "$log" || break
        [ "$tries" -gt 1 ] || say "another apt is running; waiting for it"
        sleep 5
    done
    cat "$log" >&2
    rm -f "$log"
    return 1
}

apt_updated=
apt_update() {
    [ -z "$apt_updated" ] || return 0
    say "apt-get update"
    apt_get update || die "apt-get update failed: is a Debian or Ubuntu mirror reachable?"
    apt_updated=1
}

# Installing a program must not start its service.
policy=/usr/sbin/policy-rc.d
policy_is_ours=
write_policy() { # ROOT
    printf '#!/bin/sh\nexit 101\n' >"$1$policy"
    chmod 755 "$1$policy"
}
remove_policy() {
    [ -z "$policy_is_ours" ] || rm -f "$policy"
    policy_is_ours=
}

# Sets `missing` to those of these packages that are not installed; fails if there are none.
find_missing() {
    local name
    missing=()
    for name; do
        installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ]
}

# Installs what is missing of these packages; one script at a time, since they share the policy.
install_packages() {
    local missing
    find_missing "$@" || return 0
    command -v apt-get >/dev/null || die "no apt-get here; please install: ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || die "not root; please install: ${missing[*]}"
    exec 8>/run/sealift-install.lock
    flock 8
    if find_missing "$@"; then # no other process installed them meanwhile
        apt_update
        say "installing ${missing[*]}"
        if [ ! -e "$policy" ]; then
            write_policy ''
            policy_is_ours=1
        fi
        apt_get install -y --no-install-recommends "${missing[@]}" 8>&- || die "could not install: ${missing[*]}"
        remove_policy
    fi
    exec 8>&-
}

# Unmounts everything at or below a folder, the deepest first.
unmount_below() {
    local point
    while IFS= read -r point; do
        umount "$point" 2>/dev/null || umount --lazy "$point"
    done < <(awk -v p="$1" '$5 == p || index($5, p "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r)
}

# Removes a folder in which something may still be mounted.
remove_root() {
    [ -e "$1" ] || return 0
    unmount_below "$1"
    rm -rf --one-file-system "$1"
}

# Prints the Debian mirror that this host uses, where it uses one.
debian_mirror() {
    local found
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -vE '^[[:space:]]*#' | grep -oE 'https?://[^][:space:]]+/debian/?([[:space:]]|$)' | head -n 1 || true)
    found=${found%%[[:space:]]*}
    printf '%s\n' "${SEALIFT_DEBIAN_MIRROR:-${found:-http://deb.debian.org/debian}}"
}

# bootstrap SUITE ROOT LOG PACKAGE...: a minimal Debian with these packages, which reaches what this host reaches.
bootstrap() {
    local suite=$1 root=$2 log=$3 mirror proxy=''
    shift 3
    mirror=$(debian_mirror)
    say "building a Debian $suite from $mirror"
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "${proxy:-}" ] || [ "$proxy" = DIRECT ] || export http_proxy=$proxy
    # An older debootstrap has no script for a newer suite; sid's serves.
    debootstrap --variant=minbase --include="$(IFS=,; printf '%s' "$*")" \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        "$suite" "$root" "$mirror" /usr/share/debootstrap/scripts/sid >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2 && die "debootstrap of $suite failed; all of it is in $log"; }
    carry_network_settings "$root"
}

# Gives a Debian in a folder what this host needs to reach mirrors: apt's settings, private CAs, names.
carry_network_settings() {
    local root=$1 value
    apt-config dump |
        grep -E '^Acquire::(http|https|Retries|ForceIPv4|ForceIPv6|Check-Valid-Until|Check-Date|Max-FutureTime)(::| )' \
            >"$root/etc/apt/apt.conf.d/00host" || true
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp -rL /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    eval "$(apt-config shell value Acquire::https::CAInfo)"
    if [ -n "${value:-}" ] && [ -f "$value" ]; then
        mkdir -p "$root$(dirname "$value")"
        cp -L "$value" "$root$value"
    fi
    cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
    cp -L /etc/hosts "$root/etc/hosts" 2>/dev/null || true
    chroot "$root" /usr/sbin/update-ca-certificates >/dev/null 2>&1 || true
}
