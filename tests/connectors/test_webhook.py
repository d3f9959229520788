"""Webhook: only the provisioner's own word counts, said as agreed; and the provisioner can tell who speaks, and when."""

import base64
import hashlib
import hmac
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from examples.webhook.signatures import Refused, verify
from jitaccess.connectors import webhook
from jitaccess.connectors.contract import CallFailed, Connector, NotDone, Secret, Unreachable
from jitaccess.connectors.webhook import ANSWERS, EXAMPLE, KIND, setup
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.outbound.webhooks import Scheme, Signer, reach_of
from jitaccess.store.ids import new_secret
from tests.support.bench import LoginRefused, open_connector, soon, spec_of
from tests.support.living import hand_over, lease, living
from tests.support.sources import ROOT

KINDS = ("webhook",)
WAIT_S = 30.0
PROMISED_MS = 5_000
PAGE = ROOT / "docs" / "reference" / "provisioner.md"
KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()


# ---------------------------------------------------------------- from the request to the end


@pytest.mark.covers("R49", "R50", "R55", "T-16")
def test_an_access_on_a_provisioner_ends_with_its_lease(bench: Any, tmp_path: Path) -> None:
    with living(bench, tmp_path) as world:
        found = hand_over(world, 3)
        with bench.login(found.credential) as session:
            assert session.alive()
            waited = 0.0
            while lease(world, found.lease.id).state != LeaseState.REVOKED and waited < WAIT_S:
                time.sleep(0.05)
                waited += 0.05
            assert not session.alive()
        with pytest.raises(LoginRefused), bench.login(found.credential):
            pass
        proof: Any = lease(world, found.lease.id).proof
    assert proof["cut"] == {"login": "locked", "sessions": 0, "said_by": "provisioner"}
    assert proof["clean"] == {"account": "absent", "sessions": 0, "said_by": "provisioner"}
    assert proof["lag_ms"] <= PROMISED_MS
    assert bench.accounts() == set()


class Relay(BaseHTTPRequestHandler):
    """Hands each message on as it is; loses the answer, or delivers twice, as told."""

    beyond: ClassVar[str]
    loses: ClassVar[bool]

    def do_POST(self) -> None:
        """Hand on."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        for _ in range(1 if self.loses else 2):
            with urllib.request.urlopen(urllib.request.Request(self.beyond, body, headers), timeout=10) as answer:
                text = answer.read()
        if self.loses:
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def serving(handler: type[BaseHTTPRequestHandler]) -> tuple[ThreadingHTTPServer, str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}/jitaccess"


@pytest.mark.covers("R47", "R51")
@pytest.mark.parametrize("loses", [True, False], ids=["reply_lost", "delivered_twice"])
def test_what_was_made_without_our_hearing_of_it_is_never_taken_for_nothing(
    bench: Any, connector: Connector, loses: bool
) -> None:
    if bench.tls:
        return  # the relay speaks plain HTTP; what passes through it is the same
    before = bench.accounts()
    Relay.beyond, Relay.loses = str(bench.config()["url"]), loses
    server, address = serving(Relay)
    through = open_connector(bench, {**bench.config(), "url": address})
    effect = through.plan(spec_of(bench))
    with pytest.raises(CallFailed):
        through.apply(effect, soon())
    server.shutdown()
    server.server_close()
    assert bench.accounts() - before == {effect.name}
    for act in (connector.cut, connector.clean):
        assert set(act([effect])) == {effect.name}
    assert bench.accounts() == before


# ---------------------------------------------------------------- what is believed


class Scripted(BaseHTTPRequestHandler):
    """Answers as the test says; keeps what came in."""

    got: ClassVar[list[tuple[dict[str, str], dict[str, Any]]]] = []
    script: ClassVar[Callable[[dict[str, Any], str], tuple[int, dict[str, str], bytes]]]

    def do_POST(self) -> None:
        """Answer."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.got.append((headers, body))
        status, more, text = type(self).script(body, headers["webhook-id"])
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def scripted() -> Iterator[str]:
    """Give the address of a provisioner that says what a test wants."""
    server, address = serving(Scripted)
    Scripted.got.clear()
    yield address
    server.shutdown()
    server.server_close()


