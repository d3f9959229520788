"""LDAP: whose membership it is, what was there before, overlapping leases, changes that come too late, and what nobody signed for."""

import json
import re
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ldap3
import pytest
from sqlalchemy import select

from jitaccess.broker import handover, reconcile, revoke
from jitaccess.broker.compare import What
from jitaccess.broker.issue import Opened
from jitaccess.broker.rotate import rotate
from jitaccess.clock import FrozenClock, SystemClock
from jitaccess.connectors.contract import (
    CallFailed,
    Effect,
    LeaseSpec,
    NotDone,
    Secret,
    Surroundings,
    Unreachable,
    Unusable,
)
from jitaccess.connectors.ldap import LdapConfig, LdapConnector, Line, membership, plain, setup
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.domain.values import Refused
from jitaccess.settings import Targets
from jitaccess.store.ids import new_secret
from jitaccess.store.tables import Event, EventText, Grant, Lease
from tests.connectors.kind_ldap import ADMIN
from tests.support.bench import end, open_connector, soon, spec_of
from tests.support.world import Prepared, World, open_world, prepare

KINDS = ("ldap",)
ARTA = "arta.krasniqi@mof.example"
ENTITLEMENTS = ("admin", "keeper")
MANAGE = ("2.16.840.1.113730.3.4.2", True, None)
"""Control with which a referral is an entry like others (RFC 3296)."""


def arta_of(bench: Any) -> str:
    """Make sure that the directory knows arta, as nothing more; return her name there."""
    member = "uid=arta,ou=people,dc=bench"
    line = bench.owner()
    line.search("ou=people,dc=bench", f"(mail={ARTA})")
    if not line.response:
        line.add(member, ["inetOrgPerson"], {"uid": "arta", "cn": "arta", "sn": "Krasniqi", "mail": ARTA})
    line.unbind()
    take_out(bench, member)
    return member


def group_of(bench: Any) -> str:
    return str(bench.config()["entitlements"]["admin"]["group"])


def put_in(bench: Any, member: str) -> None:
    line = bench.owner()
    line.modify(group_of(bench), {"member": [(ldap3.MODIFY_ADD, [member])]})
    line.unbind()


def take_out(bench: Any, member: str) -> None:
    line = bench.owner()
    if member in bench.members():
        line.modify(group_of(bench), {"member": [(ldap3.MODIFY_DELETE, [member])]})
    line.unbind()


@pytest.fixture(scope="session")
def seeded(bench: Any, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Seed a database with a directory as a target, and two entitlements that mean the same group."""
    group = group_of(bench)
    config = {**bench.config(), "entitlements": {name: {"group": group} for name in ENTITLEMENTS}}
    founder = {"account": membership("uid=founder,ou=people,dc=bench", group), "why": "runs the directory"}
    target = {
        "name": "Ledger",
        "owner": "infra",
        "entitlements": {name: {"max_duration": "1h"} for name in ENTITLEMENTS},
        "connector": config,
        "reconcile": {"unknown_account": "remove", "exceptions": [founder]},
    }
    rule = {
        "id": "join",
        "for": {"groups": ["treasury-staff"]},
        "to": {"target": "ledger", "entitlements": [*ENTITLEMENTS]},
        "duration": {"default": "10m", "max": "1h"},
        "approve": "none",
    }
    document = {
        "version": 1,
        "institutions": {key: {"name": key} for key in ("mof", "infra", "nao")},
        "targets": {"ledger": target},
        "rules": [rule],
    }
    folder = tmp_path_factory.mktemp("seeded")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "policy.yaml").write_text(json.dumps(document))
    return prepare(f"sqlite:///{folder / 'broker.db'}", folder, policies=policies, now=_now())


@pytest.fixture
def world(bench: Any, seeded: Prepared, tmp_path: Path) -> Iterator[World]:
    """Give a broker that stands at this moment, with the directory as a target."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "bench").write_text(bench.secret().reveal())
    (secrets / "bench").chmod(0o600)
    for file in seeded.folder.glob("broker.db*"):
        shutil.copy(file, tmp_path / file.name)
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    clock = FrozenClock(_now() + timedelta(seconds=1))
    found = open_world(url, seeded, tmp_path, clock=clock, targets=Targets(secrets_dir=secrets))
    yield found
    found.close()


def _now() -> datetime:
    return soon(0)


def hand_over(world: World, entitlement: str) -> Opened | Refused:
    filed = world.filed(target="ledger", entitlement=entitlement, duration_s=600)
    assert filed.grant is not None
    arta = world.current("arta")
    begun = handover.begin(world.broker, arta, filed.grant.id)
    return handover.complete(
        world.broker, arta, filed.grant.id, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
    )


def opened(world: World, entitlement: str = "admin") -> Opened:
    found = hand_over(world, entitlement)
    assert isinstance(found, Opened), found
    return found


def give_back(world: World, found: Opened) -> dict[str, Any]:
    """Hand access back, let the sweep work, return the proof."""
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Grant, found.lease.grant_id)]) as tx:
        revoke.hand_back(tx, arta, found.lease.grant_id)
    world.sweep()
    with world.broker.read() as view:
        lease = view.require(Lease, found.lease.id)
    assert lease.state == LeaseState.REVOKED, lease.last_error
    proof: Any = lease.proof
    return dict(proof)


