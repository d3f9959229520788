"""PostgreSQL: what a person may do with a lease, and everything of it ends: sessions, rights, leftovers, in every database."""

import re
import threading
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jitaccess.broker.compare import Finding, What, compare
from jitaccess.broker.issue import Opened
from jitaccess.connectors.contract import (
    CallFailed,
    Connector,
    Effect,
    NotDone,
    NotReady,
    Secret,
    Surroundings,
    Undoing,
    Unreachable,
)
from jitaccess.connectors.postgresql import prepared
from jitaccess.connectors.postgresql.verifier import verifier
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.store.ids import new_secret
from tests.support.bench import Bench, LoginRefused, await_, born, end, open_connector, soon, spec_of
from tests.support.living import hand_over, lease, living
from tests.support.world import World

KINDS = ("postgresql",)
WAIT_S = 30.0
PROMISED_MS = 5_000


# ---------------------------------------------------------------- from the request to the end


@pytest.fixture
def world(bench: Bench, tmp_path: Path) -> Iterator[World]:
    """Give a broker that runs by the real clock, with one database as a target."""
    with living(bench, tmp_path) as world:
        yield world


@pytest.mark.covers("R49", "R50", "R55", "TRAP-10", "T-16")
def test_idle_busy_and_disguised_sessions_end_with_the_lease_and_nobody_comes_back(bench: Bench, world: World) -> None:
    for attempt in range(3):
        found = hand_over(world, 3)
        lag = _three_sessions(bench, world, found)
        if lag <= PROMISED_MS or attempt == 2:
            break
    print(f"{bench.label}: logins and sessions ended {lag} ms after the end of the lease")
    assert lag <= PROMISED_MS
    assert found.credential.username not in bench.accounts()


def _three_sessions(bench: Bench, world: World, found: Opened) -> int:
    credential = found.credential
    stop, in_after, gone = threading.Event(), list[str](), threading.Event()

    def knocking() -> None:
        while not stop.wait(0.01):
            was_gone = gone.is_set()
            with suppress(LoginRefused), bench.login(credential) as session:
                if was_gone and session.alive():
                    in_after.append("in")

    knocker = threading.Thread(target=knocking)
    with bench.login(credential) as idle, bench.login(credential) as busy, bench.login(credential) as disguised:
        disguised.connection.execute("SET ROLE app_write")  # type: ignore[attr-defined] # a PostgreSQL session
        disguised.connection.execute("BEGIN; LOCK TABLE data.thing IN ROW EXCLUSIVE MODE")  # type: ignore[attr-defined] # as above
        broken = threading.Event()

        def long_query() -> None:
            try:
                busy.connection.execute("SELECT pg_sleep(60)")  # type: ignore[attr-defined] # a PostgreSQL session
            except psycopg.Error:
                broken.set()

        query = threading.Thread(target=long_query)
        query.start()
        knocker.start()
        await_(lambda: lease(world, found.lease.id).state == LeaseState.REVOKED)
        gone.set()
        assert broken.wait(WAIT_S)
        assert not idle.alive()
        assert not disguised.alive()
        query.join()
    time.sleep(0.5)
    stop.set()
    knocker.join()
    assert in_after == []
    proof: Any = lease(world, found.lease.id).proof
    assert proof["cut"] == {"login": "locked", "sessions": 0, "prepared": 0}
    assert proof["clean"] == {"account": "absent"}
    lag: int = proof["lag_ms"]
    return lag


@pytest.mark.covers("R56", "T-10")
def test_the_end_of_one_lease_leaves_an_overlapping_one_of_the_same_person_alone(
    bench: Bench, world: World, connector: Connector
) -> None:
    short, long = hand_over(world, 2), hand_over(world, 3600)
    with bench.login(long.credential) as session:
        await_(lambda: lease(world, short.lease.id).state == LeaseState.REVOKED)
        assert session.alive()
    end(connector, Effect("postgresql", f"jit-{long.lease.id}"))


# ---------------------------------------------------------------- what is left behind


