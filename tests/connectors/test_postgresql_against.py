"""PostgreSQL: what a person does *against* the end of their lease. It ends all the same, for them and for everybody beside them."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from jitaccess.connectors.contract import CallFailed, Connector, Effect, Surroundings
from jitaccess.connectors.postgresql import leftovers
from jitaccess.store.ids import new_secret
from tests.support.bench import LoginRefused, born

KINDS = ("postgresql",)


def ended(bench: Any, connector: Connector, *effects: Effect) -> None:
    names = {effect.name for effect in effects}
    assert set(connector.cut(effects)) == names
    assert set(connector.clean(effects)) == names
    assert not names & bench.accounts()


# ---------------------------------------------------------------- the row of one's own role


@pytest.mark.parametrize(
    "keeping",
    [
        "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
        "ALTER ROLE CURRENT_USER PASSWORD 'mine'; PREPARE TRANSACTION 'mine'",
        "ALTER ROLE CURRENT_USER PASSWORD 'mine'; SET ROLE app_write; PREPARE TRANSACTION 'mine'",
        "CREATE TABLE data.never (id int); SET ROLE app_write; PREPARE TRANSACTION 'mine'",
    ],
)
@pytest.mark.covers("R50", "R61")
def test_whoever_keeps_the_row_of_their_own_role_locked_is_out_with_the_others(
    bench: Any, connector: Connector, keeping: str
) -> None:
    (effect, credential), (beside, others) = born(bench, connector), born(bench, connector)
    with bench.login(credential) as session, bench.login(others) as innocent:
        session.connection.execute(f"BEGIN; {keeping}")
        proof = connector.cut([effect, beside])
        assert not session.alive()
        assert not innocent.alive()
    assert proof[effect.name] == {"login": "locked", "sessions": 0, "prepared": 0}
    for one in (credential, others):
        with pytest.raises(LoginRefused), bench.login(one):
            pass
    ended(bench, connector, effect, beside)


@contextmanager
def prepared_by_the_owner(bench: Any, statement: str, name: str) -> Iterator[None]:
    with bench.owner() as owner:
        owner.execute(f"BEGIN; {statement}; PREPARE TRANSACTION '{name}'")
        try:
            yield
        finally:
            owner.execute(f"ROLLBACK PREPARED '{name}'")


@pytest.mark.covers("R50", "R51", "R61")
def test_what_cannot_be_rolled_back_is_said_stops_nobody_elses_end_and_no_session_goes_on(
    bench: Any, connector: Connector
) -> None:
    (effect, credential), (beside, others) = born(bench, connector), born(bench, connector)
    with (
        bench.login(credential) as session,
        bench.login(others) as innocent,
        prepared_by_the_owner(bench, f"ALTER ROLE \"{effect.name}\" PASSWORD 'x'", "owners"),
    ):
        assert set(connector.cut([effect, beside])) == {beside.name}
        with pytest.raises(CallFailed) as raised:
            connector.cut([effect])
        assert not session.alive()
        assert not innocent.alive()
    assert raised.value.code == "prepared: ROLLBACK PREPARED 'owners' in app"
    ended(bench, connector, effect, beside)


@pytest.mark.covers("R50", "R51")
def test_a_lease_that_somebody_made_a_superuser_keeps_nobody_else_in(bench: Any, connector: Connector) -> None:
    (effect, credential), (beside, others) = born(bench, connector), born(bench, connector)
    with bench.owner() as owner, bench.login(credential) as session, bench.login(others) as innocent:
        owner.execute(f'ALTER ROLE "{effect.name}" SUPERUSER; ALTER FUNCTION jitaccess.disable(text) RENAME TO away')
        try:
            assert set(connector.cut([effect, beside])) == {beside.name}
            assert not innocent.alive()
            with pytest.raises(CallFailed, match="superuser: ALTER ROLE"):
                connector.cut([effect])
        finally:
            owner.execute("ALTER FUNCTION jitaccess.away(text) RENAME TO disable")
        for _ in range(20):
            try:
                assert set(connector.cut([effect])) == {effect.name}
                break
            except CallFailed:
                continue  # the session is ending
        assert not session.alive()
        owner.execute(f'ALTER ROLE "{effect.name}" NOSUPERUSER')
    ended(bench, connector, effect, beside)


# ---------------------------------------------------------------- code that is to stay

TRAP = (
    "CREATE FUNCTION {0} RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN EXECUTE 'CREATE ROLE trapped SUPERUSER'; END IF; "
    "RETURN NEW; END $$; "
    "CREATE TRIGGER trap BEFORE INSERT ON data.thing FOR EACH ROW EXECUTE FUNCTION {0}"
)


@pytest.fixture(autouse=True)
def triggers(bench: Any) -> Iterator[None]:
    """Let the lent role put triggers on the application's table: its entitlement says set_role, without which it is not lent then."""
    with bench.owner() as owner:
        owner.execute("GRANT TRIGGER ON data.thing TO app_write")
        yield
        owner.execute("REVOKE TRIGGER ON data.thing FROM app_write")


