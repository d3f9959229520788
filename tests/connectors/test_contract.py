"""Does every kind of target keep the contract, on its real server?"""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from jitaccess.connectors.contract import (
    Connector,
    EnforcesExpiry,
    NotDone,
    Secret,
    Unreachable,
    is_own_account,
)
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.ids import new_secret
from tests.support.bench import Bench, born, open_connector, refused, soon, spec_of

WAIT_S = 30.0
NASTY = (
    'quote"d',
    "quote'd",
    "semi;colon",
    "x; DROP TABLE data.thing; --",
    "back\\slash",
    "per%cent %s",
    "brace{0}",
    "Čćžšđ ëç 漢字",
    "a" * 63,
    " leading and trailing ",
    "select",
    "$$",
    "new\nline",
)


def enforced(bench: Bench) -> EnforcesExpiry:
    return bench.kind.enforced(cast("dict[str, JsonValue]", dict(bench.config())))


def test_the_account_that_setup_prints_is_enough_and_no_more(bench: Bench, connector: Connector) -> None:
    assert [found for found in connector.probe() if not found.startswith("note: ")] == []


@pytest.mark.covers("R47", "R50", "R51")
def test_a_credential_lets_its_person_in_until_it_is_cut_and_leaves_nothing(bench: Bench, connector: Connector) -> None:
    before = bench.accounts()
    effect, credential = born(bench, connector)
    assert bench.accounts() > before
    with bench.login(credential) as session:
        assert session.alive()
        proof = connector.cut([effect])
        assert set(proof) == {effect.name}
        assert not session.alive()
    assert refused(bench, credential)
    assert connector.cut([effect]) != {}, "cutting again is harmless"
    assert set(connector.clean([effect])) == {effect.name}
    assert connector.clean([effect]) != {}, "absent is success on the target's own word"
    assert refused(bench, credential)
    assert bench.accounts() == before


@pytest.mark.covers("R49")
def test_an_account_is_as_the_lease_explains_it(bench: Bench, connector: Connector) -> None:
    spec = spec_of(bench)
    effect = connector.plan(spec)
    connector.apply(effect, soon())
    seen = connector.observe()
    account, expected = seen.accounts[effect.name], connector.expects(effect, spec.ends_at)
    assert account.rights <= expected.rights
    assert account.owns <= expected.owns
    assert seen.coverage
    if enforced(bench) is not EnforcesExpiry.NOTHING:
        assert account.expires_at is not None
        assert account.expires_at <= spec.ends_at
    connector.cut([effect])
    connector.clean([effect])
    assert effect.name not in connector.observe().accounts


@pytest.mark.covers("R47")
def test_nothing_is_born_after_the_deadline_or_under_a_name_that_is_taken(bench: Bench, connector: Connector) -> None:
    before = bench.accounts()
    late = connector.plan(spec_of(bench))
    with pytest.raises(NotDone):
        connector.apply(late, soon(-1.0))
    assert bench.accounts() == before
    buried = connector.plan(spec_of(bench))
    connector.bury(buried)
    connector.bury(buried)
    with pytest.raises(Exception):  # noqa: B017, PT011 - how a taken name is refused is the kind's own
        connector.apply(buried, soon())
    connector.cut([buried])
    connector.clean([buried])
    effect, credential = born(bench, connector)
    connector.bury(effect)  # it was there already
    connector.cut([effect])
    assert refused(bench, credential)
    connector.clean([effect])
    assert bench.accounts() == before


@pytest.mark.covers("R49", "TRAP-10")
def test_the_target_itself_refuses_a_login_after_the_end(bench: Bench, connector: Connector) -> None:
    if enforced(bench) is EnforcesExpiry.NOTHING:
        assert connector.observe().coverage  # said to people instead: nothing is enforced
        return
    effect, credential = born(bench, connector, lasts=timedelta(seconds=2))
    waited = 0.0
    while not refused(bench, credential) and waited < WAIT_S:
        time.sleep(0.25)
        waited += 0.25
    assert refused(bench, credential), "nobody cut it, and it ended"
    connector.cut([effect])
    connector.clean([effect])


