"""What nothing explains on a target is found, told and dealt with as the signed policy says; what is explained is left alone."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from errno import ENOSPC
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from jitaccess.audit.register import RegisterCheck
from jitaccess.broker import health, judging
from jitaccess.broker import rotate as rotate_module
from jitaccess.broker.acts import LeaseClose
from jitaccess.broker.compare import What, compare
from jitaccess.broker.cut import STUCK_AFTER
from jitaccess.broker.health import Finding
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.policies import activate, propose
from jitaccess.broker.reconcile import EVERY, Looked, Reconciler, lent_roles, look, open_findings, outside_targets
from jitaccess.broker.rotate import rotate
from jitaccess.clock import to_epoch_us
from jitaccess.connectors.contract import Account, Inventory, KindConfig, Secret, SecretName
from jitaccess.connectors.fake import FakeConnector, fake_kind
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, GrantState, LeaseState
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError
from jitaccess.policy.evaluate import PolicySet, TargetFacts
from jitaccess.policy.schema import TokenConnector
from jitaccess.settings import Targets
from jitaccess.store.tables import Event, Grant, Lease, Outbox, TargetAccount
from tests.support.world import World

DBA = Account("dba", frozenset({"SUPERUSER"}), fingerprint="one")


def outside(world: World) -> FakeConnector:
    fake = FakeConnector()
    world.use_kind(fake_kind(fake, "token", config=TokenConnector))
    return fake


def facts(world: World, **reconcile: Any) -> TargetFacts:
    """Return the treasury as a policy with this `reconcile` would name it."""
    with world.broker.read() as view:
        document: dict[str, Any] = dict(world.broker.policies.active(view).document)
    treasury = dict(document["targets"]["treasury"]) | ({"reconcile": reconcile} if reconcile else {})
    return PolicySet.from_document(document | {"targets": {**document["targets"], "treasury": treasury}}).targets[
        "treasury"
    ]


def excepted(account: str, rights: list[str] | None = None) -> dict[str, Any]:
    return {"account": account, "rights": rights, "why": "for a reason"}


def whats(looked: Looked) -> dict[str, What]:
    return {one.account: one.what for one in looked.findings}


def opened(world: World) -> Opened:
    grant = world.filed(duration_s=600).grant
    assert grant is not None
    found = open_lease(world.broker, world.current("arta"), grant.id)
    assert isinstance(found, Opened)
    return found


def count(world: World, kind: EventType) -> int:
    with world.broker.read() as view:
        return int(view.scalar(select(func.count()).where(Event.type == kind.value)))


@pytest.mark.covers("R57")
def test_an_account_that_nothing_explains_is_found_once_and_told_to_every_administrator(world: World) -> None:
    fake = outside(world)
    opened(world)
    assert whats(look(world.broker, facts(world))) == {}
    fake.accounts["shadow"] = Account("shadow", frozenset({"SUPERUSER"}))
    looked = look(world.broker, facts(world))
    assert (whats(looked), looked.fresh) == ({"shadow": What.NEW}, 1)
    assert look(world.broker, facts(world)).fresh == 0
    assert count(world, EventType.ACCOUNT_FOUND) == count(world, EventType.ALARM_RAISED) == 1
    with world.broker.read() as view:
        (row,) = open_findings(view)
        assert (row.name, row.extra, row.acted) == ("shadow", ["SUPERUSER"], None)
        assert len(view.all(select(Outbox).where(Outbox.kind == "account_found"))) == 3
    assert fake.accounts["shadow"].enabled, "the policy says alarm"
    del fake.accounts["shadow"]
    assert whats(look(world.broker, facts(world))) == {}
    with world.broker.read() as view:
        assert open_findings(view) == []
    fake.accounts["shadow"] = Account("shadow")
    assert whats(look(world.broker, facts(world))) == {"shadow": What.RESURRECTED}


@pytest.mark.covers("R57")
@pytest.mark.parametrize(("wanted", "acted"), [("hold", "held"), ("remove", "removed")])
def test_the_policy_has_it_locked_or_removed(sqlite_world: World, wanted: str, acted: str) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    fake.accounts["shadow"] = Account("shadow", frozenset({"SUPERUSER"}))
    look(world.broker, facts(world, unknown_account=wanted))
    found = fake.accounts.get("shadow")
    assert found is None if wanted == "remove" else found is not None and not found.enabled
    with world.broker.read() as view:
        assert [row.acted for row in view.all(select(TargetAccount))] == [acted]
    look(world.broker, facts(world, unknown_account=wanted))
    assert [verb for verb, _ in fake.calls].count("quarantine") == 1


@pytest.mark.covers("R57")
def test_who_is_enabled_again_after_being_locked_is_locked_again_and_alarmed_anew(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    shadow = fake.accounts["shadow"] = Account("shadow", frozenset({"SUPERUSER"}))
    hold = facts(world, unknown_account="hold")
    look(world.broker, hold)
    for _ in range(2):
        fake.accounts["shadow"] = shadow
        assert look(world.broker, hold).fresh == 1
        assert not fake.accounts["shadow"].enabled
    assert look(world.broker, hold).fresh == 0
    assert count(world, EventType.ALARM_RAISED) == 3


@pytest.mark.covers("R57")
def test_an_account_being_ended_that_somebody_raises_is_found(world: World) -> None:
    fake = outside(world)
    lease = opened(world).lease
    fake.poisoned = {str(lease.effect["name"])}  # type: ignore[index] # it is an object
    world.advance(timedelta(seconds=601))
    world.sweep()
    (name,) = fake.poisoned
    assert whats(look(world.broker, facts(world))) == {}
    fake.accounts[name] = Account(name, fake.accounts[name].rights | {"SUPERUSER"})
    looked = look(world.broker, facts(world))
    assert [(one.what, one.extra) for one in looked.findings] == [(What.RAISED, ("SUPERUSER",))]


@pytest.mark.covers("R57", "R70")
def test_no_lease_changed_by_sql_hides_an_account(world: World) -> None:
    fake = outside(world)
    lease = opened(world).lease
    world.advance(timedelta(seconds=601))
    world.sweep()
    fake.accounts["shadow"] = Account("shadow", frozenset({"SUPERUSER"}))
    effect = '{"detail":{},"kind":"token","name":"shadow"}'
    world.sql("UPDATE lease SET state = 'STUCK', effect = :effect WHERE id = :id", effect=effect, id=lease.id)
    assert whats(look(world.broker, facts(world))) == {"shadow": What.NEW}


@pytest.mark.covers("R57", "R70")
@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM target_account", "UPDATE target_account SET rights = '[\"SUPERUSER\"]'", "DELETE FROM heartbeat"],
)
def test_no_record_changed_by_sql_makes_more_rights_look_as_if_they_had_always_been_there(
    world: World, statement: str
) -> None:
    fake = outside(world)
    named = facts(world, exceptions=[excepted("app"), excepted("other")])
    fake.accounts = {"app": Account("app", frozenset({"read"})), "other": Account("other")}
    assert whats(look(world.broker, named)) == {}
    RegisterCheck(world.broker.db).check()
    fake.accounts["app"] = Account("app", frozenset({"read", "SUPERUSER"}))
    world.sql(statement)
    for _ in range(2):
        looked = look(world.broker, named)
        assert whats(looked) == {"app": What.RAISED}
        assert "SUPERUSER" in looked.findings[0].extra
    RegisterCheck(world.broker.db).check()
    with world.broker.read() as view:
        assert [row.name for row in open_findings(view)] == ["app"]
    del fake.accounts["app"]
    assert whats(look(world.broker, named)) == {}


@pytest.mark.covers("R57")
@pytest.mark.parametrize("called", ["", "backup"])
def test_the_account_of_live_access_that_is_gone_or_renamed_is_found_until_the_access_ends(
    world: World, called: str
) -> None:
    fake = outside(world)
    lease = opened(world).lease
    name = f"jit-{lease.id}"
    assert whats(look(world.broker, facts(world))) == {}
    account = fake.accounts.pop(name)
    if called:
        fake.accounts[called] = replace(account, name=called)
    for _ in range(2):
        looked = look(world.broker, facts(world))
        assert whats(looked) == {name: What.MISSING} | ({called: What.NEW} if called else {})
        assert looked.findings[-1].extra == ((f"now {called}",) if called else ())
    with world.broker.read() as view:
        assert name in {row.name for row in open_findings(view)}
    look(world.broker, facts(world, unknown_account="hold"))
    with world.broker.read() as view:
        assert [grant.state for grant in view.usable(select(Grant))] == [GrantState.ENDED]
    world.sweep()
    assert name not in whats(look(world.broker, facts(world)))
    with world.broker.read() as view:
        assert name not in {row.name for row in open_findings(view)}


@pytest.mark.covers("R57")
def test_an_account_that_is_born_or_ends_while_the_target_is_looked_at_is_not_missing(world: World) -> None:
    fake = outside(world)
    observe = fake.observe

    def before_its_birth() -> Inventory:
        fake.observe = observe  # type: ignore[method-assign] # once
        seen = observe()
        opened(world)
        return seen

    fake.observe = before_its_birth  # type: ignore[method-assign] # what happens meanwhile
    assert whats(look(world.broker, facts(world))) == {}

    def after_its_end() -> Inventory:
        world.advance(timedelta(seconds=601))
        world.sweep()
        return observe()

    fake.observe = after_its_end  # type: ignore[method-assign] # what happens meanwhile
    assert whats(look(world.broker, facts(world))) == {}


@pytest.mark.covers("R57", "R70")
def test_a_record_of_a_missing_account_changed_by_sql_stops_no_look(world: World) -> None:
    fake = outside(world)
    lease = opened(world).lease
    del fake.accounts[f"jit-{lease.id}"]
    for statement in ("UPDATE target_account SET rights = '[\"x\"]'", "DELETE FROM target_account"):
        assert whats(look(world.broker, facts(world))) == {f"jit-{lease.id}": What.MISSING}
        world.sql(statement)
    assert whats(look(world.broker, facts(world))) == {f"jit-{lease.id}": What.MISSING}


@pytest.mark.parametrize("moved", [timedelta(days=9), -timedelta(minutes=1)])
def test_a_moment_of_the_last_look_changed_by_sql_stops_no_look(world: World, moved: timedelta) -> None:
    fake = outside(world)
    reconciler = Reconciler(world.broker)

    def run() -> int:
        started = reconciler.run()
        reconciler.wait()
        return started

    assert run() >= 1
    for _ in range(11):
        world.advance(timedelta(minutes=1))
        at = to_epoch_us(world.clock.now() + moved)
        world.sql("UPDATE heartbeat SET beat_at = :at", at=at)
        run()
    reconciler.close()
    assert [verb for verb, _ in fake.calls].count("observe") >= 2


def test_who_had_the_access_does_not_sign_its_closing(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    lease = opened(world).lease
    fake.faults["cut"] = "fail"
    world.advance(timedelta(seconds=601))
    for _ in range(STUCK_AFTER):
        world.sweep()
        world.advance(timedelta(minutes=20))
    with world.broker.read() as view:
        refused = judging.refusal(
            view, world.broker, kind="lease.close", subject=lease.id, payload=LeaseClose(reason="deleted by hand"),
            signers={world.person("arta")},
        )  # fmt: skip
    assert refused is not None
    assert refused.code == "own_rights"


@pytest.mark.covers("R57")
def test_what_the_broker_may_not_disable_is_said_with_the_exact_statement(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    fake.accounts["shadow"] = Account("shadow")

    fake.cannot = {"shadow"}
    look(world.broker, facts(world, unknown_account="hold"))
    with world.broker.read() as view:
        (row,) = open_findings(view)
        assert (row.acted, row.statement) == ("cannot", "LOCK shadow")
    world.sweep()


@pytest.mark.covers("R57")
def test_an_exception_of_the_signed_policy_explains_an_account_and_no_more_than_it(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    fake.accounts["dba"] = DBA
    mild = {"unknown_account": "remove", "exceptions": [excepted("dba")]}
    assert whats(look(world.broker, facts(world, **mild))) == {}
    fake.accounts["dba"] = Account("dba", DBA.rights, fingerprint="two")
    assert whats(look(world.broker, facts(world, **mild))) == {"dba": What.KEY_CHANGED}
    fake.accounts["dba"] = Account("dba", DBA.rights | {"REPLICATION"}, fingerprint="one")
    looked = look(world.broker, facts(world, **mild))
    assert whats(looked) == {"dba": What.RAISED}
    assert looked.findings[0].extra == ("REPLICATION",)
    assert "dba" in fake.accounts, "people decide about the owner's own accounts"
    strict = mild | {"exceptions": [excepted("dba", ["SUPERUSER", "REPLICATION"])]}
    assert whats(look(world.broker, facts(world, **strict))) == {}


@pytest.mark.covers("R57")
def test_a_group_that_nobody_can_be_is_no_finding_until_it_gives_more(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    fake.accounts["app_read"] = Account("app_read", frozenset({"SELECT"}), enabled=False)
    assert whats(look(world.broker, facts(world))) == {}
    fake.accounts["app_read"] = Account("app_read", frozenset({"SELECT", "SUPERUSER"}), enabled=False)
    assert whats(look(world.broker, facts(world))) == {"app_read": What.RAISED}


@pytest.mark.covers("R57")
@pytest.mark.parametrize("rights", [{"SUPERUSER"}, {"SELECT on *.*"}, {"GRANT OPTION on app.*"}, set[str]()])
def test_a_role_that_comes_after_the_first_look_is_found_and_stays_found(sqlite_world: World, rights: set[str]) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    assert whats(look(world.broker, facts(world))) == {}
    fake.accounts["shadow"] = Account("shadow", frozenset(rights), enabled=False)
    for fresh in (1, 0, 0):
        looked = look(world.broker, facts(world))
        assert (whats(looked), looked.fresh) == ({"shadow": What.NEW}, fresh)
    assert looked.findings[0].extra == ("NOLOGIN", *rights)
    signed = facts(world, exceptions=[excepted("shadow")])
    assert whats(look(world.broker, signed)) == {}
    assert whats(look(world.broker, signed)) == {}


@pytest.mark.covers("R57")
def test_at_the_first_look_a_role_for_rights_is_no_finding_but_one_that_can_do_everything_is(
    sqlite_world: World,
) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    for name, right in (("app_read", "SELECT"), ("shadow", "BYPASSRLS")):
        fake.accounts[name] = Account(name, frozenset({right}), enabled=False)
    for _ in range(2):
        assert whats(look(world.broker, facts(world))) == {"shadow": What.NEW}
    del fake.accounts["app_read"]
    look(world.broker, facts(world))
    fake.accounts["app_read"] = Account("app_read", frozenset({"SELECT"}), enabled=False)
    for _ in range(2):
        assert whats(look(world.broker, facts(world)))["app_read"] is What.RESURRECTED


@pytest.mark.covers("R57")
def test_an_account_that_its_owner_locks_is_settled_unless_it_can_do_everything(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    for name, rights in (("guest", frozenset[str]()), ("shadow", frozenset({"SUPERUSER"}))):
        fake.accounts[name] = Account(name, rights)
    look(world.broker, facts(world))
    fake.accounts = {name: replace(one, enabled=False) for name, one in fake.accounts.items()}
    assert whats(look(world.broker, facts(world))) == {"shadow": What.NEW}


@pytest.mark.covers("R57")
def test_a_role_that_the_signed_policy_lends_may_come_later(sqlite_world: World) -> None:
    named = lent_roles({"entitlements": {"one": {"role": "app_read"}, "two": {"roles": ["app_write"]}, "three": {}}})
    assert named == {"app_read", "role app_read", "app_write", "role app_write"}
    seen = Inventory({"app_read": Account("app_read", enabled=False)}, frozenset())
    judge = partial(compare, seen, explained={}, ending={}, excepted={}, known={}, enforced=False)
    assert judge(named=named) == []
    assert [one.what for one in judge(named=frozenset())] == [What.NEW]


@pytest.mark.covers("R57")
def test_a_group_that_gives_more_is_never_removed(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    fake.accounts["app_owner"] = Account("app_owner", frozenset({"SELECT"}), enabled=False)
    look(world.broker, facts(world, unknown_account="remove"))
    fake.accounts["app_owner"] = Account("app_owner", frozenset({"SELECT", "INSERT"}), enabled=False)
    looked = look(world.broker, facts(world, unknown_account="remove"))
    assert whats(looked) == {"app_owner": What.RAISED}
    assert "app_owner" in fake.accounts


class Telling(FakeConnector):
    """A target that knows how rights are taken back."""

    def undoing(self, account: str, rights: Sequence[str]) -> str:
        return "\n".join(f"REVOKE {right} FROM {account};" for right in rights)


@pytest.mark.covers("R57")
@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("wanted", ["hold", "remove"])
def test_a_group_that_gives_more_is_not_said_to_be_held_but_how_it_is_taken_back(
    sqlite_world: World, wanted: str, knows: bool
) -> None:
    world, fake = sqlite_world, Telling() if knows else FakeConnector()
    world.use_kind(fake_kind(fake, "token", config=TokenConnector))
    told = facts(world, unknown_account=wanted)
    calm = Account("app_read", frozenset({"SELECT"}), enabled=False)
    fake.accounts["app_read"] = calm
    look(world.broker, told)
    fake.accounts["app_read"] = replace(calm, rights=calm.rights | {"SUPERUSER"})
    for _ in range(2):
        assert whats(look(world.broker, told)) == {"app_read": What.RAISED}
    with world.broker.read() as view:
        (row,) = open_findings(view)
        assert (row.acted, row.statement) == ("cannot", "REVOKE SUPERUSER FROM app_read;" if knows else None)
    assert count(world, EventType.ACCOUNT_HANDLED) == 1
    fake.accounts["app_read"] = calm
    look(world.broker, told)
    with world.broker.read() as view:
        assert open_findings(view) == [], "the owner has done it"


@pytest.mark.covers("R57")
def test_a_mighty_role_that_nobody_can_log_in_with_is_not_said_to_be_held(sqlite_world: World) -> None:
    world, fake = sqlite_world, Telling()
    world.use_kind(fake_kind(fake, "token", config=TokenConnector))
    look(world.broker, facts(world))
    fake.accounts["shadow"] = Account("shadow", frozenset({"SUPERUSER"}), enabled=False)
    fake.accounts["plain"] = Account("plain", enabled=False)
    look(world.broker, facts(world, unknown_account="hold"))
    with world.broker.read() as view:
        found = {row.name: (row.acted, row.statement) for row in view.all(select(TargetAccount))}
    assert found == {"shadow": ("cannot", "REVOKE SUPERUSER FROM shadow;"), "plain": ("held", None)}
    look(world.broker, facts(world, unknown_account="remove"))
    assert "shadow" not in fake.accounts


@pytest.mark.covers("R57", "T-18")
def test_a_live_account_with_more_rights_or_a_later_end_is_found_and_its_access_ended(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    found = opened(world)
    name = f"jit-{found.lease.id}"
    fake.accounts[name] = Account(name, fake.accounts[name].rights | {"SUPERUSER"})
    assert whats(look(world.broker, facts(world))) == {name: What.RAISED}
    with world.broker.read() as view:
        assert view.require(Lease, found.lease.id).state == LeaseState.ACTIVE
    look(world.broker, facts(world, unknown_account="hold"))
    with world.broker.read() as view:
        assert view.require(Grant, found.lease.grant_id).cause == EndCause.HELD
    world.sweep()
    assert fake.accounts == {}


@pytest.mark.covers("R57")
def test_a_live_account_whose_password_somebody_changed_is_found_and_its_access_ended(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    found = opened(world)
    name = f"jit-{found.lease.id}"
    fake.accounts[name] = replace(fake.accounts[name], fingerprint="as it was born")
    assert whats(look(world.broker, facts(world))) == {}
    fake.accounts[name] = replace(fake.accounts[name], fingerprint="of somebody else")
    for fresh in (1, 0):
        looked = look(world.broker, facts(world))
        assert (whats(looked), looked.fresh) == ({name: What.KEY_CHANGED}, fresh)
    look(world.broker, facts(world, unknown_account="hold"))
    with world.broker.read() as view:
        assert view.require(Grant, found.lease.grant_id).cause == EndCause.HELD
    world.sweep()
    assert fake.accounts == {}
    assert whats(look(world.broker, facts(world))) == {}


@pytest.mark.covers("R57")
def test_the_account_of_a_lease_that_has_ended_is_removed_whatever_the_policy_says(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    found = opened(world)
    name = f"jit-{found.lease.id}"
    world.advance(timedelta(seconds=600))
    world.sweep()
    fake.accounts[name] = Account(name)  # born late, or made by somebody who knows our names
    assert whats(look(world.broker, facts(world))) == {name: What.LEFTOVER}
    assert fake.accounts == {}
    assert count(world, EventType.ALARM_RAISED) == 1


@pytest.mark.covers("R57", "R64")
def test_a_lease_that_somebody_wrote_by_sql_explains_nothing(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    found = opened(world)
    world.sql("UPDATE lease SET ends_at = ends_at + 3600000000 WHERE id = :id", id=found.lease.id)
    assert whats(look(world.broker, facts(world))) == {f"jit-{found.lease.id}": What.LEFTOVER}
    assert fake.accounts == {}


def test_each_target_is_looked_at_when_it_is_due_and_one_that_cannot_be_is_an_alarm(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)
    with world.broker.read() as view:
        targets = len(outside_targets(view, world.broker))
    looking = Reconciler(world.broker)
    assert looking.run() == targets
    looking.wait()
    assert looking.run() == 0
    world.advance(timedelta(minutes=5))
    fake.faults["observe"] = "unreachable"
    for _ in range(3):
        assert looking.run() == targets
        looking.wait()
    assert count(world, EventType.ALARM_RAISED) == targets
    fake.faults["observe"] = "hang"
    assert looking.run() == targets
    assert looking.run() == 0, "nobody waits twice for the same target"
    fake.released.set()
    looking.wait()
    looking.close()


# ---------------------------------------------------------------- the broker's own secret


class KeyedConfig(KindConfig):
    """A target on which the broker has a secret."""

    kind: str
    audience: str
    initiate_login: str | None = None
    secret: SecretName = "own"


class Keyed(FakeConnector):
    """A target that keeps the broker's secret, and may die after taking a new one."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.secret = secret

    def rotate_own(self, old: Secret, new: Secret) -> None:
        self._enter("rotate_own")
        if self.secret not in (old.reveal(), new.reveal()):
            raise ConnectionError("neither")
        self.secret = new.reveal()
        if self.faults.get("rotate_own") == "lost_reply":
            raise ConnectionError("the reply was lost")