@pytest.mark.covers("R47", "R50", "R71")
def test_a_membership_lasts_from_the_opening_to_the_end_and_its_name_stays_out_of_the_leaf(
    bench: Any, world: World
) -> None:
    member = arta_of(bench)
    found = opened(world)
    assert found.credential.username == member
    assert member in bench.members()
    with world.broker.read() as view:
        event = view.all(select(Event).where(Event.type == EventType.LEASE_ISSUING.value))[-1]
        texts = view.all(select(EventText).where(EventText.event_id == event.id))
    assert b"uid=arta" not in (event.leaf if isinstance(event.leaf, bytes) else event.leaf.encode())
    assert [text.text for text in texts] == [Effect.from_json(found.lease.effect).name]
    proof = give_back(world, found)
    assert proof["cut"]["membership"] == "absent"
    assert proof["clean"]["entry"] == "absent"
    assert member not in bench.members()


@pytest.mark.covers("R56", "T-10")
def test_overlapping_leases_of_one_membership_are_counted(bench: Any, world: World) -> None:
    member = arta_of(bench)
    first, second = opened(world, "admin"), opened(world, "keeper")
    give_back(world, first)
    assert member in bench.members(), "the other lease holds it"
    third = opened(world, "admin")
    give_back(world, second)
    assert member in bench.members()
    give_back(world, third)
    assert member not in bench.members(), "the last one took it away"


@pytest.mark.covers("R56")
def test_a_membership_that_was_there_before_is_never_taken_away(bench: Any, world: World) -> None:
    member = arta_of(bench)
    put_in(bench, member)
    first, second = opened(world, "admin"), opened(world, "keeper")
    assert give_back(world, first) is not None
    proof = give_back(world, second)
    assert member in bench.members()
    if not bench.config()["dynamic"]:
        assert proof["cut"] == {"membership": "kept", "existed": True}
        effect = Effect.from_json(second.lease.effect)
        assert effect.detail["existed"] is True, "the intent says so"
    take_out(bench, member)


@pytest.mark.covers("R57")
def test_a_member_that_nobody_signed_for_is_found_and_removed_and_others_stay(bench: Any, world: World) -> None:
    member = arta_of(bench)
    opened(world)
    stray = bench.stray()
    with world.broker.read() as view:
        (ledger,) = reconcile.outside_targets(view, world.broker)
    looked = reconcile.look(world.broker, ledger)
    assert [(one.account, one.what) for one in looked.findings] == [(stray, What.NEW)]
    assert not bench.can_log_in(stray)
    assert {member, "uid=founder,ou=people,dc=bench"} <= bench.members()
    assert reconcile.look(world.broker, ledger).findings == ()


@pytest.mark.covers("R57")
def test_a_member_added_to_a_leases_own_entry_is_a_raised_right(bench: Any) -> None:
    connector = open_connector(bench)
    if not bench.config()["dynamic"]:
        assert "expiry" not in connector.observe().coverage
        return
    spec = spec_of(bench)
    effect = connector.plan(spec)
    connector.apply(effect, soon())
    line = bench.owner()
    line.modify(
        f"cn={effect.name},ou=jit,dc=bench", {"member": [(ldap3.MODIFY_ADD, ["uid=founder,ou=people,dc=bench"])]}
    )
    line.unbind()
    seen = connector.observe().accounts[effect.name]
    assert len(seen.rights - connector.expects(effect, spec.ends_at).rights) == 1
    connector.clean([effect])


