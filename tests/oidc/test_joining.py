"""Does the test of a target tell what a system does that must not, over real sockets, and call nothing that it may not?"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from sqlalchemy import select

from jitaccess.app import create_app
from jitaccess.broker import joining
from jitaccess.broker.clients import add_client, add_proxied, registered
from jitaccess.broker.joining import Found, Outcome, Step
from jitaccess.broker.sign_ins import disable_client
from jitaccess.connectors.fake import FakeConnector, fake_kind
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError
from jitaccess.outbound.guard import Reach
from jitaccess.policy.schema import TokenConnector
from jitaccess.store.tables import Event
from tests.support.careless import let_in, listening
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

    def register(*, proxied: str | None = None, target: str = "registry", **given: Any) -> None:
        with house.world.broker.begin(LOCAL) as tx:
            if proxied is not None:
                made.append(add_proxied(tx, target=target, name="Registry", origin=proxied).id)
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
        ("403 Forbidden", "", Outcome.WRONG),
        ("302 Found", "https://elsewhere.example/", Outcome.WRONG),
        ("502 Bad Gateway", "", Outcome.WRONG),
    ],
)
def test_a_proxied_application_must_let_nobody_in(
    house: Served, client: Callable[..., None], status: str, to: str, outcome: Outcome
) -> None:
    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        own = f"http://{environ['HTTP_HOST']}"
        return status, [("Location", to.format(own=own, broker=house.origin))] if to else []

    with listening(application(answer)) as url:
        client(proxied=origin(url))
        found = findings(house)
    assert found[Step.PROXY] == Found(Step.PROXY, outcome, origin(url), status[:3])
    knocked = {found[step].outcome for step in (Step.NAMES, Step.STORIES, Step.PATHS) if step in found}
    assert (Outcome.WELL in knocked) == (outcome is Outcome.WELL), "a dead door holds against everything"
    if status[:3] == "502":
        assert knocked == {Outcome.WRONG}, "and what it breaks at is told all the same"


@pytest.mark.covers("R43")
@pytest.mark.parametrize(
    "mistake", ["client id not filled in", "another address", "not one of forward_auth.proxies", "none"]
)
def test_a_proxy_whose_question_the_broker_refuses_is_no_door_that_is_well(
    house: Served, client: Callable[..., None], mistake: str
) -> None:
    own, app = "", create_app(house.world.broker)

    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        """Ask the broker as a proxy with one mistake in its configuration does, and pass on what it says."""
        with house.world.broker.read() as view:
            [id_] = [one.id for one in registered(view).values() if one.proxied_origin == own]
        wrong_id, wrong_host = mistake == "client id not filled in", mistake == "another address"
        sent = {
            "X-Forwarded-Method": "GET",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Host": "other.example" if wrong_host else own.removeprefix("http://"),
            "X-Forwarded-Uri": environ["RAW"],
        }
        said = app.test_client().get(
            f"/forward-auth/{'CLIENT_ID' if wrong_id else id_}?login=redirect",
            base_url=house.origin,
            headers=sent,
            environ_overrides={"REMOTE_ADDR": "192.0.2.7" if mistake.startswith("not one") else "127.0.0.1"},
        )
        to = said.headers.get("Location")
        return said.status, [("Location", to)] if to else []

    with listening(application(answer)) as url:
        own = origin(url)
        client(proxied=own)
        found = findings(house)
    if mistake == "none":
        assert {found[step].outcome for step in (Step.PROXY, Step.NAMES, Step.STORIES, Step.PATHS)} == {Outcome.WELL}
    else:
        assert found[Step.PROXY] == Found(Step.PROXY, Outcome.WRONG, own, "403")
        assert not {Step.NAMES, Step.STORIES, Step.PATHS} & set(found)


@pytest.mark.covers("R41", "R43", "R44")
@pytest.mark.parametrize(
    ("mistake", "step", "told"),
    [
        ("foreign Host", Step.NAMES, "Host: nobody.invalid"),
        ("another application's Host", Step.NAMES, "Host: other.example"),
        ("forwarded Host", Step.NAMES, "X-Forwarded-Host"),
        ("believes X-Jit-User", Step.STORIES, "X-Jit-*"),
        ("believes X_Jit_User", Step.STORIES, "X-Jit-*"),
        ("reads X-Original-Url", Step.STORIES, "x-original-url"),
        ("trusts an address", Step.STORIES, "X-Forwarded-For"),
        ("opens WebSockets", Step.STORIES, "Upgrade: websocket"),
        ("takes any cookie", Step.STORIES, "Cookie 0"),
        ("takes alg none", Step.STORIES, "Authorization 6"),
        ("takes any token of a proxy", Step.STORIES, "X-Jit-Token 0"),
        ("double slash", Step.PATHS, "//"),
        ("dot segments", Step.PATHS, "/.jitaccess/../"),
        ("parameters", Step.PATHS, "/a;b/"),
        ("escapes", Step.PATHS, "/a%2f"),
        ("breaks at NUL", Step.PATHS, "/%00: 500"),
        ("nothing", Step.PATHS, "18"),
    ],
)
def test_what_gets_past_a_proxy_is_found(
    house: Served, client: Callable[..., None], mistake: str, step: Step, told: str
) -> None:
    client(proxied="https://other.example", target="treasury")
    own = ""

    def past(environ: dict[str, Any]) -> bool:
        raw, host = environ["RAW"], environ["HTTP_HOST"]
        bearer = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        return {
            "foreign Host": host == "nobody.invalid",
            "another application's Host": host == "other.example",
            "forwarded Host": host != own and own in environ.get("HTTP_X_FORWARDED_HOST", ""),
            "believes X-Jit-User": "HTTP_X_JIT_USER" in environ,
            "believes X_Jit_User": "X_Jit_User" in environ["NAMES"],
            "reads X-Original-Url": environ.get("HTTP_X_ORIGINAL_URL", "").startswith("/.jitaccess/"),
            "trusts an address": environ.get("HTTP_X_FORWARDED_FOR") == "127.0.0.1",
            "opens WebSockets": environ.get("HTTP_UPGRADE") == "websocket",
            "takes any cookie": "__Host-jit-app=" in environ.get("HTTP_COOKIE", ""),
            "takes alg none": let_in("takes none", ECKey.generate_key("P-256"), bearer),
            "takes any token of a proxy": set(environ) & {"HTTP_X_JIT_TOKEN"} and "HTTP_X_JIT_USER" not in environ,
            "double slash": "//" in raw,
            "dot segments": ".." in raw,
            "parameters": ";" in raw,
            "escapes": "%2f" in raw,
        }.get(mistake, False)  # fmt: skip

    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        if mistake == "breaks at NUL" and "%00" in environ["RAW"]:
            return "500 Internal Server Error", []
        return ("200 OK" if past(environ) else "401 Unauthorized"), []

    with listening(application(answer)) as url:
        own = origin(url).removeprefix("http://")
        client(proxied=origin(url))
        kept = joining.try_out(house.world.broker, house.world.current("agim").actor, "registry")
    found = {one.step: one for one in kept if one.about == origin(url)}
    wanted = Outcome.WELL if mistake == "nothing" else Outcome.WRONG if told.endswith("500") else Outcome.OPEN
    assert (found[step].outcome, told in found[step].seen) == (wanted, True), found
    others = {Step.NAMES, Step.STORIES, Step.PATHS} - {step}
    assert {found[one].outcome for one in others} == {Outcome.WELL}, found
    assert found[Step.PROXY].outcome is Outcome.WELL


def test_knocking_stops_at_a_door_that_hangs_and_takes_a_closed_connection_for_a_refusal(
    house: Served, client: Callable[..., None]
) -> None:
    asked: list[str] = []

    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        asked.append(environ["RAW"])
        if environ["RAW"] == "/a/./":
            time.sleep(3)
        elif environ["HTTP_HOST"] == "nobody.invalid":
            environ["CLOSE"]()
        return "401 Unauthorized", []

    with listening(application(answer)) as url:
        client(proxied=origin(url))
        found = findings(house)
    assert found[Step.NAMES].outcome is Outcome.WELL
    assert (found[Step.PATHS].outcome, found[Step.PATHS].seen) == (Outcome.UNREACHABLE, "/a/./: TimeoutError")
    assert asked[-1] == "/a/./"


def test_a_slow_door_holds_a_test_no_longer_than_its_time_and_one_test_runs_at_once(
    house: Served, client: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    refused: list[str] = []

    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        asked.append(environ["RAW"])
        if len(asked) == 2:
            try:
                joining.try_out(house.world.broker, LOCAL, "registry")
            except JitError as error:
                refused.append(f"{error.kind}: {error.message}")
        if len(asked) == 3:
            monkeypatch.setattr(joining, "_time_left", lambda broker, until: False)
        return "401 Unauthorized", []

    with listening(application(answer)) as url:
        client(proxied=origin(url))
        found = findings(house)
    assert found[Step.PROXY].outcome is Outcome.WELL
    steps = [found[step] for step in (Step.NAMES, Step.STORIES, Step.PATHS)]
    assert [one.outcome for one in steps] == [Outcome.UNFINISHED] * 3
    assert [one.seen for one in steps] == ["2", "0", "0"], "and nothing more was asked"
    assert len(asked) == 3
    assert not any(one.wrong for one in steps)
    assert refused == ["conflict: This system is being tested now. Look again in a moment."]
    monkeypatch.undo()
    asked[:] = [""] * 9
    assert joining.try_out(house.world.broker, LOCAL, "registry"), "and the next one may begin"


def test_where_doors_may_not_be_called_nobody_knocks(house: Served, client: Callable[..., None]) -> None:
    asked: list[str] = []

    def answer(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        asked.append(environ["RAW"])
        return "401 Unauthorized", []

    with listening(application(answer)) as url:
        client(proxied=origin(url))
        found = findings(house, Reach())
    assert asked == []
    assert found[Step.PROXY].outcome is Outcome.NOT_ALLOWED
    assert Step.NAMES not in found


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