def sprung(bench: Any) -> bool:
    """Let the owner, a superuser, write into the application's table, and say whether anything of a person's ran."""
    with bench.owner() as owner:
        owner.execute("INSERT INTO data.thing VALUES (1, 'by the owner')")
        found = owner.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'trapped'").fetchone() != (0,)
        owner.execute("DROP ROLE IF EXISTS trapped")
    return found


def trusted(bench: Any) -> bool:
    with bench.owner() as owner:
        look = "SELECT count(*) FROM pg_available_extension_versions WHERE trusted AND name = 'hstore'"
        return bool(owner.execute(look).fetchone() != (0,))


@pytest.mark.covers("R50")
def test_no_code_stays_as_a_part_of_an_extension(bench: Any, connector: Connector) -> None:
    if not trusted(bench):
        return  # the wheel brings no extension that a person could make
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE SCHEMA mine; GRANT USAGE ON SCHEMA mine TO PUBLIC; CREATE EXTENSION hstore SCHEMA mine; "
            "CREATE FUNCTION mine.lend() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'; "
            "ALTER EXTENSION hstore ADD FUNCTION mine.lend(); "
            f"{TRAP.format('data.evil()')}; ALTER EXTENSION hstore ADD FUNCTION data.evil()"
        )
    with bench.owner() as owner:
        owner.execute("CREATE TABLE data.bag (id int, of mine.hstore)")
        ended(bench, connector, effect)
        assert not sprung(bench)
        look = "SELECT count(*) FROM pg_proc WHERE proname IN ('lend', 'evil')"
        assert owner.execute(look).fetchone() == (0,)
        assert owner.execute("SELECT count(of) FROM data.bag").fetchone() == (0,), (
            "the column of the server's type stays"
        )
        owner.execute("DROP TABLE data.bag; DROP EXTENSION hstore; DROP SCHEMA mine")


@pytest.mark.covers("R50")
def test_a_type_of_ranges_is_no_reason_to_leave_anything(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE TYPE data.rr AS RANGE (subtype = float8); CREATE TABLE data.ranges (one data.rr, many data.rr_multirange); "
            f"INSERT INTO data.ranges VALUES ('[1,2]', '{{[1,2]}}'); {TRAP.format('data.evil()')}"
        )
    ended(bench, connector, effect)
    assert not sprung(bench)
    with bench.owner() as owner:
        look = "SELECT DISTINCT typowner::regrole::text, typnamespace::regnamespace::text ~ 'jit-' FROM pg_type WHERE typname ~ '^rr'"
        assert owner.execute(look).fetchall() == [("jit_quarantine", True)]


@pytest.mark.covers("R50", "R51")
def test_code_goes_though_the_data_takes_several_calls(
    bench: Any, connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "DO $$ BEGIN FOR n IN 1..60 LOOP EXECUTE format('CREATE TABLE data.many_%s (id int)', n); END LOOP; END $$"
        )
        session.connection.execute(TRAP.format("data.evil()"))
    connector.cut([effect])
    monkeypatch.setattr(leftovers, "PIECE", 2)
    steps = itertools.count()
    around = Surroundings(
        lambda name: (bench.secret(),), new_secret, lambda: datetime.now(UTC) + timedelta(seconds=next(steps))
    )
    hurried = bench.kind.open(bench.kind.config.model_validate(dict(bench.config())), around)
    left = [60]
    with bench.owner() as owner:
        look = "SELECT count(*) FROM pg_class WHERE relname ~ '^many_' AND relowner = to_regrole(%s)"
        for _ in range(20):
            with suppress(CallFailed):
                hurried.clean([effect])
                break
            assert not sprung(bench)
            left.append(owner.execute(look, [f'"{effect.name}"']).fetchone()[0])
        assert len(left) > 2
        assert left == sorted({*left}, reverse=True), "each call keeps some more"
    hurried.close()
    assert effect.name not in bench.accounts()


