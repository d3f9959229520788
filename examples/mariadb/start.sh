#!/bin/sh
# Start a throw-away MariaDB on 127.0.0.1 in FOLDER, with a database `app`, and give the broker its account there:
#   examples/mariadb/start.sh FOLDER PORT
# The owner comes in by the socket FOLDER/server/socket, without a password; the broker's is in FOLDER/secrets/app-broker.
# `stop.sh FOLDER` stops it.
set -eu
folder=$1
port=$2
python=${PYTHON:-python3}
PATH=$PATH:/usr/sbin

umask 077
mkdir -p "$folder/secrets" "$folder/server"
chmod 755 "$folder"
"$python" -c 'import secrets, sys; sys.stdout.write(secrets.token_urlsafe(32))' >"$folder/secrets/app-broker"
as=
if [ "$(id -u)" = 0 ]; then # a database should not run as root
    chown -R nobody "$folder/server"
    as="setpriv --reuid=nobody --regid=nogroup --clear-groups"
fi
cd "$folder/server"
chmod 755 .
$as mariadb-install-db --no-defaults --datadir="$folder/server/data" --skip-test-db --innodb-log-file-size=8M \
    --auth-root-authentication-method=socket --auth-root-socket-user="$(id -un)" >"$folder/install.log" 2>&1
$as mariadbd --no-defaults --datadir="$folder/server/data" --socket="$folder/server/socket" --pid-file="$folder/server/pid" \
    --bind-address=127.0.0.1 --port="$port" --innodb-buffer-pool-size=32M --innodb-log-file-size=8M --skip-log-bin \
    --event-scheduler=ON --performance-schema=ON >"$folder/server.log" 2>&1 &

owner="mariadb --no-defaults --socket=$folder/server/socket"
tries=0
until $owner -e 'SELECT 1' >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { cat "$folder/server.log"; exit 1; }
    sleep 0.1
done
$owner <<'SQL'
CREATE DATABASE app;
CREATE ROLE app_read;
CREATE TABLE app.entry (id INT PRIMARY KEY, what TEXT);
INSERT INTO app.entry VALUES (1, 'opening balance');
GRANT SELECT, EVENT ON app.* TO app_read;
SQL
# The lines that the broker itself prints; its password is said afterwards. No TLS here: it all stays on this machine.
"$python" -m jitaccess targets setup mariadb | sed 's/ REQUIRE SSL//' >"$folder/setup.sql"
$owner <"$folder/setup.sql"
printf "SET PASSWORD FOR jit_broker@'%%' = PASSWORD('%s');\n" "$(cat "$folder/secrets/app-broker")" | $owner
echo "MariaDB listens on 127.0.0.1:$port"
