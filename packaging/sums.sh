#!/usr/bin/env bash
# Writes the checksums of the files in target/dist.
set -euo pipefail
# shellcheck source=packaging/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$dist"
sha256sum -- sealift* >SHA256SUMS