@pytest.mark.covers("R50", "T-15")
def test_a_definers_function_left_behind_runs_with_no_more_rights(bench: Any, connector: Connector) -> None:
    first, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE TABLE data.mine AS SELECT 'kept'::text AS note; "
            "CREATE FUNCTION data.grab() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT note FROM data.mine'; "
            "GRANT EXECUTE ON FUNCTION data.grab() TO PUBLIC"
        )
    end(connector, first)
    second, credential = born(bench, connector)
    with bench.login(credential) as session, pytest.raises(psycopg.Error):
        session.connection.execute("SELECT data.grab()")
    end(connector, second)
    with bench.owner() as owner:
        rows = owner.execute(
            "SELECT n.nspname, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relname = 'mine'"
        ).fetchall()
    ((place, keeper),) = rows
    assert place.startswith(f"{first.name}-")
    assert keeper == "jit_quarantine", "data is kept, out of everybody's way"


@pytest.mark.covers("R50")
def test_a_trigger_left_behind_does_not_fire_with_the_rights_of_others(bench: Any, connector: Connector) -> None:
    with bench.owner() as owner:
        owner.execute(
            "GRANT TRIGGER ON data.thing TO app_write"
        )  # its entitlement says set_role, without which it is not lent then
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE FUNCTION data.trap() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN EXECUTE 'CREATE ROLE trapped SUPERUSER'; RETURN NEW; END $$; "
            "CREATE TRIGGER trap BEFORE INSERT ON data.thing FOR EACH ROW EXECUTE FUNCTION data.trap()"
        )
    end(connector, effect)
    with bench.owner() as owner:
        owner.execute("INSERT INTO data.thing VALUES (1, 'by the owner, a superuser')")
        owner.execute("REVOKE TRIGGER ON data.thing FROM app_write")
    assert "trapped" not in bench.accounts()


