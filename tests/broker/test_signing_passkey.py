"""Policy says how strong a passkey an approver signs with; a weaker one is refused before anything is signed (R6)."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from jitaccess.broker import approve, deputies, policies, returning, votes
from jitaccess.broker.approve import Approved
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.values import LOCAL, SYSTEM, Refused
from jitaccess.identity import enrolment, people
from jitaccess.policy.load import load
from jitaccess.store.tables import Approval, Outbox
from tests.broker.test_deputies import code, named
from tests.support.policy_swap import swap
from tests.support.world import ROOT, World

HEADS = "          groups: [treasury-heads]\n"


@pytest.fixture
def world(sqlite_world: World) -> World:
    """Give a world where treasury heads sign with a passkey of one device, and Blerim has a synced one beside his."""
    world, site = sqlite_world, sqlite_world.broker.site
    texts = {file.name: file.read_text() for file in (ROOT / "policies").glob("*.yaml")}
    texts["treasury.yaml"] = texts["treasury.yaml"].replace(HEADS, f"{HEADS}          credential: device_bound\n")
    with world.broker.begin(LOCAL) as tx:
        policies.activate(tx, policies.propose(tx, load(texts), by="test"))
        account = people.add_account(tx, person_id=world.person("blerim"), label="blerim, synced")
        token = enrolment.create_link(tx, site, account_id=account.id, by="test").rsplit("/", 1)[-1]
    synced = SoftPasskey(site.rp_id, site.origin, backup_eligible=True, backed_up=True)
    with world.broker.begin(SYSTEM) as tx:
        begun = enrolment.begin(tx, site, token)
    assert not isinstance(begun, Refused)
    with world.broker.begin(SYSTEM) as tx:
        made = returning.complete(
            tx,
            world.broker,
            token,
            challenge_id=begun.challenge_id,
            response=synced.create(begun.options),
            name="Cloud",
        )
    assert not isinstance(made, Refused)
    world.seeded.passkeys["blerim-synced"] = synced  # type: ignore[index] # the world's own copy
    return world


@pytest.mark.covers("R6")
def test_a_weaker_passkey_signs_no_step_that_asks_for_a_stronger(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    refused = world.approve("blerim-synced", filed.request.id)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.field) == ("credential_too_weak", "credential_id")
    assert isinstance(world.approve("blerim", filed.request.id), Approved)
    done = world.approved("drita", filed.request.id)
    assert done.grant is not None


@pytest.mark.covers("R6")
def test_refusing_takes_no_strong_passkey(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    current = world.current("blerim-synced")
    with world.broker.begin(current.actor) as tx:
        denied = approve.deny(tx, world.broker, current, filed.request.id)
    assert not isinstance(denied, Refused)


@pytest.mark.covers("R6")
def test_each_step_asks_for_itself_how_strong_the_passkey_is(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    terms = approve.terms_of(filed.request)
    weak, strong = world.current("blerim-synced").passkey, world.current("blerim").passkey
    step = terms.steps[0].name
    assert (votes.strong_enough(terms, step, weak), votes.strong_enough(terms, step, strong)) == (False, True)
    assert votes.strong_enough(terms, terms.steps[1].name, weak)


@pytest.mark.covers("R6")
@pytest.mark.parametrize(("signs", "done"), [("blerim-synced", "no_such_request"), ("blerim", "Approved")])
def test_a_right_is_lent_with_a_passkey_as_strong_as_the_step_asks(world: World, signs: str, done: str) -> None:
    named(world, signs, "agim")
    filed = world.filed(entitlement="releaser")
    with world.broker.read() as view:
        asked = set(view.rows(select(Outbox.person_id).where(Outbox.kind == "approval_wanted")).scalars())
    found = world.approve("agim", filed.request.id)
    assert (code(found) if isinstance(found, Refused) else type(found).__name__) == done
    assert (world.person("agim") in asked) is (done == "Approved"), "who cannot sign is not asked"


@pytest.mark.covers("R6", "R20")
def test_at_issue_the_passkey_that_lent_the_right_is_looked_at_again(world: World) -> None:
    swap(world, lambda rules: None)
    named(world, "blerim-synced", "agim")
    filed = world.filed(entitlement="releaser")
    world.approved("agim", filed.request.id)
    plain = approve.terms_of(filed.request)
    strict = replace(plain, credentials=(("line", "device_bound"),))
    with world.broker.read() as view:
        (vote,) = view.all(select(Approval))
        requester = filed.request.person_id
        assert deputies.verify(view, world.broker, vote, plain, requester=requester) is None
        refused = deputies.verify(view, world.broker, vote, strict, requester=requester)
    assert code(refused) == "deputy_credential_too_weak"
