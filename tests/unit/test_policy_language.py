"""Can a mistake in a policy be said in another language, place and values untouched?"""

import pytest
from click.testing import CliRunner

from jitaccess.cli.policy import policy
from jitaccess.policy.load import load
from jitaccess.policy.problems import Level, PolicyErrors, PolicyProblem
from jitaccess.told import retold


class Words:
    """A few sentences of another language."""

    def gettext(self, message: str, /) -> str:
        """Look a sentence up."""
        return {
            "found %(found)s, expected %(expected)s%(near)s": "u gjet %(found)s, pritej %(expected)s%(near)s",
            "valid list": "një listë",
            'found %(value)s, expected a date such as "2026-02-17"': "%(value)s nuk është datë",
            "unknown key": "çelës i panjohur",
            '; did you mean "%(found)s"?': '; mos është "%(found)s"?',
            "the file is empty": "skedari është bosh",
            "warning: ": "kujdes: ",
        }.get(message, message)

    def ngettext(self, singular: str, plural: str, num: int, /) -> str:
        """Take the English forms."""
        return singular if num == 1 else plural


@pytest.mark.parametrize(
    ("text", "english", "other"),
    [
        ("rules: 5", "found 5, expected valid list", "u gjet 5, pritej një listë"),
        ("holidays: {kosovo: [soon]}", "found 'soon', expected a date such as \"2026-02-17\"", "'soon' nuk është datë"),
        ("rulez: []", 'unknown key: "rulez"; did you mean "rules"?', 'çelës i panjohur: "rulez"; mos është "rules"?'),
        ("", "the file is empty", "skedari është bosh"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_in_the_readers_language(text: str, english: str, other: str) -> None:
    with pytest.raises(PolicyErrors) as found:
        load({"a.yaml": text + "\nversion: 1\n" if text else text})
    problem = found.value.problems[0]
    assert str(problem).endswith(f"  {english}")
    assert retold(problem.line_told(), Words()) == str(problem).replace(english, other)


def test_a_warning_says_so_in_the_readers_language() -> None:
    problem = PolicyProblem("a.yaml", 3, 5, "rules.0", "50 % off", Level.WARNING)
    assert str(problem) == "a.yaml:3:5  rules.0  warning: 50 % off"
    assert retold(problem.line_told(), Words()) == "a.yaml:3:5  rules.0  kujdes: 50 % off"


def test_the_command_line_takes_a_language_and_refuses_others(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "a.yaml").write_text("rules: 5\nversion: 1\n")
    for language in ("en", "sq", "sr"):
        found = CliRunner().invoke(policy, ["check", str(folder), "--language", language])
        assert found.exit_code == 2
        assert found.output.startswith("a.yaml:1:8  rules  ")
    assert CliRunner().invoke(policy, ["check", str(folder), "--language", "de"]).exit_code == 2