@pytest.mark.covers("R50", "T-15")
def test_rights_and_things_in_another_database_go_too(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    command = credential.command.replace("dbname=app", "dbname=other")
    with bench.login(replace(credential, command=command)) as session:
        session.connection.execute("CREATE SCHEMA mine_here; CREATE TABLE mine_here.t (id int)")
        session.connection.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    connector.cut([effect])
    assert connector.clean([effect])[effect.name]["kept"] == 2
    assert effect.name not in bench.accounts()


@pytest.mark.covers("R50", "R51")
def test_a_right_that_somebody_else_gave_by_hand_keeps_the_locked_role_until_it_is_taken_back(
    bench: Any, connector: Connector
) -> None:
    effect, _ = born(bench, connector)
    with bench.owner("other") as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS public.theirs (id int)")
        owner.execute(f'GRANT SELECT ON public.theirs TO "{effect.name}"')
        connector.cut([effect])
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            connector.clean([effect])
        assert not bench.can_log_in(effect.name)
        owner.execute(f'REVOKE SELECT ON public.theirs FROM "{effect.name}"')
    connector.clean([effect])
    assert effect.name not in bench.accounts()


@pytest.mark.covers("R50")
def test_a_prepared_transaction_ends_with_its_person(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "BEGIN; LOCK TABLE data.thing IN SHARE ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'it''s mine'"
        )
    end(connector, effect)
    with bench.owner() as owner:
        assert owner.execute("SELECT count(*) FROM pg_prepared_xacts").fetchone() == (0,)
    assert effect.name not in bench.accounts()


@pytest.mark.covers("R50")
def test_a_table_that_is_kept_keeps_no_row_of_others(bench: Any, connector: Connector) -> None:
    with bench.owner() as owner:
        owner.execute("CREATE TABLE data.pay (id int PRIMARY KEY); INSERT INTO data.pay VALUES (1), (2)")
        owner.execute("GRANT REFERENCES ON data.pay TO app_write")
        effect, credential = born(bench, connector)
        with bench.login(credential) as session:
            session.connection.execute(
                "CREATE TABLE data.blocker (id int PRIMARY KEY REFERENCES data.pay); INSERT INTO data.blocker VALUES (1); "
                "CREATE TABLE data.after (id int REFERENCES data.blocker)"
            )
        end(connector, effect)
        owner.execute("DELETE FROM data.pay WHERE id = 1")
        place, _ = place_of(owner, "blocker")
        assert owner.execute(f'SELECT id FROM "{place}".blocker').fetchall() == [(1,)], "the row is kept"
        look = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conname ~ '^(after|blocker)_'"
        assert owner.execute(look).fetchall() == [("after_id_fkey",)], "one between kept tables stays"
        owner.execute("DROP TABLE data.pay")


@pytest.mark.covers("R50", "R54")
def test_while_an_end_is_not_finished_the_broker_has_nobodys_rights(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE FUNCTION data.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'"
        )
    note = f"note: jit_broker has the rights of {effect.name}, whose end is not finished"
    with bench.owner() as owner:
        owner.execute("CREATE TABLE data.sums (id int, twice int GENERATED ALWAYS AS (data.twice(id)) STORED)")
        connector.cut([effect])
        with pytest.raises(CallFailed, match="would_lose"):
            connector.clean([effect])
        look = "SELECT pg_has_role('jit_broker', %s, 'USAGE')"
        assert owner.execute(look, [effect.name]).fetchone() == (False,)
        assert note not in connector.probe()
        modern = owner.info.server_version >= 160_000  # from then on a membership may be there without its rights
        owner.execute(f'GRANT "{effect.name}" TO jit_broker{" WITH INHERIT TRUE" if modern else ""}')
        assert note in connector.probe()
        owner.execute("DROP TABLE data.sums")
    connector.clean([effect])
    assert effect.name not in bench.accounts()


def place_of(owner: Any, table: str) -> tuple[str, str]:
    """Return schema and owner of a table."""
    look = "SELECT relnamespace::regnamespace::text, relowner::regrole::text FROM pg_class WHERE relname = %s"
    ((place, keeper),) = owner.execute(look, [table]).fetchall()
    return place.strip('"'), keeper.strip('"')


@pytest.mark.covers("R50")
def test_partitions_are_kept_with_their_rows_also_those_of_the_applications_table(
    bench: Any, connector: Connector
) -> None:
    effect, credential = born(bench, connector)
    with bench.owner() as owner:
        owner.execute(
            "CREATE TABLE data.orders (id int, day int) PARTITION BY RANGE (day); ALTER TABLE data.orders OWNER TO app_write"
        )
        with bench.login(credential) as session:
            session.connection.execute(
                "CREATE TABLE data.orders_1 PARTITION OF data.orders FOR VALUES FROM (0) TO (100); "
                "CREATE TABLE data.mine_p (id int) PARTITION BY RANGE (id); "
                "CREATE TABLE data.mine_p1 PARTITION OF data.mine_p FOR VALUES FROM (0) TO (10); "
                "INSERT INTO data.mine_p VALUES (1)"
            )
        owner.execute("INSERT INTO data.orders VALUES (1, 5)")
        end(connector, effect)
        assert owner.execute("SELECT count(*) FROM data.orders").fetchone() == (1,)
        assert place_of(owner, "orders_1")[1] == "jit_quarantine"
        place, _ = place_of(owner, "mine_p")
        assert owner.execute(f'SELECT count(*) FROM "{place}".mine_p').fetchone() == (1,)
        owner.execute("DROP TABLE data.orders")


@pytest.mark.covers("R50")
def test_an_extension_stays_with_the_columns_that_others_made_of_it(bench: Any, connector: Connector) -> None:
    with bench.owner() as owner:
        offered = "SELECT name FROM pg_available_extension_versions WHERE trusted AND name <> 'plpgsql'"
        trusted = {name for (name,) in owner.execute(offered).fetchall()}
    if "citext" not in trusted:
        assert trusted == set(), "the wheel brings none that a person could make"
        return
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE SCHEMA ex; CREATE EXTENSION citext SCHEMA ex; GRANT USAGE ON SCHEMA ex TO PUBLIC; "
            "CREATE FUNCTION data.code() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
    with bench.owner() as owner:
        owner.execute("CREATE TABLE data.people (id int, of ex.citext); INSERT INTO data.people VALUES (1, 'a@b')")
        end(connector, effect)
        assert owner.execute("SELECT of::text FROM data.people").fetchone() == ("a@b",)
        keeper = owner.execute("SELECT extowner::regrole::text FROM pg_extension WHERE extname = 'citext'").fetchone()
        assert keeper == ("jit_quarantine",)
        assert owner.execute("SELECT count(*) FROM pg_proc WHERE proname = 'code'").fetchone() == (0,)
        owner.execute("DROP TABLE data.people; DROP EXTENSION citext")
    assert effect.name not in bench.accounts()


@pytest.mark.covers("R50", "R51")
def test_what_would_take_the_applications_column_along_is_left_and_named(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE FUNCTION data.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'; "
            "CREATE TABLE data.own_sums (id int, twice int GENERATED ALWAYS AS (data.twice(id)) STORED); "
            "INSERT INTO data.own_sums VALUES (21)"
        )
    with bench.owner() as owner:
        owner.execute("CREATE TABLE data.sums (id int, twice int GENERATED ALWAYS AS (data.twice(id)) STORED)")
        connector.cut([effect])
        with pytest.raises(CallFailed) as raised:
            connector.clean([effect])
        assert raised.value.code == "would_lose 1: data.sums.twice"
        assert not bench.can_log_in(effect.name)
        assert owner.execute("SELECT twice FROM data.sums").fetchall() == [], "the column is there"
        owner.execute("ALTER TABLE data.sums ALTER COLUMN twice DROP EXPRESSION")
        connector.clean([effect])
        place, _ = place_of(owner, "own_sums")
        assert owner.execute(f'SELECT twice FROM "{place}".own_sums').fetchone() == (42,)
        owner.execute("DROP TABLE data.sums")
    assert effect.name not in bench.accounts()


@pytest.mark.covers("R50", "R51")
def test_no_name_that_somebody_chose_keeps_a_lease_from_being_cleaned(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    other, others = born(bench, connector)
    with bench.owner() as owner:
        owner.execute("CREATE SCHEMA IF NOT EXISTS data2; GRANT USAGE, CREATE ON SCHEMA data2 TO app_write")
    with bench.login(others) as session:
        session.connection.execute(f'CREATE SCHEMA "{effect.name}"')
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE TABLE data.same (id int PRIMARY KEY); CREATE TABLE data2.same (id int PRIMARY KEY); "
            "CREATE TYPE data.kind AS ENUM ('a'); CREATE TYPE data2.kind AS ENUM ('b'); "
            "CREATE TABLE data.one (id int CONSTRAINT key PRIMARY KEY); "
            "CREATE TABLE data2.two (id int CONSTRAINT key PRIMARY KEY); CREATE TABLE data2._one (id int)"
        )
    connector.cut([effect])
    assert connector.clean([effect])[effect.name]["kept"] == 7
    end(connector, other)
    with bench.owner() as owner:
        rows = owner.execute(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname IN ('same', 'one')"
        ).fetchall()
        assert rows == [("jit_quarantine",)]
        owner.execute("DROP SCHEMA data2 CASCADE")


@pytest.mark.covers("R50", "R51", "R57")
def test_a_transaction_prepared_as_a_lent_role_is_counted_found_and_rolled_back_where_that_is_configured(
    bench: Any, connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = "BEGIN; LOCK TABLE data.thing IN SHARE ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'as the role'"
    monkeypatch.setattr(prepared, "OLD_S", 0)
    for configured in (False, True):
        sure = open_connector(bench, {**bench.config(), "roll_back_prepared": configured})
        effect, credential = born(bench, sure)
        with bench.login(credential) as session:
            session.connection.execute("SET ROLE app_write")
            session.connection.execute(prepare)
        found = any("transaction prepared at" in right for right in sure.observe().accounts["app_write"].rights)
        proof = sure.cut([effect])[effect.name]
        sure.clean([effect])
        sure.close()
        with bench.owner() as owner:
            (left,) = owner.execute("SELECT count(*) FROM pg_prepared_xacts").fetchone()
            if left:
                owner.execute("ROLLBACK PREPARED 'as the role'")
            members = owner.execute(
                "SELECT count(*) FROM pg_auth_members WHERE roleid = 'app_write'::regrole AND member = 'jit_broker'::regrole"
            ).fetchone()
            (version,) = owner.execute("SELECT current_setting('server_version_num')::int").fetchone()
        assert found
        assert left == (0 if configured else 1)
        assert proof.get("prepared_by_lent_roles", 0) == left, "the proof says what is there"
        assert members == (1 if version >= 160_000 else 0,), "the broker is no longer the role than it takes"


@pytest.mark.covers("R57")
def test_more_rights_and_what_outlives_a_lease_are_seen_and_fewer_rights_are_none(
    bench: Any, connector: Connector
) -> None:
    def of_the_role() -> frozenset[str]:
        return connector.observe().accounts["app_write"].rights

    before = of_the_role()
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_write GRANT SELECT ON TABLES TO PUBLIC; SET ROLE app_write; "
            "CREATE FUNCTION data.back() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'; "
            "CREATE FUNCTION data.plain() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
    end(connector, effect)
    with bench.owner() as owner:
        assert {re.sub(r" \(text [0-9a-f]{16}\)", "", word) for word in of_the_role() - before} == {
            "gives by default SELECT on tables to PUBLIC in app",
            "lends itself to routine data.back() in app",
            "owner of routine data.plain() in app",
        }
        owner.execute(
            "DROP FUNCTION data.back(); DROP FUNCTION data.plain(); "
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_write REVOKE SELECT ON TABLES FROM PUBLIC"
        )
        owner.execute("GRANT DELETE, TRUNCATE ON data.thing TO app_write; ALTER ROLE app_write SET search_path = evil")
        assert of_the_role() - before == {
            "DELETE on table data.thing in app",
            "TRUNCATE on table data.thing in app",
            "setting search_path=evil",
        }
        owner.execute("REVOKE DELETE, TRUNCATE, UPDATE ON data.thing FROM app_write; ALTER ROLE app_write RESET ALL")
        assert of_the_role() - before == set()
        assert before - of_the_role() == {"UPDATE on table data.thing in app"}
        owner.execute("GRANT UPDATE ON data.thing TO app_write")


@pytest.mark.covers("R57")
def test_what_was_tampered_with_is_seen(bench: Any, connector: Connector) -> None:
    spec = spec_of(bench)
    effect = connector.plan(spec)
    credential = connector.apply(effect, soon())
    before = connector.observe().accounts[effect.name]
    with bench.login(credential) as session:
        session.connection.execute(f"ALTER ROLE \"{effect.name}\" PASSWORD 'my own'")
        session.connection.execute("CREATE TABLE data.x (id int)")
    with bench.owner() as owner:
        owner.execute(f"ALTER ROLE \"{effect.name}\" VALID UNTIL 'infinity' CREATEDB")
    after, expected = connector.observe().accounts[effect.name], connector.expects(effect, spec.ends_at)
    assert after.expires_at is None
    assert after.rights - expected.rights == {"CREATEDB"}
    assert after.owns - expected.owns == {"1 of pg_class in app"}
    assert before.fingerprint
    assert after.fingerprint != before.fingerprint
    end(connector, effect)


@pytest.mark.covers("R57")
def test_a_superuser_made_by_hand_is_disabled_through_the_owners_function_or_the_statement_is_said(
    bench: Any, connector: Connector
) -> None:
    with bench.owner() as owner:
        owner.execute("CREATE ROLE shadow LOGIN SUPERUSER PASSWORD 'x'")
        assert "SUPERUSER" in connector.observe().accounts["shadow"].rights
        owner.execute("ALTER FUNCTION jitaccess.disable(text) RENAME TO away")
        told = connector.quarantine("shadow", remove=False)
        assert (told.done, told.statement) == (False, 'ALTER ROLE "shadow" NOLOGIN;')
        assert bench.can_log_in("shadow")
        owner.execute("ALTER FUNCTION jitaccess.away(text) RENAME TO disable")
        assert connector.quarantine("shadow", remove=False).done
        assert not bench.can_log_in("shadow")
        owner.execute("DROP ROLE shadow")
    for kept in ("postgres", "jit_broker", "jit_quarantine"):
        with suppress(psycopg.Error):
            assert not connector.quarantine(kept, remove=False).done
    assert bench.can_log_in("postgres")


@pytest.mark.covers("R57")
def test_a_superuser_that_nobody_can_log_in_with_is_found_too(bench: Any, connector: Connector) -> None:
    """`CREATE ROLE` makes a role without a login where nothing else is said; one GRANT later somebody is it."""
    with bench.owner() as owner:
        owner.execute("CREATE ROLE shadow SUPERUSER")
        seen = connector.observe()
        owner.execute("DROP ROLE shadow")
    for first in (True, False):
        found = compare(
            seen,
            explained={},
            ending=frozenset(),
            excepted={},
            known={},
            enforced=True,
            first=first,
            named=frozenset({"app_read", "app_write"}),
        )
        assert Finding("shadow", What.NEW, ("NOLOGIN", "SUPERUSER")) in found
    assert "app_read" not in {one.account for one in found}


@contextmanager
def without_the_owners_functions(bench: Any) -> Iterator[Any]:
    """Give the owner's connection to a server whose owner left the optional part of the setup out."""
    with bench.owner() as owner:
        owner.execute("ALTER SCHEMA jitaccess RENAME TO put_away")
        try:
            yield owner
        finally:
            owner.execute("DROP SCHEMA IF EXISTS jitaccess CASCADE; ALTER SCHEMA put_away RENAME TO jitaccess")


@pytest.mark.covers("R50", "R57")
def test_functions_that_a_lease_writes_in_the_owners_place_are_found_and_never_run(
    bench: Any, connector: Connector
) -> None:
    trap = "LANGUAGE plpgsql SECURITY INVOKER AS $$ BEGIN CREATE ROLE trojan LOGIN CREATEROLE; RETURN; END $$"
    effect, credential = born(bench, connector)
    with without_the_owners_functions(bench) as owner:
        with bench.login(credential) as session:
            session.connection.execute(
                "CREATE SCHEMA jitaccess; GRANT USAGE ON SCHEMA jitaccess TO PUBLIC; CREATE FUNCTION "
                f"jitaccess.fingerprints() RETURNS TABLE (name text, fingerprint text) {trap}; "
                f"CREATE FUNCTION jitaccess.disable(account text) RETURNS void {trap}"
            )
        owner.execute("CREATE ROLE shadow LOGIN SUPERUSER")
        seen = connector.observe()
        held = connector.quarantine("shadow", remove=False)
        owner.execute("DROP ROLE shadow")
        said = [line for line in connector.probe() if line.startswith("danger")]
        end(connector, effect)
    assert "trojan" not in bench.accounts()
    assert "keys" not in seen.coverage
    assert not held.done
    extra = seen.accounts[effect.name].rights - connector.expects(effect, soon()).rights
    assert "owner of the schema jitaccess" in extra
    assert "owner of the routine jitaccess.fingerprints" in extra
    assert len(said) == 2


@pytest.mark.parametrize(
    "weakened",
    [
        "ALTER FUNCTION jitaccess.fingerprints() SECURITY INVOKER",
        "ALTER FUNCTION jitaccess.fingerprints() RESET search_path",
        "ALTER FUNCTION jitaccess.fingerprints() OWNER TO app_write",
        "GRANT CREATE ON SCHEMA jitaccess TO app_write",
        "GRANT EXECUTE ON FUNCTION jitaccess.fingerprints() TO PUBLIC",
    ],
)
@pytest.mark.covers("R57")
def test_a_function_that_others_could_have_written_is_not_called(
    bench: Any, connector: Connector, weakened: str
) -> None:
    with bench.owner() as owner:
        owner.execute(weakened)
        try:
            assert "keys" not in connector.observe().coverage
            assert any(line.startswith("danger: jitaccess.fingerprints") for line in connector.probe())
        finally:
            owner.execute(
                "ALTER FUNCTION jitaccess.fingerprints() OWNER TO CURRENT_USER; "
                "ALTER FUNCTION jitaccess.fingerprints() SECURITY DEFINER SET search_path = pg_catalog, pg_temp; "
                "REVOKE ALL ON FUNCTION jitaccess.fingerprints() FROM PUBLIC; "
                "REVOKE CREATE ON SCHEMA jitaccess FROM app_write"
            )
    assert "keys" in connector.observe().coverage


@pytest.mark.covers("R57")
def test_a_strangers_things_are_never_touched_and_the_owner_is_told_what_to_run(
    bench: Any, connector: Connector
) -> None:
    with bench.owner() as owner:
        owner.execute(
            "CREATE ROLE payroll LOGIN PASSWORD 'kept'; GRANT CREATE, USAGE ON SCHEMA data TO payroll; "
            "CREATE TABLE data.salaries (id int); INSERT INTO data.salaries VALUES (1); "
            "ALTER TABLE data.salaries OWNER TO payroll; "
            "CREATE FUNCTION data.tax() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION data.tax() OWNER TO payroll"
        )
        (password,) = owner.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'payroll'").fetchone()
        told = connector.quarantine("payroll", remove=True)
        assert told.done, "it is locked"
        assert not bench.can_log_in("payroll")
        look = (
            "SELECT relnamespace::regnamespace::text, relowner::regrole::text FROM pg_class WHERE relname = 'salaries'"
        )
        assert owner.execute(look).fetchone() == ("data", "payroll")
        assert owner.execute("SELECT count(*), max(data.tax()) FROM data.salaries").fetchone() == (1, 1)
        assert owner.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'payroll'").fetchone() == (password,)
        assert "DROP ROLE" in told.statement
        owner.execute(told.statement)
        assert owner.execute("SELECT count(*), max(data.tax()) FROM data.salaries").fetchone() == (1, 1)
        owner.execute("DROP TABLE data.salaries; DROP FUNCTION data.tax()")
    assert "payroll" not in bench.accounts()


@pytest.mark.covers("R57")
def test_the_owner_is_told_how_to_take_back_what_a_role_was_given(bench: Any, connector: Connector) -> None:
    assert isinstance(connector, Undoing)
    with bench.owner() as owner:
        owner.execute('CREATE ROLE "more\'s"')
        before = connector.observe().accounts["app_write"].rights
        owner.execute("ALTER ROLE app_write SUPERUSER CREATEROLE BYPASSRLS")
        owner.execute('GRANT "more\'s" TO app_write WITH ADMIN OPTION')
        owner.execute(
            'CREATE TABLE data."odd""t" (note text); CREATE FUNCTION data.f(text) RETURNS int LANGUAGE sql AS \'SELECT 1\''
        )
        owner.execute(
            'GRANT ALL ON data."odd""t" TO app_write WITH GRANT OPTION; GRANT UPDATE (note) ON data.thing TO app_write'
        )
        owner.execute("REVOKE ALL ON FUNCTION data.f FROM PUBLIC; GRANT EXECUTE ON FUNCTION data.f TO app_write")
        owner.execute("GRANT CREATE ON DATABASE app TO app_write; ALTER ROLE app_write SET search_path = data")
        extra = sorted(connector.observe().accounts["app_write"].rights - before)
        told = connector.undoing("app_write", extra).splitlines()
        assert len(told) == len(extra) > 10
        assert not [line for line in told if "look at" in line]
        for line in told:
            owner.execute(line)
        assert connector.observe().accounts["app_write"].rights == before
        owner.execute('DROP ROLE "more\'s"')


# ---------------------------------------------------------------- the way there


@pytest.mark.covers("R48", "R55")
def test_the_server_sees_a_verifier_and_never_the_password(bench: Any, connector: Connector) -> None:
    with bench.owner() as owner:
        effect, credential = born(bench, connector)
        (stored,) = owner.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [effect.name]).fetchone()
    assert credential.secret is not None
    assert stored.startswith("SCRAM-SHA-256$")
    assert credential.secret.reveal() not in stored
    end(connector, effect)


def test_a_broker_that_is_too_mighty_says_so(bench: Any, connector: Connector) -> None:
    with bench.owner() as owner:
        owner.execute(
            "ALTER ROLE jit_broker CREATEDB; GRANT SELECT ON data.thing TO jit_broker; ALTER ROLE app_write CREATEROLE"
        )
        found = connector.probe()
        owner.execute(
            "ALTER ROLE jit_broker NOCREATEDB; REVOKE SELECT ON data.thing FROM jit_broker; ALTER ROLE app_write NOCREATEROLE"
        )
    assert "too mighty: jit_broker is CREATEDB" in found
    assert (
        "too mighty: nothing is opened: what is lent reaches app_write, which is CREATEROLE: ALTER ROLE app_write NOCREATEROLE"
        in found
    )
    assert "too mighty: jit_broker has SELECT on table data.thing in app" in found


@pytest.mark.covers("R52", "R54")
def test_what_a_lent_role_reaches_through_others_is_said(bench: Any, connector: Connector) -> None:
    with bench.owner() as owner:
        owner.execute(
            "CREATE ROLE between; CREATE ROLE real_dba SUPERUSER; CREATE ROLE sharing; GRANT between TO app_write; "
            "GRANT real_dba TO between; GRANT sharing TO between WITH ADMIN OPTION; "
            "GRANT pg_read_server_files TO between"
        )
        found = connector.probe()
        owner.execute("DROP ROLE between, real_dba, sharing")
    for said in (
        "what is lent reaches real_dba, which is SUPERUSER: ALTER ROLE real_dba NOSUPERUSER",
        "between may make others members of sharing: revoke the admin option",
        "what is lent reaches pg_read_server_files, with which files of the server's machine are read, passwords and keys among them: "
        "revoke it",
    ):
        assert f"too mighty: nothing is opened: {said}" in found


@pytest.mark.covers("R50", "R52")
def test_a_lease_has_the_rights_of_a_role_and_cannot_make_things_as_it_unless_that_is_configured(
    bench: Any, connector: Connector
) -> None:
    with bench.owner() as owner:
        (version,) = owner.execute("SELECT current_setting('server_version_num')::int").fetchone()
    config = {**bench.config(), "entitlements": {"writer": {"roles": ["app_write"]}}}
    careful = open_connector(bench, config)
    if version < 160_000:
        with pytest.raises(NotReady, match="app_write may create"):
            born(bench, careful)
    else:
        effect, credential = born(bench, careful)
        with bench.login(credential) as session:
            assert session.alive()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.connection.execute("SET ROLE app_write")
        end(careful, effect)
    careful.close()


@pytest.mark.covers("R55")
@pytest.mark.parametrize(("change", "rounds"), [({}, 4096), ({"password_rounds": 1}, 1)])
def test_the_server_gets_a_verifier_with_as_many_rounds_as_configured(
    bench: Any, change: Mapping[str, object], rounds: int
) -> None:
    connector = open_connector(bench, {**bench.config(), **change})
    effect, credential = born(bench, connector)
    other, _ = born(bench, connector)
    with bench.owner() as owner:
        saved = owner.execute("SELECT DISTINCT split_part(rolpassword, '$', 2) FROM pg_authid WHERE rolname ~ '^jit-'")
        assert len(saved.fetchall()) == 2, "each has a salt of its own"
        (stored,) = owner.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [effect.name]).fetchone()
        salt = b64decode(stored.split(":")[1].split("$")[0])
    assert stored.startswith(f"SCRAM-SHA-256${rounds}:")
    assert stored == verifier(credential.secret.reveal(), rounds, salt)
    with bench.login(credential) as session:
        assert session.alive()
    end(connector, effect, other)
    connector.close()


