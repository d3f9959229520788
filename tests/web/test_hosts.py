"""Do hosts get what they fetch, and is a report taken only from a host?"""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitaccess.app import create_app
from jitaccess.broker.board import SqlBoard
from jitaccess.connectors.contract import Secret
from jitaccess.connectors.ssh_ca.authority import key_of, public_line
from jitaccess.connectors.ssh_ca.wire import blob_of_line, sign, verify
from jitaccess.settings import Targets
from jitaccess.store.ids import new_secret
from tests.support.world import ORIGIN, World, open_world, prepare
from tests.web.conftest import Site

NONCE = "n" * 32
HOST_KEY = Ed25519PrivateKey.generate()
SECRET = Secret(new_secret())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Give a broker with hosts and, beside them, a target that takes tokens."""
    hosts = {
        "kind": "ssh_ca",
        "secret": "authority",
        "hosts": [{"name": "db1", "key": public_line(HOST_KEY)}],
        "entitlements": {"operator": {"principal": "jit-operator", "account": "ops"}},
    }
    entitlements = {"operator": {"max_duration": "1h"}}
    document = {
        "version": 1,
        "institutions": {key: {"name": key} for key in ("mof", "infra", "nao")},
        "targets": {
            "hosts": {"name": "Hosts", "owner": "infra", "entitlements": entitlements, "connector": hosts},
            "web": {
                "name": "Web",
                "owner": "infra",
                "entitlements": entitlements,
                "connector": {"kind": "token", "audience": "https://web.example"},
            },
        },
        "rules": [
            {
                "id": "operate",
                "for": {"groups": ["treasury-staff"]},
                "to": {"target": "hosts", "entitlements": ["operator"]},
                "duration": {"default": "10m", "max": "1h"},
                "approve": "none",
            }
        ],
    }
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "policy.yaml").write_text(json.dumps(document))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "authority").write_text(SECRET.reveal())
    (secrets / "authority").chmod(0o600)
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    found = open_world(url, prepare(url, tmp_path, policies=folder), tmp_path, targets=Targets(secrets_dir=secrets))
    yield found
    found.close()


@pytest.fixture
def client(world: World) -> Any:
    """Give a host's side of HTTP."""
    return create_app(world.broker).test_client(use_cookies=False)


def exchange(client: Any, signature: str | None = None, door: str = "hosts", **changes: object) -> Any:
    said: dict[str, object] = {
        "v": 1,
        "target": "hosts",
        "host": "db1",
        "nonce": NONCE,
        "sequence": 10,
        "number": 0,
        "logins": [],
        "clock_off_s": 0.0,
        "wrong": [],
        "authorities": [],
        "keys": [],
        "principals": {"ops": ["jit-operator"]},
        **changes,
    }
    text = json.dumps(said)
    signature = sign(HOST_KEY, "jitaccess-report", text.encode()) if signature is None else signature
    body = {"report": text, "signature": signature}
    return client.post(f"/hosts/{door}/exchange", base_url=ORIGIN, json=body)


@pytest.mark.covers("R53")
def test_a_bulletin_is_signed_over_the_hosts_number_and_short_when_nothing_is_new(world: World, client: Any) -> None:
    number = SqlBoard(world.broker.db, "hosts").post({"jit-x": ({"state": "ended", "serial": "5"}, None)})
    line = client.get("/hosts/hosts/authority", base_url=ORIGIN).text.strip()
    assert line == public_line(key_of(SECRET))
    answer = exchange(client)
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    text = answer.json["bulletin"]
    assert verify(answer.json["signature"], "jitaccess-bulletin", text.encode(), {blob_of_line(line)})
    said = json.loads(text)
    assert (said["nonce"], said["number"], said["target"], said["trusted"]) == (NONCE, number, "hosts", [line])
    assert said["krl"]
    again = json.loads(exchange(client, number=number).json["bulletin"])
    assert set(again) == {"v", "target", "nonce", "at_us", "number"}


@pytest.mark.parametrize("door", ["web", "none"])
def test_there_are_no_hosts_of_other_targets(client: Any, door: str) -> None:
    assert exchange(client, door=door).status_code == 404
    assert client.get(f"/hosts/{door}/authority", base_url=ORIGIN).status_code == 404


def test_without_its_secret_a_broker_says_so_and_signs_nothing(world: World, client: Any) -> None:
    (world.broker.settings.targets.secrets_dir / "authority").unlink()
    for answer in (exchange(client), client.get("/hosts/hosts/authority", base_url=ORIGIN)):
        assert answer.status_code == 503
        assert "secret" not in answer.text


def kept(world: World) -> Any:
    return json.loads(SqlBoard(world.broker.db, "hosts").read().reports["db1"].text)


@pytest.mark.covers("R51")
def test_only_a_host_is_answered_and_its_newest_report_is_kept(world: World, client: Any) -> None:
    assert exchange(client).status_code == 200
    assert kept(world)["sequence"] == 10
    refused = (
        exchange(client, signature=sign(Ed25519PrivateKey.generate(), "jitaccess-report", b"x")),
        exchange(client, signature=""),
        exchange(client, nonce="short"),
        exchange(client, nonce="n" * 101),
        exchange(client, host="db2"),
        exchange(client, target="web"),
        exchange(client, number=-1),
        exchange(client, more=1),
        exchange(client, logins=[{"serial": "x"}]),
    )
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert exchange(client, sequence=9, number=3).status_code == 200, (
        "it lost what it knew: it is told, and not believed"
    )
    assert kept(world)["sequence"] == 10
    assert exchange(client, sequence=11, number=3).status_code == 200
    assert kept(world)["number"] == 3


def test_the_same_report_is_written_down_now_and_then(world: World, client: Any) -> None:
    exchange(client)
    exchange(client, sequence=11, nonce="m" * 32)
    assert kept(world)["sequence"] == 10, "nothing new, a moment ago"
    world.clock.advance(timedelta(seconds=16))
    exchange(client, sequence=12, nonce="m" * 32)
    assert kept(world)["sequence"] == 12


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"report": 1, "signature": "x"}', b'{"report": "x"}'])
def test_what_is_no_report_is_refused(client: Any, body: bytes) -> None:
    answer = client.post("/hosts/hosts/exchange", base_url=ORIGIN, data=body, content_type="application/json")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("language", "label"), [("en", "Your public key"), ("sq", "Çelësi juaj publik"), ("sr", "Vaš javni ključ")]
)
def test_the_page_asks_for_the_public_key_in_the_readers_language(world: World, language: str, label: str) -> None:
    grant = world.filed(target="hosts", entitlement="operator", duration_s=600).grant
    assert grant is not None
    app = create_app(world.broker)
    site = Site(world, app, app.test_client(use_cookies=True)).as_("arta")
    page = site.get(f"/grants/{grant.id}/open", **{"Accept-Language": language})
    assert page.status_code == 200
    assert 'name="given.public_key"' in page.text
    assert label in page.text
