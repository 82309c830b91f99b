#!/usr/bin/env bash
# Checks what is in docker/: without an engine its files, with one real images and a real run.
#
#   docker/check.sh --lint       only the files: no engine, seconds
#   docker/check.sh              also builds, runs silicon, kills parts of it, compares; prints
#                                sizes and times. Needs docker compose and an installed .venv
#
# Options: --steps N           MD steps of the run (200)
#          --wheels FOLDER     Python wheels to prefer, such as torch for CPUs
#          --no-build          the images are there already
#          --keep              leave the work folder and print its name
# Variables of compose.yaml and of the Dockerfiles apply: PYTHON_IMAGE, TORCH_INDEX.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lint_only=0 steps=200 wheels='' build=1 keep=0
while [ $# -gt 0 ]; do
  case $1 in
    --lint) lint_only=1 ;;
    --steps) steps=${2:?--steps needs a number} && shift ;;
    --wheels) wheels=$(realpath "${2:?--wheels needs a folder}") && shift ;;
    --no-build) build=0 ;;
    --keep) keep=1 ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2 && exit 2 ;;
  esac
  shift
done

bin=$PWD/.venv/bin
say() { printf '%s\n' "$*"; }
fail() { printf 'docker/check.sh: %s\n' "$*" >&2; exit 1; }

# --- the files -----------------------------------------------------------------------------------
tool() { # the name of a tool in .venv or on the PATH
  if [ -x "$bin/$1" ]; then echo "$bin/$1"; else command -v "$1"; fi ||
    fail "$1 is missing: make lint installs it into .venv (pip install -e '.[lint]')"
}

config() { # what a combination of compose files means, as JSON; no engine is asked
  local arguments=()
  for file in "$@"; do
    case $file in --profile=*) arguments+=("$file") ;; *) arguments+=(-f "docker/$file") ;; esac
  done
  DOCKER_HOST=unix:///nowhere "$(tool docker-compose)" "${arguments[@]}" config --format json
}

