#!/usr/bin/env bash
# dist-bench.sh [OTHER]: the released executable for this machine beside another build of sealift, by default
# target/release/sealift, on an image of this machine's files. Needs root, docker.io and docker-registry.
set -euo pipefail
# shellcheck source=packaging/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../packaging/lib.sh"
# shellcheck source=tests/dockerd.sh
. "$here/tests/dockerd.sh"

released=$(host_binary)
other=$(realpath "${1:-$target/release/sealift}")
work=$(mktemp -d "$target/dist-bench.XXXXXX")
cleanup() {
    stop_pids
    cd /
    remove_root "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

compare() { # WHAT ARGUMENT...
    local file=$work/figures.json
    hyperfine --style none --warmup 1 --runs "${BENCH_ROUNDS:-7}" --export-json "$file" --prepare 'rm -rf out*' \
        "$released ${*:2}" "$other ${*:2}" >"$work/log" 2>&1 || { cat "$work/log" >&2 && die "$1"; }
    jq -r --arg what "$1" '
        def cpu: .user + .system;
        def ratio(f): (.[0] | f) / (.[1] | f) * 100 | round / 100;
        .results | "\($what): \(.[0].median * 1000 | round) ms, the other \(.[1].median * 1000 | round) ms; " +
        "ratio of time \(ratio(.median)), of processor time \(ratio(cpu))"' "$file"
}

cd "$work"
say "building and pushing an image with the host's Docker"
start_docker
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: 127.0.0.1:0, secret: x}\n' "$work/registry" >registry.yml
start registry docker-registry serve registry.yml
await registry grep -q 'listening on' registry.log
image=$(grep -oE -m 1 '127\.0\.0\.1:[0-9]+' registry.log)/bench:1
mkdir context
tar -C /usr -cf context/one.tar lib/python3
tar -C /usr -cf context/two.tar share/perl
printf 'FROM scratch\nADD one.tar /\nADD two.tar /\n' >context/Dockerfile
DOCKER_BUILDKIT=0 docker build --quiet --tag "$image" context >/dev/null
docker push --quiet "$image" >/dev/null

"$other" save --quiet --from registry "$image" -o images.tar >/dev/null
du -h images.tar >&2
compare 'version' --version
compare 'verify' verify images.tar
compare 'verify, digests only' verify --digests-only images.tar
compare 'save from a registry' save --from registry "$image" -o out.tar
compare 'save from Docker, recompressing' save --from docker --offline "$image" -o out.tar
compare 'load into a layout' load images.tar --to oci:out
