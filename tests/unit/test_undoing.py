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
        ('member of "x with admin option', 'REVOKE """x" FROM "app" CASCADE;'),
        ("member of boss granted by deputy (not set)", 'REVOKE "boss" FROM "app" GRANTED BY deputy;'),
        ('member of boss granted by "the ""deputy"', 'REVOKE "boss" FROM "app" GRANTED BY "the ""deputy";'),
        ("member of boss granted by b;DROP", 'REVOKE "boss granted by b;DROP" FROM "app";'),
        ("may set role boss", 'GRANT "boss" TO "app" WITH SET FALSE;'),
        (
            "SELECT granted by lent on table data.thing in ledger",
            '/* in the database ledger */ SET ROLE lent; REVOKE SELECT ON TABLE "data"."thing" FROM "app" CASCADE; RESET ROLE;',
        ),
        (
            'gives by default SELECT with grant option on tables of schema data to "a b" in ledger',
            '/* in the database ledger */ ALTER DEFAULT PRIVILEGES FOR ROLE "app" IN SCHEMA data REVOKE SELECT ON TABLES FROM "a b";',
        ),
        (
            'trigger "leak now" on data.pay (text 0123456789abcdef) in ledger',
            '/* in the database ledger; or bring its former text back */ DROP TRIGGER "leak now" ON data.pay;',
        ),
        (
            'rule "r (text 0123456789abcdef) in x" on data.pay (text 0123456789abcdef) in ledger',
            "/* in the database ledger; or bring its former text back */ "
            'DROP RULE "r (text 0123456789abcdef) in x" ON data.pay;',
        ),
        (
            "check k of domain data.email (text 0123456789abcdef) in ledger",
            "/* in the database ledger; or bring its former text back */ ALTER DOMAIN data.email DROP CONSTRAINT k;",
        ),
        (
            "trigger x on data.pay; DROP TABLE y (text 0123456789abcdef) in ledger",
            "/* look at: trigger x on data.pay; DROP TABLE y (text 0123456789abcdef) in ledger */",
        ),
        (
            "mapping of PUBLIC on server loop in ledger",
            "/* in the database ledger */ DROP USER MAPPING FOR PUBLIC SERVER loop;",
        ),
        ("setting search_path=evil, x in ledger", 'ALTER ROLE "app" IN DATABASE "ledger" RESET "search_path";'),
        ("setting role=boss", 'ALTER ROLE "app" RESET "role";'),
        ("CREATE on database my db", 'REVOKE CREATE ON DATABASE "my db" FROM "app" CASCADE;'),
        (
            "SELECT with grant option on table data.thing in ledger",
            '/* in the database ledger */ REVOKE GRANT OPTION FOR SELECT ON TABLE "data"."thing" FROM "app" CASCADE;',
        ),
        (
            "UPDATE on column data.thing.note in ledger",
            '/* in the database ledger */ REVOKE UPDATE ("note") ON TABLE "data"."thing" FROM "app" CASCADE;',
        ),
        (
            "EXECUTE on routine data.f(integer,character varying) in ledger",
            '/* in the database ledger */ REVOKE EXECUTE ON ROUTINE data.f(integer,character varying) FROM "app" CASCADE;',
        ),
        (
            "USAGE on wrapper w in ledger",
            '/* in the database ledger */ REVOKE USAGE ON FOREIGN DATA WRAPPER "w" FROM "app" CASCADE;',
        ),
        (
            "lends itself to routine data.f(integer) in ledger",
            "/* in the database ledger */ ALTER ROUTINE data.f(integer) SECURITY INVOKER;",
        ),
        (
            "lends itself to routine data.f(); DROP ROLE x in ledger",
            "/* look at: lends itself to routine data.f(); DROP ROLE x in ledger */",
        ),
        ("SET on parameter work_mem", 'REVOKE SET ON PARAMETER "work_mem" FROM "app" CASCADE;'),
        ("3 rights, abc in ledger", "/* look at: 3 rights, abc in ledger */"),
        ("grants */ DROP ROLE boss; /*", "/* look at: grants * / DROP ROLE boss; / * */"),
        (
            'SELECT on table data.x"; DROP TABLE y; -- in ledger',
            '/* in the database ledger */ REVOKE SELECT ON TABLE "data"."x""; DROP TABLE y; --" FROM "app" CASCADE;',
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
