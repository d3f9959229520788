"""Before, during and after a membership: `python -m examples.ldap`. Exit code 0 only when all of it held.

Starts a throw-away OpenLDAP (Debian's packages slapd and ldap-utils), lets arta ask and blerim approve, opens the access, and shows in
the directory itself what is there and what is not.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import ldap3

from examples.office import Office, held, say
from jitaccess.broker import reconcile
from jitaccess.demo.servers import free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GROUP = "cn=ledger-admins,ou=groups,dc=example"


class Directory:
    """The directory as its owner sees it."""

    def __init__(self, folder: Path, port: int) -> None:
        server = ldap3.Server("127.0.0.1", port, get_info=ldap3.NONE)
        password = (folder / "owner").read_text()
        self._line = ldap3.Connection(server, "cn=admin,dc=example", password, auto_bind=True, raise_exceptions=True)

    def members(self) -> list[str]:
        """Return who is shown as a member, by uid."""
        self._line.search(GROUP, "(objectClass=*)", ldap3.BASE, attributes=["member"])
        members = self._line.response[0]["attributes"]["member"]
        return sorted(member.partition(",")[0].removeprefix("uid=") for member in members if member)

    def ends(self) -> str:
        """Return when the one entry of a lease ends by itself."""
        names = ["entryExpireTimestamp", "entryTtl"]
        self._line.search("ou=jit,dc=example", "(objectClass=dynamicObject)", ldap3.LEVEL, attributes=names)
        (entry,) = self._line.response
        return str(entry["raw_attributes"]["entryTtl"][0].decode())

    def put_in(self, uid: str) -> None:
        """Make somebody a member by hand."""
        self._line.modify(GROUP, {"member": [(ldap3.MODIFY_ADD, [f"uid={uid},ou=people,dc=example"])]})

    def close(self) -> None:
        """Hang up."""
        self._line.unbind()


def main() -> None:
    """Play it."""
    with tempfile.TemporaryDirectory(prefix="jitaccess-ldap-") as scratch:
        folder, port = Path(scratch), free_port(28389)
        environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
        subprocess.run([HERE / "start.sh", folder, str(port)], check=True, env=environment)  # noqa: S603 - our own script
        policies = folder / "policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text((HERE / "policy.yaml").read_text().replace("28389", str(port)))
        try:
            with closing(Office(policies, folder / "secrets")) as office, closing(Directory(folder, port)) as directory:
                play(office, directory)
        finally:
            subprocess.run([HERE / "stop.sh", folder], check=False, env=environment)  # noqa: S603 - our own script


def play(office: Office, directory: Directory) -> None:
    """Show before, during and after; then a member that nobody signed for."""
    say("Before")
    held("root alone is a member", directory.members() == ["root"])
    say("During: arta asks for two minutes, blerim signs, arta opens it with her passkey")
    filed = office.ask("arta", "directory", "admin", 120, "year-end closing")
    grant = office.approve("blerim", filed.request.id).grant
    assert grant is not None  # noqa: S101 - one signature was enough
    opened = office.open("arta", grant.id)
    say(f"       {opened.credential.username}: {opened.credential.note}")
    held("arta is a member", directory.members() == ["arta", "root"])
    held(f"the directory itself ends it in {directory.ends()} s", 0 < int(directory.ends()) <= 120)
    say("After: arta hands it back")
    office.hand_back("arta", grant.id)
    proof = office.proof(opened.lease.id)
    say(f"       the directory says: {proof['cut']}, {proof['clean']}, {proof['lag_ms']} ms after the end")
    held("root alone is a member", directory.members() == ["root"])
    say("Somebody puts a member into the group by hand")
    directory.put_in("shadow")
    with office.broker.read() as view:
        (target,) = reconcile.outside_targets(view, office.broker)
    looked = reconcile.look(office.broker, target)
    found = ", ".join(f"{one.account} is {one.what.value}" for one in looked.findings)
    held(f"it is found at the next look: {found}", len(looked.findings) == 1)
    held("and taken out, as the policy says", directory.members() == ["root"])


if __name__ == "__main__":
    main()