@pytest.mark.covers("R57")
@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("name", ["cn=shadow", "cn=jit-shadow", "uid=shadow"])
def test_a_strange_entry_among_the_leases_is_taken_away_and_not_only_said_to_be(
    bench: Any, world: World, name: str, below: bool
) -> None:
    entry = f"{name},ou=jit,dc=bench"
    if not bench.config()["dynamic"]:
        return  # the container's entries let nobody in
    with world.broker.read() as view:
        (ledger,) = reconcile.outside_targets(view, world.broker)
    reconcile.look(world.broker, ledger)
    line = bench.owner()
    line.search("ou=people,dc=bench", f"(mail={bench.newcomer('mallory')})")
    member = str(line.response[0]["dn"])
    live = f"jit-{'1' * 26}"  # it says that it is somebody else's
    values = {"cn": [live, "shadow"], "member": member, "seeAlso": group_of(bench)}
    if name.startswith("cn="):
        values["cn"] = [live, name.removeprefix("cn=")]
    line.add(entry, ["groupOfNames", *(["uidObject"] if name.startswith("uid") else [])], values)
    if below:
        line.add(f"cn=child,{entry}", ["applicationProcess"])
    assert member in bench.members()
    looked = reconcile.look(world.broker, ledger)
    shown = name.removeprefix("cn=") if name.startswith("cn=") else entry
    assert [(one.account, one.what) for one in looked.findings] == [(shown, What.NEW)]
    assert member not in bench.members()
    if below:
        line.delete(f"cn=child,{entry}")
        line.delete(entry)
    assert reconcile.look(world.broker, ledger).findings == ()
    line.search("ou=jit,dc=bench", "(objectClass=*)", ldap3.LEVEL)
    assert line.response == []
    line.unbind()


