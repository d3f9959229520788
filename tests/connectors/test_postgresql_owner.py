"""PostgreSQL: a function that the server's owner installed and broke blinds no look, stops no end, and locks nobody in words alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jitaccess.connectors.contract import Connector
from jitaccess.connectors.postgresql import connector as postgresql
from tests.support.bench import born, end

KINDS = ("postgresql",)
SAFE = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"


@contextmanager
def rewritten(bench: Any, signature: str, returns: str, body: str) -> Iterator[Any]:
    """Let a function of the owner's do something else."""
    with bench.owner() as owner:
        ((before,),) = owner.execute(f"SELECT pg_get_functiondef('jitaccess.{signature}'::regprocedure)").fetchall()
        head = before.partition("RETURNS")[0]
        owner.execute(f"{head} RETURNS {returns} LANGUAGE plpgsql {SAFE} AS $x$ BEGIN {body} END $x$")
        try:
            yield owner
        finally:
            owner.execute(before)


@pytest.mark.covers("R57")
@pytest.mark.parametrize(
    ("body", "said"),
    [("RAISE EXCEPTION 'no';", "fails with P0001"), ("RETURN;", "tells of nobody")],
    ids=["raises", "says nothing"],
)
def test_a_function_that_tells_no_fingerprints_is_found_and_blinds_no_look(
    bench: Any, connector: Connector, body: str, said: str
) -> None:
    assert postgresql.OWNERS not in connector.observe().accounts
    with rewritten(bench, "fingerprints()", "TABLE (name text, fingerprint text)", body):
        stray = bench.stray()
        seen = connector.observe()
        assert stray in seen.accounts, "everything else is seen"
        assert seen.accounts[postgresql.OWNERS].rights == {f"jitaccess.fingerprints {said}"}
        assert "keys" not in seen.coverage
        done = connector.quarantine(postgresql.OWNERS, remove=True)
        assert not done.done
        assert "targets setup" in done.statement
        assert f"missing: jitaccess.fingerprints {said}" in connector.probe()
        connector.quarantine(stray, remove=True)


@pytest.mark.covers("R50", "R57")
@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'no';", "NULL;"], ids=["raises", "does nothing"])
def test_a_function_that_locks_nobody_is_not_believed_and_stops_no_other_end(
    bench: Any, connector: Connector, body: str
) -> None:
    first, _ = born(bench, connector)
    second, _ = born(bench, connector)
    with rewritten(bench, "disable(text)", "void", body) as owner:
        owner.execute("CREATE ROLE shadow SUPERUSER LOGIN")
        done = connector.quarantine("shadow", remove=False)
        assert (done.done, done.statement) == (False, 'ALTER ROLE "shadow" NOLOGIN;')
        assert bench.can_log_in("shadow")
        owner.execute(f'DROP ROLE shadow; ALTER ROLE "{first.name}" SUPERUSER')
        proofs = connector.cut([first, second])
        assert first.name not in proofs
        assert proofs[second.name]["login"] == "locked", "nobody waits for another's"
        owner.execute(f'ALTER ROLE "{first.name}" NOSUPERUSER')
    end(connector, first, second)
