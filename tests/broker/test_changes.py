"""What administrators sign: how many it takes, and that nothing kept between the halves of a ceremony can lower it."""

import re
from typing import Any

import pytest

from jitaccess.broker import policies
from jitaccess.broker.changes import Applied
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import passkeys
from jitaccess.policy.load import load
from jitaccess.store.tables import PolicySetRow
from tests.support.world import ROOT, World


def wider(world: World) -> PolicySetRow:
    """Propose a set that permits more."""
    texts = {file.name: file.read_text() for file in (ROOT / "policies").glob("*.yaml")}
    texts["bastion.yaml"] = texts["bastion.yaml"].replace("max: 2h", "max: 3h")
    with world.broker.begin(LOCAL) as tx:
        return policies.propose(tx, load(texts), by="test")


def active_digest(world: World) -> str:
    with world.broker.read() as view:
        return world.broker.policies.active(view).digest


@pytest.mark.covers("R22", "R29")
def test_how_many_must_sign_is_asked_anew_at_each_signature(sqlite_world: World) -> None:
    world = sqlite_world
    row = wider(world)
    begun = world.begin_change("agim", "policy.activate", row.id, {"digest": row.digest})
    with world.broker.read() as view:
        kept = view.require(passkeys.Challenge, begun.challenge_id).extra
    assert kept == {"payload": {"digest": row.digest}}
    first = world.complete_change("agim", begun)
    assert isinstance(first, Applied)
    assert not first.ready
    second = world.change("besa", "policy.activate", row.id, {"digest": row.digest})
    assert isinstance(second, Applied)
    assert second.ready
    assert active_digest(world) == row.digest


@pytest.mark.covers("R22", "R29")
def test_a_signer_who_is_no_longer_an_administrator_does_not_count(sqlite_world: World) -> None:
    world = sqlite_world
    row = wider(world)
    assert isinstance(world.change("agim", "policy.activate", row.id, {"digest": row.digest}), Applied)
    ended = world.change("besa", "member.end", "jit-founders", {"member_id": world.person("agim")})
    assert isinstance(ended, Applied)
    second = world.change("besa", "policy.activate", row.id, {"digest": row.digest})
    assert isinstance(second, Applied)
    assert not second.ready
    third = world.change("milan", "policy.activate", row.id, {"digest": row.digest})
    assert isinstance(third, Applied)
    assert third.ready


CHANGED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("extra = :value", {"value": '{"payload":{"digest":"x"},"required":1}'}),
    ("account_id = :value", {"value": "another"}),
    ("allowed = :value", {"value": '["AAAA"]'}),
    ("subject_id = :value", {"value": "another"}),
    ("purpose = :value", {"value": "step_up"}),
    ("expires_at = expires_at + :value", {"value": 3_600_000_000}),
    ("statement = :value", {"value": b"{}"}),
)


@pytest.mark.covers("R3", "R15", "R20")
@pytest.mark.parametrize(("what", "values"), CHANGED, ids=[re.split(r"\W", what)[0] for what, _ in CHANGED])
def test_a_challenge_that_was_changed_between_the_halves_is_good_for_nothing(
    sqlite_world: World, what: str, values: dict[str, Any]
) -> None:
    world = sqlite_world
    row = wider(world)
    begun = world.begin_change("agim", "policy.activate", row.id, {"digest": row.digest})
    world.sql(f"UPDATE challenge SET {what} WHERE id = :id", id=begun.challenge_id, **values)
    with pytest.raises(JitError) as refused:
        world.complete_change("agim", begun)
    assert refused.value.kind is Kind.SEAL_BROKEN
    assert active_digest(world) != row.digest


@pytest.mark.covers("R5", "R15")
def test_a_new_passkey_cannot_be_led_to_another_account(sqlite_world: World) -> None:
    world = sqlite_world
    arta = world.current("arta")
    with world.broker.begin(arta.actor) as tx:
        begun = passkeys.begin_registration(tx, world.broker.site, account=arta.account, session_id=arta.session.id)
    world.sql(
        "UPDATE challenge SET account_id = :other WHERE id = :id",
        other=world.seeded.accounts["agim"],
        id=begun.challenge_id,
    )
    with pytest.raises(JitError) as refused, world.broker.begin(arta.actor) as tx:
        passkeys.complete_registration(
            tx,
            world.broker.site,
            challenge_id=begun.challenge_id,
            response=world.passkey("arta").create(begun.options),
            name="mine",
            session_id=arta.session.id,
        )
    assert refused.value.kind is Kind.SEAL_BROKEN
    assert not isinstance(world.sign_in("agim"), Refused)
