#!/usr/bin/env bash
# Makes container images of the executables in target/dist, and has sealift seal them into archives: one for all
# architectures, and for each one that a plain `docker load` reads. All have the digest of one index.
set -euo pipefail
# shellcheck source=packaging/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=packaging/layout.sh
. "$here/packaging/layout.sh"

scratch=$work/image
layout=$scratch/oci
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
revision=${SEALIFT_REVISION:-$(git -C "$here" rev-parse HEAD)}

# Stores the image of an architecture, and prints its descriptor.
image() { # ARCHITECTURE
    local root=$scratch/$1 diff_id layer size
    mkdir -p "$root"/usr/{bin,share/doc/sealift} "$root"/{run,tmp,var,work} "$root/etc/ssl/certs"
    chmod 1777 "$root/tmp"
    ln -s ../run "$root/var/run" # so that engines have their sockets where they are elsewhere
    install -m 755 "$(binary_of "$1")" "$root/usr/bin/sealift"
    install -m 644 "$tools/zig/certifi/cacert.pem" "$root/etc/ssl/certs/ca-certificates.crt"
    install -m 644 "$here/LICENSE" "$dist/sealift-$version-licences.txt" "$root/usr/share/doc/sealift/"
    tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=ustar \
        -cf "$scratch/layer.tar" .
    read -r diff_id layer size < <(layout_layer "$scratch/layer.tar")
    jq -cn --arg architecture "$1" --arg created "$created" --arg diff_id "$diff_id" --arg version "$version" \
        --arg revision "$revision" '{
            architecture: $architecture, os: "linux", created: $created,
            config: {
                Entrypoint: ["/usr/bin/sealift"], Cmd: ["--help"], Env: ["PATH=/usr/bin"], WorkingDir: "/work",
                Labels: {
                    "org.opencontainers.image.title": "sealift",
                    "org.opencontainers.image.description":
                        "Moves container images between hosts that cannot reach each other, and keeps every digest",
                    "org.opencontainers.image.licenses": "Apache-2.0",
                    "org.opencontainers.image.version": $version,
                    "org.opencontainers.image.revision": $revision
                }
            },
            rootfs: {type: "layers", diff_ids: [$diff_id]},
            history: [{created: $created, created_by: "packaging/image.sh"}]
        }' >"$scratch/config.json"
    layout_manifest "$1" "$scratch/config.json" "$layer" "$size"
}

rm -rf "$scratch"
mkdir -p "$layout"
names=("docker.io/library/sealift:$version" docker.io/library/sealift:latest)
descriptors=
for arch in "${architectures[@]}"; do descriptors+=${descriptors:+,}$(image "$arch"); done
digest=$(layout_index "$descriptors" "${names[@]}")
save() { # PLATFORM FILE
    "$(host_binary)" save --quiet --from "$layout" --platform "$1" "${names[@]}" -o "$dist/$2" >/dev/null
}
save all "sealift-$version-image.tar"
for arch in "${architectures[@]}"; do save "linux/$arch" "sealift-$version-image-linux-$arch.tar"; done
say "sealift:$version is $digest"
