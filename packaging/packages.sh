#!/usr/bin/env bash
# Packages the executables in target/dist as .deb and .rpm, with manual pages, completions and systemd units.
set -euo pipefail
# shellcheck source=packaging/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Writes what both packages have: the executable of an architecture, and what is the same in all.
tree() { # ARCHITECTURE FOLDER
    local root=$2 sealift command
    sealift=$(host_binary)
    mkdir -p "$root"/usr/{bin,lib/systemd/system,share/{man/man1,doc/sealift,bash-completion/completions}} \
        "$root"/usr/share/{fish/vendor_completions.d,zsh} "$root/etc/sealift" "$root/usr/libexec/docker/cli-plugins"
    install -m 755 "$(binary_of "$1")" "$root/usr/bin/sealift"
    ln -s ../../../bin/sealift "$root/usr/libexec/docker/cli-plugins/docker-sealift"
    install -m 644 "$here"/packaging/systemd/* "$root/usr/lib/systemd/system/"
    install -m 644 "$here"/packaging/etc/* "$root/etc/sealift/"
    "$sealift" completions bash >"$root/usr/share/bash-completion/completions/sealift"
    "$sealift" completions fish >"$root/usr/share/fish/vendor_completions.d/sealift.fish"
    "$sealift" man >"$root/usr/share/man/man1/sealift.1"
    for command in $("$sealift" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
        [ "$command" = help ] || "$sealift" man "$command" >"$root/usr/share/man/man1/sealift-$command.1"
    done
    install -m 644 "$dist/sealift-$version-licences.txt" "$root/usr/share/doc/sealift/third-party-licences"
    gzip -9n "$root/usr/share/doc/sealift/third-party-licences"
    find "$root" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
}

deb_of() { # ARCHITECTURE
    local folder=$work/deb-$1 zsh
    rm -rf "$folder"
    tree "$1" "$folder/tree"
    zsh=$folder/tree/usr/share/zsh/vendor-completions
    mkdir "$zsh"
    "$(host_binary)" completions zsh >"$zsh/_sealift"
    cp -r "$here/packaging/debian" "$folder/"
    # Debian's changelog has an entry for each package, and what changed in sealift in CHANGELOG.md.
    printf 'sealift (%s-1) unstable; urgency=medium\n\n  * Release of sealift %s.\n\n -- %s  %s\n' "$version" "$version" \
        "$(sed -n 's/^Maintainer: //p' "$folder/debian/control")" "$(date -R -d "@$SOURCE_DATE_EPOCH")" \
        >"$folder/debian/changelog"
    install -m 644 "$here/CHANGELOG.md" "$folder/CHANGELOG.md"
    (
        cd "$folder"
        dpkg-architecture --host-arch "$1" --force --command env DEB_BUILD_OPTIONS=nocheck \
            fakeroot debian/rules binary
    ) >"$folder.log" 2>&1 || { tail -n 20 "$folder.log" >&2 && die "no package for $1: all of it is in $folder.log"; }
    mv "$work/sealift_$version-1_$1.deb" "$dist/"
}

rpm_of() { # ARCHITECTURE
    local folder=$work/rpm-$1 machine zsh
    case $1 in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac
    rm -rf "$folder"
    tree "$1" "$folder/tree"
    zsh=$folder/tree/usr/share/zsh/site-functions
    mkdir "$zsh"
    "$(host_binary)" completions zsh >"$zsh/_sealift"
    install -m 644 "$here/LICENSE" "$here/CHANGELOG.md" "$folder/tree/usr/share/doc/sealift/"
    gzip -9n "$folder"/tree/usr/share/man/man1/*
    rpmbuild -bb --quiet --target "$machine-linux" \
        --define "VERSION $version" --define "TREE $folder/tree" \
        --define "_topdir $folder" --define "_rpmdir $folder" --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
        --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
        --define 'clamp_mtime_to_source_date_epoch 1' \
        "$here/packaging/sealift.spec" >"$folder.log" 2>&1 ||
        { tail -n 20 "$folder.log" >&2 && die "no package for $machine: all of it is in $folder.log"; }
    mv "$folder/sealift-$version-1.$machine.rpm" "$dist/"
}

mkdir -p "$work"
for arch in "${architectures[@]}"; do
    deb_of "$arch"
    rpm_of "$arch"
done
