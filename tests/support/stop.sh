#!/usr/bin/env bash
# stop.sh FOLDER: waits until its stdin closes, then ends everything that was
# started in FOLDER, unmounts all below it and removes it.
#
# A test holds the other end of stdin, so this runs when the test lets go of it,
# panics, or is killed. Only processes that belong to FOLDER are ended: the ones
# noted in FOLDER/pids, their descendants, and engine programs whose root or
# command line lies in it.
set -uo pipefail

folder=$1
cat >/dev/null
# What this says is in a file beside the folder, kept only if it says something.
trap '[ -s "$folder.stop" ] || rm -f "$folder.stop"' EXIT

case $folder in
*/sealift-tests/?*) ;;
*)
    echo "not a folder of the tests: $folder"
    exit 2
    ;;
esac
[ -d "$folder" ] || exit 0
exec 9<"$folder"
flock 9
[ -d "$folder" ] || exit 0

# No program is started to look at a process: there are hundreds, and many tests end at the same time.
alive() { # a process that has ended but was not waited for does not count
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    stat=${stat##*) }
    [ "${stat%% *}" != Z ]
}

# Start time in the noted line guards against a number that was given out again.
noted() {
    local pid started stat
    [ -f "$folder/pids" ] || return 0
    while read -r pid started; do
        stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
        stat=${stat##*) }
        # shellcheck disable=SC2086 # split into fields
        set -- $stat
        [ "${20}" = "$started" ] && alive "$pid" && echo "$pid"
    done <"$folder/pids"
}

engine_programs() {
    local proc pid words
    for proc in /proc/[0-9]*; do
        pid=${proc#/proc/}
        if [ "$proc/root" -ef "$folder/root" ]; then
            alive "$pid" && echo "$pid"
            continue
        fi
        mapfile -d '' -t words <"$proc/cmdline" || continue
        [ ${#words[@]} -gt 0 ] || continue
        case ${words[0]##*/} in
        dockerd | containerd | containerd-shim* | docker-registry | docker-proxy | runc)
            [[ "${words[*]} " == *"$folder/"* ]] && alive "$pid" && echo "$pid"
            ;;
        esac
    done 2>/dev/null
}

with_descendants() {
    local all=("$@") i=0 child
    while [ "$i" -lt ${#all[@]} ]; do
        while read -r child; do
            all+=("$child")
        done < <(cat "/proc/${all[$i]}"/task/*/children 2>/dev/null | tr ' ' '\n' | grep .)
        i=$((i + 1))
    done
    printf '%s\n' "${all[@]}" | sort -un
}

wait_gone() { # TENTHS PID...
    local tenths=$1 pid
    shift
    for pid in "$@"; do
        while alive "$pid"; do
            [ "$tenths" -gt 0 ] || return 1
            sleep 0.1
            tenths=$((tenths - 1))
        done
    done
}

pauses() { # of rootless podmans
    local pid
    pid=$(cat "$folder/data/state/libpod/tmp/pause.pid" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = podman ] && echo "$pid"
}

mapfile -t main < <(noted)
mapfile -t own < <(engine_programs; pauses)
all=()
if [ $((${#main[@]} + ${#own[@]})) -gt 0 ]; then
    mapfile -t all < <(with_descendants "${main[@]}" "${own[@]}")
fi
[ ${#main[@]} -eq 0 ] || kill -TERM "${main[@]}" 2>/dev/null
wait_gone 150 "${main[@]}" || echo "did not end on SIGTERM: ${main[*]}"
mapfile -t own < <(engine_programs; pauses)
for pid in "${own[@]}" "${all[@]}"; do
    if alive "$pid"; then kill -KILL "$pid" 2>/dev/null; fi
done
wait_gone 50 "${own[@]}" "${all[@]}" || echo "did not end on SIGKILL: ${own[*]} ${all[*]}"

points() {
    awk -v p="$folder" '$5 == p || index($5, p "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r
}
for _ in 1 2 3; do
    while read -r point; do
        umount "$point" 2>/dev/null || umount --lazy "$point"
    done < <(points)
done
if [ -n "$(points)" ]; then
    echo "still mounted:"
    points
    exit 1
fi
if [ -n "${SEALIFT_TEST_KEEP:-}" ]; then exit 0; fi
rm -rf --one-file-system "$folder"
