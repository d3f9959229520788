"""OpenLDAP on the bench: memberships that the broker takes away over LDAPS, and entries that the directory deletes itself over StartTLS."""

import itertools
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import ldap3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn

from jitaccess.connectors.contract import Credential, LeaseSpec, Secret
from jitaccess.connectors.ldap import KIND, PARTS, LdapConfig, LdapConnector, membership
from jitaccess.store.ids import new_secret
from tests.support.bench import Bench, LoginRefused, NotInstalled, open_connector
from tests.support.ports import free_port

SLAPD = Path("/usr/sbin/slapd")
READY_S = 20.0
ROOT = "dc=bench"
GROUP = f"cn=ledger admins,ou=groups,{ROOT}"
FOUNDER = f"uid=founder,ou=people,{ROOT}"
ADMIN, CONFIG_ADMIN = f"cn=admin,{ROOT}", "cn=admin,cn=config"
NAMES = (
    "plain",
    "Last, First",
    'quote"d',
    "plus+sign",
    "back\\slash",
    "#sharp",
    " around ",
    "semi;colon",
    "less<more>",
    "equal=s",
    "star*",
    "paren)(uid=*",
    "null\\00",
    "Čćž ëç 漢字",
    "new\nline",
    "percent%s{0}",
)
"""What people are called: each is part of a distinguished name and of a filter."""
_BASE = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {folder}/tls/ca.pem
TLSCertificateFile {folder}/tls/server.pem
TLSCertificateKeyFile {folder}/tls/server.key
database config
rootdn {config_admin}
rootpw {password}
database mdb
suffix {root}
rootdn {admin}
rootpw {password}
directory {folder}/data
dbnosync
access to * by * read
"""


class LdapSession:
    """A person, signed in with the password of their own."""

    def __init__(self, line: Any, member: str) -> None:
        self._line, self._member = line, member

    def alive(self) -> bool:
        """Ask, as a program would, whether the group has this member."""
        self._line.search(GROUP, "(objectClass=*)", ldap3.BASE, attributes=["member"])
        return self._member in self._line.response[0]["attributes"]["member"]

    def leave_behind(self, names: Sequence[str]) -> None:
        """People make nothing in a directory."""


class LdapBench:
    """One directory."""

    kind = KIND
    entitlement = "admin"

    def __init__(self, *, dynamic: bool) -> None:
        self._dynamic = dynamic
        self.label = f"ldap ({'dynamic' if dynamic else 'plain'})"
        self.password, self._secret = new_secret(), new_secret()
        self.port, self.tls_port = free_port(), free_port()
        self._names = itertools.cycle(NAMES)
        self._count = itertools.count()
        self.folder: Path
        self._server: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path) -> None:
        """Start slapd with a tree of people and groups, and run what `setup` prints, part by part."""
        if not SLAPD.exists():
            raise NotInstalled("slapd is not installed (apt install slapd ldap-utils)")
        self.folder = Path(f"/tmp/jit-slapd-{os.getpid()}-{self.port}")
        for part in ("conf", "data", "tls"):
            (self.folder / part).mkdir(parents=True)
        _certify(self.folder / "tls")
        values = {"folder": self.folder, "root": ROOT, "admin": ADMIN, "config_admin": CONFIG_ADMIN}
        (self.folder / "slapd.conf").write_text(_BASE.format(password=self.password, **values))
        owner = _unprivileged()
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        # It writes the configuration and then complains that there is no database yet.
        made = [SLAPD.with_name("slaptest"), "-Q", "-f", "slapd.conf", "-F", "conf"]
        done = subprocess.run(made, cwd=self.folder, capture_output=True, text=True, check=False, **_user())
        assert (self.folder / "conf" / "cn=config.ldif").exists(), done.stderr
        urls = f"ldap://127.0.0.1:{self.port}/ ldaps://127.0.0.1:{self.tls_port}/"
        self._server = subprocess.Popen(
            [SLAPD, "-d", "0", "-F", "conf", "-h", urls], cwd=self.folder, stderr=subprocess.DEVNULL, **_user()
        )
        self._wait()
        self._fill()
        self._run_setup()
        version = subprocess.run([SLAPD, "-VV"], capture_output=True, text=True, check=False).stderr
        found = re.search(r"slapd ([0-9.]+)", version)
        how = "dds, over StartTLS" if self._dynamic else "plain, over LDAPS"
        self.label = f"ldap: OpenLDAP {found[1] if found else '?'} ({how})"

    def _wait(self) -> None:
        for _ in range(int(READY_S * 20)):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise AssertionError("slapd does not start")

    def _fill(self) -> None:
        line = self.owner()
        line.add(ROOT, ["dcObject", "organization"], {"dc": "bench", "o": "Bench"})
        for name in ("people", "groups"):
            line.add(f"ou={name},{ROOT}", ["organizationalUnit"], {"ou": name})
        line.add(FOUNDER, ["inetOrgPerson"], {"uid": "founder", "cn": "founder", "sn": "founder"})
        line.add(GROUP, ["groupOfNames"], {"cn": "ledger admins", "member": [FOUNDER]})
        line.unbind()

    def _run_setup(self) -> None:
        """Run the printed parts with OpenLDAP's own ldapmodify, and set the password with its ldappasswd."""
        config = LdapConfig.model_validate(dict(self.config()))
        parts = re.split(rf"(?m)^(?={PARTS})", KIND.setup(config))[1:]
        assert len(parts) == (3 if self._dynamic else 2)
        for part in parts:
            file = self.folder / "part.ldif"
            file.write_text(part.replace("olcDDSinterval: 10", "olcDDSinterval: 1"))
            self._tool("ldapmodify", ADMIN if "As the directory's" in part else CONFIG_ADMIN, "-f", str(file))
        self.set_secret()

    def set_secret(self) -> None:
        """Give the broker's entry its password, as `setup` says to."""
        secret = self.folder / "secret"
        secret.write_text(self._secret)
        self._tool("ldappasswd", ADMIN, "-T", str(secret), str(self.config()["user"]))

    def _tool(self, name: str, admin: str, *arguments: str) -> None:
        where = ["-x", "-H", f"ldap://127.0.0.1:{self.port}", "-D", admin, "-w", self.password]
        done = subprocess.run([name, *where, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        """Stop it and leave nothing."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(30)
            shutil.rmtree(self.folder)

    def config(self) -> Mapping[str, object]:
        """Return its configuration."""
        return {
            "kind": "ldap",
            "host": "127.0.0.1",
            "port": self.port if self._dynamic else self.tls_port,
            "tls": "starttls" if self._dynamic else "ldaps",
            "root_ca": str(self.folder / "tls" / "ca.pem"),
            "user": f"cn=jit-broker,{ROOT}",
            "secret": "bench",
            "people": {"base": f"ou=people,{ROOT}"},
            "leases": f"ou=jit,{ROOT}",
            "dynamic": self._dynamic,
            "entitlements": {"admin": {"group": GROUP}},
        }

    def secret(self) -> Secret:
        """Return the broker's password."""
        return Secret(self._secret)

    def nowhere(self) -> Mapping[str, object]:
        """Name a port where nothing listens."""
        return {**self.config(), "port": free_port()}

    def given(self) -> Mapping[str, str]:
        """Nothing is handed in."""
        return {}

    def about(self, spec: LeaseSpec) -> Mapping[str, Any]:
        """Make a new person with the next name, and look at the directory as the broker does before it plans."""
        address = self.newcomer(next(self._names))
        connector = open_connector(self)
        assert isinstance(connector, LdapConnector)
        asked = LeaseSpec(
            "", spec.person_id, spec.target, spec.entitlement, spec.starts_at, spec.ends_at, email=address
        )
        return {"email": address, "found": connector.look(asked)}

    def newcomer(self, name: str) -> str:
        """Make a person with the owner's rights; return the mail address, which holds the name too."""
        uid = f"{name}{next(self._count)}"
        address = f"{uid if uid.isascii() else next(self._count)}@bench.example"  # an address is IA5 (RFC 4524)
        line = self.owner()
        values = {"uid": uid, "cn": uid, "sn": name, "mail": address, "userPassword": self.password}
        line.add(f"uid={escape_rdn(uid)},ou=people,{ROOT}", ["inetOrgPerson"], values)
        line.unbind()
        return address

    @contextmanager
    def login(self, credential: Credential) -> Iterator[LdapSession]:
        """Sign in with the person's own password; who is no member gets no further."""
        assert credential.secret is None
        server = ldap3.Server("127.0.0.1", self.port, get_info=ldap3.NONE)
        line = ldap3.Connection(
            server, credential.username, self.password, check_names=False, auto_escape=False, auto_bind=True
        )
        try:
            session = LdapSession(line, credential.username)
            if not session.alive():
                raise LoginRefused("no member of the group")
            yield session
        finally:
            line.unbind()

    def owner(self) -> Any:
        """Come in as the directory's administrator."""
        server = ldap3.Server("127.0.0.1", self.port, get_info=ldap3.NONE)
        return ldap3.Connection(
            server,
            ADMIN,
            self.password,
            check_names=False,
            auto_escape=False,
            auto_bind=True,
            raise_exceptions=True,
        )

    def members(self) -> set[str]:
        """Return whom the group shows to everybody."""
        line = self.owner()
        line.search(GROUP, "(objectClass=*)", ldap3.BASE, attributes=["member"])
        found = set(line.response[0]["attributes"]["member"])
        line.unbind()
        return found - {""}

    def accounts(self) -> set[str]:
        """List the members of the group, and whatever stands in the broker's container."""
        line = self.owner()
        line.search(f"ou=jit,{ROOT}", "(objectClass=*)", ldap3.LEVEL, attributes=["cn"])
        entries = {str(one["dn"]) for one in line.response}
        line.unbind()
        return {membership(member, GROUP) for member in self.members() - {FOUNDER}} | entries

    def stray(self) -> str:
        """Make somebody a member past the broker."""
        address = self.newcomer("mallory, \\the+stray")
        line = self.owner()
        line.search(ROOT, f"(mail={escape_filter_chars(address)})")
        member = str(line.response[0]["dn"])
        line.modify(GROUP, {"member": [(ldap3.MODIFY_ADD, [member])]})
        line.unbind()
        return membership(member, GROUP)

    def can_log_in(self, account: str) -> bool:
        """Look whether somebody is a member."""
        return account in {membership(member, GROUP) for member in self.members()}


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("openldap")
    except KeyError:
        return pwd.getpwnam("nobody")


def _user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    owner = _unprivileged()
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _certify(place: Path) -> None:
    """Write a certificate authority and a server certificate for 127.0.0.1."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench CA")])
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.now(UTC)

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        return made.not_valid_after(now + timedelta(days=1))

    ca = certificate(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    server = certificate(server_name, key.public_key()).add_extension(alternative, False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (place / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (place / "server.pem").write_bytes(server.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (place / "server.key").write_bytes(private)
    (place / "server.key").chmod(0o600)


def benches() -> list[Bench]:
    """Return both ways."""
    return [LdapBench(dynamic=False), LdapBench(dynamic=True)]
