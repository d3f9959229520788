"""What may an approver do besides approving as asked? Shorten the time, write a comment: on both databases."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import select

from jitaccess.broker import approve, notify
from jitaccess.broker.approve import Choice
from jitaccess.broker.comments import comments_of
from jitaccess.broker.issue import open_lease
from jitaccess.domain.values import Refused
from jitaccess.proof.statements import ApprovalStatement
from jitaccess.store.tables import AccessRequest, Event, EventText, Outbox
from tests.support.world import World


def leaves(world: World, kind: str) -> list[dict[str, object]]:
    with world.broker.read() as view:
        return [json.loads(row.leaf) for row in view.all(select(Event).where(Event.type == kind).order_by(Event.id))]


@pytest.mark.covers("R19", "R20")
def test_the_grant_takes_the_smallest_duration_that_was_signed(world: World) -> None:
    filed = world.filed(entitlement="releaser", duration_s=1800)
    first = world.approved("blerim", filed.request.id, Choice(900))
    second = world.approved("drita", filed.request.id, Choice(600))
    signed = [ApprovalStatement.parse(found.approval.statement or b"").max_duration_s for found in (first, second)]
    assert signed == [900, 600]
    assert second.grant is not None
    assert (second.grant.duration_s, filed.request.duration_s) == (600, 1800)
    assert [leaf["body"]["max_duration_s"] for leaf in leaves(world, "approval.signed")] == signed  # type: ignore[index]
    opened = open_lease(world.broker, world.current("arta"), second.grant.id)
    assert not isinstance(opened, Refused)
    assert opened.lease.ends_at - world.clock.now() == timedelta(seconds=600)


@pytest.mark.covers("R19")
def test_an_unshortened_approval_says_nothing_new(world: World) -> None:
    filed = world.filed(entitlement="releaser", duration_s=1800)
    world.approved("blerim", filed.request.id, Choice(1800))
    assert "max_duration_s" not in leaves(world, "approval.signed")[0]["body"]  # type: ignore[operator]


@pytest.mark.parametrize("seconds", [59, 1801])
def test_nobody_lengthens_or_goes_below_what_the_rules_allow(world: World, seconds: int) -> None:
    filed = world.filed(entitlement="releaser", duration_s=1800)
    found = world.approve("blerim", filed.request.id, Choice(seconds))
    assert isinstance(found, Refused)
    assert (found.code, found.field) == ("duration_out_of_bounds", "max_duration_s")


@pytest.mark.covers("R20")
def test_a_shortened_grant_is_refused_once_the_request_is_made_longer_behind_our_back(world: World) -> None:
    filed = world.filed(entitlement="releaser", duration_s=1800)
    world.approved("blerim", filed.request.id, Choice(900))
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    world.sql("UPDATE access_request SET duration_s = 3600 WHERE id = :id", id=filed.request.id)
    found = open_lease(world.broker, world.current("arta"), grant.id)
    assert isinstance(found, Refused)
    assert (found.code, found.field) == ("differs_from_signed", "duration_s")


@pytest.mark.covers("R72")
def test_a_comment_reaches_the_requester_and_stays_out_of_the_leaf(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id, Choice(comment="Only the July invoice."))
    leaf = leaves(world, "approval.signed")[0]
    assert "July" not in json.dumps(leaf)
    assert set(leaf["texts"]) == {"comment"}  # type: ignore[call-overload]
    with world.broker.read() as view:
        assert comments_of(view, filed.request.id) == {(world.person("blerim"), "approve"): "Only the July invoice."}
    world.approved("drita", filed.request.id)
    with world.broker.read() as view:
        row = view.first(select(Outbox).where(Outbox.kind == "grant_ready"))
        assert row is not None
        letter = notify.render(view, world.broker, row)
    assert letter is not None
    assert "wrote: Only the July invoice." in letter


@pytest.mark.covers("R72")
def test_a_comment_changed_in_the_database_is_not_shown(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id, Choice(comment="Only the July invoice."))
    world.sql("UPDATE event_text SET text = 'Anything you like.' WHERE name = 'comment'")
    with world.broker.read() as view:
        assert comments_of(view, filed.request.id) == {}


def test_a_refusal_says_why_in_the_same_tap(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    drita = world.current("drita")
    with world.broker.begin(drita.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
        assert isinstance(approve.deny(tx, world.broker, drita, filed.request.id, comment="Wrong year."), AccessRequest)
    with world.broker.read() as view:
        row = view.first(select(Outbox).where(Outbox.kind == "request_decided"))
        assert row is not None
        letter = notify.render(view, world.broker, row)
        assert view.scalar(select(EventText.text).where(EventText.name == "comment")) == "Wrong year."
    assert letter is not None
    assert "wrote: Wrong year." in letter


@pytest.mark.covers("R18")
@pytest.mark.parametrize("comment", ["x" * 501, "turn\u202e around"])
def test_comments_are_bounded_and_printable(world: World, comment: str) -> None:
    filed = world.filed(entitlement="releaser")
    found = world.approve("blerim", filed.request.id, Choice(comment=comment))
    assert isinstance(found, Refused)
    assert found.field == "comment"