@pytest.mark.covers("R57")
def test_what_is_still_there_after_the_broker_took_it_away_is_not_said_to_be_gone(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector: Any = open_connector(bench)
    stray = bench.stray()
    with monkeypatch.context() as patch:
        patch.setattr(LdapConnector, "_take_away", lambda *_: None)
        with pytest.raises(CallFailed, match="still_"):
            connector.quarantine(stray, remove=True)
    assert connector.quarantine(stray, remove=True).done
    assert connector.quarantine(stray, remove=True).done, "it is not there: looked for in both places"
    assert not bench.can_log_in(stray)


@pytest.mark.covers("R54", "R57")
def test_a_group_that_shows_members_of_another_is_found_and_the_owners_change_is_said(bench: Any) -> None:
    connector, group, line = open_connector(bench), group_of(bench), bench.owner()
    before = connector.observe().accounts.keys()
    line.add(
        "cn=evil,ou=groups,dc=bench", ["groupOfNames"], {"cn": "evil", "member": ["uid=founder,ou=people,dc=bench"]}
    )
    if not bench.config()["dynamic"]:
        line.modify(group, {"objectClass": [(ldap3.MODIFY_ADD, ["labeledURIObject"])]})
    url = "ldap:///ou=groups,dc=bench?member?one?(cn=evil)"
    line.modify(group, {"labeledURI": [(ldap3.MODIFY_ADD, [url, "https://intranet.example/ledger"])]})
    (found,) = connector.observe().accounts.keys() - before
    assert found.endswith(f" shows {url}")
    assert any(url in one for one in connector.probe())
    told = connector.quarantine(found, remove=True)
    assert (told.done, told.statement) == (
        False,
        f"dn: {group}\nchangetype: modify\ndelete: labeledURI\nlabeledURI: {url}",
    )
    change = bench.folder / "told.ldif"
    change.write_text(told.statement + "\n")
    bench._tool("ldapmodify", ADMIN, "-f", str(change))
    assert connector.observe().accounts.keys() == before
    line.modify(group, {"labeledURI": [(ldap3.MODIFY_DELETE, ["https://intranet.example/ledger"])]})
    if not bench.config()["dynamic"]:
        line.modify(group, {"objectClass": [(ldap3.MODIFY_DELETE, ["labeledURIObject"])]})
    line.delete("cn=evil,ou=groups,dc=bench")
    line.unbind()


@pytest.mark.covers("R57")
def test_a_look_sees_everything_or_fails(bench: Any) -> None:
    if not bench.config()["dynamic"]:
        return  # members are values of one entry: no limit cuts them off
    founder = "uid=founder,ou=people,dc=bench"
    names = [f"jit-{number:026d}" for number in range(520)]
    line = bench.owner()
    for name in names:
        values = {"cn": name, "member": [founder], "seeAlso": [group_of(bench)]}
        line.add(f"cn={name},ou=jit,dc=bench", ["groupOfNames"], values)
    assert set(names) <= open_connector(bench).observe().accounts.keys()
    for name in names:
        line.delete(f"cn={name},ou=jit,dc=bench")
    line.unbind()


@pytest.mark.covers("R48")
def test_the_persons_entry_is_exactly_one_and_no_text_of_theirs_is_a_filter(bench: Any) -> None:
    connector = open_connector(bench)
    assert isinstance(connector, LdapConnector)
    known = bench.newcomer("twice")

    def look(address: str) -> Any:
        spec = replace(plain_spec(), email=address)
        return connector.look(spec)

    assert look(known)["existed"] is False
    for address in ("", "*", "t*", "x)(uid=*", "*)(objectClass=*", "nobody@bench.example", known[:-1] + "*"):
        with pytest.raises(Unusable):
            look(address)
    line = bench.owner()
    values = {"uid": "double", "cn": "double", "sn": "double", "mail": known}
    line.add("uid=double,ou=people,dc=bench", ["inetOrgPerson"], values)
    line.add("uid=treble,ou=people,dc=bench", ["inetOrgPerson"], values | {"uid": "treble"})
    with pytest.raises(Unusable, match="exactly one"):
        look(known)
    line.delete("uid=double,ou=people,dc=bench")
    with pytest.raises(Unusable, match="exactly one"):
        look(known)
    line.delete("uid=treble,ou=people,dc=bench")
    line.unbind()


def plain_spec() -> LeaseSpec:
    now = _now()
    return LeaseSpec("", "person", "target", "admin", now, now)


class Interrupted(LdapConnector):
    """An issuer that is stopped between its look at the clock and its change; meanwhile its lease is revoked by another process."""

    def __init__(self, config: LdapConfig, around: Surroundings, other: LdapConnector) -> None:
        super().__init__(config, around)
        self.other, self.effect = other, None
        self.done = False

    def _number(self, line: Line, dn: str) -> str:
        found = super()._number(line, dn)
        if self.effect is not None and not self.done:
            self.done = True
            self.other.bury(self.effect)
            self.other.cut([self.effect])
            if not self.buried_still:
                self.other.clean([self.effect])
        return found

    effect: Effect | None
    buried_still = True


@pytest.mark.covers("R47", "R60")
@pytest.mark.parametrize("buried_still", [True, False], ids=["buried", "cleaned"])
def test_an_issuer_that_wakes_after_the_revocation_changes_nothing(bench: Any, buried_still: bool) -> None:
    around = Surroundings(lambda name: [bench.secret()], new_secret, SystemClock().now)
    config = LdapConfig.model_validate(dict(bench.config()))
    other = LdapConnector(config, around)
    sleeper = Interrupted(config, around, other)
    before = bench.accounts()
    effect = sleeper.plan(spec_of(bench))
    sleeper.effect, sleeper.buried_still = effect, buried_still
    if buried_still or config.dynamic:
        with pytest.raises(NotDone):
            sleeper.apply(effect, soon())
    else:
        # Cut and cleaned long after the deadline would be: here the deadline is what stops the next try.
        with pytest.raises(NotDone):
            sleeper.apply(effect, soon(0.0))
    other.clean([effect])
    assert bench.accounts() == before


@pytest.mark.covers("R61")
def test_many_at_once_get_into_one_group_and_nobody_stands_in_the_others_way(bench: Any) -> None:
    connector = open_connector(bench)
    before = bench.accounts()
    effects = [connector.plan(spec_of(bench)) for _ in range(32)]
    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(connector.apply, effect, soon()) for effect in effects]:
            done.result()
        for done in [pool.submit(end, connector, effect) for effect in effects]:
            done.result()
    assert bench.accounts() == before
    connector.close()


@pytest.mark.covers("R61")
def test_a_line_sends_what_it_has_to_say_at_once(bench: Any) -> None:
    line = Line(LdapConfig.model_validate(dict(bench.config())), bench.secret())
    assert line._line.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    line.close()


