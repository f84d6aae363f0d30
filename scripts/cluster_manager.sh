#!/usr/bin/env bash
# Nodes of a cluster map on this machine, to try out what bbd-kv(7) tells: started, joined, shown, added, removed, killed, stopped.
#
# usage: scripts/cluster_manager.sh [--podman] start-cluster N [PORT]
#                                   [--podman] add-node PORT
#                                   status
#                                   remove-node PORT
#                                   kill-node PORT
#                                   stop-all
#
#   start-cluster  starts what does not run of N nodes (1 to 7) on 127.0.0.1 from PORT on (8080), and makes one cluster of them
#   add-node       starts a node, and lets it be a voter of the cluster; one that was killed comes back
#   status         prints what each node says of itself; ends with 1 unless all run and know who leads
#   remove-node    takes a node out of the cluster, and stops it
#   kill-node      ends a node as a crash does (kill -9); it stays a member
#   stop-all       ends all nodes in good order; what they hold stays, and start-cluster goes on with it
#   --podman       has what is started run in containers, of the image that scripts/Containerfile makes
#
# Data, logs and the numbers of processes are in ./bbd-data, or in BBD_CLUSTER_DIR; a folder belongs to one cluster. The environment's
# BBD names the program to run, otherwise it is the one that cargo built last, or the one in PATH; in containers it must be static, and is
# target/static/bbd without BBD. CONTAINER_ENGINE names another program than podman, such as docker. Neither curl nor jq is needed.
set -euo pipefail
export LC_ALL=C

readonly FIRST_PORT=8080 NODES_MAX=7 IMAGE=localhost/bbd
# How long a node may take to answer, to be a member, to end.
readonly PATIENCE_SECONDS=${BBD_CLUSTER_PATIENCE:-30}
readonly engine=${CONTAINER_ENGINE:-podman}

say() { printf 'cluster: %s\n' "$*" >&2; }
fail() { say "$@" && exit 1; }
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d' >&2 && exit 2; }

# A node is a process or a container; the file PORT.run says which: "process PID" or "container NAME".
run_of() { cat "$folder/$1.run" 2>/dev/null; }

is_running() {
  local kind name
  read -r kind name < <(run_of "$1") || return 1
  case $kind in
  # The number may have gone to another program meanwhile.
  process) tr '\0' '\n' 2>/dev/null <"/proc/$name/cmdline" | grep -qxF -e "--bind-addr=127.0.0.1:$1" ;;
  container) [ "$("$engine" inspect --format '{{.State.Running}}' "$name" 2>/dev/null)" = true ] ;;
  *) return 1 ;;
  esac
}

# The ports of all nodes that were started in the folder and not removed or stopped.
known_ports() { find "$folder" -maxdepth 1 -name '*.run' -printf '%f\n' 2>/dev/null | sed 's/\.run$//' | sort -n; }

bbd() { "$program" "$@" --addr "127.0.0.1:$asked"; }

# What a node says of itself under that name; nothing if it does not answer.
field() { asked=$1 bbd cluster status 2>/dev/null | awk -v name="$2" '$1 == name { print $2 }'; }

last_words() {
  case $(run_of "$1") in
  container*) "$engine" logs --tail 1 "bbd-$1" 2>&1 ;;
  *) tail -n 1 "$folder/$1.log" ;;
  esac
}

# Waits until a command succeeds; says what it waited for if it does not.
await() {
  local what=$1 deadline=$((SECONDS + PATIENCE_SECONDS))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || fail "$what: not within $PATIENCE_SECONDS s; see $folder"
    sleep 0.05
  done
}

# Asks a node for a change until it can be made; what the command ended with otherwise.
insist() {
  local said status deadline=$((SECONDS + PATIENCE_SECONDS))
  while :; do
    status=0
    said=$(bbd "$@" 2>&1 >/dev/null) || status=$?
    if [ "$status" != 5 ] || ((SECONDS >= deadline)); then
      [ "$status" = 0 ] || say "$said"
      return "$status"
    fi
    sleep 0.1
  done
}

