"""Does a whole broker keep its word with hosts that fetch? The host is software here; tests/connectors has real ones."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from jitaccess.broker import handover, reconcile, revoke
from jitaccess.broker.board import READ_AGAIN
from jitaccess.broker.board import key_of as row_of
from jitaccess.broker.cut import STUCK_AFTER, Revoker
from jitaccess.broker.issue import Opened
from jitaccess.broker.rotate import rotate
from jitaccess.connectors.contract import Publisher, Secret
from jitaccess.connectors.ssh_ca.authority import key_of, public_line
from jitaccess.connectors.ssh_ca.connector import serial_of
from jitaccess.connectors.ssh_ca.wire import sign
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.settings import Targets
from jitaccess.store.ids import new_secret
from jitaccess.store.tables import Event, Grant, Lease
from tests.support.world import World, open_world, prepare

HOST_KEY, PERSON_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
POLICY: dict[str, Any] = {
    "version": 1,
    "institutions": {key: {"name": key} for key in ("mof", "infra", "nao")},
    "targets": {
        "hosts": {
            "name": "Hosts",
            "owner": "infra",
            "entitlements": {"operator": {"max_duration": "1h"}},
            "connector": {
                "kind": "ssh_ca",
                "secret": "authority",
                "hosts": [{"name": "db1", "key": public_line(HOST_KEY)}],
                "entitlements": {"operator": {"principal": "jit-operator", "account": "ops"}},
            },
        }
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


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Give a broker with one host."""
    folder, secrets = tmp_path / "policies", tmp_path / "secrets"
    folder.mkdir()
    secrets.mkdir()
    (folder / "policy.yaml").write_text(json.dumps(POLICY))
    (secrets / "authority").write_text(Secret(new_secret()).reveal())
    (secrets / "authority").chmod(0o600)
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    found = open_world(url, prepare(url, tmp_path, policies=folder), tmp_path, targets=Targets(secrets_dir=secrets))
    yield found
    found.close()


