"""Does a system that joined answer as it must? A test that an administrator starts: real calls, nothing granted, nothing changed.

The broker's own address is asked first: a way in front of it that leads elsewhere breaks every door. Then each client of the target: does
it answer where people come back to; does it refuse a logout notice that nobody signed; does a proxied application lead to sign in who
brings no access, and let nobody in whatever name he calls, whatever his headers say and however he writes the path (`knocks`). On a target
where credentials are made the connector looks at its own account. A client's address is called under the guard of `outbound.guard`; nothing
is called inside a transaction.
"""

import ipaddress
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from jitaccess.broker import knocks
from jitaccess.broker.clients import ClientFacts, registered
from jitaccess.broker.context import Broker
from jitaccess.broker.cut import error_word
from jitaccess.broker.knocks import Knock
from jitaccess.broker.logout import reach_of
from jitaccess.connectors.contract import Unreachable
from jitaccess.domain.events import EventType
from jitaccess.domain.values import Actor
from jitaccess.errors import JitError, Kind
from jitaccess.outbound.guard import Bounds, NotDelivered, Reach, get, post_form
from jitaccess.policy.evaluate import TargetFacts
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import View
from jitaccess.store.tables import TargetTest

WORKERS = 8
MOST_ADDRESSES = 40
MOST_OTHERS = 3
"""So many other applications' names are tried at each door."""
MOST_TOLD = 6
MOST_METADATA = 64 * 1024
OWN = Reach((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")), loopback=True)
"""The broker's own address comes from its settings and from nobody else."""
FORGED_NOTICE = "eyJhbGciOiJub25lIn0.eyJldmVudHMiOnt9fQ."
"""A logout token that says nothing and that nobody signed: refused by whoever checks, harmless where nobody does."""
PATIENCE = Bounds(wait_s=2.0, whole_s=3.0, answer_bytes=0)
"""For one knock; who needs longer is not waited for."""
BEGIN_WITHIN_S = 15.0
"""So long after its start a test begins no further call; with the longest call it ends before a proxy gives the page up."""
CLOSED = frozenset({"RemoteDisconnected", "ConnectionResetError", "BrokenPipeError"})
"""A connection that is closed without an answer: a refusal as good as any."""


class Step(StrEnum):
    """What was looked at."""

    DISCOVERY = "discovery"
    KEYS = "keys"
    CLIENTS = "clients"
    REDIRECT = "redirect"
    LOGOUT = "logout"
    PROXY = "proxy"
    NAMES = "names"
    STORIES = "stories"
    PATHS = "paths"
    CONNECTOR = "connector"


class Outcome(StrEnum):
    """What came of it."""

    WELL = "well"
    NONE = "none"
    NOT_ALLOWED = "not_allowed"
    UNREACHABLE = "unreachable"
    WRONG = "wrong"
    UNFINISHED = "unfinished"
    OPEN = "open"
    """Somebody gets in, or is believed, who must not."""


NEUTRAL = frozenset({Outcome.NONE, Outcome.NOT_ALLOWED, Outcome.UNFINISHED})
"""Neither well nor wrong: it could not be seen from here, or not in time."""


@dataclass(frozen=True, slots=True)
class Found:
    """One finding. `about` is an address or nothing; `seen` a status, a code, or a connector's own line."""

    step: Step
    outcome: Outcome
    about: str = ""
    seen: str = ""

    @property
    def wrong(self) -> bool:
        """Say whether somebody has to do something."""
        return self.outcome is not Outcome.WELL and self.outcome not in NEUTRAL


Look = Callable[[], Sequence[Found]]
Over = Callable[[], bool]
"""Whether the time of a test is over."""
_guard = threading.Lock()
_running: set[tuple[int, str]] = set()
"""What this process tests now: (database, target)."""


def try_out(broker: Broker, actor: Actor, target: str, *, reach: Reach | None = None) -> list[Found]:
    """Test a target and keep what was found; raises NOT_FOUND, and CONFLICT while it is being tested. Called outside any Tx.

    `reach`: where clients' addresses may be, else as for logout notices.
    """
    mine = (id(broker.db), target)
    with _guard:
        if mine in _running:
            raise JitError(Kind.CONFLICT, "This system is being tested now. Look again in a moment.")
        _running.add(mine)
    try:
        return _try_out(broker, actor, target, reach)
    finally:
        with _guard:
            _running.discard(mine)


def _try_out(broker: Broker, actor: Actor, target: str, reach: Reach | None) -> list[Found]:
    until = broker.clock.monotonic() + BEGIN_WITHIN_S

    def over() -> bool:
        return not _time_left(broker, until)

    def begun(look: Look) -> Sequence[Found]:
        return [Found(Step.CLIENTS, Outcome.UNFINISHED)] if over() else look()

    with broker.read() as view:
        broker.keyring.refresh(view)
        facts = broker.policies.active(view).targets.get(target)
        if facts is None:
            raise JitError(Kind.NOT_FOUND, "There is no such system.")
        known = [client for client in registered(view).values() if client.target == target]
    looks = list(_looks(broker, facts, known, reach or reach_of(broker), over))
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="join") as pool:
        found = list(dict.fromkeys(one for several in pool.map(begun, looks) for one in several))
    _keep(broker, actor, target, found)
    return found


def _time_left(broker: Broker, until: float) -> bool:
    return broker.clock.monotonic() < until


def _keep(broker: Broker, actor: Actor, target: str, found: Sequence[Found]) -> None:
    findings: JsonValue = [cast(JsonValue, asdict(one)) for one in found]
    wrong = sum(one.wrong for one in found)
    with broker.begin(actor, lock=[(TargetTest, target)]) as tx:
        person = actor.person_id or ""
        subject = {"target": target, **({"person": person} if person else {})}
        tx.record(EventType.TARGET_TESTED, subject=subject, body={"looked": len(found), "wrong": wrong})
        row = tx.get(TargetTest, target)
        if row is None:
            tx.insert(TargetTest, id=target, tested_by=person, tested_at=tx.now, findings=findings)
        else:
            tx.update(row, tested_by=person, tested_at=tx.now, findings=findings)


def last(view: View, target: str) -> tuple[TargetTest, list[Found]] | None:
    """Return the last test of a target and what it found, or None."""
    row = view.get(TargetTest, target)
    if row is None:
        return None
    kept = cast("list[dict[str, Any]]", row.findings)
    return row, [Found(Step(one["step"]), Outcome(one["outcome"]), one["about"], one["seen"]) for one in kept]


def _looks(
    broker: Broker, facts: TargetFacts, known: Sequence[ClientFacts], reach: Reach, over: Over
) -> Iterator[Look]:
    kind = broker.targets.kinds.get(str(facts.connector["kind"]))
    if kind is not None and kind.outside:
        yield partial(_connector, broker, facts)
        return
    yield partial(_own, broker)
    if not known:
        yield lambda: [Found(Step.CLIENTS, Outcome.NONE)]
    with broker.read() as view:
        proxied = sorted(client.proxied_origin for client in registered(view).values() if client.proxied_origin)
    looks = [look for client in known for look in _of_client(broker, client, reach, proxied, over)]
    yield from looks[:MOST_ADDRESSES]


def _of_client(broker: Broker, client: ClientFacts, reach: Reach, proxied: Sequence[str], over: Over) -> Iterator[Look]:
    if client.proxied_origin is not None:
        others = [one for one in proxied if one != client.proxied_origin][:MOST_OTHERS]
        yield partial(_proxied, broker, client.proxied_origin, reach, others, over)
        return
    for origin in dict.fromkeys(_origin(uri) for uri in client.redirect_uris):
        yield partial(_answering, origin, reach)
    if client.backchannel_logout_uri is not None:
        yield partial(_notice, client.backchannel_logout_uri, reach)


def _origin(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"


# ---------------------------------------------------------------- the looks


def _own(broker: Broker) -> list[Found]:
    """Ask the broker's own public address as a client would: does it lead here?"""
    origin = broker.site.origin
    address = f"{origin}/.well-known/openid-configuration"
    try:
        metadata = _json(address)
        if metadata.get("issuer") != origin or metadata.get("jwks_uri") != f"{origin}/.well-known/jwks.json":
            return [Found(Step.DISCOVERY, Outcome.WRONG, address)]
        keys = _json(f"{origin}/.well-known/jwks.json").get("keys")
    except NotDelivered as failed:
        return [Found(Step.DISCOVERY, Outcome.UNREACHABLE, address, str(failed))]
    signing = str(broker.keyring.token_key().kid)
    there = isinstance(keys, list) and any(isinstance(key, dict) and key.get("kid") == signing for key in keys)
    return [
        Found(Step.DISCOVERY, Outcome.WELL, address),
        Found(Step.KEYS, Outcome.WELL if there else Outcome.WRONG, f"{origin}/.well-known/jwks.json"),
    ]


def _json(url: str) -> dict[str, Any]:
    """Return a JSON object from our own address; raises NotDelivered."""
    seen = get(url, {"Accept": "application/json"}, OWN, Bounds(answer_bytes=MOST_METADATA))
    if seen.status != 200:
        raise NotDelivered(f"status_{seen.status}")
    try:
        found = json.loads(seen.unverified_body)
    except (ValueError, RecursionError) as error:
        raise NotDelivered("no_json") from error
    if not isinstance(found, dict):
        raise NotDelivered("no_json")
    return found


def _failed(step: Step, about: str, failed: NotDelivered) -> list[Found]:
    outcome = Outcome.NOT_ALLOWED if str(failed) == "address_not_allowed" else Outcome.UNREACHABLE
    return [Found(step, outcome, about, str(failed))]


def _answering(origin: str, reach: Reach) -> list[Found]:
    """See whether anything answers where people come back to; what it says is its own business."""
    try:
        seen = get(f"{origin}/", {}, reach)
    except NotDelivered as failed:
        return _failed(Step.REDIRECT, origin, failed)
    outcome = Outcome.WRONG if seen.status >= 500 else Outcome.WELL
    return [Found(Step.REDIRECT, outcome, origin, str(seen.status))]


def _notice(uri: str, reach: Reach) -> list[Found]:
    """Send a notice that nobody signed; it must be refused (Back-Channel Logout 1.0 section 2.8: 400)."""
    try:
        status = post_form(uri, {"logout_token": FORGED_NOTICE}, reach)
    except NotDelivered as failed:
        return _failed(Step.LOGOUT, uri, failed)
    if 200 <= status < 300:
        return [Found(Step.LOGOUT, Outcome.OPEN, uri, str(status))]
    return [Found(Step.LOGOUT, Outcome.WELL if status in (400, 401, 403) else Outcome.WRONG, uri, str(status))]


def _proxied(broker: Broker, origin: str, reach: Reach, others: Sequence[str], over: Over) -> list[Found]:
    """Ask a proxied application without access: it must lead to sign in, or answer 401. Then try what may get past that.

    403 is what the broker answers to a proxy that asks wrongly, and what a dead door answers to everybody: whoever has access gets in
    nowhere. That such a door holds against everything says nothing good of it, so only what it lets in or breaks at is told.
    """
    try:
        seen = get(f"{origin}/", {}, reach)
    except NotDelivered as failed:
        return _failed(Step.PROXY, origin, failed)
    led = seen.location.startswith((f"{origin}/.jitaccess/start", f"{broker.site.origin}/oidc/authorize?"))
    if 200 <= seen.status < 300:
        return [Found(Step.PROXY, Outcome.OPEN, origin, str(seen.status))]
    held = seen.status == 401 or (seen.status in (302, 303) and led)
    first = Found(Step.PROXY, Outcome.WELL if held else Outcome.WRONG, origin, str(seen.status))
    tried = {
        Step.NAMES: knocks.names(origin, broker.site.origin, others),
        Step.STORIES: knocks.stories(origin, others),
        Step.PATHS: knocks.paths(),
    }
    found = [knocked(step, origin, several, reach, over) for step, several in tried.items()]
    return [first, *(one for one in found if held or one.outcome is not Outcome.WELL)]


def knocked(step: Step, origin: str, several: Iterable[Knock], reach: Reach, over: Over) -> Found:
    """Try knocks one after the other while there is time; say which let somebody in, or broke the door, or how many held."""
    inside, broken, held, well = [], [], 0, Outcome.WELL
    for knock in several:
        if over():
            well = Outcome.UNFINISHED
            break
        try:
            status = get(f"{origin}{knock.path}", knock.headers, reach, PATIENCE).status
        except NotDelivered as failed:
            if str(failed) not in CLOSED:
                return Found(step, Outcome.UNREACHABLE, origin, f"{knock.what}: {failed}")
            status = 0
        if 200 <= status < 300:
            inside.append(knock.what)
        elif status >= 500:
            broken.append(f"{knock.what}: {status}")
        else:
            held += 1
    if inside or broken:
        return Found(step, Outcome.OPEN if inside else Outcome.WRONG, origin, "; ".join((inside or broken)[:MOST_TOLD]))
    return Found(step, well, origin, str(held))


def _connector(broker: Broker, facts: TargetFacts) -> list[Found]:
    """Let the connector look at the broker's own account on the target."""
    try:
        with broker.targets.slot(facts.id):
            lines = broker.targets.at(facts.id, facts.connector).probe()
    except (Unreachable, JitError) as error:
        return [Found(Step.CONNECTOR, Outcome.UNREACHABLE, "", str(error))]
    except Exception as error:  # a target may fail in any way, and its own text stays out of sight (R55)
        return [Found(Step.CONNECTOR, Outcome.UNREACHABLE, "", error_word(error))]
    return [Found(Step.CONNECTOR, Outcome.WRONG, "", line) for line in lines if not line.startswith("note: ")] or [
        Found(Step.CONNECTOR, Outcome.WELL)
    ]
