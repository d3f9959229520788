"""What of the system do the groups need, and can it be installed here? Only as root with apt.

Installing a server package must not start the server: a policy-rc.d that says so is put in place first
(Debian Policy section 9.3.3.1, exit code 101) and taken away afterwards, unless there was one already.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import postgres
from tests.support.chromium import find_chromium

POLICY = Path("/usr/sbin/policy-rc.d")


SERVERS: dict[str, dict[str, str]] = {
    "doors": {
        "/usr/sbin/nginx": "nginx-light",
        "/usr/bin/caddy": "caddy",
        "/usr/sbin/apache2": "apache2",
        "/usr/lib/apache2/modules/mod_auth_openidc.so": "libapache2-mod-auth-openidc",
    },
    "faults": {
        "/usr/sbin/mariadbd": "mariadb-server-core",
        "/usr/bin/mariadb": "mariadb-client-core",
        "/usr/sbin/slapd": "slapd",
        "/usr/bin/ldapmodify": "ldap-utils",
    },
    "connectors": {
        "/usr/sbin/mariadbd": "mariadb-server-core",
        "/usr/bin/mariadb": "mariadb-client-core",
        "/usr/sbin/sshd": "openssh-server",
        "/usr/bin/ssh-keygen": "openssh-client",
        "/usr/sbin/slapd": "slapd",
        "/usr/bin/ldapmodify": "ldap-utils",
    },
}
"""Group -> file that must be there -> Debian package that brings it."""


def missing(groups: Sequence[str]) -> list[str]:
    """Return the Debian packages that the groups would need and that are not there."""
    wanted: list[str] = []
    if {"e2e", "doors"} & set(groups) and find_chromium() is None:
        wanted.append("chromium")
    if {"broker", "faults", "connectors"} & set(groups) and not postgres.available():
        wanted.append("postgresql")
    for group in SERVERS.keys() & set(groups):
        wanted += [package for file, package in SERVERS[group].items() if not Path(file).exists()]
    return [*dict.fromkeys(wanted)]


def provide(groups: Sequence[str]) -> None:
    """Install what is missing, or leave it to the tests to skip and to say why."""
    wanted = missing(groups)
    if not wanted or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print(f"installing with apt-get: {' '.join(wanted)}", flush=True)
    guard = not POLICY.exists()
    if guard:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *wanted]):
            subprocess.run(["apt-get", *command], env=environment, stdout=subprocess.DEVNULL, check=False)
    finally:
        if guard:
            POLICY.unlink()
