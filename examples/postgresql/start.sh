#!/bin/sh
# Start a throw-away PostgreSQL on 127.0.0.1 in FOLDER, with a database `app`, and give the broker its account there:
#   examples/postgresql/start.sh FOLDER PORT
# The owner's password is then in FOLDER/owner, the broker's in FOLDER/secrets/app-broker. `stop.sh FOLDER` stops it.
set -eu
folder=$1
port=$2
here=$(cd "$(dirname "$0")" && pwd)
bin=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
python=${PYTHON:-python3}

umask 077
mkdir -p "$folder/secrets" "$folder/server"
chmod 755 "$folder"
fresh() { "$python" -c 'import secrets, sys; sys.stdout.write(secrets.token_urlsafe(32))'; }
fresh >"$folder/owner"
fresh >"$folder/secrets/app-broker"
cp "$folder/owner" "$folder/server/owner"
as=
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
    chown -R postgres "$folder/server"
    as="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi
cd "$folder/server"
$as "$bin/initdb" -D data -U postgres --auth=scram-sha-256 --pwfile=owner --no-sync -E UTF8 --locale=C >"$folder/initdb.log" 2>&1
$as "$bin/pg_ctl" -D data -w -s -l log start \
    -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$folder/server"

export PGHOST=127.0.0.1 PGPORT="$port" PGUSER=postgres PGPASSFILE="$folder/pgpass"
printf '127.0.0.1:%s:*:postgres:%s\n' "$port" "$(cat "$folder/owner")" >"$PGPASSFILE"
"$bin/psql" -X -q -v ON_ERROR_STOP=1 -d postgres -c 'CREATE DATABASE app' -c 'CREATE ROLE app_read NOLOGIN'
"$bin/psql" -X -q -v ON_ERROR_STOP=1 -d app <<'SQL'
CREATE TABLE entry (id int PRIMARY KEY, what text);
INSERT INTO entry VALUES (1, 'opening balance');
GRANT USAGE ON SCHEMA public TO app_read;
GRANT SELECT ON entry TO app_read;
SQL
# The lines that the broker itself prints; \password asks twice, and takes the answers from us because there is no terminal.
"$python" -m jitaccess targets setup postgresql >"$folder/setup.sql"
{ cat "$folder/secrets/app-broker"; echo; cat "$folder/secrets/app-broker"; echo; } |
    setsid -w "$bin/psql" -X -q -d app -f "$folder/setup.sql" >"$folder/setup.log" 2>&1 || { cat "$folder/setup.log"; exit 1; }
echo "PostgreSQL listens on 127.0.0.1:$port"
