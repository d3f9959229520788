"""Can a sentence be said again in another language, and is it plain English until then?"""

from typing import ClassVar

from jitaccess.demo.seed import read_policies
from jitaccess.domain.lifecycle import EndCause, GrantState, LeaseState, RequestState
from jitaccess.domain.wording import TERM_WORDS, WORDS, term, word
from jitaccess.errors import JitError, Kind
from jitaccess.told import retold, told, told_n
from tests.support.sources import ROOT


class Words:
    """A catalogue of three sentences."""

    KNOWN: ClassVar = {"%(name)s is held.": "%(name)s stoji.", "The gate": "Kapija", "Nothing.": "Ništa."}

    def gettext(self, message: str, /) -> str:
        """Look a sentence up."""
        return self.KNOWN.get(message, message)

    def ngettext(self, singular: str, plural: str, num: int, /) -> str:
        """Give one of the Serbian plural forms."""
        return {1: "%(num)s dan", 2: "%(num)s dana"}.get(num, plural)


def test_a_told_sentence_is_english_text() -> None:
    sentence = told("%(name)s is held.", name="Treasury")
    assert sentence == "Treasury is held."
    assert str(JitError(Kind.CONFLICT, sentence)) == "Treasury is held."


def test_it_is_told_again_with_its_values_and_the_sentences_inside_them() -> None:
    sentence = told("%(name)s is held.", name=told("The gate"))
    assert retold(sentence, Words()) == "Kapija stoji."
    assert retold(told("Nothing."), Words()) == "Ništa."


def test_a_plain_sentence_is_looked_up_as_it_stands() -> None:
    assert retold("Nothing.", Words()) == "Ništa."
    assert retold("50 % of nothing.", Words()) == "50 % of nothing."
    assert retold("", Words()) == ""


def test_numbers_choose_their_form() -> None:
    assert told_n("%(num)s day", "%(num)s days", 1) == "1 day"
    assert told_n("%(num)s day", "%(num)s days", 5) == "5 days"
    assert [retold(told_n("%(num)s day", "%(num)s days", n), Words()) for n in (1, 2, 7)] == [
        "1 dan",
        "2 dana",
        "7 days",
    ]


def test_a_percent_sign_in_a_value_is_only_text() -> None:
    assert retold(told("%(name)s is held.", name="100 %(x)s"), Words()) == "100 %(x)s stoji."


def labels(value: object) -> set[str]:
    """Give every name inside a document."""
    if isinstance(value, dict):
        return set(value).union(*(labels(inner) for inner in value.values())) if value else set()
    return set().union(*(labels(inner) for inner in value)) if isinstance(value, list) and value else set()


def test_every_term_of_the_shipped_policies_has_a_label() -> None:
    names = set().union(*(labels(rule.terms.to_document()) for rule in read_policies(ROOT / "policies").rules.values()))
    assert names <= set(TERM_WORDS)
    assert term("terms.approve.steps.0.count") == ["approval", "step", "1", "how many"]


def test_every_state_and_cause_has_a_word() -> None:
    codes = {state.value for machine in (RequestState, GrantState, LeaseState) for state in machine}
    assert {code.lower() for code in codes | {cause.value for cause in EndCause}} <= set(WORDS)
    assert word("PENDING") == "pending"
    assert word("something-new") == "something-new"
