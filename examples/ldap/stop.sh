#!/bin/sh
# Stop what start.sh started in FOLDER.
set -eu
pid=$(cat "$1/server/pid")
kill "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
