"""PostgreSQL: a lease's role that somebody gave another name, or dropped, is no proof of anything; its end finds it by its number."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jitaccess.broker.compare import Finding, What, compare
from jitaccess.connectors.contract import CallFailed, Connector, Credential, Effect
from jitaccess.domain.lifecycle import LeaseState
from tests.support.bench import LoginRefused, await_, born, end, soon
from tests.support.living import hand_over, lease, living
from tests.support.world import World

KINDS = ("postgresql",)
OTHER = "Backup svc"
"""What the role is called now."""


def handed(bench: Any, connector: Connector) -> tuple[Effect, Credential]:
    """Make an account, and give its effect what the broker writes down when it is there."""
    effect, credential = born(bench, connector)
    assert credential.handle
    return replace(effect, detail={**effect.detail, **credential.handle}), credential


def called(credential: Credential, name: str) -> Credential:
    return replace(credential, command=re.sub(r"user=\S+", f"user='{name}'", credential.command))


@pytest.fixture
def owner(bench: Any) -> Iterator[psycopg.Connection[Any]]:
    with bench.owner() as connection:
        yield connection


@pytest.mark.covers("R50", "R51", "T-16")
def test_a_role_that_was_renamed_ends_under_its_new_name(
    bench: Any, connector: Connector, owner: psycopg.Connection[Any]
) -> None:
    (effect, credential), (beside, _) = handed(bench, connector), handed(bench, connector)
    with bench.login(credential) as session:
        session.connection.execute("CREATE TABLE data.of_who_was_renamed (id int)")
        owner.execute(f'ALTER ROLE "{effect.name}" RENAME TO "{OTHER}"')
        with bench.login(called(credential, OTHER)) as again:
            assert again.alive(), "a SCRAM verifier does not hold the name"
            proofs = connector.cut([effect, beside])
            assert not session.alive()
            assert not again.alive()
    assert proofs[effect.name] == {"login": "locked", "sessions": 0, "prepared": 0}
    with pytest.raises(LoginRefused), bench.login(called(credential, OTHER)):
        pass
    assert connector.clean([effect, beside]) == {
        effect.name: {"account": "absent", "kept": 1},
        beside.name: {"account": "absent"},
    }
    assert not {OTHER, effect.name, beside.name} & bench.accounts()
    assert owner.execute("SELECT 1 FROM pg_roles WHERE oid = %s", [effect.detail["number"]]).fetchone() is None


@pytest.fixture
def world(bench: Any, tmp_path: Path) -> Iterator[World]:
    """Give a broker that runs by the real clock, with one database as a target."""
    with living(bench, tmp_path) as world:
        yield world


@pytest.mark.covers("R50", "R51", "T-16")
def test_the_broker_remembers_which_role_it_made(bench: Any, world: World, owner: psycopg.Connection[Any]) -> None:
    found = hand_over(world, 3)
    with bench.login(found.credential) as session:
        owner.execute(f'ALTER ROLE "{found.credential.username}" RENAME TO "{OTHER}"')
        await_(lambda: lease(world, found.lease.id).state == LeaseState.REVOKED)
        assert not session.alive()
    proof: Any = lease(world, found.lease.id).proof
    assert (proof["cut"]["login"], proof["clean"]) == ("locked", {"account": "absent"})
    assert OTHER not in bench.accounts()


@pytest.mark.covers("R50", "R51")
def test_a_role_that_was_renamed_ends_though_another_has_its_name(
    bench: Any, connector: Connector, owner: psycopg.Connection[Any]
) -> None:
    effect, credential = handed(bench, connector)
    with bench.login(credential) as session:
        owner.execute(f'ALTER ROLE "{effect.name}" RENAME TO "{OTHER}"')
        connector.bury(effect)
        end(connector, effect)
        assert not session.alive()
    assert not {OTHER, effect.name} & bench.accounts()


@pytest.mark.covers("R50", "R51")
def test_a_role_of_that_number_that_is_not_the_leases_is_left_alone_and_named(
    bench: Any, connector: Connector, owner: psycopg.Connection[Any]
) -> None:
    """A server that came back from an older backup gives a number again."""
    effect, _ = handed(bench, connector)
    end(connector, effect)
    owner.execute("CREATE ROLE payroll LOGIN")
    ((number,),) = owner.execute("SELECT oid::int FROM pg_roles WHERE rolname = 'payroll'").fetchall()
    strange = replace(effect, detail={**effect.detail, "number": number})
    beside, _ = handed(bench, connector)
    for verb in (connector.cut, connector.clean):
        assert set(verb([strange, beside])) == {beside.name}, "nobody waits for it"
        with pytest.raises(CallFailed) as raised:
            verb([strange])
        assert raised.value.code == "renamed: look at the role payroll"
        assert bench.can_log_in("payroll")
    owner.execute("DROP ROLE payroll")
    assert end(connector, strange)[effect.name] == {"account": "absent"}


@pytest.mark.covers("R57")
def test_an_account_of_a_live_lease_that_is_gone_or_renamed_is_found(
    bench: Any, connector: Connector, owner: psycopg.Connection[Any]
) -> None:
    effect, _ = handed(bench, connector)
    expected = {effect.name: connector.expects(effect, soon(600))}

    def found() -> list[Finding]:
        seen = connector.observe()
        one = compare(seen, explained=expected, ending={}, excepted={}, known={}, enforced=False, first=True)
        return [finding for finding in one if finding.account in (effect.name, OTHER)]

    assert found() == []
    owner.execute(f'ALTER ROLE "{effect.name}" RENAME TO "{OTHER}"')
    renamed, missing = found()
    assert (renamed.account, renamed.what) == (OTHER, What.NEW)
    assert missing == Finding(effect.name, What.MISSING, (f"now {OTHER}",))
    connector.bury(effect)
    assert Finding(effect.name, What.MISSING, (f"now {OTHER}",)) in found(), "another has its name"
    owner.execute(f'DROP ROLE "{effect.name}", "{OTHER}"')
    assert found() == [Finding(effect.name, What.MISSING)]
    end(connector, effect)
