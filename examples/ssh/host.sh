#!/bin/sh
# Start a host of its own on 127.0.0.1: examples/ssh/host.sh FOLDER PORT ACCOUNT BROKER 'ssh-ed25519 AAAA...'
# It does what `jitaccess targets setup ssh_ca` prints, in a place of its own beside this machine's sshd. That place is under /run, because
# sshd asks only programs on whose whole path nobody but root may write.
set -eu
folder=$1 port=$2 account=$3 broker=$4 authority=$5
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
place=/run/jitaccess-example-$port
umask 022
mkdir -p "$place/logins" "$place/state" "$place/keys" "$place/ssh" /run/sshd
chown nobody "$place/logins"
chmod 700 "$place/logins"
install -m 755 "$here/jit_ssh_host.py" "$place/jit_ssh_host.py"
printf '%s\n' "$authority" >"$place/ssh/ca.pub"
ssh-keygen -q -k -f "$place/ssh/krl"
cat >"$place/host.json" <<EOF
{"broker": "$broker", "target": "hosts", "host": "localhost", "principals": {"$account": ["jit-operator"]},
 "trusted": "$place/ssh/ca.pub", "krl": "$place/ssh/krl", "state": "$place/state", "logins": "$place/logins",
 "host_key": "$folder/host", "sshd_config": "$place/sshd_config", "principals_user": "nobody", "every_s": 0.5, "look_every_s": 1}
EOF
{
    printf 'ListenAddress 127.0.0.1:%s\nHostKey %s/host\nPidFile none\nUsePAM no\nLogLevel VERBOSE\n' "$port" "$folder"
    # The lines that the broker itself prints, with our places in them.
    "$python" -m jitaccess targets setup ssh_ca | sed -n "/10-jitaccess.conf <</,/^EOF/{/EOF/d;p;}" |
        sed -e "s#/usr/lib/jitaccess/jit_ssh_host.py#$place/jit_ssh_host.py --config $place/host.json#" \
            -e "s#/etc/ssh/jitaccess#$place/ssh#; s#User jitaccess-sshd#User nobody#" \
            -e "s#^AuthorizedKeysFile none#AuthorizedKeysFile $place/keys/%u#"
} >"$place/sshd_config"
/usr/sbin/sshd -t -f "$place/sshd_config"
/usr/sbin/sshd -D -e -f "$place/sshd_config" >"$folder/sshd.log" 2>&1 &
echo $! >"$folder/pids"
"$place/jit_ssh_host.py" --config "$place/host.json" run >"$folder/host.log" 2>&1 &
echo $! >>"$folder/pids"
echo "sshd listens on 127.0.0.1:$port"
