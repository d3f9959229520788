"""Does an auditor find everything, in one story, and can a sample be drawn again?"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from jitaccess.broker import figures, inspection, logview, revoke
from jitaccess.broker.inspection import Filter
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.clock import to_epoch_us
from jitaccess.errors import JitError
from jitaccess.store.tables import Grant
from tests.support.world import START, World


@pytest.fixture
def busy(world: World) -> World:
    """Give a world with a release that was handed back and proven, an open look, and a request that waits."""
    approved = world.released()
    assert approved.grant is not None
    current = world.current("arta")
    opened = open_lease(world.broker, current, approved.grant.id)
    assert isinstance(opened, Opened), opened
    with world.broker.begin(current.actor, lock=[(Grant, approved.grant.id)]) as tx:
        revoke.hand_back(tx, current, approved.grant.id)
    world.advance(timedelta(minutes=5))
    world.filed()
    world.filed(entitlement="releaser", reason="another invoice")
    world.sweep()
    world.broker.checkpoints.make()
    world.advance(timedelta(minutes=2))
    return world


def test_requests_come_newest_first_with_what_became_of_them(busy: World) -> None:
    with busy.broker.read() as view:
        found = inspection.lines(view, Filter())
    assert [(line.entitlement, line.state, line.grant_state) for line in found] == [
        ("releaser", "PENDING", None),
        ("viewer", "APPROVED", "ACTIVE"),
        ("releaser", "APPROVED", "ENDED"),
    ]
    assert [(said.step, said.verdict) for said in found[2].approvals] == [("line", "approve"), ("owner", "approve")]
    assert found[2].cause == "returned"


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Filter(target="treasury"), 3),
        (Filter(target="payroll"), 0),
        (Filter(entitlement="viewer"), 1),
        (Filter(person="krasniqi"), 3),
        (Filter(person="nobody"), 0),
        (Filter(state="PENDING"), 1),
        (Filter(state="ENDED"), 1),
        (Filter(cause="returned"), 1),
        (Filter(start=START + timedelta(minutes=3)), 2),
        (Filter(end=START + timedelta(minutes=3)), 1),
    ],
)
def test_filters_narrow(busy: World, wanted: Filter, count: int) -> None:
    with busy.broker.read() as view:
        assert len(inspection.lines(view, wanted)) == inspection.count(view, wanted) == count
    assert len(list(inspection.every_line(busy.broker, wanted))) == count


def test_a_name_that_too_many_people_have_is_refused_and_nobody_is_left_out_silently(
    busy: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "MOST_PEOPLE", 1)
    with busy.broker.read() as view:
        assert inspection.count(view, Filter(person="krasniqi")) == 3
        with pytest.raises(JitError, match="Type more of the name"):
            inspection.count(view, Filter(person="a"))


def test_pages_go_on_where_the_last_ended(busy: World) -> None:
    with busy.broker.read() as view:
        whole = inspection.lines(view, Filter())
        first = inspection.lines(view, Filter(), most=2)
        rest = inspection.lines(view, Filter(), before=first[-1].request_id)
    assert [line.request_id for line in (*first, *rest)] == [line.request_id for line in whole]


@pytest.mark.covers("R71")
def test_a_story_goes_from_the_filing_to_the_end(busy: World) -> None:
    with busy.broker.read() as view:
        returned = inspection.lines(view, Filter(cause="returned"))[0]
        story = inspection.story(view, busy.broker, returned.request_id)
        assert inspection.story(view, busy.broker, "nothing") is None
    assert story is not None
    types = [moment.type for moment in story.moments]
    assert types[0] == "request.filed"
    assert types.count("approval.signed") == 2
    assert types.index("request.approved") < types.index("grant.created") < types.index("lease.active")
    assert types.index("lease.active") < types.index("grant.ended") < types.index("lease.revoked")
    assert [(state, ended is not None, revoked is not None) for _, state, ended, revoked, _ in story.leases] == [
        ("REVOKED", True, True)
    ]
    assert story.covered_by is not None
    assert all(moment.index is not None and moment.index < story.covered_by for moment in story.moments)


def test_a_sample_is_drawn_again_from_its_seed(busy: World) -> None:
    with busy.broker.read() as view:
        first = inspection.sample(view, Filter(), size=1)
        again = inspection.sample(view, Filter(), size=1, seed=first.seed)
        other = inspection.sample(view, Filter(), size=5)
    assert first.of == 2
    assert len(first.lines) == 1
    assert first.lines == again.lines
    assert first.seed != other.seed
    assert len(first.seed) >= 40
    assert {line.grant_id for line in other.lines} >= {first.lines[0].grant_id}


@given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=30), st.text(max_size=10), st.integers(0, 40))
def test_a_draw_depends_only_on_seed_and_ids(ids: list[str], seed: str, size: int) -> None:
    drawn = inspection.draw(ids, size=size, seed=seed)
    assert drawn == inspection.draw(ids[::-1], size=size, seed=seed)
    assert len(drawn) == min(size, len(ids))
    rest = set(ids) - set(drawn)

    def rank(key: str) -> bytes:
        return sha256(f"{seed}/{key}".encode()).digest()

    assert all(rank(taken) < rank(left) for taken in drawn for left in rest)


def test_figures_count_what_happened(busy: World) -> None:
    long_ago = START - timedelta(days=1)
    with busy.broker.read() as view:
        policies = busy.broker.policies.active(view)
        spans = figures.grant_spans(view, start=long_ago, end=view.now + timedelta(hours=1))
        zone, inside = figures.declared_hours(policies)
        hours = figures.began_by_hour(view, start=long_ago, zone=zone)
        seconds = figures.approval_seconds(view, start=long_ago)
        pairs = figures.signed_for(view, start=long_ago)
        months = figures.months_of_rights(view, busy.broker)
        lags = figures.revocation_lags(view, start=long_ago)
    assert [(span.state, span.cause) for span in spans] == [("ENDED", "returned"), ("ACTIVE", None)]
    assert zone == ZoneInfo("Europe/Belgrade")
    assert inside is not None
    assert (0, 8) in inside
    assert (0, 17) not in inside
    assert hours == {(0, 10): 2}  # nine in the morning UTC of a Monday, an hour later in Belgrade
    assert seconds == []  # both signatures came in the same instant of the frozen clock
    assert pairs == {(busy.person("blerim"), busy.person("arta")): 1, (busy.person("drita"), busy.person("arta")): 1}
    assert len(months) == 6
    assert months[-1].could >= 3
    assert months[-1].standing == 4  # three founders and an auditor
    assert months[0].could == months[0].standing == 0  # before genesis nobody was in a group
    assert 0 < months[-1].open < 1
    assert [lag.target for lag in lags] == ["treasury"]
    assert 0 <= lags[0].ms <= 300_000  # the frozen clock was moved between the end and the sweep


def test_how_long_approval_took_is_measured_from_filing_to_the_last_signature(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.advance(timedelta(minutes=2))
    world.approved("blerim", filed.request.id)
    world.advance(timedelta(minutes=3))
    world.approved("drita", filed.request.id)
    with world.broker.read() as view:
        start = START - timedelta(days=1)
        assert figures.approval_seconds(view, start=start, target="treasury", entitlement="releaser") == [300.0]
        assert figures.approval_seconds(view, start=start, target="payroll") == []


@given(
    st.integers(0, 730 * 1440).map(
        lambda minutes: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes, seconds=7)
    ),
    st.integers(0, 400),
    st.sampled_from(["UTC", "Europe/Belgrade", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_spans_of_an_even_clock_cover_everything_once(start: datetime, days: int, name: str) -> None:
    zone, end = ZoneInfo(name), start + timedelta(days=days, hours=5)
    spans = figures.even_spans(zone, start, end)
    assert spans[0][0] <= start
    assert spans[-1][1] == end
    assert [high for _, high, _ in spans[:-1]] == [low for low, _, _ in spans[1:]]
    for low, high, away in spans:
        for at in (low, low + (high - low) / 2, high - timedelta(microseconds=1)):
            assert at.astimezone(zone).utcoffset() == away


def test_openings_are_counted_by_the_clock_of_the_day_on_which_they_were(world: World) -> None:
    for _ in range(2):
        world.filed()
        world.advance(timedelta(minutes=1))
    opened = [datetime(2026, 10, 24, 7, 30, tzinfo=UTC), datetime(2026, 10, 25, 7, 30, tzinfo=UTC)]
    with world.broker.read() as view:
        keys = view.rows(select(Grant.id).order_by(Grant.id)).scalars().all()
    for key, at in zip(keys, opened, strict=True):
        world.sql(
            "UPDATE access_grant SET starts_at = :at, created_at = :at WHERE id = :key", at=to_epoch_us(at), key=key
        )
    with world.broker.read() as view:
        found = figures.began_by_hour(view, start=opened[0], zone=ZoneInfo("Europe/Belgrade"))
    assert found == {(5, 9): 1, (6, 8): 1}  # the clocks went back in the night between


def test_a_month_that_is_over_stays_as_it_was(busy: World) -> None:
    def open_in_november() -> float:
        with busy.broker.read() as view:
            found = {month.month.month: month.open for month in figures.months_of_rights(view, busy.broker)}
        return found[11]

    so_far = open_in_november()
    assert so_far > 0
    busy.advance(timedelta(days=31))
    over = open_in_november()  # the look is still open in the books: nothing has swept meanwhile
    busy.sweep()
    busy.advance(timedelta(days=5))
    assert open_in_november() == over > so_far


def test_the_log_is_read_from_its_end_and_what_waits_for_a_number_comes_first(busy: World) -> None:
    with busy.broker.read() as view:
        whole = logview.newest(view)
        last = whole[-1].index
        older = logview.newest(view, before=whole[3].index)
        filed = logview.newest(view, kind="request.filed")
        own = logview.newest(view, person=busy.person("arta"))
    assert last is not None
    assert [line.index for line in whole] == sorted([line.index or 0 for line in whole], reverse=True)
    assert [line.id for line in older][: len(whole) - 4] == [line.id for line in whole[4:]]
    assert [line.type for line in filed] == ["request.filed"] * 3
    assert {line.person_id for line in own} == {busy.person("arta")}
    busy.sql("UPDATE event SET idx = NULL WHERE id = :key", key=whole[9].id)
    with busy.broker.read() as view:
        assert [line.id for line in logview.newest(view)][:2] == [whole[9].id, whole[0].id]