class SoftHost:
    """A host that obeys at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number, self.at_us = 0, 0
        self.live: dict[str, Any] = {}
        self.logins: list[dict[str, Any]] = []

    def exchange(self) -> dict[str, Any]:
        """Report, and take over what comes back."""
        said = {
            "v": 1,
            "target": "hosts",
            "host": "db1",
            "nonce": "n" * 20,
            "sequence": self.at_us,
            "number": self.number,
            "logins": self.logins,
            "clock_off_s": 0.0,
            "wrong": [],
            "authorities": [],
            "keys": [],
            "principals": {"ops": ["jit-operator"]},
        }
        text = json.dumps(said)
        with self.world.broker.read() as view:
            facts = self.world.broker.policies.active(view).targets["hosts"]
        publisher = cast(Publisher, self.world.broker.targets.at("hosts", facts.connector))
        news: dict[str, Any] = json.loads(
            publisher.exchange(text, sign(HOST_KEY, "jitaccess-report", text.encode()))[0]
        )
        self.number, self.at_us, self.live = news["number"], news["at_us"], news.get("live", self.live)
        return news

    def obey(self) -> None:
        """Fetch, and say that it is in place."""
        self.exchange()
        self.exchange()


def opened(world: World) -> Opened | Refused:
    grant = world.filed(target="hosts", entitlement="operator", duration_s=600).grant
    assert grant is not None
    arta = world.current("arta")
    begun = handover.begin(world.broker, arta, grant.id)
    return handover.complete(
        world.broker,
        arta,
        grant.id,
        challenge_id=begun.challenge_id,
        response=world.answer("arta", begun),
        given={"public_key": public_line(PERSON_KEY)},
    )


def lease_of(world: World, key: str) -> Lease:
    with world.broker.read() as view:
        return view.require(Lease, key)


def hand_back(world: World, found: Opened) -> None:
    grant = found.lease.grant_id
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Grant, grant)]) as tx:
        revoke.hand_back(tx, arta, grant)


@pytest.mark.covers("R47")
def test_nothing_is_issued_while_no_host_listens(world: World) -> None:
    found = opened(world)
    assert isinstance(found, Refused)
    assert found.code == "target_refused"
    with world.broker.read() as view:
        (lease,) = view.all(select(Lease))
    assert lease.state == LeaseState.FAILED.value


@pytest.mark.covers("R53")
def test_a_weak_key_is_refused_with_a_sentence_and_makes_no_lease(world: World) -> None:
    SoftHost(world).obey()
    grant = world.filed(target="hosts", entitlement="operator", duration_s=600).grant
    assert grant is not None
    arta = world.current("arta")
    for text in ("ssh-dss AAAA", ""):
        begun = handover.begin(world.broker, arta, grant.id)
        answer = world.answer("arta", begun)
        found = handover.complete(
            world.broker,
            arta,
            grant.id,
            challenge_id=begun.challenge_id,
            response=answer,
            given={"public_key": text},
        )
        assert isinstance(found, Refused)
        assert found.code == "not_usable"
    with world.broker.read() as view:
        assert view.all(select(Lease)) == []


@pytest.mark.covers("R47", "R50", "R51")
def test_an_end_is_proven_when_the_host_says_so_and_stuck_until_then(world: World) -> None:
    host = SoftHost(world)
    host.obey()
    found = opened(world)
    assert isinstance(found, Opened)
    name = str(cast("dict[str, Any]", found.lease.effect)["name"])
    serial = str(serial_of(name))
    host.obey()
    assert host.live[serial]["key_id"] == name
    host.logins = [{"account": "ops", "serial": serial, "key_id": name, "ends": 1, "count": 2}]
    host.exchange()
    hand_back(world, found)
    revoker = Revoker(world.broker, "test")
    for _ in range(STUCK_AFTER):
        world.clock.advance(timedelta(minutes=20))  # by now it is silent: nothing waits for it
        revoker.run()
    stuck = lease_of(world, found.lease.id)
    assert stuck.state == LeaseState.STUCK.value
    assert stuck.last_error == "Unreachable"
    host.obey()
    assert serial not in host.live
    world.clock.advance(timedelta(minutes=20))
    host.exchange()
    world.clock.advance(timedelta(seconds=70))
    revoker.run()
    assert lease_of(world, found.lease.id).state != LeaseState.REVOKED.value, "its sessions are there"
    host.logins = []
    world.clock.advance(timedelta(minutes=20))
    host.exchange()
    revoker.run()
    revoker.close()
    lease = lease_of(world, found.lease.id)
    assert lease.state == LeaseState.REVOKED.value
    proof = cast("dict[str, Any]", lease.proof)
    assert proof["cut"]["sessions"] == 0
    assert proof["clean"]["account"] == "absent"
    assert set(proof["clean"]["hosts"]) == {"db1"}
    with world.broker.read() as view:
        posted = view.all(select(Event).where(Event.type == EventType.TARGET_POSTED.value))
    assert len(posted) == 2, "one for what was announced, one for its end"


@pytest.mark.covers("R50", "R57")
def test_an_entry_that_somebody_changed_is_over_and_found(world: World) -> None:
    host = SoftHost(world)
    host.obey()
    found = opened(world)
    assert isinstance(found, Opened)
    name = str(cast("dict[str, Any]", found.lease.effect)["name"])
    host.obey()
    assert len(host.live) == 1
    world.sql("UPDATE posting SET value = replace(value, 'ops', 'root') WHERE id = :id", id=row_of("hosts", name))
    world.clock.advance(READ_AGAIN)
    host.number = 0
    host.obey()
    assert host.live == {}, "what was changed past the broker is announced no more"
    with world.broker.read() as view:
        (target,) = reconcile.outside_targets(view, world.broker)
    looked = reconcile.look(world.broker, target)
    assert f"board: {name}" in [one.account for one in looked.findings]
    hand_back(world, found)
    revoker = Revoker(world.broker, "test")
    revoker.run()
    revoker.close()
    assert lease_of(world, found.lease.id).state == LeaseState.REVOKED.value


@pytest.mark.covers("R35", "R52")
def test_the_authority_is_exchanged_only_when_hosts_trust_the_new_one_and_goes_on_after_a_crash(world: World) -> None:
    host, folder = SoftHost(world), world.broker.settings.targets.secrets_dir
    host.obey()
    found = opened(world)
    assert isinstance(found, Opened)
    old = (folder / "authority").read_text()
    world.clock.advance(timedelta(minutes=5))
    with pytest.raises(JitError) as raised:
        rotate(world.broker, "hosts")
    assert raised.value.kind is Kind.UNAVAILABLE, "the host is silent"
    assert (folder / "authority").read_text() == old
    following = (folder / "authority.next").read_text()
    news = host.exchange()
    assert news["trusted"] == [line_of_secret(old), line_of_secret(following)]
    host.exchange()
    assert rotate(world.broker, "hosts") == "authority"
    assert (folder / "authority").read_text() == following
    assert not (folder / "authority.next").exists()
    host.number = 0
    assert host.exchange()["trusted"] == [line_of_secret(following), line_of_secret(old)]
    world.clock.advance(timedelta(hours=2))
    host.obey()
    with world.broker.read() as view:
        (target,) = reconcile.outside_targets(view, world.broker)
    reconcile.look(world.broker, target)
    host.number = 0
    assert host.exchange()["trusted"] == [line_of_secret(following)], "what the old one signed has ended"


def line_of_secret(text: str) -> str:
    return public_line(key_of(Secret(text)))
