"""How long does the server take for a page, with 1,000 persons and 10,000 requests in the database? (aim: p50 at most 30 ms)

A register and a past are written with seals and events as the broker writes them; then every desk's pages are asked for by a person who
may see them, one after another. Server time alone: the request goes through the whole application, without network and browser.
"""

import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks.measure import Figure, machine_line, run_for, table
from jitaccess.app import create_app
from jitaccess.audit.register import RegisterCheck
from jitaccess.broker import policies
from jitaccess.broker.votes import votes_of
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL
from jitaccess.identity import people
from jitaccess.policy.evaluate import PolicySet
from jitaccess.settings import Limits
from jitaccess.store.db import Tx
from jitaccess.store.ids import new_id
from jitaccess.store.tables import AccessRequest, Approval, Grant, Lease
from jitaccess.web.doors import SESSION_COOKIE
from tests.support.world import ORIGIN, World, open_world, prepare

PERSONS, REQUESTS, CHUNK = 1_000, 10_000, 500
SECONDS = 1.0
AIM_MS = 30.0


def fill(world: World, *, persons: int = PERSONS, requests: int = REQUESTS) -> None:
    """Write the staff and half a year of requests, the newest just now; some wait, some are open. Then look at the register as a
    running broker does at its start and every minute."""
    staff: list[str] = []
    for first in range(0, persons, CHUNK):
        with world.broker.begin(LOCAL) as tx:
            for number in range(first, min(first + CHUNK, persons)):
                person = people.add_person(
                    tx,
                    name=f"Clerk {number:04d}",
                    email=f"clerk{number}@mof.example",
                    institution=("mof", "infra", "civil")[number % 3],
                    unit=f"unit {number % 20}",
                    manager_id=staff[-1] if staff and number % 10 else None,
                )
                people.add_account(tx, person_id=person.id, label=f"clerk{number}@mof.example")
                people.add_member(
                    tx, group_id=("treasury-staff", "payroll-staff", "registry-clerks")[number % 3], member_id=person.id
                )
                staff.append(person.id)
    look, release = world.filed().request, world.filed(entitlement="releaser").request
    world.approved("blerim", release.id)
    with world.broker.read() as view:
        signed = votes_of(view, release.id)[0]
    approvers = (world.person("blerim"), world.person("drita"))
    requesters = [*staff, world.person("arta")]
    for first in range(0, requests, CHUNK):
        numbers = range(first, min(first + CHUNK, requests))
        with world.broker.begin(LOCAL) as tx:
            _write(tx, (look, release, signed), requesters, approvers, numbers, requests)
    RegisterCheck(world.broker.db).check()


def _write(
    tx: Tx,
    models: tuple[AccessRequest, AccessRequest, Approval],
    requesters: list[str],
    approvers: tuple[str, str],
    numbers: range,
    all_of_them: int,
) -> None:
    """Write requests like the models, as wide as they are, with their verdicts, grants and leases."""
    requests: list[tuple[Any, dict[str, Any]]] = []
    grants: list[tuple[Any, dict[str, Any]]] = []
    votes: list[tuple[Any, dict[str, Any]]] = []
    leases: list[tuple[Any, dict[str, Any]]] = []
    *wholes, signed = models
    shared = [{name.key: getattr(whole, name.key) for name in AccessRequest.__table__.columns} for whole in wholes]
    model = wholes[0]
    for number in numbers:
        at = tx.now - timedelta(days=180) * (1 - number / all_of_them)
        person = requesters[number * 7 % len(requesters)] if number % 50 else requesters[-1]
        waits = number > all_of_them - 30
        looks = number % 3 > 0 and not waits
        key, grant, lease = new_id(at), new_id(at), new_id(at)
        subject = {"request": key, "grant": grant, "person": person, "target": "treasury"}
        event = tx.record(EventType.GRANT_CREATED, subject=subject, body={"approvals": 0 if looks else 2})
        decided = at + timedelta(seconds=0 if looks else 60 + number % 4000)
        requests.append(
            (
                event,
                shared[0 if looks else 1]
                | {
                    "id": key,
                    "person_id": person,
                    "state": "PENDING" if waits else "APPROVED",
                    "created_at": at,
                    "decided_at": None if waits else decided,
                    "approve_by": tx.now + timedelta(hours=1) if waits else at + timedelta(hours=1),
                },
            )
        )
        if waits:
            continue
        live = number > all_of_them - 80
        end = decided + timedelta(minutes=30)
        grants.append(
            (
                event,
                {
                    "id": grant, "request_id": key, "person_id": person, "account_id": model.account_id,
                    "target": "treasury", "entitlement": "viewer" if looks else "releaser",
                    "state": "ACTIVE" if live else "ENDED", "duration_s": 1800, "starts_at": decided,
                    "ends_at": tx.now + timedelta(hours=1) if live else end, "latest_end": end + timedelta(days=1),
                    "policy_digest": model.policy_digest, "approvals_digest": "-", "created_at": at,
                    "ended_at": None if live else end, "cause": None if live else "expired",
                },
            )
        )  # fmt: skip
        leases.append(
            (
                event,
                {
                    "id": lease, "grant_id": grant, "person_id": person, "target": "treasury", "connector": "token",
                    "effect": {}, "state": "ACTIVE" if live else "REVOKED", "created_at": decided,
                    "ends_at": tx.now + timedelta(hours=1) if live else end, "ended_at": None if live else end,
                    "revoked_at": None if live else end + timedelta(milliseconds=200 + number % 300), "attempts": 0,
                },
            )
        )  # fmt: skip
        for approver, step in () if looks else zip(approvers, ("line", "owner"), strict=True):
            votes.append(
                (
                    event,
                    {
                        "id": new_id(at), "request_id": key, "person_id": approver, "account_id": model.account_id,
                        "institution": "mof", "step": step, "verdict": "approve", "given_at": decided, "signed_at": decided,
                        "statement": signed.statement, "assertion": signed.assertion, "passkey_id": signed.passkey_id,
                    },
                )
            )  # fmt: skip
    tx.insert_many(AccessRequest, requests)
    tx.insert_many(Grant, grants)
    tx.insert_many(Lease, leases)
    tx.insert_many(Approval, votes)