@pytest.mark.covers("R50")
def test_a_person_who_was_renamed_is_taken_out_under_the_new_name_too(bench: Any) -> None:
    connector = open_connector(bench)
    before = bench.accounts()
    effect = connector.plan(spec_of(bench))
    connector.apply(effect, soon())
    member = str(effect.detail["member"])
    line = bench.owner()
    line.modify_dn(member, "uid=married")
    renamed = "uid=married,ou=people,dc=bench"
    if not bench.config()["dynamic"]:  # as the overlay refint does
        line.modify(group_of(bench), {"member": [(ldap3.MODIFY_DELETE, [member]), (ldap3.MODIFY_ADD, [renamed])]})
    connector.cut([effect])
    assert {member, renamed}.isdisjoint(bench.members())
    connector.clean([effect])
    assert bench.accounts() == before
    line.delete(renamed)
    line.unbind()


@pytest.mark.covers("R50", "R51")
@pytest.mark.parametrize("renamed", [False, True])
def test_a_person_who_was_moved_elsewhere_is_taken_out_under_the_name_that_they_have_there(
    bench: Any, renamed: bool
) -> None:
    connector = open_connector(bench)
    before = bench.accounts()
    effect = connector.plan(spec_of(bench))
    connector.apply(effect, soon())
    member = str(effect.detail["member"])
    first = "uid=elsewhere" if renamed else re.match(r"(?:\\.|[^,])+", member)[0]  # type: ignore[index]
    line = bench.owner()
    line.add("ou=contractors,dc=bench", ["organizationalUnit"], {"ou": "contractors"})
    line.modify_dn(member, first, new_superior="ou=contractors,dc=bench")
    moved = f"{first},ou=contractors,dc=bench"
    if not bench.config()["dynamic"]:  # as the overlay refint does
        line.modify(group_of(bench), {"member": [(ldap3.MODIFY_DELETE, [member]), (ldap3.MODIFY_ADD, [moved])]})
    assert connector.cut([effect])[effect.name]["membership"] == "absent"
    connector.clean([effect])
    assert {plain(member), plain(moved)}.isdisjoint({plain(one) for one in bench.members()})
    assert bench.accounts() == before
    line.delete(moved)
    line.delete("ou=contractors,dc=bench")
    line.unbind()


@pytest.mark.covers("R51")
def test_who_is_nowhere_to_be_found_is_not_said_to_be_out_while_the_group_has_a_member_that_nobody_sees(
    bench: Any,
) -> None:
    if bench.config()["dynamic"]:
        return  # the lease's own entry is emptied, whoever is in it
    connector = open_connector(bench)
    before = bench.accounts()
    effect = connector.plan(spec_of(bench))
    connector.apply(effect, soon())
    member = str(effect.detail["member"])
    hidden = "uid=hidden,ou=nowhere,dc=bench"
    line = bench.owner()
    line.delete(member)
    line.modify(group_of(bench), {"member": [(ldap3.MODIFY_DELETE, [member]), (ldap3.MODIFY_ADD, [hidden])]})
    with pytest.raises(CallFailed, match="still_unknown_member"):
        connector.cut([effect])
    line.modify(group_of(bench), {"member": [(ldap3.MODIFY_DELETE, [hidden])]})
    assert connector.cut([effect])[effect.name]["membership"] == "absent"
    connector.clean([effect])
    assert bench.accounts() == before
    line.unbind()


@pytest.mark.covers("R57")
def test_a_guarded_group_that_was_deleted_is_a_finding_and_the_others_are_looked_at_all_the_same(bench: Any) -> None:
    small = "cn=small,ou=groups,dc=bench"
    line = bench.owner()
    line.add(small, ["groupOfNames"], {"cn": "small", "member": ["uid=founder,ou=people,dc=bench"]})
    meant = {"admin": {"group": group_of(bench)}, "small": {"group": small}}
    connector = open_connector(bench, {**bench.config(), "entitlements": meant})
    gone = f"{small} is not there"
    assert gone not in connector.observe().accounts
    line.delete(small)
    line.unbind()
    stray = bench.stray()
    assert {gone, stray} <= connector.observe().accounts.keys()
    told = connector.quarantine(gone, remove=True)
    assert (told.done, told.statement.partition(",")[0]) == (False, "make the group anew")
    assert connector.quarantine(stray, remove=True).done
    connector.close()


