"""Does the test of a target tell what a system does that must not, over real sockets, and call nothing that it may not?"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from jitaccess.broker import joining
from jitaccess.broker.clients import add_client, add_proxied, disable_client
from jitaccess.broker.joining import Found, Outcome, Step
from jitaccess.connectors.fake import FakeConnector, fake_kind
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError
from jitaccess.outbound.guard import Reach
from jitaccess.policy.schema import TokenConnector
from jitaccess.store.tables import Event
from tests.support.careless import listening
from tests.support.served import Served, served
from tests.support.world import World

Answer = Callable[[dict[str, Any]], tuple[str, list[tuple[str, str]]]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give a broker that answers at its own address."""
    with served(Path(tmp_path_factory.mktemp("joining")), None) as found:  # type: ignore[arg-type] # nobody looks
        yield found


def application(answer: Answer) -> Callable[..., Iterable[bytes]]:
    def answered(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        status, headers = answer(environ)
        start(status, [*headers, ("Content-Length", "0")])
        return []

    return answered


def origin(url: str) -> str:
    return url.removesuffix("/orders")


def findings(house: Served, reach: Reach | None = None) -> dict[Step, Found]:
    """Test a target; every finding must be there again when it is read."""
    broker = house.world.broker
    found = joining.try_out(broker, house.world.current("agim").actor, "registry", reach=reach)
    with broker.read() as view:
        kept = joining.last(view, "registry")
    assert kept is not None
    assert kept[1] == found
    return {one.step: one for one in found}


@pytest.fixture
def client(house: Served) -> Iterator[Callable[..., None]]:
    """Give a way to register clients of the registry; all are gone afterwards."""
    made: list[str] = []

    def register(*, proxied: str | None = None, **given: Any) -> None:
        with house.world.broker.begin(LOCAL) as tx:
            if proxied is not None:
                made.append(add_proxied(tx, target="registry", name="Registry", origin=proxied).id)
            else:
                made.append(add_client(tx, target="registry", name="Registry", **given)[0].id)

    yield register
    with house.world.broker.begin(LOCAL) as tx:
        for one in made:
            disable_client(tx, one)


def test_the_brokers_own_address_and_keys_are_looked_at_and_the_log_says_who_did(house: Served) -> None:
    found = findings(house)
    assert found[Step.DISCOVERY].outcome is Outcome.WELL
    assert found[Step.KEYS].outcome is Outcome.WELL
    assert found[Step.CLIENTS] == Found(Step.CLIENTS, Outcome.NONE)
    assert not found[Step.CLIENTS].wrong
    with house.world.broker.read() as view:
        events = [row for row in view.all(select(Event)) if row.type == EventType.TARGET_TESTED.value]
    assert events
    assert (events[-1].target, events[-1].person_id) == ("registry", house.world.person("agim"))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("400 Bad Request", Outcome.WELL), ("204 No Content", Outcome.OPEN), ("404 Not Found", Outcome.WRONG)],
)
def test_a_notice_that_nobody_signed_must_be_refused(
    house: Served, client: Callable[..., None], status: str, outcome: Outcome
) -> None:
    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        return (status if environ["REQUEST_METHOD"] == "POST" else "404 Not Found"), []

    with listening(application(answer)) as url:
        client(redirect_uris=[url, f"{origin(url)}/again"], backchannel_logout_uri=f"{origin(url)}/logged-out")
        found = findings(house)
    assert found[Step.LOGOUT] == Found(Step.LOGOUT, outcome, f"{origin(url)}/logged-out", status[:3])
    assert found[Step.LOGOUT].wrong is (outcome is not Outcome.WELL)
    assert found[Step.REDIRECT] == Found(Step.REDIRECT, Outcome.WELL, origin(url), "404")


@pytest.mark.covers("R43")
@pytest.mark.parametrize(
    ("status", "to", "outcome"),
    [
        ("401 Unauthorized", "", Outcome.WELL),
        ("302 Found", "{own}/.jitaccess/start?to=%2F", Outcome.WELL),
        ("303 See Other", "{broker}/oidc/authorize?client_id=x", Outcome.WELL),
        ("200 OK", "", Outcome.OPEN),
        ("302 Found", "https://elsewhere.example/", Outcome.WRONG),
        ("502 Bad Gateway", "", Outcome.WRONG),
    ],
)
def test_a_proxied_application_must_let_nobody_in(
    house: Served, client: Callable[..., None], status: str, to: str, outcome: Outcome
) -> None:
    claimed = []

    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        claimed.append(environ["HTTP_X_JIT_USER"])
        own = f"http://{environ['HTTP_HOST']}"
        return status, [("Location", to.format(own=own, broker=house.origin))] if to else []

    with listening(application(answer)) as url:
        client(proxied=origin(url))
        found = findings(house)
    assert found[Step.PROXY] == Found(Step.PROXY, outcome, origin(url), status[:3])
    assert claimed
    assert all("nobody" in one for one in claimed)


def test_what_does_not_answer_is_told(house: Served, client: Callable[..., None]) -> None:
    client(redirect_uris=["http://127.0.0.1:9/callback"], backchannel_logout_uri="http://127.0.0.1:9/out")
    client(proxied="http://127.0.0.1:9")
    found = findings(house)
    for step in (Step.REDIRECT, Step.LOGOUT, Step.PROXY):
        assert (found[step].outcome, found[step].seen) == (Outcome.UNREACHABLE, "ConnectionRefusedError")


def test_an_address_that_may_not_be_called_is_not(house: Served, client: Callable[..., None]) -> None:
    asked: list[str] = []

    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        asked.append(environ["PATH_INFO"])
        return "200 OK", []

    with listening(application(answer)) as url:
        client(redirect_uris=[url], backchannel_logout_uri=f"{origin(url)}/out")
        found = findings(house, Reach())  # as for a broker that is not on this machine
    assert asked == []
    for step in (Step.REDIRECT, Step.LOGOUT):
        assert (found[step].outcome, found[step].wrong) == (Outcome.NOT_ALLOWED, False)


def test_a_system_that_is_not_there_is_not_tested(house: Served) -> None:
    with pytest.raises(JitError, match="no such system"):
        joining.try_out(house.world.broker, LOCAL, "nothing")


# ---------------------------------------------------------------- where credentials are made


@pytest.fixture
def outside(sqlite_world: World) -> FakeConnector:
    """Give the registry a connector of its own."""
    fake = FakeConnector()
    sqlite_world.use_kind(fake_kind(fake, "token", config=TokenConnector))
    return fake


def test_where_credentials_are_made_the_connector_is_asked(sqlite_world: World, outside: FakeConnector) -> None:
    assert joining.try_out(sqlite_world.broker, LOCAL, "registry") == [Found(Step.CONNECTOR, Outcome.WELL)]
    outside.faults["apply"] = "refused"  # type: ignore[assignment] # what it says of itself is all that counts here
    [found] = joining.try_out(sqlite_world.broker, LOCAL, "registry")
    assert (found.step, found.outcome, found.seen) == (Step.CONNECTOR, Outcome.WRONG, "apply: refused")


def test_a_connector_that_fails_tells_no_text_of_the_target(sqlite_world: World) -> None:
    class Failing(FakeConnector):
        def probe(self) -> tuple[str, ...]:
            raise RuntimeError("password=hunter2")

    sqlite_world.use_kind(fake_kind(Failing(), "token", config=TokenConnector))
    [found] = joining.try_out(sqlite_world.broker, LOCAL, "registry")
    assert (found.outcome, found.seen) == (Outcome.UNREACHABLE, "RuntimeError")