@pytest.mark.covers("R55")
def test_a_verifier_is_the_one_that_the_servers_own_library_makes(bench: Any) -> None:
    with bench.owner() as owner:
        theirs = owner.pgconn.encrypt_password(b"a word of ours", b"anybody", b"scram-sha-256").decode()
    salt = b64decode(theirs.split(":")[1].split("$")[0])
    assert theirs == verifier("a word of ours", 4096, salt)


@pytest.mark.covers("R47", "R57")
def test_a_server_whose_clock_differs_makes_nothing_and_is_found(bench: Any) -> None:
    before = bench.accounts()
    for off, way in ((timedelta(minutes=1), "behind"), (timedelta(minutes=-1), "ahead of")):
        model = bench.kind.config.model_validate(dict(bench.config()))

        def later(off: timedelta = off) -> datetime:
            return datetime.now(UTC) + off

        around = Surroundings(lambda name: (bench.secret(),), new_secret, later)
        connector = bench.kind.open(model, around)
        with pytest.raises(NotDone, match="clocks"):
            connector.apply(connector.plan(spec_of(bench)), soon())
        word = f"clock: the server is more than 5 s {way} the broker"
        assert word in connector.probe()
        (found,) = [one for one in connector.observe().accounts.values() if word in one.rights]
        assert not connector.quarantine(found.name, remove=True).done
        connector.close()
    assert bench.accounts() == before


@pytest.mark.covers("R55")
def test_the_command_trusts_a_file_that_the_person_gets_or_the_system(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    end(connector, effect)
    config = bench.config()
    if config["tls"] == "none":
        assert "sslrootcert" not in credential.command
        assert credential.files == {}
        return
    assert credential.files["server-ca.pem"].reveal() == Path(config["root_ca"]).read_text()
    assert "sslrootcert=server-ca.pem" in credential.command
    assert config["root_ca"] not in credential.command


def test_a_server_that_shows_a_certificate_of_somebody_else_is_not_spoken_to(bench: Any, tmp_path: Path) -> None:
    config = dict(bench.config())
    if config["tls"] == "none":
        with pytest.raises(ValueError, match="loopback"):
            bench.kind.config.model_validate(config | {"host": "db.example"})
        return
    for change in ({"root_ca": ""}, {"host": "localhost"}):
        with pytest.raises(Unreachable):
            open_connector(bench, config | change).observe()


def test_a_wrong_secret_is_unreachable_and_not_repeated_to_anybody(bench: Bench) -> None:
    with pytest.raises(Unreachable) as raised:
        open_connector(bench, None, Secret("wrong-secret-of-the-broker")).observe()
    assert "wrong-secret" not in repr(raised.value)
