"""PostgreSQL: a login role for one lease, ended with its sessions, its leftovers and its name (versions 15 to 18 are tested).

The role is born in one statement string, sent at once, whose last statement raises when the *server's* clock is past the deadline: the
server does all of it or nothing. The password reaches the server only as a SCRAM verifier that libpq computes. `VALID UNTIL`
binds password logins only and no open session: `cut` ends those. What the person left behind: everything that is code (routines, the
triggers that call them, views, rules) is dropped; tables, sequences and types are kept under a rightless role, with no rights for others.
Every name goes through `psycopg.sql`. No statement runs with another search path than `pg_catalog`.
"""

from jitaccess.connectors.contract import ConnectorKind, EnforcesExpiry
from jitaccess.connectors.postgresql.config import PostgresqlConfig
from jitaccess.connectors.postgresql.connector import PostgresqlConnector
from jitaccess.connectors.postgresql.setup import EXAMPLE, setup

__all__ = ["EXAMPLE", "KIND", "PostgresqlConfig", "PostgresqlConnector"]

KIND = ConnectorKind(
    "postgresql",
    PostgresqlConfig,
    PostgresqlConnector,
    setup,
    enforces_expiry=EnforcesExpiry.LOGINS,
    place=("host", "port"),
)