lint() {
  local hadolint shellcheck
  hadolint=$(tool hadolint) shellcheck=$(tool shellcheck)
  "$hadolint" --config docker/hadolint.yaml docker/Dockerfile docker/*.Dockerfile
  "$shellcheck" docker/*.sh
  local combination
  for combination in "${combinations[@]}"; do
    # shellcheck disable=SC2086 # a list of words
    config $combination >"$work/config.json" || fail "compose refuses: $combination"
    "$python" docker/check_compose.py <"$work/config.json" || fail "in $combination"
  done
  say "files: hadolint, shellcheck, ${#combinations[@]} combinations of compose files: no fault"
}

combinations=(
  "compose.yaml"
  "compose.yaml compose.gpu.yaml"
  "compose.remote.yaml --profile=server"
  "compose.remote.yaml --profile=cheap --profile=expensive"
  "compose.remote.yaml compose.gpu.yaml --profile=cheap --profile=expensive"
)

work=$(mktemp -d)
python=$(tool python3)
started=0 halves=0
cleanup() { # on every way out
  if [ "$started" = 1 ]; then compose down --volumes --timeout 5 >/dev/null 2>&1 || true; fi
  if [ "$halves" = 1 ]; then
    half there --profile cheap --profile expensive down --timeout 5 >/dev/null 2>&1 || true
    half here --profile server down --timeout 5 >/dev/null 2>&1 || true
  fi
  if [ "$keep" = 1 ]; then say "kept: $work"; else rm -rf "$work"; fi
}
trap cleanup EXIT
lint
[ "$lint_only" = 0 ] || exit 0

# --- the engine ----------------------------------------------------------------------------------
if ! docker version >/dev/null 2>&1; then
  say "skipped: no engine answers, so no image was built and nothing was run"
  exit 0
fi
[ -x "$bin/mixserver" ] || fail "the run outside of containers needs .venv: make test installs it"
docker compose version >/dev/null || fail "docker compose (version 2) is missing"

MIXSERVER_UID=$(id -u) MIXSERVER_GID=$(id -g)
# As root: another user, to see whose the results are
if [ "$MIXSERVER_UID" = 0 ]; then MIXSERVER_UID=12345 MIXSERVER_GID=12345; fi
export MIXSERVER_UID MIXSERVER_GID
export MIXSERVER_SERVER_IMAGE=mixserver-check-server MIXSERVER_LAMMPS_IMAGE=mixserver-check-lammps \
  MIXSERVER_MACE_IMAGE=mixserver-check-mace
export MIXSERVER_INPUTS=$work/inputs MIXSERVER_RUNS=$work/runs
export COMPOSE_PROJECT_NAME=mixserver-check-$$ MIXSERVER_STAY_S=20
compose() { docker compose --progress quiet -f docker/compose.yaml "$@"; }
image() { # image TARGET NAME LARGEST_MB: build it, print its size and the time
  local begun=$SECONDS size
  if [ "$build" = 1 ]; then
    docker build --quiet -f docker/Dockerfile --target "$1" -t "$2" \
      --build-arg PYTHON_IMAGE="${PYTHON_IMAGE:-python:3.11-slim-bookworm}" \
      --build-arg TORCH_INDEX="${TORCH_INDEX:-}" \
      ${wheels:+--build-context wheels="$wheels"} . >/dev/null
  fi
  size=$(docker image inspect --format '{{.Size}}' "$2")
  if [ "$build" = 1 ]; then
    say "image $1: $((size / 1000000)) MB, built in $((SECONDS - begun)) s"
  else
    say "image $1: $((size / 1000000)) MB"
  fi
  [ $((size / 1000000)) -lt "$3" ] || fail "image $1 is larger than $3 MB"
}
image server "$MIXSERVER_SERVER_IMAGE" 700
image lammps "$MIXSERVER_LAMMPS_IMAGE" 900
image mace "$MIXSERVER_MACE_IMAGE" 15000
cuda=$(docker run --rm --entrypoint python "$MIXSERVER_MACE_IMAGE" -c \
  'import torch; print(torch.version.cuda or "")')
size=$(docker image inspect --format '{{.Size}}' "$MIXSERVER_MACE_IMAGE")
if [ -z "$cuda" ] && [ "$size" -ge 1800000000 ]; then
  fail "image mace, for processors, is larger than 1800 MB"
fi
[ -z "$cuda" ] || say "its torch is a build for CUDA $cuda; TORCH_INDEX or --wheels can give a smaller one"

# --- the same run outside of containers ----------------------------------------------------------
mkdir -p "$work/inputs" "$work/runs"
cp -r inputs/silicon_vacancy inputs/silicon_distill "$work/inputs/"
rm -rf "$work"/inputs/*/runs
# forces too, so many steps, and a checkpoint early enough for the crash of the server below
sed -i "s#<checkpoint stride='100'#<trajectory filename='frc' stride='10'> forces </trajectory>\n    <checkpoint stride='$((steps / 4))'#
        s#<total_steps>.*</total_steps>#<total_steps> $steps </total_steps>#" \
  "$work/inputs/silicon_vacancy/input.xml"
begun=$SECONDS
"$bin/mixserver" run "$work/inputs/silicon_vacancy" --runs "$work/outside" --quiet
say "outside of containers: $steps steps in $((SECONDS - begun)) s"

# --- in containers, with parts killed ------------------------------------------------------------
[ "$(id -u)" != 0 ] || chown -R "$MIXSERVER_UID:$MIXSERVER_GID" "$work/runs"
chmod 755 "$work"

container() { compose ps --all --quiet "$1" | sed -n "${2:-1}p"; }
state() { docker inspect --format "{{.State.$2}}" "$1"; }
evaluations() { cat "$work"/runs/0*/mixserver.jsonl 2>/dev/null | wc -l; }
await() { # await SECONDS WHAT CONDITION...: until it is true
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if [ "$SECONDS" -gt "$limit" ]; then
      compose ps --all
      compose logs --tail 20
      fail "waited in vain until $what"
    fi
    sleep 0.5
  done
}
answered() { [ "$(evaluations)" -ge "$1" ]; }
healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" = healthy ]; }
restarted() { [ "$(docker inspect --format '{{.RestartCount}}' "$1")" -ge 1 ] && [ "$(state "$1" Running)" = true ]; }
ended() { [ "$(state "$1" Status)" = exited ]; }
kill_inside() { # SIGKILL what the container runs; `docker kill` would count as stopped by hand
  docker exec "$1" python -c '
import os, signal
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) > 1 and int(name) != os.getpid():
        if open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[1] == "1":
            os.kill(int(name), signal.SIGKILL)' || true
}

begun=$SECONDS started=1
compose up --detach --no-build --scale expensive=2 2>/dev/null
server=$(container server)
await 600 "the run has begun" answered 1
say "in containers: the first answer after $((SECONDS - begun)) s"
await 120 "the health check passes" healthy "$server"

await 1200 "a quarter is done" answered $((steps / 4))
crashed=$(container expensive 1) lost=$(container expensive 2)
kill_inside "$crashed"
await 120 "the crashed worker is started again" restarted "$crashed"
say "a worker's process was killed after $(evaluations) evaluations: its container was started again"
at=$(evaluations)
await 600 "the run goes on after a worker crashed" answered $((at + 5))
docker kill "$lost" >/dev/null
at=$(evaluations)
await 600 "the run goes on after a worker's container was lost" answered $((at + 5))
[ "$(state "$lost" Running)" = false ] || fail "docker kill left a worker running"
say "a worker's container was killed for good after $at evaluations: the run goes on"