class Alone:
    """What `open_connector` and `spec_of` want of a bench."""

    kind = KIND
    entitlement = "opener"

    def __init__(self, url: str) -> None:
        self.url = url

    def config(self) -> dict[str, object]:
        """Return a configuration of the scripted provisioner."""
        meaning = {"opener": {"grants": ["open:vault"]}}
        return {"kind": "webhook", "url": self.url, "secret": "x", "timeout_s": 2, "entitlements": meaning}

    def secret(self) -> Secret:
        """Return the key."""
        return Secret(KEY)

    def given(self) -> dict[str, str]:
        """Nothing is handed in."""
        return {}


JSON = {"Content-Type": "application/json"}
ABSENT = {"state": "absent", "sessions": 0}


def saying(**more: object) -> Callable[[dict[str, Any], str], tuple[int, dict[str, str], bytes]]:
    return lambda body, message: (200, JSON, json.dumps({"answers": message, **more}).encode())


WRONG: dict[str, Callable[[dict[str, Any], str], tuple[int, dict[str, str], bytes]]] = {
    "status_500": lambda body, message: (500, JSON, saying(**ABSENT)(body, message)[2]),
    "status_302": lambda body, message: (302, {"Location": "/elsewhere"}, b""),
    "status_404": lambda body, message: (404, JSON, b"{}"),
    "status_204": lambda body, message: (204, {}, b""),
    "answer_not_json html": lambda body, message: (
        200,
        {"Content-Type": "text/html"},
        saying(**ABSENT)(body, message)[2],
    ),
    "answer_not_json text": lambda body, message: (200, JSON, b"absent"),
    "answer_not_json deep": lambda body, message: (200, JSON, b"[" * 60_000),
    "answer_not_json twice": lambda body, message: (
        200,
        JSON,
        f'{{"answers":"{message}","state":"locked","state":"absent","sessions":0}}'.encode(),
    ),
    "answer_too_large": lambda body, message: (200, JSON, b" " * 70_000 + saying(**ABSENT)(body, message)[2]),
    "answer_to_something_else": lambda body, message: saying(**ABSENT)(body, "cut_of_somebody_else"),
    "answer_not_as_agreed number": saying(state="absent", sessions="0"),
    "answer_not_as_agreed more": saying(**ABSENT, note="trust me"),
    "answer_not_as_agreed less": saying(state="absent"),
    "answer_not_as_agreed word": saying(state="gone", sessions=0),
    "answer_not_as_agreed negative": saying(state="absent", sessions=-1),
    "still_active": saying(state="active", sessions=0),
    "sessions_left": saying(state="absent", sessions=1),
}


@pytest.mark.covers("R51", "R66")
@pytest.mark.parametrize("wrong", [*WRONG])
def test_nothing_but_the_agreed_answer_proves_a_revocation(scripted: str, wrong: str) -> None:
    connector = open_connector(Alone(scripted))  # type: ignore[arg-type] # enough of a bench
    effect = connector.plan(spec_of(Alone(scripted)))  # type: ignore[arg-type] # as above
    Scripted.script = WRONG[wrong]
    for act in (connector.cut, connector.clean):
        with pytest.raises(CallFailed) as failed:
            act([effect])
        assert failed.value.code == wrong.split()[0]
    assert len(Scripted.got) == 2, "no redirect is followed, nothing is asked again by itself"
    # The first word is right, the second, asked anew, is not.
    good, calls = saying(**ABSENT), iter(range(10))
    Scripted.script = lambda body, message: (good if next(calls) == 0 else WRONG[wrong])(body, message)
    with pytest.raises((CallFailed, Unreachable)):
        connector.clean([effect])


@pytest.mark.covers("R47", "R51")
@pytest.mark.parametrize("wrong", [*WRONG])
def test_an_answer_that_is_not_as_agreed_is_no_proof_that_nothing_was_made(scripted: str, wrong: str) -> None:
    connector = open_connector(Alone(scripted))  # type: ignore[arg-type] # enough of a bench
    effect = connector.plan(spec_of(Alone(scripted)))  # type: ignore[arg-type] # as above
    Scripted.script = WRONG[wrong]
    with pytest.raises(CallFailed):
        connector.apply(effect, soon())
    Scripted.script = lambda body, message: (401, JSON, b"{}")
    with pytest.raises(CallFailed, match="status_401"):
        connector.apply(effect, soon())


