#!/bin/sh
# Stop what host.sh started and take away what start.sh made: examples/ssh/stop.sh FOLDER PORT ACCOUNT
set -u
if [ -f "$1/pids" ]; then
    while read -r pid; do kill -KILL "$pid" 2>/dev/null; done <"$1/pids"
fi
pkill -KILL -u "$3" 2>/dev/null
userdel "$3"
rm -rf "/run/jitaccess-example-$2"
