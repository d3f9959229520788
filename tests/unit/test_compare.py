"""What of an account is compared between two looks, part by part."""

import pytest

from jitaccess.broker.compare import Excepted, Finding, Remembered, What, compare, merged
from jitaccess.connectors.contract import Account, Inventory


def judged(before: str, now: str, *, own: str = "", rights: frozenset[str] = frozenset()) -> list[Finding]:
    seen = Inventory({"it": Account("it", rights, fingerprint=now)}, frozenset({"accounts"}), own=own)
    known = {"it": Remembered(frozenset(), before, gone=False)}
    return [
        *compare(seen, explained={}, ending=frozenset(), excepted={"it": Excepted(None)}, known=known, enforced=False)
    ]


@pytest.mark.parametrize(
    ("before", "now", "finding"),
    [
        ("one", "one", None),
        ("one", "two", Finding("it", What.KEY_CHANGED)),
        ("", "two", None),
        ("one", "", None),
        ("one", "made=7 login=yes key=one", None),
        ("made=7 login=yes key=one", "made=7 login=yes", None),
        ("made=7 login=yes key=one", "made=7 login=yes key=two", Finding("it", What.KEY_CHANGED)),
        ("made=7 login=yes", "made=8 login=yes", Finding("it", What.KEY_CHANGED)),
        ("made=7 login=no", "made=7 login=yes", Finding("it", What.RAISED, ("LOGIN",))),
        ("made=7 login=yes", "made=7 login=no", None),
        ("one", "made=7 login=yes", None),
    ],
)
@pytest.mark.covers("R57")
def test_parts_that_both_looks_saw_are_compared(before: str, now: str, finding: Finding | None) -> None:
    assert judged(before, now) == ([] if finding is None else [finding])


@pytest.mark.covers("R57")
def test_what_only_an_earlier_look_could_see_is_remembered() -> None:
    assert merged("made=7 login=yes key=one", "made=7 login=no") == "made=7 login=no key=one"
    assert merged("one", "made=7 login=yes") == "made=7 login=yes key=one"
    assert (merged("one", ""), merged("one", "two"), merged("", "")) == ("one", "two", "")


@pytest.mark.covers("R54", "R57")
def test_the_brokers_own_account_is_found_when_it_can_do_more_and_not_when_its_secret_is_exchanged() -> None:
    assert judged("one", "two", own="it") == []
    assert judged("one", "one", own="it", rights=frozenset({"ALL PRIVILEGES on *.*"})) == [
        Finding("it", What.RAISED, ("ALL PRIVILEGES on *.*",))
    ]
