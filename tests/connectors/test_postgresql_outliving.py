"""PostgreSQL: a role with a right that outlives a lease, or beats its end, is not lent, and the owner is told what to change."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from jitaccess.connectors.contract import Connector, NotReady
from jitaccess.connectors.postgresql import outliving
from tests.connectors.kind_postgresql import MODERN
from tests.support.bench import born, end, open_connector

KINDS = ("postgresql",)
SETUP = """
CREATE ROLE plain NOLOGIN; CREATE ROLE between NOLOGIN; GRANT between TO plain;
CREATE TABLE data.pay (id int PRIMARY KEY, note text); GRANT USAGE ON SCHEMA data TO plain;
GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES ON data.pay TO plain; GRANT SELECT ON data.thing TO plain;
"""
UNDO = "DROP TABLE data.pay; DROP OWNED BY plain, between CASCADE; DROP ROLE plain, between"


@pytest.fixture
def version(bench: Any) -> Iterator[int]:
    """Give a role `plain` as a house would lend it, through which `between` is reached; say which server it is."""
    with bench.lending(SETUP, UNDO, "plain") as found:
        yield found


def opened(bench: Any, *, set_role: bool) -> Connector:
    """Open a connector that lends `plain`; a new one believes nothing that another found."""
    return open_connector(
        bench, {**bench.config(), "entitlements": {"writer": {"roles": ["plain"], "set_role": set_role}}}
    )


def refusal(bench: Any, *, set_role: bool) -> str:
    """Return why nothing is opened, empty where something is."""
    connector = opened(bench, set_role=set_role)
    try:
        end(connector, born(bench, connector)[0])
    except NotReady as why:
        return str(why)
    finally:
        connector.close()
    return ""


def said(bench: Any, *, set_role: bool = False) -> list[str]:
    """Return what `probe` says of roles that are not lent."""
    connector = opened(bench, set_role=set_role)
    lines = [line for line in connector.probe() if "nothing is opened" in line]
    connector.close()
    return lines


LEFT = {
    "trigger": ("GRANT TRIGGER ON data.pay TO {}", "REVOKE TRIGGER ON data.pay FROM {}", "may put triggers"),
    "all": (
        "GRANT ALL ON data.pay TO {}",
        "REVOKE TRIGGER, TRUNCATE ON data.pay FROM {}",
        "revoke TRIGGER (grant SELECT",
    ),
    "grant option": (
        "GRANT SELECT ON data.pay TO {} WITH GRANT OPTION",
        "REVOKE GRANT OPTION FOR SELECT ON data.pay FROM {}",
        "may hand SELECT on to others, on the table data.pay in app",
    ),
    "grant option on a column": (
        "GRANT UPDATE (note) ON data.pay TO {} WITH GRANT OPTION",
        "REVOKE GRANT OPTION FOR UPDATE (note) ON data.pay FROM {}",
        "on the column data.pay.note in app",
    ),
    "grant option on a database": (
        "GRANT CONNECT ON DATABASE app TO {} WITH GRANT OPTION",
        "REVOKE ALL ON DATABASE app FROM {}",
        "may hand CONNECT on to others, on the database app",
    ),
    "domain": (
        "CREATE DOMAIN data.email AS text; ALTER DOMAIN data.email OWNER TO {}",
        "DROP DOMAIN data.email",
        "owns the type data.email in app",
    ),
    "enum": (
        "CREATE TYPE data.mood AS ENUM ('a'); ALTER TYPE data.mood OWNER TO {}",
        "DROP TYPE data.mood",
        "owns the type data.mood in app",
    ),
    "sequence": (
        "CREATE SEQUENCE data.number; ALTER SEQUENCE data.number OWNER TO {}",
        "DROP SEQUENCE data.number",
        "owns the sequence data.number in app",
    ),
    "schema": ("CREATE SCHEMA theirs AUTHORIZATION {}", "DROP SCHEMA theirs", "owns the schema theirs in app"),
    "database": (
        "ALTER DATABASE other OWNER TO {}",
        "ALTER DATABASE other OWNER TO postgres",
        "owns the database other: give it another owner",
    ),
    "defaults": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {} GRANT SELECT ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE SELECT ON TABLES FROM PUBLIC",
        "gives rights by default on what it makes in app",
    ),
}
"""What is left behind, which `set_role: true` says is meant: grant, revoke, and what is said."""


@pytest.mark.covers("R50", "R54")
def test_a_role_that_could_leave_something_behind_is_not_lent_unless_that_is_meant(bench: Any, version: int) -> None:
    before = bench.accounts()
    with bench.owner() as owner:
        for number, (right, (gives, takes, why)) in enumerate(LEFT.items()):
            role = ("plain", "between")[number % 2]
            owner.execute(gives.format(role))
            try:
                found = refusal(bench, set_role=False)
                assert found.startswith(f"{role} "), right
                assert why in found
                if number == 0:
                    assert refusal(bench, set_role=True) == ""
            finally:
                owner.execute(takes.format(role))
        assert bench.accounts() == before, "nothing was made"
        for gives, _, _ in LEFT.values():
            owner.execute(gives.format("plain"))
        lines = said(bench)
        meant = said(bench, set_role=True)
        for _, takes, _ in LEFT.values():
            owner.execute(takes.format("plain"))
    # Of several things of a kind only the names stand in one line.
    wanted = {why.removesuffix(" in app").rpartition("the type ")[2] for _, _, why in LEFT.values()}
    assert {why for why in wanted if not any(why in line for line in lines)} == set()
    assert all(line.endswith(", or say set_role: true") for line in lines)
    assert meant == []
    assert (said(bench), refusal(bench, set_role=False)) == ([], "")


BEATS = {
    "pg_signal_backend": "the broker's own sessions are ended",
    "pg_execute_server_program": "programs run on the server's machine",
    "pg_read_server_files": "files of the server's machine are read",
    "pg_write_server_files": "files are left",
    "pg_use_reserved_connections": "the connections are taken",
    "pg_create_subscription": "subscriptions go on",
    "pg_maintain": "the server's own tables are locked",
}


@pytest.mark.covers("R50", "R54")
def test_what_reaches_a_role_of_the_server_that_beats_the_end_is_never_lent(bench: Any, version: int) -> None:
    with bench.owner() as owner:
        there = {name for (name,) in owner.execute("SELECT rolname FROM pg_roles WHERE oid < 16384 AND oid <> 10")}
        assert there <= outliving.HARMLESS | outliving.REFUSED.keys() | {"pg_database_owner"}, "each was judged"
        for name in sorted(there & BEATS.keys()):
            owner.execute(f"GRANT {name} TO between")
            assert f"what is lent reaches {name}, with which {BEATS[name]}" in refusal(bench, set_role=True)
            owner.execute(f"REVOKE {name} FROM between")
        harmless = ", ".join(sorted(there & outliving.HARMLESS))
        owner.execute(f"GRANT {harmless} TO between")
        assert refusal(bench, set_role=False) == ""
        connector = opened(bench, set_role=False)
        assert any(line.startswith("note: what is lent reaches pg_read_all_data") for line in connector.probe())
        connector.close()
        owner.execute(f"REVOKE {harmless} FROM between")


def test_a_role_of_the_server_that_nobody_has_judged_is_refused(monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    monkeypatch.setattr(outliving, "HARMLESS", outliving.HARMLESS - {"pg_monitor"})
    connector = open_connector(bench, {**bench.config(), "entitlements": {"writer": {"roles": ["pg_monitor"]}}})
    with pytest.raises(NotReady, match="pg_monitor, with which nobody knows here"):
        born(bench, connector)
    connector.close()


NEVER = {
    "superuser": ("CREATE ROLE dba SUPERUSER; GRANT dba TO between", "DROP ROLE dba", "dba, which is SUPERUSER"),
    "createrole": ("ALTER ROLE between CREATEROLE", "ALTER ROLE between NOCREATEROLE", "between, which is CREATEROLE"),
    "createdb": ("ALTER ROLE plain CREATEDB", "ALTER ROLE plain NOCREATEDB", "ALTER ROLE plain NOCREATEDB"),
    "replication": ("ALTER ROLE plain REPLICATION", "ALTER ROLE plain NOREPLICATION", "which is REPLICATION"),
    "admin option": (
        "CREATE ROLE club; GRANT club TO between WITH ADMIN OPTION",
        "DROP ROLE club",
        "between may make others members of club: revoke the admin option",
    ),
    "broker's own": (
        "GRANT jit_quarantine TO between",
        "REVOKE jit_quarantine FROM between",
        "a role of the broker's own",
    ),
    "configuration": (
        "GRANT ALTER SYSTEM ON PARAMETER archive_command TO between",
        "REVOKE ALTER SYSTEM ON PARAMETER archive_command FROM between",
        "may change the server's configuration, of the parameter archive_command",
    ),
    "files by a function": (
        "GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO between",
        "REVOKE EXECUTE ON FUNCTION lo_export(oid, text) FROM between",
        "may call what the server keeps from everybody, the routine lo_export(oid,text)",
    ),
    "files by a function for everybody": (
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM PUBLIC",
        "PUBLIC may call what the server keeps from everybody",
    ),
}


@pytest.mark.covers("R50", "R54")
def test_what_beats_the_end_of_a_lease_is_lent_by_no_entitlement(bench: Any, version: int) -> None:
    with bench.owner() as owner:
        for gives, takes, why in NEVER.values():
            owner.execute(gives)
            try:
                assert why in refusal(bench, set_role=True)
            finally:
                owner.execute(takes)
        for gives, _, _ in NEVER.values():
            owner.execute(gives)
        found = (said(bench), said(bench, set_role=True))
        for _, takes, _ in NEVER.values():
            owner.execute(takes)
    for lines in found:
        assert {why for _, _, why in NEVER.values() if not any(why in line for line in lines)} == set()
    assert refusal(bench, set_role=True) == ""


@pytest.mark.covers("R50", "R54")
def test_a_role_whose_password_a_lease_could_set_is_not_lent(bench: Any, version: int) -> None:
    """Who sets a role may change its password, and log in with it when the lease has ended."""
    with bench.owner() as owner:
        owner.execute("ALTER ROLE between LOGIN")
        why = "between can log in, and whoever sets it gives it a password: make it NOLOGIN"
        assert refusal(bench, set_role=True) == why
        assert refusal(bench, set_role=False) == (why if version < MODERN else "")
        owner.execute("ALTER ROLE between NOLOGIN")


@pytest.mark.covers("R50")
def test_the_right_to_lock_the_servers_own_tables_is_refused_where_it_is_given_on_them_alone(
    bench: Any, version: int
) -> None:
    if version < 170_000:
        return  # there is no such right
    with bench.owner() as owner:
        owner.execute("GRANT MAINTAIN ON pg_catalog.pg_authid, data.pay TO between")
        assert "lock tables of the server's own, the table pg_authid in app" in refusal(bench, set_role=True)
        owner.execute("REVOKE MAINTAIN ON pg_catalog.pg_authid FROM between")
        assert refusal(bench, set_role=False) == "", "a table of the application's may be maintained"
        owner.execute("REVOKE MAINTAIN ON data.pay FROM between")


@pytest.mark.covers("R50")
def test_figures_may_be_lent_and_many_tables_are_one_line(bench: Any, version: int) -> None:
    with bench.owner() as owner:
        owner.execute("GRANT EXECUTE ON FUNCTION pg_stat_reset(), pg_reload_conf() TO between")
        assert refusal(bench, set_role=False) == ""
        owner.execute("REVOKE EXECUTE ON FUNCTION pg_stat_reset(), pg_reload_conf() FROM between")
        owner.execute("CREATE SCHEMA wide")
        for number in range(7):
            owner.execute(f"CREATE TABLE wide.t{number} (); GRANT TRIGGER ON wide.t{number} TO plain")
        assert "the table wide.t0, wide.t1, wide.t2 and 4 more in app" in refusal(bench, set_role=False)
        owner.execute("DROP SCHEMA wide CASCADE")


@pytest.mark.covers("R50")
def test_what_one_lease_does_to_the_role_keeps_no_other_lease_out(bench: Any, version: int) -> None:
    connector = opened(bench, set_role=False)
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute("ALTER DEFAULT PRIVILEGES FOR ROLE plain GRANT ALL ON TABLES TO PUBLIC")
        session.connection.execute("SELECT lo_from_bytea(0, 'mine'::bytea)")
        if version < MODERN:
            session.connection.execute("SET ROLE plain; SELECT lo_from_bytea(0, 'mine'::bytea)")
        assert refusal(bench, set_role=False) == ""
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.connection.execute(
                "CREATE TRIGGER leak BEFORE UPDATE ON data.pay FOR EACH ROW "
                "WHEN (pg_notify('leak', NEW.note)::text = '') EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            )
    end(connector, effect)
    connector.close()
