#!/bin/bash
# Keep one worker joined to the server of a case, wherever the server's job runs, until it is done.
#     join.sh KEY COMMAND...      e.g. join.sh gpu mixserver-worker mace si.model --role expensive
# Reads CASE (the shared folder), PORT (of workers.door; 5555) and KEYS (default $CASE/keys).
set -euo pipefail
: "${CASE:?give the folder of the case}"
: "${PORT:=5555}"
: "${KEYS:=$CASE/keys}"
key="$1"
shift
locked=()
if [ -e "$KEYS/server.pub" ]; then
    locked=(--key "$KEYS/$key.key" --server-key "$KEYS/server.pub")
fi
worker=
trap 'if [ -n "$worker" ]; then kill -TERM "$worker" 2> /dev/null; fi; stopped=yes' TERM
stopped=
while [ -z "$stopped" ] && [ ! -e "$CASE/server.done" ]; do
    if [ ! -s "$CASE/server.host" ]; then     # it is queued, or about to start
        sleep 5 & wait $! || true
        continue
    fi
    host=$(< "$CASE/server.host")
    "$@" --server "tcp://$host:$PORT" "${locked[@]}" --wait-s 600 &
    worker=$!
    status=0
    while kill -0 "$worker" 2> /dev/null; do  # a signal ends the wait; the worker finishes its job
        status=0
        wait "$worker" || status=$?
    done
    worker=
    # an error at a server that is still there is one of the worker: do not try for ever
    if [ "$status" -ne 0 ] && [ -s "$CASE/server.host" ] && [ "$(< "$CASE/server.host")" = "$host" ]; then
        exit "$status"
    fi
    sleep 2 & wait $! || true                 # the server's job removes its address, or is done
done