@pytest.mark.covers("R52")
def test_an_exchange_of_the_brokers_secret_survives_a_crash_at_any_point(sqlite_world: World, tmp_path: Path) -> None:
    world, keyed = sqlite_world, Keyed("first")
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "own").write_text("first\n")
    (folder / "own").chmod(0o600)
    world.broker = _with_secrets(world, folder)
    world.use_kind(fake_kind(keyed, "token", config=KeyedConfig))
    target = "treasury"
    _name_secret(world)
    for fault in ("fail", "lost_reply"):
        keyed.faults["rotate_own"] = fault
        with pytest.raises(JitError):
            rotate(world.broker, target)
        assert (folder / "own").read_text() == "first\n"
    coming = (folder / "own.next").read_text()
    assert keyed.secret == coming, "the target took it, and both are on disk"
    keyed.faults.clear()
    assert rotate(world.broker, target) == "own"
    assert (folder / "own").read_text() == coming
    assert not (folder / "own.next").exists()
    assert (folder / "own").stat().st_mode & 0o777 == 0o600
    assert count(world, EventType.TARGET_SECRET_ROTATED) == 1
    keyed.faults["rotate_own"] = "not_done"
    with pytest.raises(JitError):
        rotate(world.broker, target)
    assert not (folder / "own.next").exists()


