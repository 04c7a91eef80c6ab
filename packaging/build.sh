#!/usr/bin/env bash
# Builds the executables of a release in target/dist: static, for any Linux on x86-64 and arm64, from pinned tools, with
# no name of a folder of this machine in them. Each is checked. Beside them are SBOMs and the licences of what is linked in.
set -euo pipefail
# shellcheck source=packaging/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
sbom=$here/.sealift-sbom # cargo-cyclonedx writes beside Cargo.toml only
trap 'rm -f "$sbom.json"; remove_policy' EXIT

max_bytes=12000000

# Installs zig and cargo-zigbuild from PyPI below target/tools, unless these versions are there.
install_tools() {
    local wanted=$here/packaging/requirements.txt folder=$tools/zig fresh
    if ! cmp -s "$wanted" "$folder/requirements.txt"; then
        [ "$(uname -m)" = x86_64 ] || die "releases are built on x86-64: requirements.txt has no other wheels"
        python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
        mkdir -p "$tools"
        fresh=$(mktemp -d "$tools/new.XXXXXX")
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
            --require-hashes --target "$fresh" --requirement "$wanted"
        cp "$wanted" "$fresh/"
        chmod 755 "$fresh"
        rm -rf "$folder"
        mv -T "$fresh" "$folder"
    fi
}

# Sets `sysroot` to the folder of the release's Rust, if a toolchain of that name is it and has both architectures.
find_rust() {
    local arch
    sysroot=$(RUSTUP_AUTO_INSTALL=0 rustup run "$rust" rustc --print sysroot 2>/dev/null) || return 1
    [[ $("$sysroot/bin/cargo" --version) == "cargo $rust ("* ]] || return 1
    [[ $("$sysroot/bin/rustc" --version) == "rustc $rust ("* ]] || return 1
    for arch in "${architectures[@]}"; do
        [ -d "$sysroot/lib/rustlib/$(rust_target "$arch")/lib" ] || return 1
    done
}

# Puts the release's Rust first in PATH: the user's, or else one below target/tools. What the user has installed or linked
# with rustup is never changed.
use_rust() {
    command -v rustup >/dev/null || die "rustup is missing: it installs Rust $rust for both architectures"
    if ! find_rust; then
        export RUSTUP_HOME=$tools/rustup
        local arch targets=()
        if ! find_rust; then
            for arch in "${architectures[@]}"; do targets+=(--target "$(rust_target "$arch")"); done
            rustup toolchain install "$rust" --profile minimal --no-self-update "${targets[@]}"
            find_rust || die "$RUSTUP_HOME has no Rust $rust for both architectures"
        fi
    fi
    PATH=$sysroot/bin:$PATH
}

build() { # ARCHITECTURE
    local triple
    triple=$(rust_target "$1")
    say "building for $triple"
    zig_cargo rustc --profile dist --bin sealift --target "$triple" -- \
        -C relocation-model=pie -C link-arg=-static-pie -C link-arg=-pie
    install -m 755 "$target/dist-build/$triple/dist/sealift" "$(binary_of "$1")"
}

# Fails unless the executable is what README promises.
check() { # ARCHITECTURE
    local file machine header segments bytes
    file=$(binary_of "$1")
    case $1 in amd64) machine=X86-64 ;; arm64) machine=AArch64 ;; esac
    header=$(readelf --wide --file-header "$file")
    segments=$(readelf --wide --program-headers --dynamic --sections --version-info "$file")
    must() { # WHAT COMMAND...
        "${@:2}" >/dev/null || die "$file: $1"
    }
    must "not for $machine" grep -q "Machine:.*$machine" <<<"$header"
    must "not position-independent" grep -q 'Type:.*DYN' <<<"$header"
    must "needs a loader" grep -qvz ' INTERP ' <<<"$segments"
    must "needs shared libraries" grep -qvz '(NEEDED)' <<<"$segments"
    must "needs versions of symbols" grep -qvzE 'GLIBC|Version needs' <<<"$segments"
    must "has symbols that nobody needs" grep -qvz '\.symtab' <<<"$segments"
    must "its stack is executable" grep -q 'GNU_STACK.* RW ' <<<"$segments"
    must "its relocations stay writable" grep -q ' GNU_RELRO ' <<<"$segments"
    ! grep -qaF -e "$here/" -e "${CARGO_HOME:-$HOME/.cargo}/" -e "$sysroot/" "$file" || die "$file: names folders of this machine"
    bytes=$(stat -c %s "$file")
    [ "$bytes" -lt "$max_bytes" ] || die "$file: has $bytes bytes, and $max_bytes are too many"
    say "$file: static, $bytes bytes"
}

