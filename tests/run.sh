#!/usr/bin/env bash
# Runs all tests. Those on engines wait half of the time: the others run beside them.
#
#   tests/run.sh [OPTION...]     options of `cargo test`, such as --features test-all
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cores=$(nproc)
log=target/test-engines.log
test=(cargo test --locked --no-fail-fast "$@")

"${test[@]}" --no-run

engines=
# They are a group of their own: Ctrl-C does not reach what runs in the background, and cargo passes no signal on.
trap '[ -z "$engines" ] || kill -- "-$engines" 2>/dev/null; exit 130' INT TERM
echo "The tests on engines run beside the others; what they print follows, and is in $log."
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((3 * cores))} setsid "${test[@]}" --test engines >"$log" 2>&1 &
engines=$!

others=(--lib --bins)
for path in tests/*.rs tests/*/main.rs; do
    name=${path#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    [ "$name" = engines ] || others+=(--test "$name")
done
failed=0
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$cores} "${test[@]}" "${others[@]}" || failed=$?
"${test[@]}" --doc || failed=$?
wait "$engines" || failed=$?
engines=
cat "$log"
exit "$failed"
