#!/bin/sh
# Make what a host and a broker have before they meet: examples/ssh/start.sh FOLDER PORT ACCOUNT
#   FOLDER/host          the host's own key            FOLDER/secrets/hosts-authority   the broker's secret
#   FOLDER/id_ed25519    a person's key                ACCOUNT                          a throw-away account of this machine
# Needs root and OpenSSH. `host.sh` then starts the host, `stop.sh` takes all of it away.
set -eu
folder=$1 account=$3
python=${PYTHON:-python3}
umask 077
mkdir -p "$folder/secrets"
"$python" -c 'import secrets, sys; sys.stdout.write(secrets.token_urlsafe(32))' >"$folder/secrets/hosts-authority"
for key in host id_ed25519 own; do ssh-keygen -q -t ed25519 -N '' -f "$folder/$key"; done
useradd --no-create-home --home-dir / --shell /bin/sh --password '*' "$account"
