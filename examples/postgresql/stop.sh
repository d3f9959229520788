#!/bin/sh
# Stop what start.sh started in FOLDER.
set -eu
cd "$1/server"
bin=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
as=
[ "$(id -u)" != 0 ] || as="setpriv --reuid=postgres --regid=postgres --clear-groups"
$as "$bin/pg_ctl" -D data -m immediate -s stop
