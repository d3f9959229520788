"""A real directory as target behind the proxy that fails on purpose, and a broker that is copied for each drill."""

import importlib.util
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import ldap3

from tests.support import oracle
from tests.support.cutting import CuttingProxy, Mode
from tests.support.drill import SECRET, Run, copied, seeded
from tests.support.sources import ROOT
from tests.support.world import Prepared

ARTA = "uid=arta,ou=people,dc=bench"
MODIFY, EXTENDED = 0x66, 0x77
"""Tags of requests (RFC 4511 appendix B); they stand within the first bytes of a message."""


@dataclass(slots=True)
class DirectoryDrill:
    """One directory, one proxy, one prepared broker."""

    bench: Any
    proxy: CuttingProxy
    prepared: Prepared
    view: oracle.Directory
    kind: str = "ldap"
    refuses: bytes = b"\x0a\x01\x7a"
    """How it refuses what comes too late: assertionFailed (RFC 4528)."""

    def birth(self, piece: bytes) -> bool:
        """Say whether a request gives access."""
        return MODIFY in piece[:12] and ARTA.encode() in piece

    def end(self, piece: bytes) -> bool:
        """Say whether a request ends access, where nothing else is asked."""
        return MODIFY in piece[:12]

    def exchange(self, piece: bytes) -> bool:
        """Say whether a request changes the broker's own password."""
        return EXTENDED in piece[:12]

    def tracked(self, database: str) -> list[str]:
        """Say what is wrong at any moment."""
        return oracle.tracked_members(database, self.view)

    def explained(self, database: str, now: datetime) -> list[str]:
        """Say what is wrong once all should be settled."""
        return oracle.explained_members(database, self.view, now)

    def there(self) -> set[str]:
        """Return who is a member, but for those of before."""
        return self.view.members()

    def opens(self, secret: str) -> bool:
        """Say whether the directory takes this for the broker's password."""
        return self.view.opens(str(self.bench.config()["user"]), secret)

    def begin(self, folder: Path, *, member_before: bool = False) -> Run:
        """Copy the broker into a folder, and put the directory and the proxy right."""
        self.proxy.disarm()
        self.proxy.become(Mode.PASS)
        line = self.bench.owner()
        founder = "uid=founder,ou=people,dc=bench"
        before = [founder, ARTA] if member_before else [founder]
        line.modify(self.view.group, {"member": [(ldap3.MODIFY_REPLACE, before)]})
        line.search("ou=jit,dc=bench", "(objectClass=*)", ldap3.LEVEL)
        for one in line.response:
            line.delete(one["dn"])
        self.bench.set_secret()
        line.unbind()
        view = self.view
        self.view = oracle.Directory(view.port, view.admin, view.password, view.group, frozenset(before))
        return copied(self, folder, self.bench.secret().reveal())

    def close(self) -> None:
        """Stop both."""
        self.proxy.close()
        self.bench.stop()


def start(folder: Path, *, dynamic: bool) -> DirectoryDrill:
    """Start the directory with a person and the broker's entry, seed the broker; raises NotInstalled."""
    spec = importlib.util.spec_from_file_location("drilled_ldap", ROOT / "tests" / "connectors" / "kind_ldap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    bench = module.LdapBench(dynamic=dynamic)
    bench.start(folder)
    line = bench.owner()
    values = {"uid": "arta", "cn": "arta", "sn": "Krasniqi", "mail": "arta.krasniqi@mof.example"}
    line.add(ARTA, ["inetOrgPerson"], values)
    line.unbind()
    proxy = CuttingProxy(bench.port, whole=bool)  # every reply that is cut here is one message in one piece
    connector = {
        **bench.config(),
        "port": proxy.port,
        "tls": "none",
        "root_ca": "",
        "secret": SECRET,
        "entitlements": {"writer": {"group": module.GROUP}},
    }
    view = oracle.Directory(bench.port, module.ADMIN, bench.password, module.GROUP, frozenset())
    return DirectoryDrill(bench, proxy, seeded(folder, connector), view)