@pytest.mark.covers("R51")
def test_not_made_is_believed_only_when_the_account_is_absent_then(scripted: str) -> None:
    connector = open_connector(Alone(scripted))  # type: ignore[arg-type] # enough of a bench
    effect = connector.plan(spec_of(Alone(scripted)))  # type: ignore[arg-type] # as above

    def then(state: str) -> Callable[[dict[str, Any], str], tuple[int, dict[str, str], bytes]]:
        refusal, word = saying(result="not_made", reason="too_late"), saying(state=state, sessions=0)
        return lambda body, message: (refusal if body["type"] == "access.apply" else word)(body, message)

    Scripted.script = then("absent")
    with pytest.raises(NotDone, match="too_late"):
        connector.apply(effect, soon())
    Scripted.script = then("active")
    with pytest.raises(CallFailed, match="not_made_but_there"):
        connector.apply(effect, soon())


@pytest.mark.covers("R48")
def test_what_the_provisioner_says_cannot_become_a_command(scripted: str) -> None:
    bench = Alone(scripted)
    config = {**bench.config(), "command": "curl --user {username} https://doors.example/"}
    connector = open_connector(bench, config)  # type: ignore[arg-type] # enough of a bench
    effect = connector.plan(spec_of(bench))  # type: ignore[arg-type] # as above
    made = {"result": "made", "id": "7", "secret": "s"}
    Scripted.script = saying(**made, username="x;$(reboot)'")
    shown = connector.apply(effect, soon()).command
    assert shown == """curl --user 'x;$(reboot)'"'"'' https://doors.example/"""
    for bad in ({"username": "two words"}, {"username": "a\nb"}, {"username": "x", "note": "a\nb"}, {"username": ""}):
        Scripted.script = saying(**{**made, **bad})
        with pytest.raises(CallFailed, match="answer_not_as_agreed"):
            connector.apply(effect, soon())


@pytest.mark.covers("R60")
def test_each_effect_and_verb_keeps_its_id_and_what_only_looks_gets_a_new_one(scripted: str) -> None:
    connector = open_connector(Alone(scripted))  # type: ignore[arg-type] # enough of a bench
    one, two = (connector.plan(spec_of(Alone(scripted))) for _ in range(2))  # type: ignore[arg-type] # as above
    Scripted.script = saying(**ABSENT)
    for _ in range(2):
        connector.clean([one, two])
    said = [(body["type"], headers["webhook-id"]) for headers, body in Scripted.got]
    assert all(headers["idempotency-key"] == f'"{headers["webhook-id"]}"' for headers, _ in Scripted.got)
    assert sorted(said)[:4] == sorted([("access.clean", f"clean_{effect.name}") for effect in (one, one, two, two)])
    assert len({name for kind, name in said if kind == "access.read"}) == 4


# ---------------------------------------------------------------- where it may be


@pytest.mark.covers("R46", "R58")
@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://doors.example/x"},
        {"url": "https://user:pw@doors.example/x"},
        {"url": "ftp://127.0.0.1/x"},
        {"url": "https://doors.example/x#y"},
        {"url": "https://doors.example/\n"},
        {"networks": ["10.1.2.3/8"]},
        {"networks": ["everywhere"]},
        {"command": "ssh {secret}"},
        {"command": "one\ntwo"},
        {"entitlements": {"opener": {"grants": ["new\nline"]}}},
        {"follow_redirects": True},
    ],
)
def test_a_target_that_cannot_be_meant_is_refused_at_load(change: dict[str, object]) -> None:
    good = EXAMPLE.model_dump()
    KIND.config.model_validate(good)
    with pytest.raises(ValidationError):
        KIND.config.model_validate(good | change)


@pytest.mark.covers("R46", "R58")
def test_a_private_address_is_not_called_unless_the_signed_policy_names_its_network() -> None:
    with pytest.raises(Unreachable, match="address_not_allowed"):
        open_connector(Alone("https://0.0.0.0/jitaccess")).observe()  # type: ignore[arg-type] # enough of a bench
    plain, named = reach_of(EXAMPLE.url, []), reach_of(EXAMPLE.url, ["10.20.0.0/16"])
    for address in ("10.20.0.7", "169.254.169.254", "::ffff:10.20.0.7", "127.0.0.1"):
        assert not plain.allows(address)
    assert named.allows("10.20.0.7")
    assert not named.allows("10.21.0.7")
    assert not named.allows("127.0.0.1"), "this machine only where the address itself names it"
    assert reach_of("http://127.0.0.1:8100/jitaccess", []).allows("127.0.0.1")


@pytest.mark.covers("R58")
def test_a_provisioner_that_shows_a_certificate_of_somebody_else_is_not_spoken_to(bench: Any) -> None:
    if not bench.tls:
        return
    url = str(bench.config()["url"])
    for change in ({"root_ca": ""}, {"url": url.replace("127.0.0.1", "localhost")}):
        with pytest.raises(Unreachable):
            open_connector(bench, {**bench.config(), **change}).observe()


