# Functions for scripts that start programs in the background, and a Docker of their own in the folder $work.
# For bash, to be sourced after tests/debian.sh. Who starts something calls stop_pids when it exits.
# shellcheck shell=bash disable=SC2154

pids=()
start() { # NAME COMMAND...: in the background, what it says in NAME.log
    setsid "${@:2}" >"$work/$1.log" 2>&1 </dev/null &
    pids+=($!)
}
# Waits until a command succeeds. Prints its error if it never does, or the program's log if that ended.
await() { # NAME COMMAND...: NAME was started last
    local pid=$! said
    for _ in $(seq 300); do
        if said=$("${@:2}" 2>&1 >/dev/null); then return; fi
        if ! kill -0 "$pid" 2>/dev/null; then
            tail -n 20 "$work/$1.log" >&2
            die "$1 ended"
        fi
        sleep 0.1
    done
    die "$1 runs and does not answer: ${said:-${*:2}}"
}

stop_pids() {
    local pid tenths
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        tenths=150
        while kill -0 "$pid" 2>/dev/null && [ "$tenths" -gt 0 ]; do
            sleep 0.1
            tenths=$((tenths - 1))
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
}

# Starts a Docker in $work, and sets DOCKER_HOST to its socket. Needs root, and the package docker.io.
start_docker() {
    local dockerd=/usr/sbin/dockerd own_containerd=()
    [ -x "$dockerd" ] || dockerd=$(command -v dockerd)
    # shellcheck disable=SC2317
    [ ! -x /usr/bin/docker ] || docker() { /usr/bin/docker "$@"; }
    mkdir "$work/docker"
    echo '{}' >"$work/docker/daemon.json"
    export DOCKER_HOST=unix://$work/docker/docker.sock
    if [ -e /run/containerd/containerd.sock ]; then # dockerd would join it and leave things there
        own_containerd=(--containerd "$work/docker/containerd.sock")
        start containerd containerd --address "$work/docker/containerd.sock" --root "$work/docker/containerd" \
            --state "$work/docker/containerd-run"
        await containerd [ -S "$work/docker/containerd.sock" ]
    fi
    start dockerd "$dockerd" --config-file "$work/docker/daemon.json" --data-root "$work/docker/root" \
        --exec-root "$work/docker/exec" --pidfile "$work/docker/pid" -H "$DOCKER_HOST" \
        --bridge none --iptables=false --ip6tables=false "${own_containerd[@]}"
    await dockerd docker info
}
