#!/usr/bin/env bash
# dist.sh [PART...]: tests what `make dist` made, for real. As root, on Debian or Ubuntu. The parts, all by default:
#
#   binaries   x86-64 in Debian bookworm, trixie and forky and in an empty root file system, arm64 by qemu, each as a
#              user without a home folder: version, save, verify, list, serve, load; into this host's own Docker too
#   arm64      the library's tests, built for arm64, by qemu
#   deb        lintian, installed, used, removed and purged in bookworm and forky
#   rpm        installed into a folder and used there
#   image      loaded into a Docker and run there with its socket
#
# Each Debian is built once, in target/dist-test. Each test sees a copy, with mounts, processes and loopback of its own.
set -euo pipefail
# shellcheck source=packaging/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../packaging/lib.sh"

# shellcheck source=tests/dockerd.sh
. "$here/tests/dockerd.sh"

folder=$target/dist-test
work=
cleanup() {
    trap '' INT TERM
    trap - EXIT
    stop_pids
    remove_policy
    [ -z "$work" ] || remove_root "$work"
}
trap cleanup EXIT
trap 'cleanup; trap - INT; kill -INT $$' INT
trap 'cleanup; trap - TERM; kill -TERM $$' TERM

# Runs as the first process of new namespaces: a bash program in a root folder of its own, as root.
enter() { # ROOT PROGRAM
    set -euo pipefail
    ip link set lo up
    mount --make-rprivate /
    mount --bind "$1" "$1"
    cd "$1"
    [ ! -d proc ] || mount -t proc proc proc
    [ ! -d sys ] || mount -t sysfs -o ro sysfs sys
    if [ -d dev ]; then
        mount -t tmpfs -o mode=755 tmpfs dev
        local name
        for name in null zero full random urandom tty; do
            : >"dev/$name"
            mount --bind "/dev/$name" "dev/$name"
        done
        ln -s /proc/self/fd dev/fd
    fi
    [ ! -d run ] || mount -t tmpfs -o mode=755 tmpfs run
    exec chroot . /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
        version="$version" bash -euo pipefail -c "$(declare -f use as_nobody); $2"
}
export -f enter