# ---------------------------------------------------------------- the broker's own key


@pytest.mark.covers("R54")
def test_a_provisioner_that_takes_anything_is_found_out(scripted: str) -> None:
    connector = open_connector(Alone(scripted))  # type: ignore[arg-type] # enough of a bench

    def anything(body: dict[str, Any], message: str) -> tuple[int, dict[str, str], bytes]:
        return (saying(findings=[]) if body["type"] == "access.probe" else saying(**ABSENT))(body, message)

    Scripted.script = anything
    found = connector.probe()
    assert any("somebody else signed" in line for line in found)
    assert any("an hour old" in line for line in found)
    assert any(line.startswith("note: the provisioner ends nothing by itself") for line in found)


@pytest.mark.covers("R52")
def test_a_key_in_exchange_is_used_beside_the_old_one(bench: Any) -> None:
    new = Secret(new_secret())
    both = open_connector(bench, None, bench.secret(), new)
    assert both.observe().coverage, "before the provisioner heard of it"
    both.rotate_own(bench.secret(), new)
    assert both.observe().coverage, "after"
    assert open_connector(bench, None, new).observe().coverage
    both.rotate_own(new, bench.secret())
    assert open_connector(bench).observe().coverage


@pytest.mark.covers("R55")
def test_a_key_that_cannot_be_used_is_told_without_being_repeated(bench: Any) -> None:
    with pytest.raises(Unreachable, match="bench") as raised:
        open_connector(bench, None, Secret("whsec_not-a-key")).observe()
    assert "not-a-key" not in str(raised.value)


# ---------------------------------------------------------------- the other side


def test_the_shipped_check_takes_what_is_signed_now_and_nothing_else() -> None:
    hmac_key, ed_key = Signer(Scheme.HMAC, KEY), Signer(Scheme.ED25519, new_secret())
    for signer in (hmac_key, ed_key):
        good = {"webhook-id": "m_1", "webhook-timestamp": "1000", "webhook-signature": signer.sign("m_1", 1000, b"{}")}
        check = [signer.shared]
        assert verify(good, b"{}", check, 1299) == "m_1"
        assert (
            verify({**good, "webhook-signature": f"v1,AAAA {good['webhook-signature']}"}, b"{}", check, 1000) == "m_1"
        )
        for bad, body, now in (
            (good, b"{} ", 1000),
            (good, b"{}", 1301),
            (good, b"{}", 699),
            ({**good, "webhook-id": "m_2"}, b"{}", 1000),
            ({**good, "webhook-id": "m.1"}, b"{}", 1000),
            ({**good, "webhook-timestamp": "1001"}, b"{}", 1000),
            ({**good, "webhook-timestamp": "1e3"}, b"{}", 1000),
            ({**good, "webhook-signature": ""}, b"{}", 1000),
            ({**good, "webhook-signature": good["webhook-signature"].replace("v1", "v2")}, b"{}", 1000),
            ({}, b"{}", 1000),
        ):
            with pytest.raises(Refused):
                verify(bad, body, check, now)
    public = ed_key.shared
    confused = base64.b64encode(
        hmac.new(base64.b64decode(public[5:]), b"m_1.1000.{}", hashlib.sha256).digest()
    ).decode()
    with pytest.raises(Refused):  # whoever knows the public key must not be able to use it as a shared one
        verify({**good, "webhook-signature": f"v1,{confused}"}, b"{}", [public], 1000)


def test_the_schema_in_the_documentation_is_the_one_that_is_kept() -> None:
    file = PAGE.with_name("provisioner.schema.json")
    assert json.loads(file.read_text()) == webhook.schema(), "write it anew: see docs/reference/provisioner.md"


def test_every_example_of_the_documentation_is_a_message_or_an_answer() -> None:
    blocks = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    types = {str(model.model_fields["type"].default): model for model in ANSWERS}
    seen, latest = set[str](), ""
    for block in blocks:
        if "type" in block:
            types[block["type"]].model_validate_json(json.dumps(block), strict=True)
            seen.add(block["type"])
            latest = block["type"]
        else:
            webhook.read_answer(json.dumps(block).encode(), ANSWERS[types[latest]])
    assert seen == set(types)


def test_setup_says_how_the_two_come_to_know_each_other() -> None:
    assert "whsec_" in setup(None)
    assert "Signer(Scheme.ED25519" in setup(EXAMPLE.model_copy(update={"signature": "ed25519"}))
