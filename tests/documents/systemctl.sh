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

start() {
    # The package's file has the package's name in front.
    local file=$units/cellframe-vpn.$unit.service command="cellframe-vpn ${unit#cellframe-vpn-}" before=0
    [ ! -f "$file" ] || command=$(sed -n 's/^ExecStart=//p' "$file" | sed 's,^/usr/bin/,,')
    [ ! -f "$log" ] || before=$(grep -c '^ready: ' "$log" || true)
    # shellcheck disable=SC2086 # The words of the unit's command line.
    setsid $command >> "$log" 2>&1 < /dev/null &
    echo $! > "$pid"
    until [ "$(grep -c '^ready: ' "$log" || true)" -gt "$before" ]; do
        kill -0 "$(cat "$pid")" || { cat "$log" >&2; exit 1; }
        sleep 0.05
    done
}

case $action in
    enable | start) start ;;
    stop) stop ;;
    restart) stop && start ;;
    *) echo "systemctl $action is not stood in for" >&2; exit 1 ;;
esac
