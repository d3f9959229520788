"""Do hosts get what they fetch, and is a report taken only from a host?"""

import json
from collections.abc import Iterator
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


def fetch(client: Any, query: str = f"nonce={NONCE}", target: str = "hosts") -> Any:
    return client.get(f"/hosts/{target}/bulletin?{query}", base_url=ORIGIN)


def report(client: Any, signature: str | None = None, **changes: object) -> Any:
    said: dict[str, object] = {
        "v": 1,
        "target": "hosts",
        "host": "db1",
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
    return client.post("/hosts/hosts/report", base_url=ORIGIN, json={"report": text, "signature": signature})


@pytest.mark.covers("R53")
def test_a_bulletin_is_signed_over_the_hosts_number_and_short_when_nothing_is_new(world: World, client: Any) -> None:
    number = SqlBoard(world.broker.db, "hosts").post({"jit-x": ({"state": "ended", "serial": "5"}, None)})
    line = client.get("/hosts/hosts/authority", base_url=ORIGIN).text.strip()
    assert line == public_line(key_of(SECRET))
    answer = fetch(client)
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    text = answer.json["bulletin"]
    assert verify(answer.json["signature"], "jitaccess-bulletin", text.encode(), {blob_of_line(line)})
    said = json.loads(text)
    assert (said["nonce"], said["number"], said["target"], said["trusted"]) == (NONCE, number, "hosts", [line])
    assert said["krl"]
    again = json.loads(fetch(client, f"nonce={NONCE}&have={number}").json["bulletin"])
    assert set(again) == {"v", "target", "nonce", "at_us", "number"}


@pytest.mark.parametrize(
    ("query", "target", "status"),
    [
        ("", "hosts", 400),
        ("nonce=short", "hosts", 400),
        (f"nonce={'n' * 101}", "hosts", 400),
        (f"nonce={NONCE}&have=-1", "hosts", 400),
        (f"nonce={NONCE}&have=x", "hosts", 400),
        (f"nonce={NONCE}&more=1", "hosts", 400),
        (f"nonce={NONCE}", "web", 404),
        (f"nonce={NONCE}", "none", 404),
    ],
)
def test_what_no_host_asks_is_refused(client: Any, query: str, target: str, status: int) -> None:
    assert fetch(client, query, target).status_code == status


def test_without_its_secret_a_broker_says_so_and_signs_nothing(world: World, client: Any) -> None:
    (world.broker.settings.targets.secrets_dir / "authority").unlink()
    for answer in (fetch(client), client.get("/hosts/hosts/authority", base_url=ORIGIN)):
        assert answer.status_code == 503
        assert "secret" not in answer.text


@pytest.mark.covers("R51")
def test_a_report_is_kept_when_the_host_signed_it(world: World, client: Any) -> None:
    assert report(client).status_code == 200
    assert json.loads(SqlBoard(world.broker.db, "hosts").read().reports["db1"].text)["sequence"] == 10
    foreign = sign(Ed25519PrivateKey.generate(), "jitaccess-report", b"x")
    refused = (
        report(client, sequence=9),
        report(client, signature=foreign),
        report(client, signature=""),
        report(client, host="db2"),
        report(client, target="web"),
        report(client, number=-1),
        report(client, more=1),
        report(client, logins=[{"serial": "x"}]),
    )
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert json.loads(SqlBoard(world.broker.db, "hosts").read().reports["db1"].text)["sequence"] == 10


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"report": 1, "signature": "x"}', b'{"report": "x"}'])
def test_what_is_no_report_is_refused(client: Any, body: bytes) -> None:
    answer = client.post("/hosts/hosts/report", base_url=ORIGIN, data=body, content_type="application/json")
    assert answer.status_code == 400
