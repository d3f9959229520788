#!/bin/sh
# Stop what start.sh started in FOLDER.
set -eu
kill "$(cat "$1/pid")"