await 1200 "a checkpoint is written" answered $((steps * 6 / 10))
kill_inside "$server"
await 120 "the killed server is started again" restarted "$server"
say "the server and i-PI were killed after $(evaluations) evaluations: started again"
await 1800 "the run ends" ended "$server"
code=$(state "$server" ExitCode)
[ "$code" = 0 ] || fail "the server ended with status $code: $(docker logs --tail 20 "$server" 2>&1)"
say "in containers: $steps steps, $(evaluations) evaluations, in $((SECONDS - begun)) s"
for worker in "$(container cheap)" "$crashed"; do
  await 300 "the workers end after the run" ended "$worker"
  code=$(state "$worker" ExitCode)
  [ "$code" = 0 ] || fail "a worker ended with status $code: $(docker logs --tail 20 "$worker" 2>&1)"
done
sleep 2
ended "$server" || fail "a finished run was started again"

foreign=$(find "$work/runs" ! -user "$MIXSERVER_UID" | head -3)
[ -z "$foreign" ] || fail "results that do not belong to the user $MIXSERVER_UID: $foreign"
say "the results belong to the user $MIXSERVER_UID"
"$python" docker/compare.py "$work/outside/latest" "$work"/runs/0*/ ||
  fail "the run in containers differs from the one outside"
# --- two halves, with keys -----------------------------------------------------------------------
compose down --volumes --timeout 10 >/dev/null 2>&1
MIXSERVER_KEYS=$work/keys MIXSERVER_RUNS=$work/remote
MIXSERVER_BIND=$(docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}')
MIXSERVER_PORT=$("$python" -c 'import socket as s; d = s.socket(); d.bind(("", 0)); print(d.getsockname()[1])')
MIXSERVER_HOST=$MIXSERVER_BIND
MIXSERVER_KEY=$MIXSERVER_KEYS/there.key MIXSERVER_SERVER_KEY=$MIXSERVER_KEYS/server.pub
export MIXSERVER_KEYS MIXSERVER_RUNS MIXSERVER_BIND MIXSERVER_PORT MIXSERVER_HOST \
  MIXSERVER_KEY MIXSERVER_SERVER_KEY
mkdir "$MIXSERVER_RUNS"
for name in there stranger; do "$bin/mixserver" keys new "$name" --keys "$MIXSERVER_KEYS" >/dev/null; done
"$bin/mixserver" keys revoke stranger --keys "$MIXSERVER_KEYS" >/dev/null
[ "$(id -u)" != 0 ] || chown -R "$MIXSERVER_UID:$MIXSERVER_GID" "$MIXSERVER_KEYS" "$MIXSERVER_RUNS"
sed -i "s#<total_steps>.*</total_steps>#<total_steps> 20 </total_steps>#" \
  "$work/inputs/silicon_vacancy/input.xml"

half() { # half NAME ARGUMENTS...: compose for one of the two machines
  local name=$1
  shift
  docker compose --progress quiet -p "$COMPOSE_PROJECT_NAME-$name" -f docker/compose.remote.yaml "$@"
}
begun=$SECONDS halves=1
half here --profile server up --detach --no-build 2>/dev/null
half there --profile cheap --profile expensive up --detach --no-build 2>/dev/null
server=$(half here ps --all --quiet server)
evaluations() { cat "$work"/remote/0*/mixserver.jsonl 2>/dev/null | wc -l; }
# a worker whose key was revoked, and one without a key, at the same door
refused() { # refused WHAT ARGUMENTS...
  local what=$1
  shift
  if docker run --rm --user "$MIXSERVER_UID" -v "$MIXSERVER_KEYS:/keys:ro" "$@" \
    "$MIXSERVER_LAMMPS_IMAGE" toy --wait-s 8 --server "tcp://$MIXSERVER_HOST:$MIXSERVER_PORT" \
    >"$work/refused" 2>&1; then
    fail "$what was let in: $(cat "$work/refused")"
  fi
  say "two halves: $what stays outside: $(tail -1 "$work/refused" | cut -c1-120)"
}
await 600 "the run in two halves has begun" answered 1
refused "a worker without a key"
refused "a worker with a revoked key" -e MIXSERVER_KEY_FILE=/keys/stranger.key \
  -e MIXSERVER_SERVER_KEY_FILE=/keys/server.pub
await 1200 "the run in two halves ends" ended "$server"
code=$(state "$server" ExitCode)
[ "$code" = 0 ] || fail "the server ended with status $code: $(docker logs --tail 20 "$server" 2>&1)"
"$python" docker/compare.py "$work/outside/latest" --steps 20 "$work/remote/0001" ||
  fail "the run in two halves differs from the one outside"
say "two halves: 20 steps in $((SECONDS - begun)) s"
say "passed"
