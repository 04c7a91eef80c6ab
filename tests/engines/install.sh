#!/usr/bin/env bash
# Installs what the tests need: packages on this host, and one Debian in a folder
# per engine that this host's own release does not carry.
#
#   tests/engines/install.sh          what `make test` needs (docker 20.10 and 28, containerd 1.6 and 2.1)
#   tests/engines/install.sh all      what `make test-all` needs (docker 26 and containerd 1.7 besides)
#   tests/engines/install.sh lint     only what `make lint` needs
#   tests/engines/install.sh fresh    only what `make fresh` needs
#   tests/engines/install.sh dist     only what `make dist` needs; dist-test: what `make dist-test` needs besides
#
# Run again it does nothing and says nothing. The folders go to
# $SEALIFT_ENGINES_DIR, by default target/engines, named after Debian's suites.
# Nothing is ever mounted in a finished one: tests/support binds it elsewhere.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/debian.sh
. "$here/tests/debian.sh"
engines=${SEALIFT_ENGINES_DIR:-$here/target/engines}
recipe=1 # raise it when what goes into a folder changes

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

has_package() { # PACKAGE: whether it is installed, or apt can install it
    ! installed "$1" || return 0
    [ -n "$(apt-cache policy "$1" 2>/dev/null)" ] || apt_update
    apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'
}

part=
cleanup() {
    remove_policy
    [ -z "$part" ] || remove_root "$part"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# build SUITE PACKAGE...: a minimal Debian of that suite with these packages. Of one written files:PACKAGE, it has the
# files, without its dependencies.
build() {
    local suite=$1 folder=$engines/$1 log=$engines/$1.log
    shift
    local stamp="$recipe $*"
    [ "$(cat "$folder/etc/sealift-engine" 2>/dev/null)" != "$stamp" ] || return 0
    [ "$(id -u)" -eq 0 ] || die "not root: the $suite engine cannot be built in $engines"

    mkdir -p "$engines"
    exec 9>"$engines/.lock"
    flock 9
    [ "$(cat "$folder/etc/sealift-engine" 2>/dev/null)" != "$stamp" ] || return 0

    part=$engines/.$suite.part
    remove_root "$part"
    bootstrap "$suite" "$part" "$log" ca-certificates
    write_policy "$part"
    # A mirror frozen at a date will do for tests: what it signs is still checked.
    printf '%s;\n' 'APT::Install-Recommends "false"' 'Acquire::Languages "none"' \
        'Acquire::Check-Valid-Until "false"' >"$part/etc/apt/apt.conf.d/01small"
    printf 'force-unsafe-io\n' >"$part/etc/dpkg/dpkg.cfg.d/unsafe-io"
    mount -t proc proc "$part/proc"
    mount --rbind /sys "$part/sys"
    mount --make-rslave "$part/sys"
    mount --rbind /dev "$part/dev"
    mount --make-rslave "$part/dev"
    # shellcheck disable=SC2016 # expanded by the shell in there
    chroot "$part" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} sh -ec '
        apt-get update -qq
        files=
        for package; do
            shift
            case $package in
            files:*) files="$files ${package#files:}" ;;
            *) set -- "$@" "$package" ;;
            esac
        done
        apt-get install -y -qq --no-install-recommends "$@"
        cd /tmp
        for package in $files; do
            apt-get download -qq "$package"
            dpkg-deb -x "$package"_*.deb /
            rm "$package"_*.deb
        done
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
case $what in
lint)
    install_packages codespell gcc libc6-dev shellcheck
    exit
    ;;
fresh)
    install_packages ca-certificates debian-archive-keyring debootstrap git
    exit
    ;;
dist)
    install_packages binutils debhelper dpkg-dev fakeroot gcc git jq libc6-dev python3-pip rpm
    exit
    ;;
dist-test)
    install_packages ca-certificates debian-archive-keyring debootstrap iproute2 jq qemu-user-static rpm
    exit
    ;;
test | all) ;;
*) die "usage: install.sh [all|lint|fresh|dist|dist-test]" ;;
esac

# Ubuntu has no such package of it: tests/support then runs that of forky.
browser=(chromium-headless-shell fonts-dejavu-core)
browser_of_forky=()
if ! has_package chromium-headless-shell; then
    browser_of_forky=("${browser[@]}")
    browser=()
fi
install_packages ansible-core apache2-utils bindfs bsdutils buildah busybox-static ca-certificates curl \
    debian-archive-keyring debootstrap docker-registry e2fsprogs fish gcc hyperfine iproute2 jq libc6-dev man-db \
    mount openssh-client openssh-server openssl podman procps python3 python3-pip skopeo strace sudo uidmap util-linux \
    xz-utils zsh zstd "${browser[@]}"
if host_is_docker20; then
    install_packages docker.io containerd
else
    build bookworm docker.io containerd podman uidmap
fi
# The source is of a registry with the referrers API, which no package has as a program.
build forky docker.io docker-cli docker-buildx containerd skopeo crane oras cosign notation podman uidmap \
    files:golang-github-google-go-containerregistry-dev "${browser_of_forky[@]}"
[ "$what" != all ] || build trixie docker.io docker-cli containerd
