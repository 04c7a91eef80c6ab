#!/usr/bin/env bash
# Builds the release of the last commit again, in another folder and with another CARGO_HOME, and compares every file
# with target/dist.
set -euo pipefail
# shellcheck source=packaging/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -e "$dist/SHA256SUMS" ] || die 'there is no release to compare: make dist makes one'
again=$target/dist-again/in-another-folder
trap 'rm -rf "$target/dist-again"' EXIT
rm -rf "$target/dist-again"
git clone --quiet --no-hardlinks "$here" "$again/sealift"
mkdir -p "$again/sealift/target" "$again/cargo"
ln -s "$tools" "$again/sealift/target/tools"
cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$again/cargo/"
cp "${CARGO_HOME:-$HOME/.cargo}/config.toml" "$again/cargo/" 2>/dev/null || true
env -u CARGO_TARGET_DIR CARGO_HOME="$again/cargo" make --directory "$again/sealift" dist
diff --recursive --brief "$dist" "$again/sealift/target/dist"
say "$(grep -c . "$dist/SHA256SUMS") files are byte for byte the same"
