"""What may a name in a policy be, and what is said of one that may not?"""

import pytest

from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.load import load
from jitaccess.policy.problems import PolicyErrors
from jitaccess.told import all_calls, called, called_in

FILE = """version: 1
institutions:
  archive:
    name: {name}
"""


def message(name: str) -> str:
    with pytest.raises(PolicyErrors) as raised:
        load({"policy.yaml": FILE.format(name=name)})
    (problem,) = raised.value.problems
    assert (problem.line, problem.path.startswith("institutions.archive.name")) == (4, True)
    return str(problem.message)


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{en: Archive, de: Archiv}", "found the language 'de', expected en, sq or sr"),
        ("{sq: Arkivi}", "a name in several languages needs one in en, for readers of any other"),
        ("{en: Archive, sq: 5}", "expected a text of 1 to 200 characters"),
        ("5", "expected a text of 1 to 200 characters"),
        ('""', "expected a text of 1 to 200 characters"),
    ],
)
def test_a_wrong_name_is_told_with_its_place(name: str, said: str) -> None:
    assert message(name).startswith(said)


def test_a_name_is_one_text_or_one_in_each_language() -> None:
    several = load({"policy.yaml": FILE.format(name="{sr: Arhiv, en: Archive}")})
    assert isinstance(several, PolicySet)
    name = several.institutions["archive"]
    assert (name, called_in(name, "sr"), called_in(name, "sq")) == ("Archive", "Arhiv", "Archive")
    assert all_calls(name) == "Archive Arhiv"
    assert called("Archive") == called_in("Archive", "sr") == "Archive"


@pytest.mark.covers("R27")
def test_a_currency_is_one_that_exists() -> None:
    text = "version: 1\nrules:\n  - id: x\n    ask:\n      - {name: a, type: integer, min: 0, max: 9, currency: EURO}\n"
    with pytest.raises(PolicyErrors) as raised:
        load({"policy.yaml": text})
    said = [str(problem.message) for problem in raised.value.problems]
    assert "found 'EURO', expected an ISO 4217 currency such as EUR" in said