@pytest.mark.covers("R58")
def test_the_directorys_certificate_is_checked_and_there_is_no_way_around(bench: Any, tmp_path: Path) -> None:
    good = open_connector(bench)
    assert good.observe().accounts
    foreign = tmp_path / "foreign.pem"
    foreign.write_bytes((bench.folder / "tls" / "server.pem").read_bytes())
    for wrong in ({"root_ca": str(foreign)}, {"root_ca": ""}, {"host": "localhost"}):
        with pytest.raises(Unreachable):
            open_connector(bench, {**bench.config(), **wrong}).observe()
    with pytest.raises(ValueError, match="loopback"):
        LdapConfig.model_validate({**bench.config(), "tls": "none", "host": "ldap.example"})


@pytest.mark.covers("R58")
def test_a_group_that_points_to_another_server_is_not_followed(bench: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        away = "cn=away,ou=groups,dc=bench"
        target = f"ldap://127.0.0.1:{elsewhere.getsockname()[1]}/{away}"
        found = spec_of(bench)
        line = bench.owner()
        line.add(away, ["referral", "extensibleObject"], {"cn": "away", "ref": target}, [MANAGE])
        try:
            connector = open_connector(bench, {**bench.config(), "entitlements": {"admin": {"group": away}}})
            assert not [name for name in connector.observe().accounts if away in name]
            if not bench.config()["dynamic"]:  # with entries of its own the broker changes no group
                with pytest.raises(NotDone):
                    connector.apply(connector.plan(found), soon())
            with pytest.raises(TimeoutError):
                elsewhere.accept()
        finally:
            line.delete(away, [MANAGE])
            line.unbind()


@pytest.mark.covers("R52")
def test_the_brokers_password_is_exchanged_write_ahead(bench: Any, world: World) -> None:
    folder = world.broker.settings.targets.secrets_dir
    old = bench.secret()
    rotate(world.broker, "ledger")
    new = Secret((folder / "bench").read_text())
    assert new.reveal() != old.reveal()
    assert not (folder / "bench.next").exists()
    with pytest.raises(Unreachable):
        open_connector(bench, None, old).observe()
    open_connector(bench, None, new).rotate_own(new, old)  # the bench goes on with its own


@pytest.mark.covers("R54")
def test_a_broker_that_can_do_too_much_is_told(bench: Any) -> None:
    line = bench.owner()
    line.modify(group_of(bench), {"member": [(ldap3.MODIFY_ADD, [str(bench.config()["user"])])]})
    connector = open_connector(bench)
    assert [line for line in connector.probe() if "is a member of" in line]
    line.modify(group_of(bench), {"member": [(ldap3.MODIFY_DELETE, [str(bench.config()["user"])])]})
    line.unbind()
    mighty = {**bench.config(), "user": "cn=admin,dc=bench"}
    found = open_connector(bench, mighty, Secret(bench.password)).probe()
    assert [line for line in found if line.startswith("too mighty: cn=admin,dc=bench may change ou=people")]


@pytest.mark.covers("R55")
def test_nobody_reads_what_proves_the_broker(bench: Any) -> None:
    address = bench.newcomer("curious")
    line = bench.owner()
    line.search("ou=people,dc=bench", f"(mail={address})")
    who = str(line.response[0]["dn"])
    line.unbind()
    server = ldap3.Server("127.0.0.1", bench.port, get_info=ldap3.NONE)
    person = ldap3.Connection(server, who, bench.password, auto_bind=True, check_names=False)
    person.search(str(bench.config()["user"]), "(objectClass=*)", ldap3.BASE, attributes=["cn", "userPassword"])
    found = person.response[0]["raw_attributes"]
    person.unbind()
    assert found["cn"] == [b"jit-broker"]
    assert not found.get("userPassword")


def test_setup_names_what_the_configuration_names() -> None:
    text = setup(None)
    assert 'by dn.exact="cn=jit-broker,dc=example"' in text
    assert "ldap:///ou=jit,dc=example?member?one?(seeAlso=cn=ledger-admins,ou=groups,dc=example)" in text
    assert "olcDDSinterval: 10" in text


def test_names_that_differ_to_the_server_differ_to_us() -> None:
    assert plain("UID=Straße0, OU=People") == "uid=straße0,ou=people"
    assert plain("uid=straße0,ou=people") != plain("uid=strasse0,ou=people")