@pytest.mark.covers("R50", "R51")
def test_a_trigger_does_nothing_any_more_though_its_table_is_locked(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(f"{TRAP.format('data.evil()')}; CREATE TABLE data.mine_too (id int)")
    connector.cut([effect])
    with bench.owner() as reader:
        reader.execute("BEGIN; LOCK TABLE data.thing IN ACCESS SHARE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connector.clean([effect])
        assert not sprung(bench)
        look = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'mine_too'"
        assert reader.execute(look).fetchone() == ("jit_quarantine",), "the rest is dealt with"
        reader.execute("COMMIT")
    ended(bench, connector, effect)


@pytest.mark.covers("R50", "R51")
def test_code_on_which_a_column_of_somebody_else_depends_keeps_no_other_code(bench: Any, connector: Connector) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute(
            "CREATE FUNCTION data.twice(int) RETURNS int LANGUAGE sql IMMUTABLE SECURITY DEFINER AS 'SELECT $1 * 2'; "
            f"{TRAP.format('data.evil()')}; CREATE VIEW data.looking AS SELECT note FROM data.thing"
        )
    with bench.owner() as owner:
        owner.execute("CREATE TABLE data.sums (id int, twice int GENERATED ALWAYS AS (data.twice(id)) STORED)")
        owner.execute(
            "CREATE FUNCTION data.too() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 WHERE data.evil() IS NULL; END"
        )
        owner.execute("CREATE VIEW data.theirs AS SELECT note FROM data.looking")
        connector.cut([effect])
        with pytest.raises(CallFailed) as raised:
            connector.clean([effect])
        assert raised.value.code == "would_lose 2: data.sums.twice, data.too"
        assert not sprung(bench), "a trigger whose function is used elsewhere too"
        look = "SELECT prosecdef FROM pg_proc WHERE proname = 'twice'"
        assert owner.execute(look).fetchone() == (False,), "it has nobody's rights"
        options = "SELECT reloptions, relowner::regrole::text FROM pg_class WHERE relname = 'looking'"
        assert owner.execute(options).fetchone() == (["security_invoker=true"], "jit_quarantine")
        owner.execute("DROP TABLE data.sums; DROP FUNCTION data.too(); DROP VIEW data.theirs")
    ended(bench, connector, effect)


# ---------------------------------------------------------------- what one keeps of another


@pytest.mark.covers("R50")
def test_what_one_person_left_reads_and_writes_nothing_that_another_left(bench: Any, connector: Connector) -> None:
    (one, ones), (two, twos), (three, threes) = (born(bench, connector) for _ in range(3))
    with bench.login(ones) as session:
        session.connection.execute(
            "CREATE SCHEMA bs; GRANT USAGE ON SCHEMA bs TO PUBLIC; CREATE TABLE bs.secret AS SELECT 'secret'::text AS note; "
            "CREATE SEQUENCE bs.numbers; GRANT SELECT ON bs.numbers TO PUBLIC"
        )
    with bench.login(twos) as session:
        session.connection.execute(
            "CREATE SCHEMA as_; GRANT USAGE ON SCHEMA as_ TO PUBLIC; CREATE VIEW as_.v AS SELECT * FROM bs.secret; "
            "CREATE TABLE as_.door (note text); GRANT ALL ON as_.v, as_.door TO PUBLIC; GRANT SELECT (note) ON as_.door TO app_write; "
            "CREATE RULE r AS ON INSERT TO as_.door DO ALSO UPDATE as_.door SET note = 'ruled'"
        )
    ended(bench, connector, one, two)
    with bench.login(threes) as session:
        for attempt in (
            "SELECT * FROM as_.v",
            "UPDATE as_.v SET note = 'mine'",
            "INSERT INTO as_.door VALUES ('x')",
            "SELECT note FROM as_.door",
            "SELECT * FROM bs.numbers",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable)):
                session.connection.execute(attempt)
    ended(bench, connector, three)
    with bench.owner() as owner:
        assert owner.execute("SELECT note FROM bs.secret").fetchone() == ("secret",)
        assert owner.execute("SELECT count(*) FROM pg_rules WHERE schemaname = 'as_'").fetchone() == (0,)
        (place,) = owner.execute(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = 'views' AND nspname ~ %s",
            [two.name],
        ).fetchone()
        text = owner.execute(f'SELECT schema_name, view_name, definition FROM "{place}".views').fetchall()
        assert [(schema, name, "bs.secret" in words) for schema, name, words in text] == [("as_", "v", True)]
        owner.execute("DROP SCHEMA bs CASCADE; DROP SCHEMA as_ CASCADE")
