#!/usr/bin/env bash
# The main job, for real: saves an image from a registry into an archive and loads it into
# Docker, which then shows the registry's digest. The registry is `sealift serve`.
#
# It runs on this host's Docker if there is one (DOCKER_HOST is respected); else, as
# root on Debian or Ubuntu, on a dockerd of its own that it stops at the end; else it loads
# into an OCI layout, serves that as a registry, and pulls the image from there by its digest.
# It removes what it loads into the host's Docker. SEALIFT names a built program to use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/debian.sh
. tests/debian.sh
# shellcheck source=tests/dockerd.sh
. tests/dockerd.sh
# shellcheck source=packaging/layout.sh
. packaging/layout.sh
program=demo

work=$(mktemp -d "${TMPDIR:-/tmp}/sealift-demo.XXXXXX")
own_docker=
no_docker=
demo_image=
container=sealift-demo-$$

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
step() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$1" "$plain"; }
# shows a command as a reader would type it, then runs it
show() {
    printf '%s$ %s%s\n' "$bold" "${*/#"$sealift"/sealift}" "$plain"
    "$@"
}

cleanup() {
    trap '' INT TERM # it is not interrupted itself
    trap - EXIT
    if [ -n "$demo_image" ] && [ -z "$own_docker" ]; then
        docker rm -f "$container" >/dev/null 2>&1 || true
        docker rmi -f "$demo_image" >/dev/null 2>&1 || true
    fi
    stop_pids
    remove_policy
    cd /
    remove_root "$work"
}
trap cleanup EXIT
trap 'cleanup; trap - INT; kill -INT $$' INT
trap 'cleanup; trap - TERM; kill -TERM $$' TERM

# --- what it needs -------------------------------------------------------------------
is_root() { [ "$(id -u)" -eq 0 ]; }
has() { PATH=$PATH:/usr/sbin command -v "$1" >/dev/null; }
packages=()
needs() { # PROGRAM PACKAGE...
    has "$1" || packages+=("${@:2}")
}
if ! said=$(docker info 2>&1 >/dev/null); then
    [ -z "${DOCKER_HOST:-}" ] || die "the Docker at DOCKER_HOST=$DOCKER_HOST does not answer: $said"
    if is_root && { has dockerd || has apt-get; }; then own_docker=yes; else no_docker=yes; fi
fi
[ -n "${SEALIFT:-}" ] || needs cc gcc libc6-dev # zlib, zstd and ring compile C
[ -z "$own_docker" ] || needs dockerd docker.io
install_packages "${packages[@]}"
# From Debian 13 on the client is a package of its own.
[ -z "$own_docker" ] || command -v docker >/dev/null || install_packages docker-cli

if [ -n "${SEALIFT:-}" ]; then
    sealift=$(realpath "$SEALIFT")
else
    step "Building sealift"
    command -v cargo >/dev/null || die "cargo is missing: install a Rust toolchain (https://rustup.rs)"
    cargo build --release --locked --quiet
    sealift=$(realpath "${CARGO_TARGET_DIR:-target}")/release/sealift
fi
cd "$work"

# --- Docker: the host's, or one of its own -----------------------------------------
if [ -n "$own_docker" ]; then
    start_docker
    note "no Docker here: started one of its own in $work, gone at the end"
elif [ -n "$no_docker" ]; then
    note "no Docker here, and none can be started: the image goes into a layout that is served as a registry"
else
    note "using the Docker of this host (${DOCKER_HOST:-the local socket})"
fi

# --- a registry with an image, in the place of the connected world -------------------
serve() { # NAME FILE: as a registry; sets `registry` to its address
    start "$1" "$sealift" serve --quiet "$2" --listen 127.0.0.1:0
    await "$1" grep -q '^serving' "$work/$1.log"
    registry=$(grep -oE -m 1 '127\.0\.0\.1:[0-9]+' "$work/$1.log")
    note "\$ sealift serve $2 --listen $registry"
}
step "A registry with an image in it (in place of docker.io, so that this needs no internet)"
repository=httpd path=library/httpd
# An httpd of the host's user must not be touched.
if [ -z "$own_docker$no_docker" ] && docker image inspect httpd:2.4 >/dev/null 2>&1; then
    repository=sealift-demo/httpd path=sealift-demo/httpd
fi
image=$repository:2.4

# An httpd that is a few files of this machine: what is shown is how it travels.
layer=$work/layer
mkdir -p "$layer/usr/local/apache2/htdocs"
echo '<html><body><h1>It works!</h1></body></html>' >"$layer/usr/local/apache2/htdocs/index.html"
head -c 3000000 /dev/urandom >"$layer/usr/local/apache2/data"
tar -C "$layer" --sort=name --owner=0 --group=0 --mtime=@1700000000 -cf "$work/layer.tar" .
layout=$work/oci
read -r diff_id layer_digest layer_size < <(layout_layer "$work/layer.tar")
case $(uname -m) in aarch64) arch=arm64 other=amd64 ;; *) arch=amd64 other=arm64 ;; esac
created=$(date -u +%Y-%m-%dT%H:%M:%SZ)
manifest_for() { # ARCHITECTURE: prints the descriptor of its manifest
    printf '{"architecture":"%s","os":"linux","created":"%s","config":{"Cmd":["/bin/httpd"]},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
        "$1" "$created" "$diff_id" >"$work/config.json"
    layout_manifest "$1" "$work/config.json" "$layer_digest" "$layer_size"
}
digest=$(layout_index "$(manifest_for "$arch"),$(manifest_for "$other")" "docker.io/$path:2.4")
serve registry oci
registry_pid=$!
note "the registry serves it as $repository@$digest"

# --- the connected side ----------------------------------------------------------------
step "On the connected machine: seal it into one file"
archive=images.tar
show "$sealift" save "$image" --mirror "docker.io=$registry" -o "$archive" | tee "$work/save.out"
seal=$(grep -oE 'sha256:[0-9a-f]{64}' "$work/save.out" | tail -n 1)

step "The registry goes away: from here on there is no network"
kill -TERM "$registry_pid"
ls -l "$archive"

# --- the air-gapped side -----------------------------------------------------------------
step "On the air-gapped machine: check every byte of it"
show "$sealift" verify "$archive" --expect "$seal"

if [ -n "$no_docker" ]; then
    step "Load it into a layout, and serve that in the isolated network"
    show "$sealift" load "$archive" --expect "$seal" --to oci:images
    serve isolated images

    step "And a deployment that names it by digest finds it there"
    show "$sealift" save "$repository@$digest" --mirror "docker.io=$registry" -o pulled.tar
    mkdir sent pulled
    show tar -C sent -xf "$archive" blobs
    show tar -C pulled -xf pulled.tar blobs
    show diff -r sent pulled
    note "the same digest that the registry gave, and the same manifests, config and layers byte for byte"
    exit 0
fi
demo_image=$image

step "BEFORE: what a plain docker load makes of it"
show docker load --quiet --input "$archive"
show docker images --digests "$repository"
if docker info --format '{{.DriverStatus}}' | grep -q io.containerd.snapshotter; then
    note "(this Docker keeps its images in containerd, which knows digests; the classic store shows <none>)"
fi
docker rmi -f "$image" >/dev/null

step "AFTER: what sealift makes of it"
show "$sealift" load "$archive" --expect "$seal"
show docker images --digests "$repository"

step "And a deployment that names it by digest finds it, offline"
show docker create --name "$container" --network none "$repository@$digest" /bin/httpd
docker rm "$container" >/dev/null
note "the same digest that the registry gave: $digest"
