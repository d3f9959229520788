"""Are terms read by the question that they answer, none of them lost, the decisive ones first?"""

from typing import Any

from jitaccess.policy.course import MEMBERS
from jitaccess.policy.evaluate import Terms
from jitaccess.web import display
from jitaccess.web.terms import OTHERS, PLACES, UNSET, Group, in_groups

STEP: dict[str, Any] = {"name": "line", "count": 2, "groups": ["heads"], "institution": None, "after": None}
TERMS: dict[str, Any] = {
    "min_s": 60, "max_s": 3600, "default_s": 1800, "activate_within_s": 900, "pending_s": None, "credential": "synced",
    "token_ttl_s": 300, "active_per_person": None, "per_day": 4,
    "approve": {"steps": [STEP, {**STEP, "name": "owner", "after": "line"}], "distinct": ["person"], "never": ["requester"]},
    "delay": {"time_lock_s": 600, "veto": ["owner"]}, "extensions": {"count": 1, "total_s": 7200},
    "notify": {"ended": ["heads"]}, "grace_s": 60, "conflicts": [{"target": "payroll", "entitlement": "editor", "within_s": 9}],
}  # fmt: skip


def names(group: Group) -> list[str]:
    return [row.name.removeprefix("terms.") for row in group.rows]


def test_every_term_stands_in_exactly_one_group() -> None:
    rows = display.terms_rows(TERMS)
    shown = [(row.name, row.text) for group in in_groups(rows) for row in group.rows]
    assert sorted(shown) == sorted(rows)
    assert len(shown) == len(set(shown))


def test_the_groups_come_in_the_order_of_the_questions_and_what_is_unset_comes_last() -> None:
    groups = in_groups(display.terms_rows(TERMS))
    assert [group.key for group in groups] == ["who", "when", "how_long", "approves", "afterwards", UNSET]
    by_key = {group.key: names(group) for group in groups}
    assert by_key["how_long"] == ["max_s", "default_s", "min_s", "extensions.count", "extensions.total_s"]
    assert by_key["approves"][:3] == ["approve.steps.0.name", "approve.steps.0.count", "approve.steps.0.groups"]
    assert by_key["approves"][3] == "approve.steps.1.name"
    assert by_key["approves"][-2:] == ["approve.distinct", "approve.never"]
    assert by_key[UNSET] == [
        "active_per_person", "approve.steps.0.after", "approve.steps.0.institution", "approve.steps.1.institution", "pending_s",
    ]  # fmt: skip


def test_what_nobody_placed_is_shown_all_the_same() -> None:
    (group,) = in_groups([("terms.something_new", "7")])
    assert (group.key, names(group)) == (OTHERS, ["something_new"])


def test_every_term_that_there_is_has_a_place() -> None:
    placed = {part for _, _, parts in PLACES for part in parts}
    assert placed == {*Terms.from_document(TERMS).to_document(), *MEMBERS}


def test_ten_steps_keep_their_order() -> None:
    steps = {
        "approve": {"steps": [{**STEP, "name": f"s{number}"} for number in range(11)], "distinct": [], "never": []}
    }
    (approves, _) = in_groups(display.terms_rows(steps))
    assert [row.text for row in approves.rows if row.name.endswith(".name")] == [f"s{number}" for number in range(11)]


def test_what_belongs_to_one_step_stands_under_it_and_no_row_repeats_it() -> None:
    reach = {"step": "line", "people": 2, "others": True, "escalate": [{"after_s": 60, "group": "duty"}]}
    approve = {"approve": {**TERMS["approve"], "reach": [reach], "read_back": [{"figure": "amount", "above": 5}]}}
    (approves, _) = in_groups(display.terms_rows(approve))
    assert [(block.label, [row.label for row in block.rows]) for block in approves.blocks] == [
        ("steps.0", ["name", "count", "groups"]),
        ("steps.1", ["name", "count", "groups", "after"]),
        ("", ["distinct", "never"]),
        ("reach.0", ["step", "people", "others"]),
        ("reach.0.escalate.0", ["after_s", "group"]),
        ("read_back.0", ["above", "figure"]),
    ]