@pytest.mark.covers("R60")
def test_many_go_at_once_and_the_others_stay(bench: Bench, connector: Connector) -> None:
    before = bench.accounts()
    made = [born(bench, connector) for _ in range(5)]
    ending, staying = made[:4], made[4]
    effects = [effect for effect, _ in ending]
    assert set(connector.cut(effects)) == {effect.name for effect in effects}
    assert set(connector.clean(effects)) == {effect.name for effect in effects}
    assert all(refused(bench, credential) for _, credential in ending)
    with bench.login(staying[1]) as session:
        assert session.alive()
    connector.cut([staying[0]])
    connector.clean([staying[0]])
    assert bench.accounts() == before


@pytest.mark.covers("R60")
def test_several_threads_may_use_one_connector(bench: Bench, connector: Connector) -> None:
    before, failures = bench.accounts(), list[Exception]()

    def one() -> None:
        try:
            for _ in range(3):
                effect, _ = born(bench, connector)
                connector.cut([effect])
                connector.clean([effect])
        except Exception as error:  # a thread has nobody to raise to
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert bench.accounts() == before


@pytest.mark.covers("R48")
def test_names_that_people_leave_behind_do_no_harm(bench: Bench, connector: Connector) -> None:
    before = bench.accounts()
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        session.leave_behind(NASTY)
    connector.cut([effect])
    connector.clean([effect])
    assert bench.accounts() == before
    effect, credential = born(bench, connector)
    with bench.login(credential) as session:
        assert session.alive()
    connector.cut([effect])
    connector.clean([effect])


@pytest.mark.covers("R48")
def test_a_verb_touches_no_name_that_a_lease_did_not_make(bench: Bench, connector: Connector) -> None:
    effect = connector.plan(spec_of(bench))
    if not is_own_account(effect.name):
        assert bench.kind.shared or effect.name != ""
        return
    stray = bench.stray()
    assert stray is not None
    for name in (stray, *NASTY):
        other = replace(effect, name=name)
        for act in (
            lambda o=other: connector.cut([o]),
            lambda o=other: connector.clean([o]),
            lambda o=other: connector.bury(o),
        ):
            with pytest.raises(ValueError, match="lease"):
                act()
    assert bench.can_log_in(stray)
    connector.quarantine(stray, remove=True)


@pytest.mark.covers("R57")
def test_an_account_that_nothing_explains_is_seen_locked_and_removed(bench: Bench, connector: Connector) -> None:
    stray = bench.stray()
    if stray is None:
        assert "accounts" not in connector.observe().coverage
        return
    assert stray in connector.observe().accounts
    assert connector.quarantine(stray, remove=False).done
    assert not bench.can_log_in(stray)
    removed = connector.quarantine(stray, remove=True)
    assert removed.done
    assert stray not in bench.accounts() or removed.statement, "what the broker may not do the owner is told to do"


@pytest.mark.covers("R51")
def test_a_target_that_is_not_there_is_unreachable_and_never_clean(bench: Bench) -> None:
    away = open_connector(bench, bench.nowhere())
    effect = away.plan(spec_of(bench))
    acts = (
        lambda: away.apply(effect, soon()),
        lambda: away.cut([effect]),
        lambda: away.clean([effect]),
        lambda: away.bury(effect),
        away.observe,
    )
    for act in acts:
        with pytest.raises(Unreachable):
            act()
    away.close()


@pytest.mark.covers("R52", "R55")
def test_the_brokers_own_secret_is_exchanged_and_the_exchange_may_be_repeated(bench: Bench) -> None:
    old, new = bench.secret(), Secret(new_secret())
    connector = open_connector(bench)
    try:
        connector.rotate_own(old, new)
    except NotDone:
        return  # the kind has no secret on the target
    connector.rotate_own(old, new)  # after a crash between the target and our own file
    stale = open_connector(bench)
    with pytest.raises(Unreachable) as raised:
        stale.observe()
    assert old.reveal() not in str(raised.value)
    both = open_connector(bench, None, old, new)
    assert both.observe().accounts is not None
    both.rotate_own(new, old)
    for used in (connector, stale, both):
        used.close()