class Dying:
    """`os` of a machine that dies at its k-th step towards the disk, or whose disk is full there; writes come in halves."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)

        def step(*given: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(ENOSPC, "no space left on device")
            return found(given[0], given[1][:20]) if name == "write" else found(*given)

        return step if name in ("write", "fsync", "replace") else found


@pytest.mark.covers("R52")
def test_an_exchange_that_dies_on_its_way_to_the_disk_leaves_no_half_secret(
    sqlite_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, folder = sqlite_world, tmp_path / "secrets"
    folder.mkdir()
    (folder / "own").write_text("first")
    (folder / "own").chmod(0o600)
    world.broker = _with_secrets(world, folder)
    keyed = Keyed("first")
    world.use_kind(fake_kind(keyed, "token", config=KeyedConfig))
    _name_secret(world)
    steps = 0
    while True:
        steps += 1
        with monkeypatch.context() as patch:
            patch.setitem(vars(rotate_module), "os", Dying(steps))
            try:
                rotate(world.broker, "treasury")
                break
            except OSError:
                pass
        known = [file.read_text() for file in folder.glob("own*")]
        assert keyed.secret in known, f"locked out after step {steps}"
        assert all(one == "first" or len(one) == 43 for one in known)
        rotate(world.broker, "treasury")
        assert (folder / "own").read_text() == keyed.secret
        assert sorted(file.name for file in folder.iterdir()) == [".lock", "own"]
    assert steps > 5, "three writes, two flushes, a change of name"


@pytest.mark.covers("R52")
@pytest.mark.parametrize("half", ["", "abc", "x" * 44])
def test_what_is_not_a_whole_secret_is_never_told_to_a_target(sqlite_world: World, tmp_path: Path, half: str) -> None:
    world, folder = sqlite_world, tmp_path / "secrets"
    folder.mkdir()
    for name, text in (("own", "first"), ("own.next", half)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    world.broker = _with_secrets(world, folder)
    keyed = Keyed("first")
    world.use_kind(fake_kind(keyed, "token", config=KeyedConfig))
    _name_secret(world)
    with pytest.raises(JitError, match="next does not hold a secret"):
        rotate(world.broker, "treasury")
    assert keyed.secret == "first"


def _with_secrets(world: World, folder: Path) -> Any:
    settings = world.broker.settings.model_copy(update={"targets": Targets(secrets_dir=folder)})
    return replace(world.broker, settings=settings)


def _name_secret(world: World) -> None:
    """Give the treasury, and it alone, a secret in the active policy."""
    with world.broker.begin(SYSTEM) as tx:
        document: dict[str, Any] = dict(world.broker.policies.active(tx).document)
        treasury = dict(document["targets"]["treasury"])
        treasury["connector"] = {**treasury["connector"], "secret": "own"}
        changed = PolicySet.from_document(document | {"targets": {**document["targets"], "treasury": treasury}})
        activate(tx, propose(tx, changed, by="test"))


def test_a_secret_that_two_targets_use_or_that_is_not_there_is_not_exchanged(sqlite_world: World) -> None:
    with pytest.raises(JitError):
        rotate(sqlite_world.broker, "treasury")
    with pytest.raises(JitError):
        rotate(sqlite_world.broker, "nowhere")


def test_health_tells_of_open_findings_and_of_targets_that_cannot_be_looked_at(sqlite_world: World) -> None:
    world, fake = sqlite_world, outside(sqlite_world)

    def found() -> dict[Finding, int]:
        with world.broker.read() as view:
            return {one.what: one.count for one in health.findings(view, world.broker, ())}

    look(world.broker, facts(world))
    others = found()[Finding.UNSEEN]
    fake.accounts["shadow"] = Account("shadow", frozenset({"SUPERUSER"}))
    assert found()[Finding.ACCOUNTS] == 0
    look(world.broker, facts(world))
    assert found()[Finding.ACCOUNTS] == 1
    world.advance(health.UNSEEN_PERIODS * EVERY)
    assert found()[Finding.UNSEEN] == others + 1
    look(world.broker, facts(world))
    assert found()[Finding.UNSEEN] == others
