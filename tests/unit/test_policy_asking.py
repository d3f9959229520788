"""Whom a step asks, whom later, and what is read back: read, merged to the strictest, absent where unused, classified."""

from typing import Any

import pytest

from jitaccess.domain.approval import ApprovalTerms, Escalation, Reach, ReadBack, could_sign
from jitaccess.policy.change import ChangeClass, classify
from jitaccess.policy.evaluate import Terms, decide
from jitaccess.proof.quorum import Step
from tests.support.policy_sets import approve, context, person, policies, problems, register, rule

HEAD = {"name": "head", "groups": ["heads"], "count": 1}
OWNER = {"name": "own", "institution": "owner", "count": 1}
AMOUNT = {"name": "amount", "type": "integer", "min": 0, "max": 900}
NOTE = {"name": "note", "type": "string"}


def terms(*rules: dict[str, Any], **inputs: Any) -> Terms:
    found = decide(policies(*rules), context(inputs=inputs)).terms
    assert found is not None
    return found


def approval(*rules: dict[str, Any], **inputs: Any) -> ApprovalTerms:
    found = terms(*rules, **inputs).approval
    assert found is not None
    return found


def messages(value: dict[str, Any], *asks: dict[str, Any]) -> list[str]:
    return [f"{found.path}: {found.message}" for found in problems(rule(approve=value, ask=list(asks) or None))]


def kind(was: dict[str, Any], now: dict[str, Any]) -> ChangeClass:
    return classify(policies(rule(approve=was, ask=[AMOUNT])), policies(rule(approve=now, ask=[AMOUNT]))).kind


def test_what_no_rule_uses_is_in_no_document() -> None:
    found = terms(rule(approve=approve(HEAD))).to_document()["approve"]
    assert isinstance(found, dict)
    assert set(found) == {"steps", "distinct", "never"}


@pytest.mark.covers("R22", "R27")
def test_the_terms_come_back_from_what_is_signed() -> None:
    value = approve(
        HEAD | {"ask": {"people": 2, "others": "may_not_sign"}},
        OWNER,
        pending="1h",
        escalate=[{"after": "20m", "to": ["owners"]}, {"after": "30m", "to": ["staff"], "step": "own"}],
        read_back=[{"figure": "amount", "above": 5}, {"figure": "entitlement"}],
    )
    found = terms(rule(approve=value, ask=[AMOUNT]), amount=1)
    assert found.approval is not None
    assert found.approval.reach == (
        Reach("head", 2, False, (Escalation(1200, "owners"),)),
        Reach("own", None, True, (Escalation(1200, "owners"), Escalation(1800, "staff"))),
    )
    assert found.approval.read_back == (ReadBack("amount", 5), ReadBack("entitlement"))
    assert Terms.from_document(found.to_document()) == found


@pytest.mark.covers("R22")
def test_of_two_rules_about_one_step_the_stricter_holds() -> None:
    left = approve(
        HEAD | {"ask": {"people": 2}},
        pending="1h",
        escalate=[{"after": "20m", "to": ["owners", "staff"]}],
        read_back=[{"figure": "amount", "above": 5}],
    )
    right = approve(
        HEAD | {"ask": {"people": 3, "others": "may_not_sign"}},
        pending="1h",
        escalate=[{"after": "30m", "to": ["owners"]}],
        read_back=[{"figure": "amount", "above": 9}, {"figure": "entitlement"}],
    )
    found = approval(rule("a", approve=left, ask=[AMOUNT]), rule("b", approve=right, ask=[AMOUNT]), amount=1)
    assert found.reach == (Reach("head", 3, False, (Escalation(1800, "owners"),)),)
    assert found.read_back == (ReadBack("amount", 5), ReadBack("entitlement"))


@pytest.mark.covers("R22")
def test_a_rule_that_asks_everybody_and_never_escalates_wins() -> None:
    lot = approve(HEAD | {"ask": {"people": 2}}, pending="1h", escalate=[{"after": "20m", "to": ["owners"]}])
    assert approval(rule("a", approve=lot), rule("b", approve=approve(HEAD))).reach == ()


@pytest.mark.covers("R22")
def test_a_step_of_one_rule_alone_keeps_whom_it_asks() -> None:
    lot = approve(HEAD | {"ask": {"people": 2}})
    found = approval(rule("a", approve=lot), rule("b", approve=approve(OWNER)))
    assert found.reach == (Reach("head", 2),)
    twin = approve({"name": "head", "groups": ["owners"], "count": 1})
    assert approval(rule("a", approve=lot), rule("b", approve=twin)).reach == (Reach("head", 2),)


