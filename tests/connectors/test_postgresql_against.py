"""PostgreSQL: what a person does *against* the end of their lease. It ends all the same, for them and for everybody beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jitaccess.connectors.contract import CallFailed, Connector, Credential, Effect
from tests.support.bench import Bench, LoginRefused, open_connector, soon, spec_of

KINDS = ("postgresql",)


@pytest.fixture
def connector(bench: Bench) -> Iterator[Connector]:
    """Open a connector as the broker does."""
    found = open_connector(bench)
    yield found
    found.close()


def born(bench: Bench, connector: Connector) -> tuple[Effect, Credential]:
    effect = connector.plan(spec_of(bench))
    return effect, connector.apply(effect, soon())


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
            except RuntimeError:
                continue  # the session is ending
        assert not session.alive()
        owner.execute(f'ALTER ROLE "{effect.name}" NOSUPERUSER')
    ended(bench, connector, effect, beside)
