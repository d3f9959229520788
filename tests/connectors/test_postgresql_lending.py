"""PostgreSQL: nobody leaves code behind that runs as a role that was lent: such roles are not lent, and what appears is disarmed."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from jitaccess.connectors.contract import CallFailed, Connector, NotReady
from tests.connectors.kind_postgresql import MODERN
from tests.support.bench import born, end, open_connector

KINDS = ("postgresql",)
SETUP = """
CREATE ROLE repair NOLOGIN; CREATE ROLE looks NOLOGIN;
CREATE TABLE data.secret (what text); INSERT INTO data.secret VALUES ('salary');
GRANT USAGE ON SCHEMA data TO repair, looks; GRANT SELECT ON data.secret TO repair;
"""
UNDO = """
ALTER DATABASE app RESET search_path; REVOKE CREATE ON SCHEMA data FROM PUBLIC;
REVOKE ALL ON DATABASE app, other FROM repair, looks;
DROP OWNED BY repair, looks CASCADE; DROP TABLE data.secret; DROP ROLE repair, looks;
"""
GRAB = "CREATE OR REPLACE FUNCTION data.grab() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT what FROM data.secret'"


@pytest.fixture
def version(bench: Any) -> Iterator[int]:
    """Give the roles `repair`, which may read a secret, and `looks`, which may not; say which server it is."""
    with bench.lending(SETUP, UNDO, "repair, looks") as found:
        yield found


@pytest.fixture
def connector(bench: Any, version: int) -> Iterator[Connector]:
    """Open a connector whose entitlements lend these."""
    config = {**bench.config(), "entitlements": {"writer": {"roles": ["repair"]}, "looker": {"roles": ["looks"]}}}
    found = open_connector(bench, config)
    yield found
    found.close()


@pytest.mark.covers("R50", "R54")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        ("CREATE FUNCTION public.plain() RETURNS int LANGUAGE sql AS 'SELECT 1'", "routine public.plain()"),
        ("CREATE VIEW public.plain AS SELECT 1", "view public.plain"),
        ("CREATE TABLE public.plain (n int)", "table public.plain"),
    ],
    ids=["routine", "view", "table"],
)
def test_a_role_that_owns_code_or_what_code_hangs_on_is_not_lent_and_probe_says_why(
    bench: Any, connector: Connector, version: int, make: str, what: str
) -> None:
    before = bench.accounts()
    kind, name = what.upper().split()[0], what.split()[1]
    with bench.owner("other") as owner:
        owner.execute(make)
        owner.execute(f"ALTER {kind} {name} OWNER TO repair")
        with pytest.raises(NotReady, match=re.escape(f"repair owns the {what} in other")):
            born(bench, connector)
        assert any(f"repair owns the {what} in other" in line for line in connector.probe())
        assert bench.accounts() == before, "nothing was made"
        owner.execute(f"ALTER {kind} {name} OWNER TO postgres")
        effect, _ = born(bench, connector)
        owner.execute(f"DROP {kind} {name}")
    end(connector, effect)


@pytest.mark.covers("R50")
def test_what_somebody_makes_for_a_session_alone_keeps_nobody_else_out(
    bench: Any, connector: Connector, version: int
) -> None:
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        how = "SET ROLE repair; " if version < MODERN else ""
        session.connection.execute(f"{how}CREATE TEMP TABLE mine (n int)")
        second = open_connector(bench, {**bench.config(), "entitlements": {"writer": {"roles": ["repair"]}}})
        again, _ = born(bench, second)
        end(second, again)
        second.close()
    end(connector, effect)


@pytest.mark.covers("R50", "R54")
@pytest.mark.parametrize(
    ("database", "gives", "takes"),
    [
        ("app", "GRANT CREATE ON SCHEMA data TO repair", "REVOKE CREATE ON SCHEMA data FROM repair"),
        ("app", "GRANT CREATE ON SCHEMA data TO PUBLIC", "REVOKE CREATE ON SCHEMA data FROM PUBLIC"),
        ("other", "GRANT CREATE ON DATABASE other TO repair", "REVOKE CREATE ON DATABASE other FROM repair"),
        ("app", "GRANT app_write TO repair", "REVOKE app_write FROM repair"),
    ],
    ids=["schema", "everybody", "database", "through another"],
)
def test_before_version_16_a_role_that_may_create_is_not_lent(
    bench: Any, connector: Connector, version: int, database: str, gives: str, takes: str
) -> None:
    with bench.owner(database) as owner:
        owner.execute(gives)
        try:
            if version < MODERN:
                with pytest.raises(NotReady, match="may create"):
                    born(bench, connector)
                assert any("nothing is opened" in line for line in connector.probe())
            else:
                end(connector, born(bench, connector)[0])
        finally:
            owner.execute(takes)
    end(connector, born(bench, connector)[0])


@pytest.mark.covers("R50")
def test_a_definers_function_that_a_lent_role_came_to_own_runs_with_no_more_rights(
    bench: Any, connector: Connector, version: int
) -> None:
    effect, credential = born(bench, connector)
    other, second = born(bench, connector, entitlement="looker")
    with bench.owner() as owner:
        owner.execute("GRANT CREATE ON SCHEMA data TO repair")  # by mistake, while somebody has it
        if version >= MODERN:  # there the person cannot set the role, but replaces what it owns
            owner.execute("CREATE FUNCTION data.grab() RETURNS text LANGUAGE sql AS 'SELECT NULL'")
            owner.execute("ALTER FUNCTION data.grab() OWNER TO repair")
        with bench.login(credential) as session:
            session.connection.execute(GRAB if version >= MODERN else f"SET ROLE repair; {GRAB}")
        with bench.login(second) as session:
            assert session.connection.execute("SELECT data.grab()").fetchone() == ("salary",), (
                "as it is while both live"
            )
            proofs = end(connector, effect)
            assert proofs[effect.name]["disarmed"] == 1
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.connection.execute("SELECT data.grab()")
        found = owner.execute(
            "SELECT proowner::regrole::text, prosecdef FROM pg_proc WHERE proname = 'grab'"
        ).fetchall()
        assert found == [("repair", False)], "it is still there, and nobody was given it"
        rights = connector.observe().accounts["repair"].rights
        assert [right for right in rights if right.startswith("owner of routine data.grab() (text ")]
        assert end(connector, other)[other.name]["account"] == "absent"


@pytest.mark.covers("R50", "R51")
def test_what_cannot_be_disarmed_keeps_the_lease_from_being_over(
    bench: Any, connector: Connector, version: int
) -> None:
    effect, _ = born(bench, connector)
    with bench.owner() as owner, bench.owner() as busy:
        owner.execute(f"{GRAB}; ALTER FUNCTION data.grab() OWNER TO repair")
        connector.cut([effect])
        busy.execute("BEGIN; ALTER FUNCTION data.grab() COST 50")
        with pytest.raises(CallFailed, match=r"definer: ALTER ROUTINE data.grab\(\) SECURITY INVOKER"):
            connector.clean([effect])
        assert effect.name in bench.accounts(), "locked, tried again, and stuck and alarmed in the end"
        busy.execute("ROLLBACK")
        assert connector.clean([effect])[effect.name] == {"account": "absent", "disarmed": 1}
