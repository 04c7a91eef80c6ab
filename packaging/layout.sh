# Functions that write an OCI image layout into the folder $layout. For bash, to be sourced. Manifests and indexes end in
# a line feed: without it, podman could have written them anew for the layout, and they would not prove their digests.
# shellcheck shell=bash disable=SC2154

# Stores a file as a blob and prints `DIGEST SIZE`.
layout_blob() { # FILE
    local hex
    hex=$(sha256sum "$1" | cut -d ' ' -f 1)
    mkdir -p "$layout/blobs/sha256"
    cp "$1" "$layout/blobs/sha256/$hex"
    printf 'sha256:%s %s\n' "$hex" "$(stat -c %s "$1")"
}

# Stores the gzip layer of a tar, and prints `DIFF_ID DIGEST SIZE`.
layout_layer() { # TAR
    gzip -9nk "$1"
    printf 'sha256:%s %s\n' "$(sha256sum "$1" | cut -d ' ' -f 1)" "$(layout_blob "$1.gz")"
    rm "$1.gz"
}

# Stores the manifest of a config and a gzip layer, and prints its descriptor.
layout_manifest() { # ARCHITECTURE CONFIG LAYER_DIGEST LAYER_SIZE
    local config config_size manifest size
    read -r config config_size < <(layout_blob "$2")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":%s}]}\n' \
        "$config" "$config_size" "$3" "$4" >"$2.manifest"
    read -r manifest size < <(layout_blob "$2.manifest")
    rm "$2.manifest"
    printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"platform":{"architecture":"%s","os":"linux"}}' \
        "$manifest" "$size" "$1"
}

# Stores the index of manifests under these names, and prints its digest.
layout_index() { # DESCRIPTORS NAME...
    local digest size name separator='' file=$layout/index
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}\n' "$1" >"$file"
    read -r digest size < <(layout_blob "$file")
    rm "$file"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
    {
        printf '{"schemaVersion":2,"manifests":['
        for name in "${@:2}"; do
            printf '%s{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}' \
                "$separator" "$digest" "$size" "$name"
            separator=,
        done
        printf ']}'
    } >"$layout/index.json"
    printf '%s\n' "$digest"
}
