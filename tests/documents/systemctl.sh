#!/usr/bin/env bash
# Stands in for systemctl where no systemd runs: starts and stops the command line of a unit. It stands in for journalctl
# as well. Below $GUIDE_RUN are the process and the log of each unit.
set -eu

units=$GUIDE_ROOT/packaging/debian
words=()
for word; do
    case $word in -*) ;; *) words+=("$word") ;; esac
done

if [ "$(basename "$0")" = journalctl ]; then
    while [ "$1" != -u ]; do shift; done
    exec cat "$GUIDE_RUN/$2.log"
fi

action=${words[0]} unit=${words[1]}
log=$GUIDE_RUN/$unit.log pid=$GUIDE_RUN/$unit.pid

stop() {
    [ -f "$pid" ] || return 0
    kill -TERM "$(cat "$pid")"
    while kill -0 "$(cat "$pid")" 2> /dev/null; do sleep 0.05; done
    rm "$pid"
}

# What the program prints when it is ready, or connected.
readies() { grep -c '^ready: \|^connected to ' "$log" || true; }

start() {
    # The package's file has the package's name in front. What is behind the @ is the instance.
    local name=${unit/@*/@} instance=${unit#*@} command before
    command=$(sed -n 's,^ExecStart=/usr/bin/,,p' "$units/cellframe-vpn.$name.service")
    touch "$log"
    before=$(readies)
    # shellcheck disable=SC2086 # The words of the unit's command line.
    setsid ${command//%i/$instance} >> "$log" 2>&1 < /dev/null &
    echo $! > "$pid"
    until [ "$(readies)" -gt "$before" ]; do
        kill -0 "$(cat "$pid")" || { cat "$log" >&2; exit 1; }
        sleep 0.05
    done
}

case $action in
    enable | start) start ;;
    disable | stop) stop ;;
    restart) stop && start ;;
    *) echo "systemctl $action is not stood in for" >&2; exit 1 ;;
esac
