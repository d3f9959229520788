"""Does `policy explain` answer for any person, time and inputs, from files and from a running instance, and say plainly what is wrong?"""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jitaccess.cli.policy import policy
from jitaccess.errors import JitError
from tests.support.sources import ROOT

RELEASE = ("--person", "arta", "--target", "treasury", "--entitlement", "releaser")
FIELDS = ("--input", "order=TR-000417", "--input", "amount_cents=125000000")
MONDAY = ("--at", "2026-11-23T10:00+01:00")


def run(*arguments: str, folder: Path = ROOT / "policies") -> Result:
    return CliRunner().invoke(policy, ["explain", str(folder), *arguments])


def told(*arguments: str) -> str:
    found = run(*arguments)
    assert found.exception is None, found.exception
    return found.output


def refused(*arguments: str, folder: Path = ROOT / "policies") -> str:
    found = run(*arguments, folder=folder)
    assert isinstance(found.exception, JitError), found.exception
    return found.exception.message


def test_every_rule_is_told_with_its_first_failing_term_in_words() -> None:
    assert "rule release-payments: permits" in told(*RELEASE, *FIELDS)
    missing = told(*RELEASE)
    assert missing.startswith("deny\n")
    assert "rule release-payments: missing_input: A field is missing. Payment order" in missing
    outsider = told("--person", "drita", *RELEASE[2:], *FIELDS)
    assert (
        "not_in_group: None of this person's groups may ask for this. Groups that may: treasury-releasers." in outsider
    )
    long = told(*RELEASE, *FIELDS, "--duration", "3h")
    assert "too_long: The time asked for is too long. At most 1 h." in long


def test_the_answer_comes_in_the_language_asked_for() -> None:
    assert "Nalog za plaćanje" in told(*RELEASE, "--language", "sr")
    assert "Urdhërpagesa" in told(*RELEASE, "--language", "sq")


def test_fields_are_the_kind_of_value_that_the_policy_asks_for() -> None:
    """An order made of digits alone is text all the same, and a number that is none is told as a wrong value."""
    assert "invalid_input" in told(*RELEASE, "--input", "order=000417", "--input", "amount_cents=1")
    for text in ("--5", "-", "²", "1" * 5000, "5-", "much"):
        assert "a whole number from 1 to 500000000" in told(
            *RELEASE, "--input", "order=TR-000417", "--input", f"amount_cents={text}"
        )
    assert "A field was given that is not asked for. colour" in told(*RELEASE, *FIELDS, "--input", "colour=red")


def test_the_time_of_asking_and_the_start_are_different_questions(tmp_path: Path) -> None:
    for name in ("ministry.yaml", "treasury.yaml", "bastion.yaml", "other-systems.yaml"):
        text = (ROOT / "policies" / name).read_text()
        if name == "treasury.yaml":
            text = text.replace("  - id: release-payments\n", "  - id: release-payments\n    during: [office-hours]\n")
        (tmp_path / name).write_text(text)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/register.yaml").write_text((ROOT / "policies/tests/register.yaml").read_text())
    at_work = run(*RELEASE, *FIELDS, *MONDAY, folder=tmp_path)
    assert "rule release-payments: permits" in at_work.output, at_work.output
    at_night = run(*RELEASE, *FIELDS, "--at", "2026-11-23T22:00+01:00", folder=tmp_path).output
    assert "outside_hours: This can only be used within its hours. Open Mon to Fri, from 08:00 to 16:30" in at_night
    later = run(*RELEASE, *FIELDS, *MONDAY, "--start", "2026-11-24T10:00+01:00", folder=tmp_path).output
    assert "start_too_far: This cannot begin that late. It can only begin at once." in later


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*RELEASE, "--duration", "soon"), "duration"),
        ((*RELEASE, "--start", "tomorrow"), "--start is no time. Write it as 2026-11-24T08:00+01:00."),
        (
            (*RELEASE, "--at", "2026-11-24T08:00"),
            "--at needs its distance from UTC. Write it as 2026-11-24T08:00+01:00.",
        ),
        ((*RELEASE, "--input", "order"), "Write --input as name=value, each name once, not 'order'."),
        ((*RELEASE, "--input", "=x"), "Write --input as name=value, each name once, not '=x'."),
        ((*RELEASE, "--input", "a=1", "--input", "a=2"), "Write --input as name=value, each name once, not 'a=2'."),
        (("--person", "nobody", *RELEASE[2:]), "There is no nobody in"),
        ((*RELEASE, "--active", *MONDAY), "--at is for a FOLDER"),
    ],
)
def test_bad_input_gets_a_plain_sentence(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments)


def test_a_folder_that_is_not_there_is_told_with_the_way_on(tmp_path: Path) -> None:
    assert "use --active" in refused(*RELEASE, folder=tmp_path / "nothing")
