#!/bin/sh
# Start the provisioner of this folder on 127.0.0.1, with its state in FOLDER, and make the two known to each other:
#   examples/webhook/start.sh FOLDER PORT
# The broker's key is then in FOLDER/secrets/doors, and what to check with in FOLDER/check_with. `stop.sh FOLDER` stops it.
set -eu
folder=$1
port=$2
python=${PYTHON:-python3}

umask 077
mkdir -p "$folder/secrets"
"$python" -c 'import base64, os; print("whsec_" + base64.b64encode(os.urandom(32)).decode())' >"$folder/secrets/doors"
cp "$folder/secrets/doors" "$folder/check_with" # a shared key: the same on both sides
"$python" -m examples.webhook.provisioner --port "$port" --state "$folder" >"$folder/log" 2>&1 &
echo $! >"$folder/pid"
tries=0
until grep -q listens "$folder/log" 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || { cat "$folder/log"; exit 1; }
    sleep 0.05
done
cat "$folder/log"
