"""Whatever rules there are: two never permit more than either, order never matters, failures never permit."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitaccess.domain.approval import ApprovalTerms, eligible, satisfiable
from jitaccess.domain.register import RegisterView
from jitaccess.policy.change import ChangeClass, classify
from jitaccess.policy.evaluate import AccessContext, CredentialClass, Decision, Effect, PolicySet, Terms, decide
from jitaccess.policy.load import load
from jitaccess.proof.quorum import Step, Vote, count
from tests.support.policy_sets import approve, context, document, person, policies, register, rule, text

GROUPS = ("staff", "heads", "owners")
FAILING = ("1 / (request.duration_s - request.duration_s) == 1", "{'a': true}['b']", "person.groups[99] == 'x'")


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


@st.composite
def steps(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2, unique=True))
    found = []
    for number, name in enumerate(names):
        step: dict[str, Any] = {
            "name": name,
            "groups": draw(st.sampled_from([["heads"], ["heads"], ["owners"]])),
            "count": draw(st.integers(1, 3)),
        }
        if number and draw(st.booleans()):
            step["after"] = names[number - 1]
        found.append(step)
    return draw(st.permutations(found))


@st.composite
def rules(draw: st.DrawFn, id: str) -> dict[str, Any]:
    low, default, high = draw(st.integers(1, 9)), draw(st.integers(9, 60)), draw(st.integers(60, 90))
    limits = {"active_per_person": draw(some(st.integers(2, 4))), "per_day": draw(some(st.integers(2, 4)))}
    duration = {
        "min": f"{low}s",
        "default": f"{default}s",
        "max": f"{high}s",
        "activate_within": draw(some(st.sampled_from(["1m", "2m"]))),
    }
    approval: object = "none"
    if draw(st.sampled_from([True, True, False])):
        distinct = draw(st.sampled_from([["person"], ["person", "institution"]]))
        never = draw(st.sampled_from([["requester"], ["managers_of_requester"], ["subordinates_of_requester"]]))
        approval = approve(*draw(steps()), distinct=distinct, never=never)
    return rule(
        id,
        duration={key: value for key, value in duration.items() if value},
        limits={key: value for key, value in limits.items() if value},
        approve=approval,
        token={"ttl": draw(st.sampled_from(["1m", "5m", "15m"]))},
        **{"for": {"groups": ["staff"], "credential": draw(st.sampled_from(["any", "synced", "device_bound"]))}},
    )


changes = st.tuples(st.just("count"), st.integers(1, 4)) | st.tuples(
    st.sampled_from(["limits", "token", "for", "approve", "duration"]), rules("one")
)
asked = st.builds(
    lambda credential, duration, active, today: context(
        credential=credential, duration_s=duration, active_count=active, today_count=today
    ),
    st.sampled_from(list(CredentialClass)),
    some(st.integers(5, 95)),
    st.integers(0, 2),
    st.integers(0, 2),
)


def strength(terms: Terms) -> dict[tuple[frozenset[str], str | None], int]:
    """Return how many people of which groups and institution all steps together ask for, at most a step."""
    found: dict[tuple[frozenset[str], str | None], int] = {}
    for step in terms.steps:
        key = (frozenset(step.groups), step.institution)
        found[key] = found.get(key, 0) + step.count
    return found


def no_more(value: int | None, bound: int | None) -> bool:
    return bound is None or (value is not None and value <= bound)


def at_most(both: Terms, alone: Terms) -> bool:
    """Say whether every term is at least as strict."""
    return (
        both.min_s >= alone.min_s
        and both.max_s <= alone.max_s
        and both.token_ttl_s <= alone.token_ttl_s
        and both.credential >= alone.credential
        and no_more(both.active_per_person, alone.active_per_person)
        and no_more(both.per_day, alone.per_day)
        and no_more(both.pending_s, alone.pending_s)
        and (both.activate_within_s or 0) <= (alone.activate_within_s or 0)
        and both.distinct >= alone.distinct
        and both.never >= alone.never
        and all(strength(both).get(key, 0) >= number for key, number in strength(alone).items())
        and all(
            any(step.count >= one.count and step.groups == one.groups for step in both.steps) for one in alone.steps
        )
    )


@pytest.mark.covers("R22")
@given(rules("one"), rules("two"), asked)
def test_two_rules_never_permit_more_than_either(one: dict[str, Any], two: dict[str, Any], at: AccessContext) -> None:
    together = decide(policies(one, two), at)
    for single in (one, two):
        alone = decide(policies(single), at)
        if together.effect is Effect.DENY:
            continue
        assert together.terms is not None
        if at.duration_s is not None:
            assert alone.effect is Effect.PERMIT
        if alone.terms is not None:
            assert at_most(together.terms, alone.terms)


@pytest.mark.covers("R22")
@given(rules("one"), rules("two"))
def test_merged_steps_stand_in_a_possible_order(one: dict[str, Any], two: dict[str, Any]) -> None:
    merged = policies(one, two)
    terms = merged.merged(merged.rules_for("vault", "use")).terms
    if terms is not None and terms.steps:
        tally = count(terms.steps, distinct=terms.distinct, requester="ana", votes=())
        assert tally.open_steps
        assert not tally.met


@pytest.mark.covers("R28")
@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=4, unique=True).flatmap(
    lambda ids: st.tuples(*[rules(id) for id in ids])
), st.randoms(use_true_random=False), asked)  # fmt: skip
def test_the_order_of_rules_and_files_never_matters(
    found: tuple[dict[str, Any], ...], order: Any, at: AccessContext
) -> None:
    shuffled = list(found)
    order.shuffle(shuffled)
    half = len(shuffled) // 2
    files = {"z.yaml": text(document(*shuffled[:half])), "a.yaml": text({"version": 1, "rules": shuffled[half:]})}
    one, two = policies(*found), load(files)
    assert one.digest == two.digest
    assert decide(one, at) == decide(two, at)
    assert classify(one, two).kind is ChangeClass.EQUAL


@pytest.mark.covers("R27", "TRAP-8")
@given(rules("one"), rules("two"), st.sampled_from(FAILING), st.booleans(), asked)
def test_a_failure_never_permits(
    one: dict[str, Any], two: dict[str, Any], when: str, denial: bool, at: AccessContext
) -> None:
    bad = {"id": "odd", "when": when}
    broken = policies(one, two, denials=[bad]) if denial else policies(one | {"when": when}, two)
    assert decide(broken, at).effect is Effect.DENY


@pytest.mark.covers("R29", "R22")
@given(
    rules("one"), rules("two"), rules("one"), st.sampled_from(["limits", "token", "for", "approve", "duration"]), asked
)
def test_what_is_called_narrowing_gives_nothing_new(
    one: dict[str, Any], two: dict[str, Any], other: dict[str, Any], part: str, at: AccessContext
) -> None:
    changed = copy.deepcopy(one) | ({part: other[part]} if part != "steps" else {})
    if part == "steps" and one["approve"] != "none":
        changed["approve"]["steps"][0]["count"] = other["duration"]["min"] > "3s" or 3
    before, after = policies(one, two), policies(changed, two)
    if classify(before, after).kind is not ChangeClass.WIDENING:
        assert permits_no_more(decide(after, at), decide(before, at))


def permits_no_more(now: Decision, then: Decision) -> bool:
    if now.terms is None:
        return True
    return then.terms is not None and at_most(now.terms, then.terms)


@pytest.mark.covers("R22")
@given(rules("one"), asked)
def test_a_document_decides_like_the_files_it_came_from(one: dict[str, Any], at: AccessContext) -> None:
    found = policies(one)
    assert decide(PolicySet.from_document(found.document), at) == decide(found, at)  # type: ignore[arg-type] # a mapping of JSON values


institutions = st.sampled_from(["mof", "infra", "civil"])
persons = st.lists(
    st.tuples(
        st.sampled_from([("heads",), ("owners",), ("heads", "owners")]),
        institutions,
        st.sampled_from([True, True, True, False]),
        st.sampled_from([None, None, None, 0, 1, 2]),
    ),
    min_size=2,
    max_size=6,
)
everyone = frozenset({"requester"})
terms_of_steps = st.builds(
    lambda found, distinct, never: ApprovalTerms(
        tuple(Step(str(number), count, tuple(groups), place) for number, (count, groups, place) in enumerate(found)),
        distinct,
        never,
    ),
    st.lists(
        st.tuples(
            st.integers(1, 2),
            st.sampled_from([("heads",), ("owners",), ("heads", "owners")]),
            st.sampled_from([None, None, None, "mof"]),
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([frozenset({"person"}), frozenset({"person", "institution"})]),
    st.sampled_from([everyone, everyone | {"managers_of_requester", "subordinates_of_requester"}]),
)


def by_brute_force(terms: ApprovalTerms, known: RegisterView, requester: str) -> bool:
    """Try every way to let eligible people vote, and ask the one count."""

    def search(left: tuple[str, ...], votes: tuple[Vote, ...]) -> bool:
        if count(terms.steps, distinct=terms.distinct, requester=requester, votes=votes).met:
            return True
        if not left:
            return False
        who, rest = left[0], left[1:]
        choices = [
            step.name
            for step in terms.steps
            if who in eligible(step, register=known, requester=requester, never=terms.never)
        ]
        vote = [(*votes, Vote(who, known.persons[who].institution, name, "approve")) for name in choices]
        return search(rest, votes) or any(search(rest, more) for more in vote)

    return search(tuple(known.persons), ())


@pytest.mark.covers("R22", "T-01")
@settings(max_examples=500)
@given(persons, terms_of_steps)
def test_satisfiable_agrees_with_trying_everything(shape: list[Any], terms: ApprovalTerms) -> None:
    known = register(
        *[
            person(
                f"p{number}",
                *groups,
                institution=institution,
                active=active,
                manager=None if above is None else f"p{above}",
            )
            for number, (groups, institution, active, above) in enumerate(shape)
        ]
    )
    assert satisfiable(terms, register=known, requester="p0") is by_brute_force(terms, known, "p0")
