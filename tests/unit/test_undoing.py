"""Rights on PostgreSQL and the statements that take them back: exact, and safe to run whatever people call their things."""

import pytest

from jitaccess.connectors.contract import Undoing
from jitaccess.connectors.postgresql.connector import PostgresqlConnector
from jitaccess.connectors.postgresql.undo import statements

pytestmark = pytest.mark.covers("R57")


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ("SUPERUSER", 'ALTER ROLE "app" NOSUPERUSER;'),
        ("member of boss", 'REVOKE "boss" FROM "app";'),
        ('member of "x with admin option', 'REVOKE """x" FROM "app";'),
        ("setting search_path=evil, x in ledger", 'ALTER ROLE "app" IN DATABASE "ledger" RESET "search_path";'),
        ("setting role=boss", 'ALTER ROLE "app" RESET "role";'),
        ("CREATE on database my db", 'REVOKE CREATE ON DATABASE "my db" FROM "app";'),
        (
            "SELECT with grant option on table data.thing in ledger",
            '/* in the database ledger */ REVOKE SELECT ON TABLE "data"."thing" FROM "app";',
        ),
        (
            "UPDATE on column data.thing.note in ledger",
            '/* in the database ledger */ REVOKE UPDATE ("note") ON TABLE "data"."thing" FROM "app";',
        ),
        (
            "EXECUTE on routine data.f(integer,character varying) in ledger",
            '/* in the database ledger */ REVOKE EXECUTE ON ROUTINE data.f(integer,character varying) FROM "app";',
        ),
        (
            "USAGE on wrapper w in ledger",
            '/* in the database ledger */ REVOKE USAGE ON FOREIGN DATA WRAPPER "w" FROM "app";',
        ),
        (
            "lends itself to routine data.f(integer) in ledger",
            "/* in the database ledger */ ALTER ROUTINE data.f(integer) SECURITY INVOKER;",
        ),
        (
            "lends itself to routine data.f(); DROP ROLE x in ledger",
            "/* look at: lends itself to routine data.f(); DROP ROLE x in ledger */",
        ),
        ("SET on parameter work_mem", 'REVOKE SET ON PARAMETER "work_mem" FROM "app";'),
        ("3 rights, abc in ledger", "/* look at: 3 rights, abc in ledger */"),
        ("grants */ DROP ROLE boss; /*", "/* look at: grants * / DROP ROLE boss; / * */"),
        (
            'SELECT on table data.x"; DROP TABLE y; -- in ledger',
            '/* in the database ledger */ REVOKE SELECT ON TABLE "data"."x""; DROP TABLE y; --" FROM "app";',
        ),
        (
            "EXECUTE on routine data.f() FROM app; DROP ROLE x; in ledger",
            "/* look at: EXECUTE on routine data.f() FROM app; DROP ROLE x; in ledger */",
        ),
    ],
)
def test_each_right_has_the_statement_that_takes_it_back(right: str, said: str) -> None:
    assert statements("app", [right]) == said


def test_each_right_has_a_line_and_a_role_is_quoted() -> None:
    assert (
        statements('a"b', ["CREATEDB", "BYPASSRLS"]) == 'ALTER ROLE "a""b" NOCREATEDB;\nALTER ROLE "a""b" NOBYPASSRLS;'
    )
    assert issubclass(PostgresqlConnector, Undoing)
