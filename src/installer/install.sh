#!/bin/sh
# Verifies an archive and loads its images into the container engine of this host.
# Written by sealift @VERSION@. Needs sh and the engine, nothing else.
set -u

archive=@ARCHIVE@
digest=@DIGEST@
# Machines and the SHA-256 of their executables.
executables='@EXECUTABLES@'

usage() {
    printf '%s\n' \
        'Usage: sh install.sh [OPTION...]' \
        '' \
        "Verifies $archive" \
        'and loads its images into the container engine of this host.' \
        'A host that has them gets nothing anew.' \
        '' \
        'Options are those of sealift load, for example --dry-run. Environment variables stand for some of them:' \
        '  SEALIFT_TO=ENGINE       --to: docker, containerd, podman, registry://HOST, ...' \
        '  SEALIFT_NAMESPACE=NAME  --namespace of containerd, for example k8s.io' \
        '  SEALIFT_IMAGES=LIST     --image for each of these images, separated by spaces' \
        '  SEALIFT_ALLOWED_SIGNERS=FILE  --allowed-signers: who must have signed the archive' \
        '  SEALIFT_OPTIONS=LIST    further options, separated by spaces' \
        '  TMPDIR=FOLDER           where sealift is copied if it cannot run from here' \
        '' \
        'The exit codes are those of sealift load: 0 done, 1 wrong content, 2 usage, 3 local I/O, 4 registry,' \
        '5 engine, 6 some digest is not shown or not proven, 7 not found.'
}

fail() { # EXIT MESSAGE
    printf 'install.sh: error: %s\n' "$2" >&2
    exit "$1"
}

# The executable must be the one that was written with this script. Without sha256sum it is not checked; the archive is.
check() { # FILE DIGEST
    command -v sha256sum >/dev/null 2>&1 || return 0
    # Read from standard input, its name is not printed.
    case $(sha256sum <"$1") in
    "$2 "*) ;;
    *) fail 1 "$1 is damaged, or is another file: sha256sum -c SHA256SUMS checks all files" ;;
    esac
}

# Whether it runs; if not, $why says why.
runs() { # FILE
    why=$("$1" --version 2>&1 >/dev/null)
}

# A stick may be mounted so that nothing on it can be run. The copy has no name when it runs, so nothing is left of it.
run_from_copy() { # FILE
    for parent in "${TMPDIR:-/tmp}" /var/tmp /run "${HOME:-/}"; do
        folder=$(mktemp -d "$parent/.sealift.XXXXXX" 2>/dev/null) || continue
        trap 'rm -rf "$folder"; exit 129' HUP
        trap 'rm -rf "$folder"; exit 130' INT
        trap 'rm -rf "$folder"; exit 143' TERM
        if cp "$1" "$folder/sealift" 2>/dev/null && chmod 700 "$folder/sealift" && exec 9<"$folder/sealift"; then
            rm -rf "$folder"
            tool=/proc/self/fd/9
            ! runs "$tool" || return 0
            exec 9<&-
        fi
        rm -rf "$folder"
    done
    return 1
}

case ${1-} in
-h | --help)
    usage
    exit
    ;;
esac

case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
# A folder that begins with a dash is not an option.
case $here in
-*) here=./$here ;;
esac
[ -f "$here/$archive" ] || fail 3 "$here/$archive is not there: install.sh belongs beside it"

case $(uname -m 2>/dev/null) in
x86_64) native=amd64 ;;
aarch64) native=arm64 ;;
*) native= ;; # not known: what runs will do
esac
tool=
found=
why=
machines=
for executable in $executables; do
    machine=${executable%%:*}
    machines="$machines $machine"
    [ "$machine" = "${native:-$machine}" ] || continue
    file=$here/sealift-linux-$machine
    [ -f "$file" ] || fail 3 "$file is not there: install.sh belongs beside it"
    check "$file" "${executable#*:}"
    found=$file
    tool=$file
    if runs "$tool" || run_from_copy "$file"; then
        break
    fi
    tool=
done
if [ -z "$tool" ]; then
    [ -z "$found" ] || fail 3 "$found does not run here, nor does a copy in \$TMPDIR: $why"
    fail 3 "this machine is $(uname -m), and sealift is there for:$machines"
fi

set -f
[ -z "${SEALIFT_TO-}" ] || set -- --to "$SEALIFT_TO" "$@"
[ -z "${SEALIFT_NAMESPACE-}" ] || set -- --namespace "$SEALIFT_NAMESPACE" "$@"
[ -z "${SEALIFT_ALLOWED_SIGNERS-}" ] || set -- --allowed-signers "$SEALIFT_ALLOWED_SIGNERS" "$@"
for image in ${SEALIFT_IMAGES-}; do
    set -- --image "$image" "$@"
done
# shellcheck disable=SC2086 # its words are options
set -- ${SEALIFT_OPTIONS-} "$@"
exec "$tool" load "$here/$archive" --expect "$digest" "$@"
