"""Can a sentence be said again in another language, and is it plain English until then?"""

from typing import ClassVar

from jitaccess.errors import JitError, Kind
from jitaccess.told import retold, told, told_n


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
