"""What must stand on every host of an SSH target? The exact lines for its owner."""

import json

from jitaccess.connectors.ssh_ca.config import SshCaConfig, SshHost, SshMeaning

EXAMPLE = SshCaConfig(
    kind="ssh_ca",
    secret="hosts-authority",  # noqa: S106 - the name of a file, not a secret
    hosts=[
        SshHost(
            name="db1.example", key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB1RnKyvcFGQXSjBSTWkzRkWbjDeFDoBTrgDsO2JLSk0"
        )
    ],
    entitlements={"operator": SshMeaning(principal="jit-operator", account="ops", extensions=["permit-pty"])},
)


def setup(config: SshCaConfig | None) -> str:
    """Return a shell script with the host's part, and the one command that makes the broker's secret."""
    config = config or EXAMPLE
    parts = []
    for host in config.hosts:
        taken: dict[str, list[str]] = {}
        for meaning in config.entitlements.values():
            if not meaning.hosts or host.name in meaning.hosts:
                taken.setdefault(meaning.account, []).append(meaning.principal)
        taken = {account: sorted(set(principals)) for account, principals in sorted(taken.items())}
        parts.append(f"  {host.name}) PRINCIPALS='{json.dumps(taken)}' ;;")
    return _SETUP.replace("@SECRET@", config.secret).replace("@PRINCIPALS@", "\n".join(parts))


_SETUP = r"""#!/bin/sh
# On the broker, once: the secret from which the authority's key is derived. `jitaccess targets probe TARGET` then shows the public key.
#   (umask 077; openssl rand -base64 32 | tr '+/' '-_' | tr -d '=\n' >"$SECRETS_DIR/@SECRET@")
#
# On every host, as root: sh setup.sh BROKER TARGET HOST 'ssh-ed25519 AAAA...'
#   BROKER  the broker's address, https://...        TARGET  the target's name in the policy
#   HOST    this host's name there                   and the public key that `jitaccess targets probe TARGET` shows
# The file examples/ssh/jit_ssh_host.py of jitaccess lies beside this script. Accounts that people log in as must exist.
set -eu
BROKER=$1 TARGET=$2 HOST=$3 AUTHORITY=$4
case $HOST in
@PRINCIPALS@
  *) echo "the policy knows no host $HOST" >&2; exit 1 ;;
esac
case $AUTHORITY in "ssh-ed25519 "*) ;; *) echo "give the authority's public key" >&2; exit 1 ;; esac
id jitaccess-sshd >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin jitaccess-sshd
install -d -o root -g root -m 755 /usr/lib/jitaccess
install -o root -g root -m 755 "$(dirname "$0")/jit_ssh_host.py" /usr/lib/jitaccess/jit_ssh_host.py
install -d -o root -g root -m 755 /etc/jitaccess /etc/ssh/jitaccess /var/lib/jitaccess
cat >/usr/lib/tmpfiles.d/jitaccess.conf <<EOF
d /run/jitaccess 0755 root root
d /run/jitaccess/logins 0700 jitaccess-sshd root
EOF
install -d -o root -g root -m 755 /run/jitaccess
install -d -o jitaccess-sshd -g root -m 700 /run/jitaccess/logins
printf '%s\n' "$AUTHORITY" >/etc/ssh/jitaccess/ca.pub
[ -s /etc/ssh/jitaccess/krl ] || ssh-keygen -q -k -f /etc/ssh/jitaccess/krl
cat >/etc/jitaccess/ssh-host.json <<EOF
{"broker": "$BROKER", "target": "$TARGET", "host": "$HOST", "principals": $PRINCIPALS}
EOF
cat >/etc/ssh/sshd_config.d/10-jitaccess.conf <<'EOF'
TrustedUserCAKeys /etc/ssh/jitaccess/ca.pub
RevokedKeys /etc/ssh/jitaccess/krl
AuthorizedPrincipalsFile none
AuthorizedPrincipalsCommand /usr/lib/jitaccess/jit_ssh_host.py principals %u %s %i %k
AuthorizedPrincipalsCommandUser jitaccess-sshd
# People come in with certificates alone. Keep a key of your own for the day on which nothing else works, name it as an exception in
# the policy, and take this line away; every key in such a file is reported.
AuthorizedKeysFile none
AuthorizedKeysCommand none
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
PermitEmptyPasswords no
PermitUserEnvironment no
EOF
cat >/etc/systemd/system/jit-ssh-host.service <<'EOF'
[Unit]
Description=Obey and report to jitaccess: certificates, revocations, sessions
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=/usr/lib/jitaccess/jit_ssh_host.py run
Restart=always
RestartSec=1
# It ends sessions of others and reads their keys: root, but nothing else of root's.
CapabilityBoundingSet=CAP_KILL CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_SYS_PTRACE
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/etc/ssh/jitaccess /var/lib/jitaccess /run/jitaccess
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6

[Install]
WantedBy=multi-user.target
EOF
/usr/sbin/sshd -t
systemctl daemon-reload
systemctl enable --now jit-ssh-host.service
systemctl reload ssh.service || systemctl reload sshd.service
"""
