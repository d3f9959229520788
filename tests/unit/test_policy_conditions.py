"""Is a condition true only when it is true? Wrong names and types at load, everything else denies at run time (TRAP-8)."""

from dataclasses import replace

import pytest

from jitaccess.policy.conditions import MAX_CHARS, BadCondition, Circumstances, Condition, ConditionFailed
from tests.support.policy_sets import MONDAY, person

INPUTS = {"amount": "integer", "order": "string", "urgent": "boolean"}
ANA = person("ana", "staff", "heads", institution="infra", manager="ben")
AT = Circumstances(ANA, "vault", "infra", "use", {"amount": 5, "order": "TR-1", "urgent": True}, 600, MONDAY)


@pytest.mark.parametrize(
    "text",
    [
        "person.id == 'ana'",
        "person.institution == target.owner && person.unit == 'unit' && person.manager == 'ben'",
        "'heads' in person.groups && person.groups.exists(g, g == 'staff')",
        "!person.on_hold",
        "target.id == 'vault' && entitlement == 'use'",
        "request.duration_s <= 600",
        "now < timestamp('2026-11-24T00:00:00Z')",
        "input.amount == 5 && input.order.startsWith('TR') && input.urgent",
    ],
)
def test_every_variable_can_be_spoken_of(text: str) -> None:
    assert Condition(text, INPUTS).holds(AT)
    assert not Condition(f"!({text})", INPUTS).holds(AT)


def test_who_has_no_manager_has_an_empty_one() -> None:
    assert Condition("person.manager == ''", {}).holds(replace(AT, person=person("cem", "staff")))


@pytest.mark.covers("TRAP-8", "R27")
@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("person.on_hodl", 1, 7),
        ("person.id == 1", 1, 11),
        ("input.amount == 'x'", 1, 14),
        ("true &&\n  persn.on_hold", 2, 8),
        ("input.unknown == 1", 1, 6),
        ("risk.score >= 90", 1, 5),
        ("(true", 1, 6),
        ("'a' + 1 == 'b'", 1, 5),
    ],
)
def test_a_wrong_name_or_type_is_told_with_its_column(text: str, line: int, column: int) -> None:
    with pytest.raises(BadCondition) as caught:
        Condition(text, INPUTS)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value)


@pytest.mark.parametrize("text", ["1 + 1", "'yes'", "input.amount", "person.groups", "[true]"])
def test_what_is_not_true_or_false_is_no_condition(text: str) -> None:
    with pytest.raises(BadCondition, match="true or false"):
        Condition(text, INPUTS)


@pytest.mark.parametrize(
    "text",
    [
        "true || " * 200 + "true",
        "person.groups.all(a, person.groups.all(b, person.groups.all(c, a == b || b == c)))",
    ],
)
def test_a_costly_condition_is_refused(text: str) -> None:
    with pytest.raises(BadCondition):
        Condition(text, {})


def test_a_text_of_the_greatest_length_is_read() -> None:
    assert Condition("true".ljust(MAX_CHARS), {}).holds(AT)


@pytest.mark.covers("TRAP-8")
@pytest.mark.parametrize(
    "text",
    [
        "1 / (input.amount - 5) == 1",
        "1 % (input.amount - 5) == 1",
        "{'a': 1}['b'] == 1",
        "[1, 2][input.amount] == 1",
        "9223372036854775807 + input.amount > 0",
        "int(input.order) == 1",
        "timestamp(input.order) < now",
        "input.order.matches('(')",
        "dyn(input.amount) == 5 && dyn(input.amount)",
        "{'a': true}['b']",
    ],
)
def test_a_failure_at_run_time_is_never_true(text: str) -> None:
    condition = Condition(text, INPUTS)
    with pytest.raises(ConditionFailed):
        condition.holds(AT)


@pytest.mark.covers("TRAP-8")
@pytest.mark.parametrize("inputs", [{}, {"amount": "5"}, {"amount": 2**80}])
def test_a_missing_or_wrong_input_is_never_true(inputs: dict[str, str | int | bool]) -> None:
    condition = Condition("input.amount > 0", INPUTS)
    with pytest.raises(ConditionFailed):
        condition.holds(replace(AT, inputs=inputs))


def test_what_is_decided_without_the_failing_part_holds() -> None:
    assert Condition("true || 1 / (input.amount - 5) == 1", INPUTS).holds(AT)


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    "text",
    [
        "entitlement == 'all filter map exists'",
        '"all" == "all" && "filter" != "map"',
        r"entitlement == r'\d' || 'exists' == 'exists' && 'all' == 'all' && 'map' == 'map'",
        "entitlement == '''all filter map'''",
        "true // all of them exists on the map, behind a filter",
        r"entitlement == 'it\'s all on the filter map'",
    ],
)
def test_words_in_texts_and_comments_are_no_loops(text: str) -> None:
    Condition(text, {})


@pytest.mark.covers("R27", "R66")
@pytest.mark.parametrize(
    "text",
    [
        "person.groups.all(a, person.groups.all(b, person.groups.all(c, true)))",
        r"entitlement == r'\' || person.groups.all(a, person.groups.all(b, person.groups.all(c, a == 'x')))",
        r"entitlement == '\'' || person.groups.all(a, person.groups.all(b, person.groups.all(c, true)))",
        "entitlement == 'x' /* */ || person.groups.all(a, person.groups.map(b, b).all(c, person.groups.exists(d, true)))",
    ],
)
def test_loops_are_counted_whatever_stands_around_them(text: str) -> None:
    with pytest.raises(BadCondition, match="more than 2 loops"):
        Condition(text, {})


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    "text", ["(" * 40 + "true" + ")" * 40, "1" + " + 1" * 200 + " == 3", "[" * 40 + "]" * 40 + " == []"]
)
def test_a_condition_that_is_nested_too_deep_is_told_in_words(text: str) -> None:
    with pytest.raises(BadCondition) as caught:
        Condition(text, {})
    assert str(caught.value) == "nested more than 32 deep: take it apart"
    assert (caught.value.line, caught.value.column) == (1, 1)
