"""PostgreSQL: an administrator that somebody with every right on the server hides, and whether the look sees it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jitaccess.broker.compare import Excepted, Finding, Remembered, What, compare
from jitaccess.connectors.contract import Connector, Inventory, Undoing
from tests.support.bench import Bench, open_connector, soon, spec_of

KINDS = ("postgresql",)


@pytest.fixture
def connector(bench: Bench) -> Iterator[Connector]:
    """Open a connector as the broker does."""
    found = open_connector(bench)
    yield found
    found.close()


def remembered(seen: Inventory) -> dict[str, Remembered]:
    return {
        name: Remembered(account.rights, account.fingerprint, gone=False) for name, account in seen.accounts.items()
    }


@contextmanager
def done(bench: Any, does: str, undoes: str) -> Iterator[Any]:
    with bench.owner() as owner:
        for statement in does.split(";; "):
            owner.execute(statement)
        try:
            yield owner
        finally:
            for statement in undoes.split(";; "):
                owner.execute(statement)


@contextmanager
def without_fingerprints(bench: Any) -> Iterator[None]:
    name = "jitaccess.fingerprints()"
    with done(bench, f"ALTER FUNCTION {name} RENAME TO away", "ALTER FUNCTION jitaccess.away() RENAME TO fingerprints"):
        yield


def between(connector: Connector, before: Inventory, *excepted: str) -> list[Finding]:
    """Return what a second look finds that names these accounts as exceptions, with the rights that they had at the first."""
    return [
        *compare(
            connector.observe(),
            explained={},
            ending=frozenset(),
            excepted={name: Excepted(None) for name in ("postgres", *excepted)},
            known=remembered(before),
            enforced=True,
            named=frozenset({"app_write"}),
        )
    ]


HIDDEN = {
    "a role of the server gets a superuser": (
        "GRANT postgres TO pg_monitor",
        "REVOKE postgres FROM pg_monitor",
        ("pg_monitor", "member of postgres"),
    ),
    "a role of the server gets a right": (
        "GRANT DELETE ON data.thing TO pg_monitor",
        "REVOKE DELETE ON data.thing FROM pg_monitor",
        ("pg_monitor", "DELETE on table data.thing in app"),
    ),
    "a superuser hides under a name of the server's": (
        "CREATE ROLE shadow9 LOGIN SUPERUSER;; UPDATE pg_authid SET rolname = 'pg_shadow9' WHERE rolname = 'shadow9'",
        "UPDATE pg_authid SET rolname = 'shadow9' WHERE rolname = 'pg_shadow9';; DROP ROLE shadow9",
        ("pg_shadow9", "SUPERUSER"),
    ),
    "a role of the server logs in": (
        "UPDATE pg_authid SET rolcanlogin = true, rolsuper = true WHERE rolname = 'pg_monitor'",
        "UPDATE pg_authid SET rolcanlogin = false, rolsuper = false WHERE rolname = 'pg_monitor'",
        ("pg_monitor", "SUPERUSER"),
    ),
    "a superuser's routine hides in an extension": (
        "CREATE FUNCTION data.door() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text';; "
        "ALTER EXTENSION plpgsql ADD FUNCTION data.door()",
        "ALTER EXTENSION plpgsql DROP FUNCTION data.door();; DROP FUNCTION data.door()",
        ("postgres", "lends itself to routine data.door()"),
    ),
    "everybody may read": (
        "GRANT SELECT ON data.thing TO PUBLIC",
        "REVOKE SELECT ON data.thing FROM PUBLIC",
        ("(everybody)", "SELECT on table data.thing in app"),
    ),
    "every session begins with a setting": (
        "ALTER DATABASE app SET search_path = evil",
        "ALTER DATABASE app RESET search_path",
        ("(everybody)", "setting search_path=evil in app"),
    ),
    "somebody elsewhere may read what is written": (
        "SELECT pg_create_physical_replication_slot('copy', true)",
        "SELECT pg_drop_replication_slot('copy')",
        ("(everybody)", "replication slot copy (physical)"),
    ),
    "somebody elsewhere writes": (
        "CREATE SUBSCRIPTION inflow CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)",
        "ALTER SUBSCRIPTION inflow SET (slot_name = NONE);; DROP SUBSCRIPTION inflow",
        ("postgres", "owner of subscription inflow in app"),
    ),
    "a table is given away": (
        "CREATE TABLE data.payroll (id int);; ALTER TABLE data.payroll OWNER TO night",
        "DROP TABLE data.payroll",
        ("night", "owner of table data.payroll in app"),
    ),
    "a schema is given away": (
        "CREATE SCHEMA given AUTHORIZATION mon",
        "DROP SCHEMA given",
        ("mon", "owner of schema given in app"),
    ),
    "a database is given away": (
        "ALTER DATABASE other OWNER TO mon",
        "ALTER DATABASE other OWNER TO postgres",
        ("mon", "owner of database other"),
    ),
    "a table is given to a lent role": (
        "CREATE TABLE data.wages (id int);; ALTER TABLE data.wages OWNER TO app_write",
        "DROP TABLE data.wages",
        ("app_write", "owner of table data.wages in app"),
    ),
}


@pytest.mark.covers("R57")
def test_hidden_ways_to_more_are_found(bench: Any, connector: Connector) -> None:
    with done(bench, "CREATE ROLE mon LOGIN IN ROLE pg_monitor;; CREATE ROLE night LOGIN", "DROP ROLE mon, night"):
        before = connector.observe()
        assert between(connector, before, "mon", "night") == []
        makes, unmakes = (";; ".join(way[step] for way in HIDDEN.values()) for step in (0, 1))
        with done(bench, makes, unmakes):
            found = {one.account: one.extra for one in between(connector, before, "mon", "night")}
        unseen = {
            way
            for way, (_, _, (account, word)) in HIDDEN.items()
            if not any(extra.startswith(word) for extra in found.get(account, ()))
        }
        assert unseen == set()
        assert between(connector, before, "mon", "night") == []


@pytest.mark.covers("R57")
def test_the_text_of_a_routine_that_lends_rights_is_compared(bench: Any, connector: Connector) -> None:
    body = "FUNCTION data.lends() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT {}'"
    makes = (
        f"CREATE {body.format('current_user::text')};; ALTER FUNCTION data.lends() OWNER TO app_write;; "
        "REVOKE ALL ON FUNCTION data.lends() FROM PUBLIC"
    )
    with done(bench, makes, "DROP FUNCTION data.lends()"):
        before = connector.observe()
        effect = connector.plan(spec_of(bench))
        credential = connector.apply(effect, soon())
        with bench.login(credential) as session:
            session.connection.execute(f"CREATE OR REPLACE {body.format(chr(39) * 2 + 'mine' + chr(39) * 2)}")
            session.connection.execute("GRANT ALL ON FUNCTION data.lends() TO PUBLIC")
        connector.cut([effect])
        connector.clean([effect])
        found = {one.account: one for one in between(connector, before)}
    assert any(extra.startswith("lends itself to routine data.lends()") for extra in found["app_write"].extra)
    assert "EXECUTE on routine data.lends() in app" in found["(everybody)"].extra


@pytest.mark.covers("R57")
def test_the_owner_is_told_how_everybody_and_roles_of_the_server_lose_it_again(
    bench: Any, connector: Connector
) -> None:
    assert isinstance(connector, Undoing)
    before = connector.observe()
    does = (
        "GRANT SELECT ON data.thing TO PUBLIC;; ALTER DATABASE app SET work_mem = '8MB';; ALTER ROLE ALL SET work_mem = '9MB';; "
        "SELECT pg_create_physical_replication_slot('copy', true);; "
        "GRANT postgres TO pg_monitor;; UPDATE pg_authid SET rolcanlogin = true, rolsuper = true WHERE rolname = 'pg_monitor'"
    )
    with done(bench, does, "SELECT 1") as owner:
        extra = connector.observe().accounts["(everybody)"].rights - before.accounts["(everybody)"].rights
        held = connector.quarantine("pg_monitor", remove=False)
        assert not held.done
        for line in (*connector.undoing("(everybody)", sorted(extra)).splitlines(), *held.statement.splitlines()):
            assert "look at" not in line
            owner.execute(line)
    assert len(extra) == 4
    after = connector.observe()
    assert after.accounts["(everybody)"].rights == before.accounts["(everybody)"].rights
    assert "pg_monitor" not in after.accounts


@pytest.mark.covers("R54", "R57")
def test_a_role_that_is_opened_or_made_again_and_a_broker_that_can_do_more_are_found(
    bench: Any, connector: Connector
) -> None:
    with without_fingerprints(bench), done(bench, "CREATE ROLE quiet;; CREATE ROLE other", "DROP ROLE quiet, other"):
        before = connector.observe()
        assert "keys" not in before.coverage
        does = "ALTER ROLE quiet LOGIN;; DROP ROLE other;; CREATE ROLE other;; ALTER ROLE jit_broker SUPERUSER"
        with done(bench, does, "ALTER ROLE jit_broker NOSUPERUSER") as owner:
            found = {one.account: one for one in between(connector, before, "quiet", "other")}
            owner.execute(connector.undoing("quiet", found["quiet"].extra))  # type: ignore[attr-defined] # this kind can
            assert not bench.can_log_in("quiet")
    assert (found["quiet"].what, found["quiet"].extra) == (What.RAISED, ("LOGIN",))
    assert found["other"].what is What.KEY_CHANGED
    assert (found["jit_broker"].what, found["jit_broker"].extra) == (What.RAISED, ("SUPERUSER",))


@pytest.mark.covers("R57")
def test_what_comes_and_goes_with_leases_is_no_finding_about_the_brokers_own_role(
    bench: Any, connector: Connector
) -> None:
    before = connector.observe()
    effect = connector.plan(spec_of(bench))
    connector.apply(effect, soon())
    assert connector.observe().accounts["jit_broker"].rights <= before.accounts["jit_broker"].rights
    connector.cut([effect])
    connector.clean([effect])


@pytest.mark.covers("R54", "R61")
def test_leases_that_could_fill_the_server_are_noted(bench: Any, connector: Connector) -> None:
    assert not [line for line in connector.probe() if "cannot come in" in line]
    many = {"writer": {"roles": ["app_write"], "connection_limit": 1000, "set_role": True}}
    wide = open_connector(bench, {**bench.config(), "entitlements": many})
    (said,) = [line for line in wide.probe() if "cannot come in" in line]
    wide.close()
    assert said.startswith("note: one lease of each entitlement may take 1000 of 57 connections")
