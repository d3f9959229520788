"""Is everything that a person can set, see or type in the reference? Read from the code: it grows with it."""

import re
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from jitaccess.domain.events import VERSION_OF, EventType
from jitaccess.domain.lifecycle import EVENT_OF, TRANSITIONS
from jitaccess.errors import DOORS, Kind
from jitaccess.settings import Settings
from tests.support.sources import ROOT, reference, unmentioned


def settings_keys() -> Iterator[str]:
    """Give section.key of every setting."""
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        yield from (f"{section}.{key}" for key in model.model_fields)


def test_every_setting_is_in_the_reference() -> None:
    assert not unmentioned(settings_keys(), reference())


def test_every_event_is_in_the_reference() -> None:
    assert not unmentioned((event.value for event in EventType), reference())


def test_every_error_is_in_the_reference_with_its_exit_code() -> None:
    text = reference()
    assert not unmentioned((kind.value for kind in Kind), text)
    for door in DOORS.values():
        lines = [line for line in text.splitlines() if door.problem.rpartition(":")[2] in line]
        assert any(str(door.status) in line and str(door.exit_code) in line for line in lines), door


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`server.port`", True),
        ("`server.ports`", False),
        ("`my.server.port`", False),
        ("server.port.x", False),
    ],
)
def test_only_the_whole_word_counts(text: str, found: bool) -> None:
    assert unmentioned(iter(["server.port"]), text) == ([] if found else ["server.port"])


def test_every_transition_has_an_event() -> None:
    for machine, table in TRANSITIONS.items():
        entered = {to for targets in table.values() for to in targets}
        assert entered == set(EVENT_OF[machine]), machine
        assert set(table) == set(machine), machine


def test_no_event_tells_of_two_states() -> None:
    told = [event for table in EVENT_OF.values() for event in table.values()]
    assert len(told) == len(set(told))


def test_every_event_has_a_version_and_every_error_a_door() -> None:
    assert set(VERSION_OF) == set(EventType)
    assert set(DOORS) == set(Kind)
    codes = [door.exit_code for door in DOORS.values()]
    assert len(codes) == len(set(codes))
    assert 0 not in codes


def test_every_link_between_our_documents_leads_somewhere() -> None:
    broken = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", path.read_text()):
            if not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)} -> {target}")
    assert not broken