# Writes the licences of all that is linked into an executable, each text once.
licences() {
    local -A texts=() users=()
    local name release licence manifest files file sum
    cd "$here"
    while IFS=$'\t' read -r name release licence manifest; do
        # In folders below are the licences of C libraries that a crate contains.
        mapfile -t files < <(find "${manifest%/*}" -maxdepth 3 -type f \
            -iregex '.*/\(licen[cs]e\|copying\|copyright\|notice\|unlicense\)[^/]*' | sort)
        for file in "${files[@]:-/dev/null}"; do
            sum=$(sha256sum <"$file")
            texts[$sum]=$file
            users[$sum]+="    $name $release ($licence)"$'\n'
        done
    done < <(linked_packages)
    printf '%s\n' "What is linked into sealift $version, and its licences. Packages without a text of their own are listed with none." ''
    for sum in "${!users[@]}"; do printf '%s\t%s\n' "${users[$sum]%%$'\n'*}" "$sum"; done | sort | cut -f 2 |
        while IFS= read -r sum; do
            printf '%s\n\n%s\n%s\n\n' "$(printf '=%.0s' {1..80})" "${users[$sum]}" "$(tr -d '\r' <"${texts[$sum]}")"
        done
}

# Name, version, licence and manifest of what is linked in, besides sealift itself.
linked_packages() {
    {
        local arch
        for arch in "${architectures[@]}"; do
            cargo tree --locked --target "$(rust_target "$arch")" --edges normal --prefix none --format '{p}'
        done | sed -n '/proc-macro/d; s/^\([^ ]*\) v\([^ ]*\).*/\1 \2/p' | sort -u
        echo
        cargo metadata --locked --format-version 1 |
            jq -r '.packages[] | select(.source) | [.name, .version, .license, .manifest_path] | @tsv' | sort
    } | awk -F '\t' '!listed { if ($0 == "") listed = 1; else linked[$0] = 1; next } ($1 " " $2) in linked'
    printf '%s\t%s\t%s\t%s\n' musl 1.2.5 MIT "$tools/zig/ziglang/lib/libc/musl/COPYRIGHT"
}

# Writes an SBOM of what is linked into an executable, in CycloneDX form.
sbom() { # ARCHITECTURE
    local file
    file=$(binary_of "$1").cdx.json
    "$here/.ci/tool" cargo-cyclonedx cyclonedx --quiet --manifest-path "$here/Cargo.toml" --format json \
        --spec-version 1.5 --target "$(rust_target "$1")" --no-build-deps --override-filename "${sbom##*/}"
    # It names the folder of the sources, and the package only where that folder has another name.
    jq --arg here "path+file://$here#" \
        'walk(if type == "string" then split($here) | join("path+file:///sealift#") | sub("^(?<path>path[+]file:///sealift#)sealift@"; .path) else . end)' \
        "$sbom.json" >"$file"
    rm "$sbom.json"
}

rm -rf "$dist"
mkdir -p "$dist"
install_tools
use_rust
for arch in "${architectures[@]}"; do
    build "$arch"
    check "$arch"
    sbom "$arch"
done
licences >"$dist/sealift-$version-licences.txt"