@pytest.mark.covers("R22", "R27")
@pytest.mark.parametrize(
    ("value", "asks", "words"),
    [
        (approve(HEAD | {"count": 2, "ask": {"people": 1}}), (), "at least as many people as have to sign"),
        (approve(HEAD, pending="20m", escalate=[{"after": "20m", "to": ["owners"]}]), (), "not before the request"),
        (approve(HEAD, escalate=[{"after": "20m", "to": []}]), (), "at least 1"),
        (approve(HEAD, escalate=[{"after": "20m", "to": ["owners"], "step": "haed"}]), (), 'unknown step "haed"'),
        (approve(HEAD, read_back=[{"figure": "amuont"}]), (AMOUNT,), 'unknown input "amuont"; did you mean "amount"'),
        (approve(HEAD, read_back=[{"figure": "note", "above": 1}]), (NOTE,), "only a whole number"),
        (approve(HEAD, read_back=[{"figure": "entitlement", "above": 1}]), (), "only a whole number"),
    ],
)
def test_terms_that_cannot_mean_anything_do_not_load(
    value: dict[str, Any], asks: tuple[dict[str, Any], ...], words: str
) -> None:
    found = messages(value, *asks)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.covers("R22")
def test_an_unknown_group_to_escalate_to_does_not_load() -> None:
    value = approve(HEAD, escalate=[{"after": "20m", "to": ["ownres"]}])
    staff = register(person("ana", "staff"), person("bo", "heads"), person("cy", "heads"))
    assert 'unknown group "ownres"' in problems(rule(approve=value), register=staff)[0].message


@pytest.mark.covers("R29")
@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        (approve(HEAD), approve(HEAD, escalate=[{"after": "20m", "to": ["owners"]}]), ChangeClass.WIDENING),
        (approve(HEAD, escalate=[{"after": "20m", "to": ["owners"]}]), approve(HEAD), ChangeClass.NARROWING),
        (approve(HEAD), approve(HEAD, read_back=[{"figure": "amount"}]), ChangeClass.NARROWING),
        (approve(HEAD, read_back=[{"figure": "amount"}]), approve(HEAD), ChangeClass.WIDENING),
        (approve(HEAD), approve(HEAD | {"ask": {"people": 1}}), ChangeClass.WIDENING),
    ],
)
def test_a_change_of_them_is_classified(was: dict[str, Any], now: dict[str, Any], expected: ChangeClass) -> None:
    assert kind(was, now) is expected


@pytest.mark.covers("R22")
def test_escalation_brings_other_people_of_the_same_institution_only_after_its_time() -> None:
    step = Step("own", 1, ("heads",), "infra")
    found = ApprovalTerms((step,), reach=(Reach("own", escalate=(Escalation(60, "owners"),)),))
    staff = register(
        person("ana", "staff"),
        person("bo", "heads", institution="infra"),
        person("cy", "owners", institution="infra"),
        person("di", "owners"),
    )

    def able(waited_s: int) -> frozenset[str]:
        return could_sign(found, register=staff, requester="ana", waited_s=waited_s)["own"]

    assert able(59) == {"bo"}
    assert able(60) == {"bo", "cy"}


BOUND = HEAD | {"credential": "device_bound"}


@pytest.mark.covers("R6", "R22")
def test_the_passkeys_that_sign_are_signed_themselves_and_the_stronger_holds() -> None:
    found = terms(rule(approve=approve(BOUND, OWNER)))
    assert found.approval is not None
    assert found.approval.credentials == (("head", "device_bound"),)
    assert Terms.from_document(found.to_document()) == found
    assert (
        approval(rule("a", approve=approve(HEAD)), rule("b", approve=approve(BOUND))).credential_of("head")
        == "device_bound"
    )
    synced = HEAD | {"credential": "synced"}
    assert (
        approval(rule("a", approve=approve(BOUND)), rule("b", approve=approve(synced))).credential_of("head")
        == "device_bound"
    )
    assert approval(rule(approve=approve(HEAD, OWNER))).credentials == ()


@pytest.mark.covers("R6", "R29")
def test_a_stronger_passkey_narrows_and_a_weaker_widens() -> None:
    assert kind(approve(HEAD), approve(BOUND)) is ChangeClass.NARROWING
    assert kind(approve(BOUND), approve(HEAD)) is ChangeClass.WIDENING


@pytest.mark.covers("R6", "R27")
def test_what_cannot_be_verified_is_refused_where_it_is_written() -> None:
    found = problems(
        rule(
            approve=approve(HEAD | {"credential": "attested"}),
            **{"for": {"groups": ["staff"], "credential": "attested"}},
        )
    )
    assert [one.path for one in found] == ["rules[0].for.credential", "rules[0].approve.steps[0].credential"]
    assert all("cannot verify attestation" in str(one.message) and "device_bound" in str(one.message) for one in found)
    assert all(one.line > 1 and one.column > 1 for one in found)