# Runs a bash program in a copy of a Debian, with /test from $work/test. What it leaves is gone afterwards.
in_debian() { # SUITE PROGRAM
    local base=$folder/$1.base root=$work/$1 packages=()
    # Without systemd and manual pages: a package installs there too.
    [ "$1" = trixie ] || packages=(bash-completion fish lintian man-db systemd zsh)
    if [ ! -e "$base" ] || [ "$(cat "$base/etc/packages" 2>/dev/null)" != "${packages[*]}" ]; then
        remove_root "$base"
        remove_root "$base.part"
        bootstrap "$1" "$base.part" "$folder/$1.log" ca-certificates
        # shellcheck disable=SC2016
        [ ${#packages[@]} -eq 0 ] || chroot "$base.part" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
            DEBIAN_FRONTEND=noninteractive sh -ec '
                apt-get update -qq
                apt-get install -y -qq --no-install-recommends "$@"
                apt-get clean' sh "${packages[@]}" >>"$folder/$1.log" 2>&1 </dev/null ||
            { tail -n 20 "$folder/$1.log" >&2 && die "installing ${packages[*]} in $1 failed; all of it is in $folder/$1.log"; }
        printf '%s\n' "${packages[*]}" >"$base.part/etc/packages"
        mv "$base.part" "$base"
    fi
    [ -d "$root" ] || cp -a --reflink=auto "$base" "$root"
    rm -rf "$root/test" "$root/srv/user"
    cp -a "$work/test" "$root/test"
    install -d -o 12345 "$root/srv/user"
    isolated enter "$root" "$2"
}

# Runs a function of this script in namespaces of its own, which end with it.
isolated() {
    unshare --mount --pid --fork --kill-child --ipc --uts --net bash -c '"$@"' bash "$@" </dev/null
}

# What a user does with sealift, in an empty folder: $run is the program, $layout has an image.
use() {
    set -euo pipefail
    local name=example.com/hello:1 line seal
    [ "$($run --version)" = "sealift $version" ]
    line=$($run save --from "$layout" "$name" -o images.tar | tail -n 1)
    seal=${line##*archive }
    $run verify images.tar --expect "$seal"
    $run list images.tar | grep -F "$name"
    $run load images.tar --to oci:loaded --expect "$seal"
    $run verify loaded

    # As a registry.
    $run serve images.tar --listen 127.0.0.1:0 --quiet >serving &
    local server=$!
    until grep -qs '^serving' serving; do
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.1
    done
    line=$(grep -oE '127\.0\.0\.1:[0-9]+' serving)
    $run save "$name" --from registry --mirror "example.com=$line" -o pulled.tar
    kill "$server"
    wait "$server" || [ $? -eq 143 ]
    $run load pulled.tar --to archive:again.tar
    $run verify pulled.tar again.tar --expect "$seal" --expect "$seal"
}
export -f use
export version

# Runs a program as a user who has no home folder and no entry in passwd.
as_nobody() {
    setpriv --reuid 12345 --regid 12345 --clear-groups --no-new-privs \
        env -i PATH=/usr/bin:/bin version="$version" run="${run:-}" layout="${layout:-}" "$@"
}
export -f as_nobody

# Uses sealift in a folder of this host, with a loopback of its own.
use_in() { # FOLDER AS PROGRAM...
    ip link set lo up
    cd "$1"
    run="${*:3}"
    export run layout
    $2 bash -c "$(declare -f use); use"
}
export -f use_in

test_binaries() {
    local suite root=$work/empty
    for suite in bookworm trixie forky; do
        say "amd64 in $suite"
        # shellcheck disable=SC2016
        in_debian "$suite" 'cd /srv/user
            run=/test/amd64 layout=/test/layout
            as_nobody bash -c "$(declare -f use); use"'
    done

    say 'amd64 in an empty root file system'
    install -d -o 12345 "$root"
    install "$(binary_of amd64)" "$root/sealift"
    chroot --userspec=12345:12345 "$root" /sealift --version
    cp -a "$work/test/layout" "$root/"
    layout=/layout isolated use_in "$root" '' chroot --userspec=12345:12345 "$root" /sealift

    say 'arm64 by qemu'
    install -d -o 12345 "$work/arm64"
    layout=$work/test/layout isolated use_in "$work/arm64" as_nobody qemu-aarch64-static "$work/test/arm64"

    say 'amd64 with Docker'
    SEALIFT=$(binary_of amd64) "$here/demo/run.sh"
}

test_arm64() {
    local tests skipped=(
        # They run themselves again, which needs binfmt_misc.
        --skip a_fault_outside_of_windows_kills_as_before --skip a_sigbus_that_somebody_sends_kills_as_before
        # qemu 7 ignores MADV_POPULATE_READ, which tells a short file before a page of it is touched.
        --skip a_file_that_is_too_short_is_an_error_with_the_offset
        --skip a_window_owns_its_map_and_notices_that_its_file_shrank
        # It has no openat2, and no sockets of netlink.
        --skip links_lead_to_folders_of_the_other_root --skip names_and_links_stay_inside
        --skip the_one_that_accepts_is_found_whoever_listens
    )
    say "the library's tests for arm64, by qemu"
    tests=$(zig_cargo test --lib --no-run --target "$(rust_target arm64)" --message-format json |
        jq -r 'select(.profile.test and .executable).executable')
    qemu-aarch64-static "$tests" --quiet "${skipped[@]}"
}

test_deb() {
    local suite
    for suite in bookworm forky; do
        say "the .deb in $suite"
        # shellcheck disable=SC2016
        in_debian "$suite" '
            lintian --allow-root --fail-on error,warning /test/*.deb
            list() { find / -xdev \( -path /proc -o -path /srv -o -path /test -o -path /tmp -o -path "/var/cache/*" \
                -o -path /var/lib/dpkg -o -path /var/log -o -path /etc/ld.so.cache \) -prune -o -print | sort; }
            list >/tmp/before
            dpkg --install /test/sealift_*_amd64.deb

            /usr/libexec/docker/cli-plugins/docker-sealift docker-cli-plugin-metadata | grep -F "\"Version\": \"$version\""

            cd /srv/user
            run=sealift layout=/test/layout as_nobody bash -c "$(declare -f use); use"
            for command in $(sealift --help | sed -n "/^Commands:/,/^\$/s/^  \([a-z]*\) .*/\1/p"); do
                [ "$command" = help ] || [ -z "$(man --warnings "sealift-$command" 2>&1 >/dev/null)" ]
            done
            man sealift | grep -F "keep every digest"
            bash -c "source /usr/share/bash-completion/completions/sealift
                COMP_LINE=\"sealift ver\" COMP_POINT=11 COMP_WORDS=(sealift ver) COMP_CWORD=1; _sealift sealift ver sealift; echo \${COMPREPLY[@]}" | grep -x verify
            HOME=/tmp fish -c "complete --do-complete \"sealift ver\"" | grep "^verify"
            zsh -c "autoload -Uz compinit && compinit -u -D && echo \$_comps[sealift]" | grep -x _sealift

            systemd-analyze verify /usr/lib/systemd/system/sealift-*
            systemd-analyze security --offline=true --threshold=15 sealift-serve.service | tail -n 1
            systemd-analyze security --offline=true --threshold=25 sealift-verify.service | tail -n 1

            echo "# mine" >>/etc/sealift/serve.conf
            dpkg --install /test/sealift_*_amd64.deb
            grep "# mine" /etc/sealift/serve.conf
            dpkg --remove sealift
            [ ! -e /usr/bin/sealift ]
            grep "# mine" /etc/sealift/serve.conf
            dpkg --purge sealift
            list | diff /tmp/before -'
    done
}

test_rpm() {
    local rpms=("$dist/sealift-$version-1".{x86_64,aarch64}.rpm)
    say 'the .rpm in a folder'
    rpm --checksig --nosignature "${rpms[@]}"
    if rpm --query --package --requires "${rpms[@]}" | grep -vE '^(rpmlib\(|config\(sealift\)|/bin/sh$)'; then
        die 'the .rpm needs other packages'
    fi
    # A Debian has the shell that the scripts need, which rpm does not know.
    in_debian trixie true
    in_folder() { rpm --root "$work/trixie" --nodeps "$@"; }
    in_folder --install "${rpms[0]}"
    in_folder --verify sealift
    # shellcheck disable=SC2016
    in_debian trixie 'cd /srv/user
        run=sealift layout=/test/layout as_nobody bash -c "$(declare -f use); use"
        [ -f /usr/share/man/man1/sealift-save.1.gz ]'
    echo '# mine' >>"$work/trixie/etc/sealift/serve.conf"
    in_folder --upgrade --force "${rpms[0]}"
    grep '# mine' "$work/trixie/etc/sealift/serve.conf"
    in_folder --erase sealift
    [ -z "$(find "$work/trixie/usr" -name '*sealift*')" ]
}

test_image() {
    local image=sealift:$version archive=$dist/sealift-$version-image-linux-amd64.tar digest
    say 'the image in a Docker'
    start_docker
    tool() { docker run --rm --network none -v "$work/docker/docker.sock:/var/run/docker.sock" -v "$work/place:/work" "$@"; }
    mkdir "$work/place"
    docker load --input "$archive"
    [ "$(tool "$image" --version)" = "sealift $version" ]
    tool "$image" inventory | jq -e --arg name "$image" '.. | strings | select(. == $name)'
    tool "$image" save --from docker "$image" -o saved.tar
    "$(binary_of amd64)" verify "$work/place/saved.tar"

    # With its digest, which is the same in all archives.
    docker rmi --force "$image" sealift:latest
    "$(binary_of amd64)" load "$archive"
    digest=$("$(binary_of amd64)" list --json "$dist/sealift-$version-image.tar" | jq -r '.archives[0].images[0].digest')
    tool "sealift@$digest" --version
}

[ "$(id -u)" -eq 0 ] || die 'not root: it enters a Debian in a folder'
[ $# -gt 0 ] || set -- binaries arm64 deb rpm image
mkdir -p "$folder"
work=$(mktemp -d "$folder/run.XXXXXX")
chmod 755 "$work"
mkdir "$work/test"
cp -a "$here/testdata/layout" "$work/test/"
for arch in "${architectures[@]}"; do
    install "$(binary_of "$arch")" "$work/test/$arch"
done
cp "$dist"/*.deb "$work/test/"
for part; do
    case $part in
    binaries | arm64 | deb | rpm | image) "test_$part" ;;
    *) die "unknown part: $part" ;;
    esac
done
say 'all good'
