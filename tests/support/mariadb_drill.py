"""A real MariaDB as target behind the proxy that fails on purpose, and a broker that is copied for each drill."""

import getpass
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jitaccess.connectors.mariadb import KIND
from jitaccess.store.ids import new_secret
from tests.support import mariadb, oracle
from tests.support.bench import NotInstalled
from tests.support.cutting import CuttingProxy, Mode
from tests.support.drill import SECRET, Run, copied, seeded
from tests.support.world import Prepared


@dataclass(slots=True)
class MariadbDrill:
    """One server, one proxy, one prepared broker."""

    server: mariadb.Server
    proxy: CuttingProxy
    prepared: Prepared
    view: oracle.Maria
    password: str
    kind: str = "mariadb"
    refuses: bytes = b"nothing was made"

    def birth(self, piece: bytes) -> bool:
        """Say whether a request makes an account."""
        return b"CALL jitaccess.make" in piece

    def end(self, piece: bytes) -> bool:
        """Say whether a request ends access."""
        return b"CALL jitaccess.cut" in piece

    def exchange(self, piece: bytes) -> bool:
        """Say whether a request changes the broker's own password."""
        return b"SET PASSWORD" in piece

    def tracked(self, database: str) -> list[str]:
        """Say what is wrong at any moment."""
        return oracle.tracked_entries(database, self.view.accounts())

    def explained(self, database: str, now: datetime) -> list[str]:
        """Say what is wrong once all should be settled."""
        return oracle.explained_entries(database, self.view.accounts(), now)

    def there(self) -> set[str]:
        """Return the accounts that leases made."""
        return set(self.view.accounts())

    def opens(self, secret: str) -> bool:
        """Say whether the server takes this for the broker's password."""
        return self.view.opens(secret)

    def begin(self, folder: Path) -> Run:
        """Copy the broker into a folder, and put the server and the proxy right."""
        self.proxy.disarm()
        self.proxy.become(Mode.PASS)
        for name in self.there():
            self.server.run(f"DROP USER `{name}`@`%`")
        self.server.run("DELETE FROM jitaccess.lease")
        self._set_password()
        return copied(self, folder, self.password)

    def _set_password(self) -> None:
        with self.server.owner() as owner, owner.cursor() as cursor:
            cursor.execute("SET PASSWORD FOR jit_broker@'%%' = PASSWORD(%s)", [self.password])

    def close(self) -> None:
        """Stop both."""
        self.proxy.close()
        self.server.stop()


def start(folder: Path) -> MariadbDrill:
    """Start the server with the broker's account as `setup` prints it, seed the broker; raises NotInstalled."""
    if not mariadb.installed():
        raise NotInstalled(mariadb.MISSING)
    server = mariadb.Server(["--event-scheduler=ON"])
    server.run("CREATE DATABASE app", "CREATE ROLE app_write", "GRANT SELECT ON app.* TO app_write")
    proxy = CuttingProxy(server.port, whole=bool)  # the first piece of a reply comes when the procedure is through
    connector = {
        "kind": "mariadb",
        "host": "127.0.0.1",
        "port": proxy.port,
        "tls": "none",
        "sessions": "visible",
        "database": "app",
        "secret": SECRET,
        "entitlements": {"writer": {"role": "app_write"}},
    }
    server.script(KIND.setup(KIND.config.model_validate(connector)))
    view = oracle.Maria(str(server.socket), getpass.getuser(), server.port)
    return MariadbDrill(server, proxy, seeded(folder, connector), view, new_secret())
