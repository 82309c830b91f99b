#!/bin/bash
# Keep one worker joined to the server of a case, wherever the server's job runs, until it is done.
#     join.sh KEY COMMAND...      e.g. join.sh gpu mixserver-worker mace si.model --role expensive
# Reads CASE (the shared folder), PORT (of workers.door; 5555), KEYS (default $CASE/keys) and STAY_S:
# so long a worker whose server has ended waits, its model loaded, for the next one on that node.
set -euo pipefail
: "${CASE:?give the folder of the case}"
: "${PORT:=5555}"
: "${KEYS:=$CASE/keys}"
: "${STAY_S:=600}"
key="$1"
shift
locked=()
if [ -e "$KEYS/server.pub" ]; then
    locked=(--key "$KEYS/$key.key" --server-key "$KEYS/server.pub")
fi
elsewhere() { # whether waiting for a server at $host is of no use
    [ -e "$CASE/server.done" ] || { [ -s "$CASE/server.host" ] && [ "$(< "$CASE/server.host")" != "$host" ]; }
}
worker=
trap 'if [ -n "$worker" ]; then kill -TERM "$worker" 2> /dev/null; fi; stopped=yes' TERM
stopped=
while [ -z "$stopped" ] && [ ! -e "$CASE/server.done" ]; do
    if [ ! -s "$CASE/server.host" ]; then     # it is queued, or about to start
        sleep 5 & wait $! || true
        continue
    fi
    host=$(< "$CASE/server.host")
    "$@" --server "tcp://$host:$PORT" "${locked[@]}" --wait-s 600 --stay-s "$STAY_S" &
    worker=$!
    left=
    while kill -0 "$worker" 2> /dev/null; do  # after a signal, the worker finishes its job
        if [ -z "$left$stopped" ] && elsewhere; then
            left=yes
            kill -TERM "$worker" 2> /dev/null || true
        fi
        sleep 2 & wait $! || true
    done
    status=0
    wait "$worker" || status=$?
    worker=
    # an error at a server that is still there is one of the worker: do not try for ever
    if [ "$status" -ne 0 ] && [ -z "$left" ] && [ -s "$CASE/server.host" ] && [ "$(< "$CASE/server.host")" = "$host" ]; then
        exit "$status"
    fi
    sleep 2 & wait $! || true                 # the server's job removes its address, or is done
done
