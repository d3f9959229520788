"""Is every reason said in words, to the person and about the person, with the bound that was not kept?"""

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from jitaccess.broker.because import detail, hours, sentence
from jitaccess.demo.seed import read_policies
from jitaccess.language import Language, catalogue
from jitaccess.policy.evaluate import Code, PolicySet, Reason, Window
from jitaccess.told import called_in, retold
from tests.support.sources import ROOT

RIGHT = ("treasury", "releaser")


@pytest.fixture(scope="module")
def shipped() -> PolicySet:
    """Give the shipped policies."""
    return read_policies(ROOT / "policies")


def in_(language: Language, reason: Reason, policies: PolicySet) -> str:
    about = detail(reason, policies, RIGHT, lambda name: called_in(name, language.short))
    return retold(about, catalogue(language))


@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("language", Language)
def test_every_code_has_a_sentence_of_its_own_in_every_language(code: Code, language: Language) -> None:
    words = catalogue(language)
    for own in (True, False):
        said = retold(sentence(Reason(code), own=own), words)
        assert said.endswith(".")
        if language is not Language.EN:
            assert said != sentence(Reason(code), own=own)


@pytest.mark.parametrize("code", Code)
def test_what_is_said_about_somebody_else_does_not_address_the_reader(code: Code) -> None:
    words = sentence(Reason(code), own=False).lower().replace(".", " ").split()
    assert not {"you", "your"} & set(words)


@pytest.mark.parametrize(
    ("code", "about", "said"),
    [
        (Code.NOT_IN_GROUP, "treasury-releasers", "Groups that may: treasury-releasers."),
        (Code.CREDENTIAL_TOO_WEAK, "device_bound", "Needed: a passkey that stays in one device."),
        (
            Code.OUTSIDE_HOURS,
            "office-hours",
            "Open Mon to Fri, from 08:00 to 16:30 (Kosovo time).",
        ),
        (Code.OUTSIDE_HOURS, "gone", "gone"),
        (Code.MISSING_INPUT, "order", "Payment order"),
        (Code.INVALID_INPUT, "amount_cents", "Amount in cents: a whole number from 1 to 500000000."),
        (Code.INVALID_INPUT, "order", "Payment order: text of the form TR-[0-9]{6}"),
        (Code.UNKNOWN_INPUT, "colour", "colour"),
        (
            Code.CONDITION_FALSE,
            "",
            "The condition: input.amount_cents <= 200000000 || 'treasury-heads' in person.groups",
        ),
        (Code.TOO_SHORT, "60", "At least 1 min."),
        (Code.TOO_SHORT, "", ""),
        (Code.TOO_LONG, "3600", "At most 1 h."),
        (Code.EXTENSION_TOTAL, "7200", "At most 2 h."),
        (Code.START_TOO_FAR, "0", "It can only begin at once."),
        (Code.START_TOO_FAR, "86400", "At most 1 d ahead."),
        (Code.ACTIVE_LIMIT, "3", "Allowed: 3."),
        (Code.CONFLICT, "payroll/editor", "Payroll database: Correct pay records"),
        (Code.CONFLICT, "gone/gone", "gone/gone"),
        (Code.NO_RULE, "releaser", ""),
    ],
)
def test_the_bound_that_was_not_kept_is_said(shipped: PolicySet, code: Code, about: str, said: str) -> None:
    assert in_(Language.EN, Reason(code, "release-payments", about), shipped) == said


def test_names_and_words_are_those_of_the_language(shipped: PolicySet) -> None:
    asked = Reason(Code.INVALID_INPUT, "release-payments", "amount_cents")
    assert in_(Language.SQ, asked, shipped).startswith("Shuma në centë: ")
    assert in_(Language.SR, asked, shipped).startswith("Iznos u centima: ")
    assert (
        in_(Language.SR, Reason(Code.CONFLICT, None, "payroll/editor"), shipped)
        == "Baza zarada: Ispravka podataka o zaradama"
    )


def test_a_field_that_only_another_rule_asks_for_has_its_name_too(shipped: PolicySet) -> None:
    assert in_(Language.EN, Reason(Code.MISSING_INPUT, None, "order"), shipped) == "Payment order"


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ({0, 1, 2, 3, 4}, "Mon to Fri"),
        ({0, 1, 2, 5}, "Mon to Wed, Sat"),
        ({1, 3, 6}, "Tue, Thu, Sun"),
        ({0, 1, 2, 3, 4, 5, 6}, "Mon to Sun"),
        ({6}, "Sun"),
    ],
)
def test_hours_are_said_with_their_days(days: set[int], said: str) -> None:
    window = Window(frozenset(days), 0, int(timedelta(hours=24).total_seconds() // 60), ZoneInfo("UTC"), frozenset())
    assert hours(window) == f"Open {said}, from 00:00 to 24:00 (world time)."
