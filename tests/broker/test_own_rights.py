"""Nobody changes their own rights, by whatever road: a group in a group, an institution, a manager, or a co-signature."""

from typing import Any

import pytest

from jitaccess.broker import changes, policies
from jitaccess.domain.events import EventType
from jitaccess.domain.register import PersonView, RegisterView
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.identity import people
from jitaccess.identity.people import Foreseen
from jitaccess.identity.standing import touched
from jitaccess.policy.load import load
from tests.broker.test_identity import reasons
from tests.support.world import ROOT, World


def groups_of(world: World, key: str) -> frozenset[str]:
    with world.broker.read() as view:
        return people.register(view).persons[world.person(key)].groups


def roads(world: World) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Give every way in which agim could make himself an approver or free himself of a bond."""
    agim, arta = world.person("agim"), world.person("arta")
    return {
        "joining": ("member.add", "treasury-heads", {"member_id": agim}),
        "a group he is in": ("member.add", "treasury-heads", {"member_id": "jit-founders", "kind": "group"}),
        "a group that holds his": ("member.add", "treasury-heads", {"member_id": "outer", "kind": "group"}),
        "leaving": ("member.end", "jit-founders", {"member_id": agim}),
        "emptying a group around his": ("member.end", "outer", {"member_id": "jit-founders"}),
        "institution": ("person.change", agim, {"values": {"institution": "infra"}}),
        "unit": ("person.change", agim, {"values": {"unit": "cash office"}}),
        "manager": ("person.change", agim, {"values": {"manager_id": arta}}),
        "losing a report": ("person.change", world.person("jelena"), {"values": {"manager_id": arta}}),
        "switching himself off": ("person.disable", agim, {}),
        "a second account": ("account.add", agim, {"label": "agim, once more"}),
        "a link for himself": ("enrolment.create", world.seeded.accounts["agim"], {}),
    }


ROADS = (
    "joining", "a group he is in", "a group that holds his", "leaving", "emptying a group around his", "institution", "unit",
    "manager", "losing a report", "switching himself off", "a second account", "a link for himself",
)  # fmt: skip


@pytest.mark.covers("R21")
@pytest.mark.parametrize("road", ROADS)
def test_no_road_leads_to_ones_own_rights(sqlite_world: World, road: str) -> None:
    world = sqlite_world
    with world.broker.begin(LOCAL) as tx:
        people.add_group(tx, group_id="outer", name="Outer")
        people.add_member(tx, group_id="outer", member_id="jit-founders", kind="group")
        people.change_person(tx, world.person("jelena"), manager_id=world.person("agim"))
    before = groups_of(world, "agim")
    kind, subject, payload = roads(world)[road]
    found = world.begin_change("agim", kind, subject, payload)
    assert isinstance(found, Refused)
    assert found.code == "own_rights"
    assert reasons(world, EventType.CHANGE_REJECTED.value)[-1] == "own_rights"
    assert groups_of(world, "agim") == before


@pytest.mark.covers("R21")
def test_what_became_ones_own_right_between_begin_and_signature_is_refused_too(sqlite_world: World) -> None:
    world = sqlite_world
    with world.broker.begin(LOCAL) as tx:
        people.add_group(tx, group_id="inner", name="Inner")
    begun = world.begin_change("agim", "member.add", "treasury-heads", {"member_id": "inner", "kind": "group"})
    with world.broker.begin(LOCAL) as tx:
        people.add_member(tx, group_id="inner", member_id=world.person("agim"))
    found = world.complete_change("agim", begun)
    assert isinstance(found, Refused)
    assert found.code == "own_rights"
    assert "treasury-heads" not in groups_of(world, "agim")


@pytest.mark.covers("R21")
def test_the_same_acts_about_somebody_else_go_through(sqlite_world: World) -> None:
    world = sqlite_world
    values = {"values": {"institution": "infra", "unit": "x", "manager_id": world.person("drita")}}
    for kind, subject, payload in (
        ("member.add", "treasury-heads", {"member_id": world.person("jelena")}),
        ("member.end", "treasury-heads", {"member_id": world.person("jelena")}),
        ("person.change", world.person("jelena"), values),
        ("person.change", world.person("agim"), {"values": {"email": "agim@interior.example"}}),
    ):
        assert isinstance(world.begin_change("agim", kind, subject, payload), changes.Ceremony), kind


def view(*persons: PersonView) -> RegisterView:
    return RegisterView({person.id: person for person in persons}, frozenset({"g"}))


def person(key: str, *, manager: str | None = None, groups: frozenset[str] = frozenset()) -> PersonView:
    return PersonView(key, key, "inst", "unit", manager, groups)


@pytest.mark.covers("R21")
def test_new_reports_give_a_manager_nothing_but_losing_one_does() -> None:
    alone, under = view(person("a"), person("b")), view(person("a"), person("b", manager="a"))
    assert not touched(alone, under, "a")
    assert touched(under, alone, "a")
    assert touched(alone, under, "b")
    assert touched(alone, view(person("a", groups=frozenset({"g"})), person("b")), "a")
    assert not touched(alone, view(person("a"), person("b", groups=frozenset({"g"}))), "a")


@pytest.mark.covers("R21", "T-02")
def test_what_is_foreseen_is_what_comes_of_it(sqlite_world: World) -> None:
    world = sqlite_world
    arta = world.person("arta")
    cases = (
        (Foreseen(joins=frozenset({("treasury-heads", "person", arta)})),
         lambda tx: people.add_member(tx, group_id="treasury-heads", member_id=arta)),
        (Foreseen(joins=frozenset({("treasury-heads", "group", "jit-founders")})),
         lambda tx: people.add_member(tx, group_id="treasury-heads", member_id="jit-founders", kind="group")),
        (Foreseen(leaves=frozenset({("treasury-heads", arta)})),
         lambda tx: people.end_member(tx, group_id="treasury-heads", member_id=arta)),
        (Foreseen(persons={arta: {"unit": "x", "institution": "infra", "manager_id": None}}),
         lambda tx: people.change_person(tx, arta, unit="x", institution="infra", manager_id=None)),
        (Foreseen(persons={arta: {"status": "disabled"}}), lambda tx: people.disable_person(tx, arta)),
    )  # fmt: skip
    for change, act in cases:
        with world.broker.begin(LOCAL) as tx:
            expected = people.foresee(tx, change)
            act(tx)
            assert people.foresee(tx, people.NOTHING_FORESEEN) == expected


@pytest.mark.covers("R21", "R29")
def test_nobody_signs_a_policy_that_speaks_of_him_by_name(sqlite_world: World) -> None:
    world = sqlite_world
    texts = {file.name: file.read_text() for file in (ROOT / "policies").glob("*.yaml")}
    texts["named.yaml"] = f"version: 1\ndenials: [{{id: named, when: \"person.id == '{world.person('besa')}'\"}}]\n"
    with world.broker.begin(LOCAL) as tx:
        row = policies.propose(tx, load(texts), by="test")
    payload = {"digest": row.digest}
    refused = world.begin_change("besa", "policy.activate", row.id, payload)
    assert isinstance(refused, Refused)
    assert refused.code == "own_rights"
    assert isinstance(world.begin_change("agim", "policy.activate", row.id, payload), changes.Ceremony)
