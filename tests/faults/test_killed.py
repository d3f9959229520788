"""A real broker process, killed by a signal between approval and expiry, on a real clock: nothing acknowledged is lost, and after a
start the overdue access ends before anything new is granted."""

import time
from collections.abc import Iterator

import httpx2
import pytest
from sqlalchemy import create_engine, text

from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.demo.staff import Staff
from jitaccess.demo.stage import Stage, build
from jitaccess.errors import JitError
from tests.support.ports import free_port

LIFE_S = 2
PEOPLE = frozenset({"arta", "blerim", "drita"})


@pytest.fixture
def stage(database_url: str) -> Iterator[Stage]:
    """Give a demo stage on each database; nothing is started."""
    database = None if database_url.startswith("sqlite") else database_url
    found = build(enrolled=PEOPLE, port=free_port(), treasury_port=free_port(), database=database)
    yield found
    found.clear()


def start(stage: Stage, kill_at: str = "") -> None:
    """Start the broker; with `kill_at` it kills itself at that commit."""
    broker = stage.broker
    broker.environment = {"JIT_CONFIG": str(stage.config)} | ({"JIT_FAULT__KILL_AT": kill_at} if kill_at else {})
    broker.start()


def act_until_killed(stage: Stage, staff: dict[str, Staff]) -> list[str]:
    """Ask, approve and ask again until the broker is dead; return the requests that were acknowledged."""
    acknowledged: list[str] = []
    try:
        for one in staff.values():
            one.sign_in()
        for number in range(40):
            quick = staff["arta"].ask("treasury", "viewer", duration_s=LIFE_S, reason=f"look {number}")
            if quick.status == 200:
                acknowledged.append(str(quick.body["request_id"]))
            asked = staff["arta"].ask(
                "treasury",
                "releaser",
                duration_s=60,
                reason="pay",
                inputs={"order": f"TR-{number:06d}", "amount_cents": 5},
            )
            if asked.status == 200:
                acknowledged.append(str(asked.body["request_id"]))
                for approver in ("blerim", "drita"):
                    staff[approver].approve(str(asked.body["request_id"]))
    except httpx2.HTTPError:
        return acknowledged
    raise AssertionError("the broker was not killed")


@pytest.mark.slow
@pytest.mark.covers("R59", "R63", "TRAP-9")
@pytest.mark.parametrize("kill_at", ["before-commit:14", "after-commit:19", "before-commit:26", "after-commit:33"])
def test_a_killed_broker_loses_nothing_acknowledged_and_revokes_before_it_grants(stage: Stage, kill_at: str) -> None:
    with httpx2.Client(timeout=20) as http:
        staff = {key: Staff(key, stage.origin, SoftPasskey("localhost", stage.origin), http) for key in sorted(PEOPLE)}
        for key, one in staff.items():
            one.passkey = stage.seeded.passkeys[key]
        try:
            start(stage, kill_at)
        except JitError:  # on a busy machine so many commits come before anybody asks: then nothing was acknowledged
            acknowledged = []
        else:
            acknowledged = act_until_killed(stage, staff)
        stage.broker.stop()
        time.sleep(LIFE_S + 0.5)
        start(stage)
        again = Staff("arta", stage.origin, staff["arta"].passkey, http)
        assert again.sign_in().status == 200
        fresh = again.ask("treasury", "viewer", duration_s=LIFE_S, reason="after the crash")
        assert fresh.status == 200, fresh.text
        stage.broker.stop()
    engine = create_engine(stage.settings.store.url)
    with engine.connect() as connection:
        kept = set(connection.execute(text("SELECT id FROM access_request")).scalars())
        told = set(connection.execute(text("SELECT request_id FROM event WHERE type = 'request.filed'")).scalars())
        alive = connection.execute(
            text("SELECT id FROM access_grant WHERE state = 'ACTIVE' AND request_id <> :fresh"),
            {"fresh": fresh.body["request_id"]},
        ).all()
        ends = connection.execute(
            text(
                "SELECT max(e.id) FROM event e JOIN access_grant g ON g.id = e.grant_id "
                "WHERE e.type = 'grant.ended' AND g.duration_s = :life AND g.request_id <> :fresh"
            ),
            {"life": LIFE_S, "fresh": fresh.body["request_id"]},
        ).scalar()
        created = connection.execute(
            text("SELECT min(id) FROM event WHERE type = 'grant.created' AND request_id = :fresh"),
            {"fresh": fresh.body["request_id"]},
        ).scalar()
    engine.dispose()
    assert set(acknowledged) <= kept
    assert set(acknowledged) <= told
    assert alive == [], "what was overdue has ended"
    assert ends is None or ends < created, "and it ended before anything new was granted"
