"""Sessions of approvers are short from the moment they are approvers, by whatever way they became it (R14)."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from jitaccess.broker import policies, strictness
from jitaccess.domain.values import LOCAL
from jitaccess.identity import people
from jitaccess.policy.load import load
from tests.support.world import ROOT, World

QUARTER = timedelta(minutes=15)


def strict(world: World, key: str) -> bool:
    with world.broker.read() as view:
        return strictness.is_strict(view, world.broker, world.person(key))


def activate(world: World, change: Callable[[str], str]) -> None:
    texts = {file.name: change(file.read_text()) for file in (ROOT / "policies").glob("*.yaml")}
    with world.broker.begin(LOCAL) as tx:
        policies.activate(tx, policies.propose(tx, load(texts), by="test"))


@pytest.mark.covers("R14")
def test_whom_an_institution_alone_names_is_an_approver(sqlite_world: World) -> None:
    world = sqlite_world
    activate(world, lambda text: text.replace("          groups: [infra-finance]\n", ""))
    assert strict(world, "drita")
    with world.broker.begin(LOCAL) as tx:
        people.end_member(tx, group_id="infra-finance", member_id=world.person("drita"))
    assert strict(world, "drita")
    assert not strict(world, "arta")
    drita = world.sign_in("drita").session
    assert drita.expires_at - drita.created_at == timedelta(hours=12)
    assert drita.idle_s == QUARTER.total_seconds()


@pytest.mark.covers("R14")
def test_a_session_is_short_from_the_moment_its_person_may_sign(sqlite_world: World) -> None:
    world = sqlite_world
    late, lax = world.sign_in("arta").session, world.sign_in("arta").session
    world.advance(timedelta(minutes=14))
    with world.broker.begin(LOCAL) as tx:
        people.add_member(tx, group_id="treasury-heads", member_id=world.person("arta"))
    assert world.resolved(late.id) is not None
    world.advance(timedelta(minutes=1))
    assert world.resolved(late.id) is None  # idle for fifteen minutes
    with world.broker.begin(LOCAL) as tx:
        people.end_member(tx, group_id="treasury-heads", member_id=world.person("arta"))
    assert world.resolved(lax.id) is not None


@pytest.mark.covers("R14")
def test_a_policy_that_makes_somebody_an_approver_shortens_the_sessions_that_are_open(sqlite_world: World) -> None:
    world = sqlite_world
    session = world.sign_in("arta").session
    assert not strict(world, "arta")
    activate(
        world, lambda text: text.replace("groups: [treasury-heads]\n", "groups: [treasury-heads, treasury-staff]\n")
    )
    assert strict(world, "arta")
    world.advance(QUARTER)
    assert world.resolved(session.id) is None


@pytest.mark.covers("R14")
def test_auditors_and_administrators_are_held_as_short(sqlite_world: World) -> None:
    assert all(strict(sqlite_world, key) for key in ("agim", "jelena", "blerim"))
