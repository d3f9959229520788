"""Is a change that might give something called widening, and only what provably takes away narrowing? (R29)"""

import copy
from typing import Any

import pytest

from jitaccess.policy.change import ChangeClass, classify
from jitaccess.policy.load import load
from tests.support.policy_sets import approve, document, rule, text

HEAD = {"name": "head", "groups": ["heads"], "count": 2}
OWNER = {"name": "owner", "institution": "owner", "count": 1}
HOURS = {"days": ["mon"], "from": "08:00", "to": "16:00", "zone": "UTC", "except": "days"}
EQUAL, NARROWING, WIDENING = ChangeClass.EQUAL, ChangeClass.NARROWING, ChangeClass.WIDENING


def base() -> dict[str, Any]:
    """Return a set in which every term is said."""
    full = rule(
        "full",
        during=["hours"],
        ask=[{"name": "n", "type": "integer", "min": 1, "max": 9}],
        when="input.n < 9",
        duration={"min": "5m", "default": "10m", "max": "20m", "activate_within": "5m"},
        limits={"active_per_person": 2, "per_day": 4},
        approve=approve(HEAD, OWNER, distinct=["person"], never=["requester"], pending="1h"),
        token={"ttl": "4m"},
        **{"for": {"groups": ["heads", "staff"], "credential": "synced"}},
    )
    bare = rule("bare", to={"target": "vault", "entitlements": ["own"]})
    windows = {"hours": HOURS, "late": HOURS | {"to": "20:00"}}
    return copy.deepcopy(
        document(
            full,
            bare,
            windows=windows,
            holidays={"days": ["2026-01-01"]},
            denials=[{"id": "held", "when": "person.on_hold"}],
        )
    )


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the base with another value at a dotted path; rules by id, None takes away."""
    whole = base()
    at: Any = whole
    *parents, last = path.split(".")
    for part in parents:
        at = (
            next(one for one in at if one["id"] == part or one.get("name") == part)
            if isinstance(at, list)
            else at.setdefault(part, {})
        )
    if isinstance(at, list):
        at[:] = [one for one in at if one["id"] != last]
    elif value is None:
        del at[last]
    else:
        at[last] = value
    return whole


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[ChangeClass, tuple[str, ...]]:
    found = classify(load({"p.yaml": text(old)}), load({"p.yaml": text(new)}))
    assert (found.kind is WIDENING) == bool(found.widening)
    assert set(found.widening) <= set(found.differences)
    return found.kind, found.differences


STEPS = "rules.full.approve.steps"


@pytest.mark.covers("R29")
@pytest.mark.parametrize(
    ("path", "value", "kind", "difference"),
    [
        ("rules.full.duration.max", "15m", NARROWING, "rules.full.max_s"),
        ("rules.full.duration.max", "21m", WIDENING, "rules.full.max_s"),
        ("rules.full.duration.default", "9m", NARROWING, "rules.full.default_s"),
        ("rules.full.duration.default", "11m", WIDENING, "rules.full.default_s"),
        ("rules.full.duration.min", "6m", WIDENING, "rules.full.min_s"),
        ("rules.full.duration.min", "4m", WIDENING, "rules.full.min_s"),
        ("rules.full.duration.activate_within", "4m", NARROWING, "rules.full.activate_within_s"),
        ("rules.full.duration.activate_within", "6m", WIDENING, "rules.full.activate_within_s"),
        ("rules.full.duration.activate_within", None, NARROWING, "rules.full.activate_within_s"),
        ("rules.bare.duration.activate_within", "4m", WIDENING, "rules.bare.activate_within_s"),
        ("rules.full.limits.per_day", 3, NARROWING, "rules.full.per_day"),
        ("rules.full.limits.per_day", 5, WIDENING, "rules.full.per_day"),
        ("rules.full.limits.per_day", None, WIDENING, "rules.full.per_day"),
        ("rules.bare.limits.per_day", 9, NARROWING, "rules.bare.per_day"),
        ("rules.full.limits.active_per_person", 1, NARROWING, "rules.full.active_per_person"),
        ("rules.full.limits.active_per_person", None, WIDENING, "rules.full.active_per_person"),
        ("rules.full.token.ttl", "3m", NARROWING, "rules.full.token_ttl_s"),
        ("rules.full.token", None, WIDENING, "rules.full.token_ttl_s"),
        ("rules.full.for.groups", ["staff"], NARROWING, "rules.full.groups"),
        ("rules.full.for.groups", ["staff", "owners"], WIDENING, "rules.full.groups"),
        ("rules.full.for.credential", "device_bound", NARROWING, "rules.full.credential"),
        ("rules.full.for.credential", "any", WIDENING, "rules.full.credential"),
        ("rules.full.during", ["hours", "late"], NARROWING, "rules.full.during"),
        ("rules.full.during", ["late"], WIDENING, "rules.full.during"),
        ("rules.full.during", None, WIDENING, "rules.full.during"),
        ("rules.bare.during", ["hours"], NARROWING, "rules.bare.during"),
        ("rules.full.when", "input.n < 8", WIDENING, "rules.full.when"),
        ("rules.full.when", None, WIDENING, "rules.full.when"),
        ("rules.bare.when", "false", NARROWING, "rules.bare.when"),
        ("rules.full.ask", [{"name": "n", "type": "integer", "min": 2, "max": 8}], WIDENING, "rules.full.ask"),
        ("rules.full.to.entitlements", ["use", "own"], WIDENING, "rules.full.entitlements"),
        ("rules.full.approve", "none", WIDENING, "rules.full.approve"),
        ("rules.bare.approve", approve(HEAD), NARROWING, "rules.bare.approve"),
        (STEPS, [HEAD | {"count": 3}, OWNER], NARROWING, "rules.full.approve"),
        (STEPS, [HEAD | {"count": 1}, OWNER], WIDENING, "rules.full.approve"),
        (STEPS, [HEAD], WIDENING, "rules.full.approve"),
        (STEPS, [HEAD, OWNER, {"name": "more", "groups": ["x"], "count": 1}], NARROWING, "rules.full.approve"),
        (STEPS, [HEAD | {"groups": ["heads", "staff"]}, OWNER], WIDENING, "rules.full.approve"),
        (STEPS, [HEAD, OWNER | {"after": "head"}], WIDENING, "rules.full.approve"),
        (STEPS, [HEAD | {"name": "boss"}, OWNER], WIDENING, "rules.full.approve"),
        ("rules.full.approve.distinct", ["person", "institution"], NARROWING, "rules.full.approve"),
        ("rules.full.approve.never", ["managers_of_requester"], NARROWING, "rules.full.approve"),
        ("rules.full.approve.pending", "50m", NARROWING, "rules.full.approve"),
        ("rules.full.approve.pending", "70m", WIDENING, "rules.full.approve"),
        ("rules.bare", None, NARROWING, "rules.bare"),
        ("denials.held", None, WIDENING, "denials.held"),
        ("denials.held.when", "false", WIDENING, "denials.held"),
        ("windows.hours.to", "15:00", WIDENING, "windows.hours"),
        ("holidays.days", ["2026-01-01", "2026-01-02"], WIDENING, "holidays.days"),
        ("institutions.mof.name", "Other", WIDENING, "institutions.mof"),
        ("institutions.new", {"name": "New"}, WIDENING, "institutions.new"),
        ("targets.vault.name", "Other", WIDENING, "targets.vault.name"),
        ("targets.vault.owner", "mof", WIDENING, "targets.vault.owner"),
        ("targets.vault.connector.audience", "https://o.example", WIDENING, "targets.vault.connector"),
        ("targets.vault.entitlements.use.max_duration", "7h", NARROWING, "targets.vault.entitlements.use"),
        ("targets.vault.entitlements.use.max_duration", "9h", WIDENING, "targets.vault.entitlements.use"),
        ("targets.vault.entitlements.use.risk", "high", WIDENING, "targets.vault.entitlements.use"),
        ("targets.vault.entitlements.new", {"max_duration": "1h"}, WIDENING, "targets.vault.entitlements.new"),
    ],
)  # fmt: skip
def test_each_term_is_classed(path: str, value: Any, kind: ChangeClass, difference: str) -> None:
    assert compare(base(), changed(path, value)) == (kind, (difference,))


@pytest.mark.covers("R29")
def test_terms_said_again_are_equal() -> None:
    assert compare(base(), changed("rules.full.approve.never", ["requester"])) == (EQUAL, ())
    again = base()
    again["rules"].reverse()
    assert compare(base(), again) == (EQUAL, ())


@pytest.mark.covers("R29")
def test_the_first_set_is_widening() -> None:
    assert classify(None, load({"p.yaml": text(base())})).kind is WIDENING


@pytest.mark.covers("R29")
def test_a_new_denial_narrows_and_a_new_rule_or_target_widens() -> None:
    more = base()
    more["denials"].append({"id": "all", "when": "true"})
    assert compare(base(), more) == (NARROWING, ("denials.all",))
    more = base()
    more["rules"].append(rule("more", to={"target": "vault", "entitlements": ["own"]}))
    assert compare(base(), more)[0] is WIDENING
    more = base()
    more["targets"]["safe"] = copy.deepcopy(more["targets"]["vault"])
    assert compare(base(), more) == (WIDENING, ("targets.safe",))
    assert compare(more, base()) == (NARROWING, ("targets.safe",))


@pytest.mark.covers("R29", "R22")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("rules.strict", None),
        ("rules.strict.for.groups", ["staff"]),
        ("rules.strict.during", ["hours"]),
        ("rules.strict.when", "person.unit == 'x'"),
        ("rules.strict.to.entitlements", ["own"]),
    ],
)
def test_silencing_the_stricter_of_two_overlapping_rules_widens(path: str, value: Any) -> None:
    both = {"target": "vault", "entitlements": ["use", "own"]}
    strict = rule("strict", **{"for": {"groups": ["staff", "heads"]}, "to": both}, approve=approve(HEAD))
    whole = document(strict, rule("lax"), windows={"hours": {k: v for k, v in HOURS.items() if k != "except"}})
    less = copy.deepcopy(whole)
    _, id_, *parts = path.split(".")
    if parts:
        at = less["rules"][0]
        for part in parts[:-1]:
            at = at[part]
        at[parts[-1]] = value
    else:
        less["rules"] = [one for one in less["rules"] if one["id"] != id_]
    assert compare(whole, less)[0] is WIDENING
    alone_before, alone_after = copy.deepcopy(whole), copy.deepcopy(less)
    for one in (alone_before, alone_after):
        one["rules"] = [part for part in one["rules"] if part["id"] != "lax"]
    assert compare(alone_before, alone_after)[0] is NARROWING


@pytest.mark.covers("R29")
def test_one_widening_among_narrowings_widens() -> None:
    mixed = changed("rules.full.duration.max", "15m")
    mixed["rules"][0]["limits"]["per_day"] = 5
    kind, differences = compare(base(), mixed)
    assert kind is WIDENING
    assert differences == ("rules.full.max_s", "rules.full.per_day")