make_image() {
  local binary=${BBD:-$root/target/static/bbd} context
  [ -x "$binary" ] || fail "there is no $binary for the image; build it: scripts/build-static"
  # In a folder of its own: all that is beside it would be sent along.
  context=$(mktemp -d)
  cp "$binary" "$context/bbd"
  "$engine" build --quiet --tag "$IMAGE" --file "$root/scripts/Containerfile" "$context" >/dev/null || {
    rm -r "$context"
    fail "$engine cannot build the image"
  }
  rm -r "$context"
}

start_node() {
  local port=$1
  if is_running "$port"; then
    say "$port runs already"
    return
  fi
  started+=("$port")
  mkdir -p "$folder"
  if [ "$in_containers" = yes ]; then
    [ -d "$folder/$port" ] || mkdir -m 0700 "$folder/$port"
    "$engine" rm --force "bbd-$port" >/dev/null 2>&1 || true
    "$engine" run --detach --name "bbd-$port" --network host --volume "$folder/$port:/data" "$IMAGE" \
      --bind-addr="127.0.0.1:$port" --data-dir=/data >/dev/null || fail "$engine cannot run a container"
    echo "container bbd-$port" >"$folder/$port.run"
  else
    # In a session of its own, so that no terminal ends it.
    setsid "$program" --bind-addr="127.0.0.1:$port" --data-dir="$folder/$port" </dev/null >/dev/null 2>>"$folder/$port.log" &
    echo "process $!" >"$folder/$port.run"
    # For a moment it has not become bbd yet.
    await "$port starts" eval "is_running $port || [ ! -d /proc/$! ]"
  fi
}

# Answers, or has ended.
has_answer() { ! is_running "$1" || [ -n "$(field "$1" state)" ]; }

await_node() {
  await "$1 answers" has_answer "$1"
  # Somebody else may have answered at its port.
  if ! is_running "$1"; then
    say "$1 did not start: $(last_words "$1")"
    rm -f "$folder/$1.run"
    exit 1
  fi
  if [[ " ${started[*]} " = *" $1 "* ]]; then say "$1 runs: $(run_of "$1"), data in $folder/$1"; fi
}

# A running node that knows who leads, but the one named; or that one, if there is no other.
find_contact() {
  local port
  for port in $(known_ports | grep -vx "$1") "$1"; do
    if is_running "$port" && [ "$(field "$port" current_leader)" != null ]; then
      asked=$port
      return
    fi
  done
  return 1
}

join_node() {
  insist cluster add "127.0.0.1:$1" || fail "$1 was not added"
}

# Knows itself that it votes, which it hears a little later than it is so.
knows_its_vote() { case $(field "$1" state) in Leader | Follower) ;; *) return 1 ;; esac; }

start_cluster() {
  local count=$1 first=$2 port ports
  ports=$(seq "$first" $((first + count - 1)))
  if [ "$in_containers" = yes ]; then make_image; fi
  for port in $ports; do start_node "$port"; done
  asked=
  for port in $ports; do
    await_node "$port"
    if [ -z "$asked" ] && [ "$(field "$port" cluster)" != null ]; then asked=$port; fi
  done
  if [ -z "$asked" ]; then
    asked=$first
    insist cluster init || fail "$first could not begin a cluster"
  fi
  await 'a leader is there' find_contact "$asked"
  for port in $ports; do
    if [ "$port" != "$asked" ]; then join_node "$port"; fi
  done
  # shellcheck disable=SC2046,SC2086 # The ports are words.
  insist cluster promote $(printf '127.0.0.1:%s\n' $ports) || fail 'not all of them vote'
  for port in $ports; do await "$port votes" knows_its_vote "$port"; done
  say "a cluster of $count; try: curl 127.0.0.1:$first/write -d '{\"Set\":{\"key\":\"k\",\"value\":\"v\"}}'"
}

add_node() {
  if [ "$in_containers" = yes ]; then make_image; fi
  start_node "$1"
  await_node "$1"
  await 'a leader is there' find_contact "$1"
  [ "$asked" != "$1" ] || [ "$(field "$1" cluster)" != null ] || fail "no other node runs; start-cluster comes first"
  join_node "$1"
  insist cluster promote "127.0.0.1:$1" || fail "$1 does not vote"
  await "$1 votes" knows_its_vote "$1"
  say "$1 votes"
}