def paths(world: World) -> list[tuple[str, str]]:
    """Return (who, path) of every page that is measured."""
    with world.broker.read() as view:
        document = dict(world.broker.policies.active(view).document)
        own, ids = world.person("arta"), select(AccessRequest.id).order_by(AccessRequest.id)
        done = view.scalar(ids.where(AccessRequest.person_id == own, AccessRequest.state == "APPROVED").limit(1))
        waiting = view.scalar(ids.where(AccessRequest.state == "PENDING").limit(1))
    with world.broker.begin(LOCAL) as tx:
        changed = {**document, "rules": {k: v for k, v in document["rules"].items() if k != "look-at-payments"}}
        policy_id = policies.propose(tx, PolicySet.from_document(changed), by="local").id
    requester = [
        "/", "/live", "/request", "/request/find?q=pay", "/request?target=treasury&entitlement=releaser",
        f"/requests/{done}", f"/requests/{done}/live", "/passkeys", "/settings", "/policy", "/lost",
    ]  # fmt: skip
    approver = ["/approvals", f"/approvals/{waiting}", f"/requests/{waiting}", "/approvals/set", "/deputies"]
    administrator = [
        "/admin", "/people", "/people?q=clerk+07", f"/people/{own}", "/groups", "/groups/treasury-staff", "/targets",
        "/targets/treasury", "/holds", "/board", "/board/live", "/board?person=clerk+07", "/watch", "/notices",
        "/clients/logouts", f"/policy/sets/{policy_id}/replay",
    ]  # fmt: skip
    auditor = [
        "/audit", "/audit?person=clerk+07&state=ENDED", f"/audit/requests/{done}", "/audit/sample?n=10", "/audit/pictures",
        "/audit/pictures?days=366", "/approvals/pace", "/log", "/log?type=grant.created", f"/log?person={own}",
        f"/witness/requests/{done}",
    ]  # fmt: skip
    return [
        *(("arta", path) for path in requester),
        *(("blerim", path) for path in approver),
        *(("agim", path) for path in administrator),
        *(("jelena", path) for path in auditor),
    ]


def run() -> list[Figure]:
    """Fill a database and measure every page."""
    folder = Path(tempfile.mkdtemp(prefix="bench-pages-"))
    url = f"sqlite:///{folder / 'broker.db'}"
    world = open_world(url, prepare(url, folder), folder, limits=Limits(calls_per_person_minute=1_000_000))
    figures: list[Figure] = []
    try:
        fill(world)
        app = create_app(world.broker)
        for who, path in paths(world):
            client = app.test_client(use_cookies=True)
            current = world.current(who)
            client.set_cookie(SESSION_COOKIE, world.secrets[current.session.id], domain="localhost", secure=True)

            def act(_: int, client: Any = client, path: str = path) -> None:
                answer = client.get(path, base_url=ORIGIN, headers={"Accept-Encoding": "gzip"})
                if answer.status_code not in (200, 204):
                    raise RuntimeError(f"{path}: {answer.status_code}")

            act(0)
            shown = path.split("?")[0] if len(path) > 45 else path
            figures.append(run_for(f"`{shown}`", act, clients=1, seconds=SECONDS))
    finally:
        world.close()
    return figures


def main() -> None:
    """Print the table and which pages miss the aim."""
    figures = run()
    print(machine_line())
    print(table(figures))
    slow = [figure.name for figure in figures if figure.p50_ms > AIM_MS]
    print(f"above {AIM_MS:.0f} ms: {', '.join(slow) if slow else 'none'}")


if __name__ == "__main__":
    sys.exit(main())
