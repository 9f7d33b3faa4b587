# shellcheck shell=bash
# What the scripts that start a real part (Kafka, a schema registry, a Slack) have in common.
#
# A part is a script that sets `part`, `default_port` and `usage`, and defines
#   part_option OPTION VALUE   an option of its own: sets `shift_by` (1 or 2), or fails
#   part_fetch                 brings what it needs into $cache, once
#   part_prepare               writes what it needs into $dir and sets `command` (an array; an argument names $dir)
#   part_ready                 true once the part answers
#   part_addresses             its addresses, one a line
# and then calls `part_main "$@"`.
#
# A part keeps everything in its DIR: pid, ports, log and data. It listens on 127.0.0.1 only, and is stopped by its own
# pid, after a look that the pid is still this part. Addresses go to stdout, messages to stderr.

part=""
default_port=""
usage=""
command=()
cache="${LEADLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/leadlane}"

say() { echo "$part: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

# need COMMAND PACKAGE...: fails with the cure where the command is missing.
need() {
    command -v "$1" >/dev/null || fail "$1 is missing: install it, for instance with \`apt-get install ${*:2}\`"
}

need_java() {
    need java openjdk-17-jre-headless maven
    need mvn openjdk-17-jre-headless maven
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] ||
        fail "java ${version:-of an unknown version} is too old: install 17 or newer, for instance with" \
            "\`apt-get install openjdk-17-jre-headless\`"
}

# need_node MAJOR: Node of at least that version, and npm.
need_node() {
    need node nodejs npm
    need npm nodejs npm
    local major
    major=$(node -p 'process.versions.node.split(".")[0]')
    [ "$major" -ge "$1" ] || fail "node $major is too old: install $1 or newer, as https://nodejs.org says"
}

# fetch_once NAME COMMAND...: runs COMMAND with a new folder as its last argument and keeps that as $cache/NAME.
# The folder gets its name when it is complete, so neither a broken fetch nor two at once leave half of one behind.
fetch_once() {
    local name=$1 fresh
    [ -d "$cache/$name" ] && return
    mkdir -p "$cache"
    fresh=$(mktemp -d "$cache/$name.XXXXXX")
    say "fetching $name into $cache (once)"
    if ! "${@:2}" "$fresh" >&2; then
        rm -rf "$fresh"
        fail "could not fetch $name: see the messages above; is the network there?"
    fi
    if [ -d "$cache/$name" ]; then rm -rf "$fresh"; else mv "$fresh" "$cache/$name"; fi
}

port_taken() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port: one that nobody listens on, below the range that outgoing connections take theirs from.
free_port() {
    local port
    while :; do
        port=$((10000 + RANDOM % 22000))
        port_taken "$port" || break
    done
    echo "$port"
}

# remembered NAME: the port of that name that $dir was started with before, if any.
remembered() { sed -n "s/^$1=//p" "$dir/ports" 2>/dev/null || true; }

# running: sets `pid`; true while the part of this DIR is alive.
running() {
    pid=$(cat "$dir/pid" 2>/dev/null) || return 1
    ps -ww -o args= -p "$pid" 2>/dev/null | grep -qF -- "$dir/"
}

wait_until_ready() {
    local deadline=$((SECONDS + 90))
    until part_ready; do
        if ! kill -0 "$pid" 2>/dev/null; then
            rm -f "$dir/pid"
            tail -n 20 "$dir/log" >&2
            fail "it ended while it started; the log above is $dir/log"
        fi
        [ "$SECONDS" -lt "$deadline" ] || fail "it does not answer after 90 seconds; see $dir/log, then stop it"
        sleep 0.1
    done
}

# choose_port: the one asked for; else the one from before; else any free one for 0, the usual one for none.
choose_port() {
    case $port in
    "") port=$(remembered client | grep . || echo "$default_port") ;;
    0) port=$(remembered client | grep . || free_port) ;;
    esac
}

part_start() {
    if running; then
        say "is running already, pid $pid"
        part_addresses
        return
    fi
    part_fetch
    mkdir -p "$dir"
    choose_port
    if port_taken "$port"; then fail "port $port is taken: give another with --port N, or --port 0 for any free one"; fi
    part_prepare
    [ ! -f "$dir/log" ] || mv "$dir/log" "$dir/log.before"
    (cd "$dir" && exec nohup "${command[@]}" >log 2>&1 </dev/null) &
    pid=$!
    echo "$pid" >"$dir/pid"
    wait_until_ready
    say "is running, pid $pid, everything of it in $dir"
    part_addresses
}

# ports_held: true while somebody listens at a port of this DIR, its proxy's aside.
ports_held() {
    local held
    for held in $(sed -n '/^proxied=/d; s/^[a-z]*=//p' "$dir/ports" 2>/dev/null); do
        if port_taken "$held"; then return 0; fi
    done
    return 1
}

# part_end SIGNAL: sends it and waits until the part is gone, its ports with it: a process that was killed is nameless to
# ps while its last threads still end, and until then its ports are held.
part_end() {
    if ! running; then
        rm -f "$dir/pid"
        say "is not running"
        return
    fi
    local deadline=$((SECONDS + 30))
    kill "-$1" "$pid"
    while running; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            say "does not end by itself, killing pid $pid"
            kill -KILL "$pid"
            deadline=$((SECONDS + 30))
        fi
        sleep 0.1
    done
    rm -f "$dir/pid"
    while ports_held; do
        [ "$SECONDS" -lt "$deadline" ] || fail "pid $pid is gone, but a port in $dir/ports is still held"
        sleep 0.1
    done
    say "is stopped"
}

part_status() {
    running || fail "is not running ($dir)"
    part_addresses
    say "is running, pid $pid, everything of it in $dir"
}

part_main() {
    local verb=${1:-}
    dir=$cache/run/$part
    port=""
    case " $* " in
    *" --help "* | *" -h "*)
        echo "$usage"
        exit 0
        ;;
    esac
    case $verb in
    start | stop | kill | status) shift ;;
    *)
        echo "$usage" >&2
        exit 2
        ;;
    esac
    while [ $# -gt 0 ]; do
        shift_by=2
        case $1 in
        --dir) dir=${2:-} ;;
        --port) port=${2:-} ;;
        *) part_option "$1" "${2:-}" ;;
        esac
        shift "$shift_by" 2>/dev/null || fail "$1 takes a value"
    done
    dir=${dir%/}
    case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
    case $port in *[!0-9]*) fail "--port takes a number, not \"$port\"" ;; esac
    case $verb in
    start) part_start ;;
    stop) part_end TERM ;;
    kill) part_end KILL ;;
    status) part_status ;;
    esac
}

unknown_option() {
    echo "$part: unknown option $1" >&2
    echo "$usage" >&2
    exit 2
}