# Ends a node in good order, whether it still runs or not.
stop_node() {
  local kind name
  read -r kind name < <(run_of "$1")
  if is_running "$1"; then
    case $kind in
    process) kill -TERM "$name" ;;
    container) "$engine" stop --time 10 "$name" >/dev/null ;;
    esac
  fi
}

# Later than it is no program any more: its data folder is in use until its files are closed.
has_ended() {
  local kind name state
  if is_running "$1"; then return 1; fi
  read -r kind name < <(run_of "$1")
  [ "$kind" = process ] || return 0
  state=$(sed -n 's/^State:.\(.\).*/\1/p' "/proc/$name/status" 2>/dev/null) || true
  case $state in
  '' | Z | X) ;;
  # Another program's, if there is one.
  *) [ -n "$(tr -d '\0' 2>/dev/null <"/proc/$name/cmdline")" ] ;;
  esac
}

forget_node() {
  await "$1 ends" has_ended "$1"
  case $(run_of "$1") in container*) "$engine" rm --force "bbd-$1" >/dev/null 2>&1 || true ;; esac
  rm -f "$folder/$1.run"
  say "$1 is stopped"
}

remove_node() {
  local status=0
  await 'a leader is there' find_contact "$1"
  insist cluster remove "127.0.0.1:$1" || status=$?
  # 1 is: no member. It may have been one a moment ago, when the answer was lost with the leader.
  case $status in 0 | 1) ;; *) fail "$1 was not removed" ;; esac
  say "$1 is no member any more; what it held is in $folder/$1"
  if [ -n "$(run_of "$1")" ]; then
    stop_node "$1"
    forget_node "$1"
  fi
  # It may have been the leader.
  await 'another leader is there' find_contact "$1"
}

kill_node() {
  local kind name
  is_running "$1" || fail "$1 does not run"
  read -r kind name < <(run_of "$1")
  case $kind in
  process) kill -KILL "$name" ;;
  container) "$engine" kill --signal KILL "$name" >/dev/null ;;
  esac
  await "$1 ends" has_ended "$1"
  say "killed $1; scripts/cluster_manager.sh add-node $1 brings it back"
}

status() {
  local port all=yes
  printf '%-7s%-11s%-7s%-10s%-9s%s\n' PORT STATE TERM APPLIED REMOVED LEADER
  for port in $(known_ports); do
    if is_running "$port"; then
      asked=$port bbd cluster status 2>/dev/null | awk -v port="$port" '
        { of[$1] = $2 }
        END { printf "%-7s%-11s%-7s%-10s%-9s%s\n", port, of["state"], of["current_term"], of["last_applied"], of["removed"], of["current_leader"] }
        END { exit of["current_leader"] == "" || of["current_leader"] == "null" }' || all=no
    else
      printf '%-7s(does not run)\n' "$port" && all=no
    fi
  done
  [ -n "$(known_ports)" ] && [ "$all" = yes ]
}

stop_all() {
  local port
  for port in $(known_ports); do stop_node "$port"; done
  for port in $(known_ports); do forget_node "$port"; done
}

is_port() { [[ ${1:-} =~ ^[0-9]{1,5}$ ]] && (($1 > 0 && $1 < 65536)); }

started=()
in_containers=no
words=()
for word in "$@"; do
  if [ "$word" = --podman ]; then in_containers=yes; else words+=("$word"); fi
done
root=$(realpath "$(dirname "$0")/..")
folder=$(realpath -m "${BBD_CLUSTER_DIR:-bbd-data}")
asked=
[ "$in_containers" = no ] || command -v "$engine" >/dev/null || fail "there is no $engine; CONTAINER_ENGINE may name another"
program=$("$root/scripts/which-bbd") || exit 1
set -- "${words[@]}"
case ${1:-} in
start-cluster)
  { [ $# -le 3 ] && [[ ${2:-} =~ ^[0-9]$ ]] && (($2 >= 1 && $2 <= NODES_MAX)) && is_port "${3:-$FIRST_PORT}"; } || usage
  start_cluster "$2" "${3:-$FIRST_PORT}"
  ;;
add-node | remove-node | kill-node)
  { [ $# = 2 ] && is_port "$2"; } || usage
  "${1/-/_}" "$2"
  ;;
status | stop-all)
  [ $# = 1 ] || usage
  "${1/-/_}"
  ;;
*) usage ;;
esac
