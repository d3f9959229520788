"""Default deny, deny wins, the strictest of each term wins, and whatever cannot be evaluated denies."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jitaccess.domain.approval import ApprovalTerms
from jitaccess.domain.register import expand_groups
from jitaccess.policy.evaluate import (
    MAX_MERGED,
    Code,
    CredentialClass,
    Decision,
    Effect,
    Flag,
    PolicySet,
    Terms,
    decide,
    offers,
)
from jitaccess.policy.load import load
from jitaccess.policy.problems import PolicyErrors
from jitaccess.proof.quorum import Step
from tests.support.policy_sets import MONDAY, approve, context, document, person, policies, rule, text

HEAD = {"name": "head", "groups": ["heads"], "count": 1}
OWNER = {"name": "owner", "institution": "owner", "count": 1}
OFFICE = {"days": ["mon"], "from": "08:00", "to": "16:30", "zone": "Europe/Belgrade"}


def codes(decision: Decision) -> list[tuple[Code, str | None, str]]:
    return [(reason.code, reason.rule, reason.about) for reason in decision.reasons]


def refused(decision: Decision) -> tuple[Code, str | None, str]:
    assert decision.effect is Effect.DENY
    assert decision.terms is None
    assert decision.matched == ()
    return codes(decision)[0]


def terms_of(*rules: dict[str, Any], **asked: Any) -> Terms:
    decision = decide(policies(*rules), context(**asked))
    assert decision.terms is not None, decision.reasons
    return decision.terms


def test_a_rule_permits_on_its_terms() -> None:
    asking = rule(
        duration={"min": "5m", "default": "10m", "max": "20m", "activate_within": "15m"},
        limits={"active_per_person": 2, "per_day": 3},
        approve=approve(HEAD, OWNER | {"after": "head"}, distinct=["institution"], pending="2h"),
        token={"ttl": "2m"},
        **{"for": {"groups": ["staff"], "credential": "synced"}},
    )
    decision = decide(policies(asking), context(active_count=1, today_count=2))
    assert (decision.effect, decision.matched, decision.duration_s) == (Effect.PERMIT, ("ask",), 600)
    assert decision.terms == Terms(
        300, 600, 1200, 900, 7200, CredentialClass.SYNCED, 120, 2, 3,
        ApprovalTerms(
            (Step("head", 1, ("heads",)), Step("owner", 1, (), "infra", "head")),
            frozenset({"person", "institution"}),
            frozenset({"requester"}),
        ),
    )  # fmt: skip
    assert decision.terms.steps[1].institution == "infra"
    assert decision.terms.distinct == {"person", "institution"}
    assert decision.terms.never == {"requester"}


def test_without_approval_nothing_is_left_to_sign() -> None:
    terms = terms_of(rule())
    assert (terms.steps, terms.distinct, terms.never) == ((), frozenset(), frozenset())
    assert terms.token_ttl_s == 300


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"target": "other"}, (Code.UNKNOWN_TARGET, None, "other")),
        ({"entitlement": "other"}, (Code.UNKNOWN_TARGET, None, "vault")),
        ({"entitlement": "own"}, (Code.NO_RULE, None, "own")),
        ({"person": person("ana")}, (Code.NOT_IN_GROUP, "ask", "staff")),
        ({"person": person("ana", "staff", active=False)}, (Code.NOT_ACTIVE, None, "")),
        ({"duration_s": 3601}, (Code.TOO_LONG, None, "3600")),
        ({"duration_s": 0}, (Code.TOO_SHORT, None, "")),
        ({"duration_s": -1}, (Code.TOO_SHORT, None, "")),
        ({"duration_s": 2**40}, (Code.TOO_LONG, None, "")),
        ({"inputs": {"x": 1}}, (Code.UNKNOWN_INPUT, None, "x")),
    ],
)
def test_no_match_is_deny(asked: dict[str, Any], reason: object) -> None:
    assert refused(decide(policies(rule()), context(**asked))) == reason


def test_an_empty_set_denies() -> None:
    assert refused(decide(load({"p.yaml": "version: 1\n"}), context())) == (Code.UNKNOWN_TARGET, None, "vault")


@pytest.mark.covers("R22")
@pytest.mark.parametrize(
    ("terms", "asked", "reason"),
    [
        ({"duration": {"min": "5m", "default": "5m", "max": "5m"}}, {"duration_s": 299}, (Code.TOO_SHORT, None, "300")),
        ({"limits": {"active_per_person": 2}}, {"active_count": 2}, (Code.ACTIVE_LIMIT, None, "2")),
        ({"limits": {"per_day": 2}}, {"today_count": 2}, (Code.DAY_LIMIT, None, "2")),
        (
            {"for": {"groups": ["staff"], "credential": "device_bound"}},
            {"credential": CredentialClass.SYNCED},
            (Code.CREDENTIAL_TOO_WEAK, None, "device_bound"),
        ),
    ],
)
def test_a_term_that_is_not_kept_denies_even_beside_a_laxer_rule(
    terms: dict[str, Any], asked: dict[str, Any], reason: object
) -> None:
    strict = rule("strict", **terms)
    assert refused(decide(policies(strict), context(**asked))) == reason
    assert refused(decide(policies(strict, rule("lax")), context(**asked))) == reason
    assert decide(policies(strict, rule("lax")), context(duration_s=300, credential=CredentialClass.ATTESTED)).terms


@pytest.mark.covers("R22")
def test_the_strictest_of_each_term_wins() -> None:
    one = rule(
        "one",
        duration={"min": "10m", "default": "30m", "max": "1h", "activate_within": "15m"},
        limits={"active_per_person": 1, "per_day": 9},
        approve=approve(HEAD, pending="2h"),
        token={"ttl": "4m"},
    )
    two = rule(
        "two",
        duration={"default": "20m", "max": "40m", "activate_within": "5m"},
        limits={"per_day": 3},
        approve=approve(HEAD | {"count": 2}, OWNER, distinct=["institution"], never=["managers_of_requester"]),
        token={"ttl": "10m"},
        **{"for": {"groups": ["staff"], "credential": "synced"}},
    )
    expected = Terms(
        600, 1200, 2400, 300, 3600, CredentialClass.SYNCED, 240, 1, 3,
        ApprovalTerms(
            (Step("head", 2, ("heads",)), Step("owner", 1, (), "infra")),
            frozenset({"person", "institution"}),
            frozenset({"requester", "managers_of_requester"}),
        ),
    )  # fmt: skip
    assert terms_of(one, two) == terms_of(two, one) == expected
    assert decide(policies(one, two), context()).matched == ("one", "two")


@pytest.mark.covers("R22")
def test_approval_by_one_rule_is_not_lost_beside_a_rule_without() -> None:
    assert [step.name for step in terms_of(rule("free"), rule("signed", approve=approve(HEAD))).steps] == ["head"]


def test_the_clock_starts_at_once_when_one_rule_wants_that() -> None:
    waits = rule("waits", duration={"default": "30m", "max": "1h", "activate_within": "15m"})
    assert terms_of(waits).activate_within_s == 900
    assert terms_of(waits, rule("at-once")).activate_within_s is None


@pytest.mark.covers("R22")
def test_steps_of_one_name_but_other_people_both_stay() -> None:
    other = HEAD | {"groups": ["owners"]}
    chain = rule("b", approve=approve(OWNER | {"after": "head"}, other))
    found = terms_of(rule("a", approve=approve(HEAD)), chain).steps
    assert found == (
        Step("head", 1, ("heads",)),
        Step("head+", 1, ("owners",)),
        Step("owner", 1, (), "infra", "head+"),
    )


def test_terms_that_leave_nothing_deny() -> None:
    long = rule("long", duration={"min": "50m", "default": "1h", "max": "1h"})
    short = rule("short", duration={"default": "10m", "max": "20m"})
    decision = decide(policies(long, short), context())
    assert codes(decision) == [(Code.TERMS_CONTRADICT, "long", ""), (Code.TERMS_CONTRADICT, "short", "")]


def test_a_default_below_the_least_is_raised_to_it() -> None:
    long = rule("long", duration={"min": "50m", "default": "1h", "max": "1h"})
    terms = terms_of(long, rule("ask", duration={"default": "10m", "max": "1h"}))
    assert (terms.min_s, terms.default_s) == (3000, 3000)


@pytest.mark.covers("R22")
def test_deny_wins() -> None:
    found = policies(rule(), denials=[{"id": "held", "when": "person.on_hold"}])
    assert decide(found, context()).effect is Effect.PERMIT
    decision = decide(found, context(person("ana", "staff", on_hold=True)))
    assert refused(decision) == (Code.DENIED, "held", "")
    assert decision.denied_by == "held"


@pytest.mark.covers("R27", "TRAP-8")
@pytest.mark.parametrize("when", ["1 / (request.duration_s - 1800) == 1", "person.groups[7] == 'x'"])
def test_a_denial_that_fails_denies(when: str) -> None:
    decision = decide(policies(rule(), denials=[{"id": "odd", "when": when}]), context())
    assert refused(decision) == (Code.CONDITION_FAILED, "odd", "")
    assert decision.flags == (Flag.CONDITION_FAILED,)


@pytest.mark.covers("TRAP-8")
@pytest.mark.parametrize("when", ["1 / (input.n - 5) == 1", "{'a': 1}['b'] == 1", "[true][input.n]"])
def test_a_condition_that_fails_denies_even_beside_a_rule_that_permits(when: str) -> None:
    asks = [{"name": "n", "type": "integer", "min": 0, "max": 9}]
    decision = decide(policies(rule("odd", ask=asks, when=when), rule("plain")), context(inputs={"n": 5}))
    assert refused(decision) == (Code.CONDITION_FAILED, "odd", "")
    assert decision.flags == (Flag.CONDITION_FAILED,)


def test_a_false_condition_silences_its_rule_alone() -> None:
    strict = rule("strict", when="person.unit == 'other'", approve=approve(HEAD))
    assert terms_of(strict, rule("lax")).steps == ()
    assert codes(decide(policies(strict), context())) == [(Code.CONDITION_FALSE, "strict", "")]


def test_a_condition_reads_the_duration_that_is_resolved() -> None:
    long = rule("long", when="request.duration_s > 900", approve=approve(HEAD))
    lax = rule("lax", duration={"default": "10m", "max": "1h"})
    assert terms_of(long, lax, duration_s=901).steps
    assert not terms_of(long, lax, duration_s=900).steps
    assert not terms_of(long, lax).steps


@pytest.mark.covers("R22")
def test_conditions_that_undo_each_other_deny() -> None:
    short = rule("short", when="request.duration_s > 900", duration={"default": "10m", "max": "1h"})
    decision = decide(policies(short, rule("lax")), context())
    assert {code for code, _, _ in codes(decision)} == {Code.TERMS_CONTRADICT}


@pytest.mark.parametrize(
    ("ask", "good", "bad"),
    [
        (
            {"type": "string"},
            ["x", "ë ж 漢", "x" * 200],
            ["", "x" * 201, "a\nb", "a\x00", "a\u202eb", "a\u200b", "a\u00a0b", 1, True],
        ),
        ({"type": "string", "matches": "TR-[0-9]{2}"}, ["TR-12"], ["TR-123", "xTR-12", "TR-12\n", "TR-١٢"]),
        ({"type": "string", "max_length": 3}, ["abc"], ["abcd"]),
        ({"type": "integer", "min": -1, "max": 3}, [-1, 0, 3], [-2, 4, True, False, "1", 2**70]),
        ({"type": "boolean"}, [True, False], [0, 1, "true"]),
    ],
)
def test_inputs_are_of_their_type_and_bounds(ask: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    found = policies(rule(ask=[{"name": "x", **ask}]))
    for value in good:
        assert decide(found, context(inputs={"x": value})).effect is Effect.PERMIT, value
    for value in bad:
        assert refused(decide(found, context(inputs={"x": value}))) == (Code.INVALID_INPUT, None, "x"), value
    assert refused(decide(found, context())) == (Code.MISSING_INPUT, None, "x")


@pytest.mark.covers("R22")
def test_every_input_of_every_rule_that_speaks_is_asked() -> None:
    two = rule("two", ask=[{"name": "n", "type": "integer", "min": 5, "max": 20}])
    one = rule("one", ask=[{"name": "n", "type": "integer", "min": 0, "max": 10}, {"name": "b", "type": "boolean"}])
    found = policies(one, two)
    assert decide(found, context(inputs={"n": 7, "b": True})).effect is Effect.PERMIT
    for inputs, about in (({"n": 4, "b": True}, "n"), ({"n": 11, "b": True}, "n"), ({"n": 7}, "b")):
        assert refused(decide(found, context(inputs=inputs)))[2] == about


@pytest.mark.parametrize(
    ("at", "open_"),
    [
        ("2026-11-23T06:59:59Z", False),
        ("2026-11-23T07:00:00Z", True),
        ("2026-11-23T15:29:59Z", True),
        ("2026-11-23T15:30:00Z", False),
        ("2026-07-06T06:00:00Z", True),
        ("2026-07-06T14:30:00Z", False),
        ("2026-11-24T12:00:00Z", False),
        ("2026-11-22T23:30:00Z", False),
        ("2026-11-30T12:00:00Z", False),
    ],
)
def test_a_window_is_of_its_zone_and_half_open(at: str, open_: bool) -> None:
    found = policies(
        rule(during=["office"]),
        windows={"office": OFFICE | {"except": "days"}},
        holidays={"days": ["2026-11-30"]},
    )
    decision = decide(found, context(now=datetime.fromisoformat(at)))
    assert (decision.effect is Effect.PERMIT) is open_
    if not open_:
        assert refused(decision) == (Code.OUTSIDE_HOURS, "ask", "office")


def test_all_windows_of_a_rule_are_open_at_once() -> None:
    late = OFFICE | {"from": "12:00", "to": "24:00"}
    found = policies(rule(during=["office", "late"]), windows={"office": OFFICE, "late": late})
    assert decide(found, context(now=MONDAY + timedelta(hours=3))).effect is Effect.PERMIT
    assert refused(decide(found, context(now=MONDAY)))[2] == "late"
    assert refused(decide(found, context(now=MONDAY + timedelta(hours=8))))[2] == "office"


@pytest.mark.covers("T-02")
def test_members_of_groups_in_groups_are_meant() -> None:
    closed = expand_groups([("juniors", "ana")], [("staff", "clerks"), ("clerks", "juniors"), ("juniors", "staff")])
    assert decide(policies(rule()), context(person("ana", *closed["ana"]))).effect is Effect.PERMIT


@pytest.mark.covers("T-03")
def test_a_group_of_another_id_is_another_group() -> None:
    for elsewhere in ("staff-2", "Staff", "staff ", "infra-staff"):
        assert refused(decide(policies(rule()), context(person("ana", elsewhere))))[0] is Code.NOT_IN_GROUP


@pytest.mark.covers("R28")
def test_the_order_of_files_rules_and_lists_does_not_matter() -> None:
    one = rule(
        "one", approve=approve(HEAD | {"groups": ["heads", "owners"]}, never=["managers_of_requester", "requester"])
    )
    two = rule("two", **{"for": {"groups": ["staff", "heads"]}})
    three = {"version": 1, "rules": [rule("three")], "denials": [{"id": "d", "when": "false"}]}
    swapped = json.loads(json.dumps([two, one]).replace('["heads", "owners"]', '["owners", "heads"]'))
    left = load({"a.yaml": text(document(one, two)), "b.yaml": text(three)})
    right = load({"a.yaml": text(three), "z.yaml": text(document(*swapped))})
    assert left.digest == right.digest
    assert decide(left, context()) == decide(right, context())
    assert load({"a.yaml": text(document(one))}).digest != left.digest


@pytest.mark.covers("R28")
def test_every_decision_carries_the_digest() -> None:
    found = policies(rule())
    for asked in (context(), context(target="other")):
        assert decide(found, asked).policy_digest == found.digest


@pytest.mark.parametrize("approval", ["none", approve(HEAD, OWNER | {"after": "head"})])
def test_terms_read_back_what_they_wrote(approval: object) -> None:
    terms = terms_of(rule(approve=approval))
    written = json.loads(json.dumps(terms.to_document()))
    assert Terms.from_document(written) == terms
    assert Terms.from_document(written).to_document() == terms.to_document()


def test_a_decision_is_written_whole() -> None:
    permitted = decide(policies(rule()), context()).to_document()
    assert (permitted["effect"], permitted["matched"], permitted["duration_s"]) == ("permit", ["ask"], 1800)
    assert permitted["terms"] is not None
    denied = decide(policies(rule()), context(target="other")).to_document()
    assert denied["reasons"] == [{"code": "unknown_target", "rule": None, "about": "other"}]
    assert denied["terms"] is None
    assert json.loads(json.dumps(denied)) == denied


def test_a_set_reads_back_its_document() -> None:
    found = policies(
        rule(when="true", ask=[{"name": "n", "type": "string", "matches": "a"}], during=["office"]),
        windows={"office": OFFICE},
    )
    again = PolicySet.from_document(json.loads(json.dumps(found.document)))
    assert again.digest == found.digest
    assert decide(again, context(inputs={"n": "a"})) == decide(found, context(inputs={"n": "a"}))


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.pop("rules"),
        lambda it: it["rules"]["ask"].pop("groups"),
        lambda it: it["rules"]["ask"].update(target="other"),
        lambda it: it["rules"]["ask"].update(credential="none"),
        lambda it: it["rules"]["ask"].update(during=["never"]),
        lambda it: it["rules"]["ask"]["approve"]["steps"][0].update(count=0),
        lambda it: it["rules"]["ask"].update(ask=[{"name": "n", "type": "string", "label": "n", "matches": "("}]),
        lambda it: it["denials"].update(d={"when": "1"}),
        lambda it: it.update(rules=[]),
    ],
)
def test_a_document_that_no_loader_wrote_is_refused(change: Any) -> None:
    found = json.loads(json.dumps(policies(rule(approve=approve(HEAD))).document))
    change(found)
    with pytest.raises(PolicyErrors):
        PolicySet.from_document(found)


@pytest.mark.covers("TRAP-8")
def test_a_condition_that_no_loader_checked_denies() -> None:
    found = json.loads(json.dumps(policies(rule()).document))
    found["rules"]["ask"]["when"] = "nobody.knows"
    decision = decide(PolicySet.from_document(found), context())
    assert refused(decision) == (Code.CONDITION_FAILED, "ask", "")


def test_a_set_tells_its_targets() -> None:
    found = policies(rule())
    facts = found.target("vault")
    assert facts is not None
    assert (facts.name, facts.owner, facts.entitlements["own"].risk) == ("Vault", "infra", "high")
    assert facts.entitlements["use"].label == "use"
    assert found.target("other") is None
    assert found.target_config_digest("vault") == facts.config_digest
    assert found.target_config_digest("other") is None
    assert found.institutions == {"mof": "Ministry", "infra": "Infrastructure"}


@pytest.mark.covers("R20")
def test_another_configuration_of_a_target_has_another_digest() -> None:
    changed = document(rule())
    changed["targets"]["vault"]["connector"]["audience"] = "https://other.example"
    other = load({"p.yaml": text(changed)})
    assert other.target_config_digest("vault") != policies(rule()).target_config_digest("vault")


def test_offers_are_what_a_form_can_ask_for() -> None:
    found = policies(
        rule("use", ask=[{"name": "n", "type": "boolean"}]),
        rule("own", to={"target": "vault", "entitlements": ["own"]}, during=["office"]),
        rule("long", **{"for": {"groups": ["heads"]}}, duration={"min": "50m", "default": "1h", "max": "1h"}),
        rule("short", **{"for": {"groups": ["heads"]}}, duration={"default": "1m", "max": "1m"}),
        windows={"office": OFFICE},
    )

    def offered(*groups: str, now: datetime = MONDAY, active: bool = True) -> list[str]:
        return [offer.entitlement.id for offer in offers(found, person=person("ana", *groups, active=active), now=now)]

    assert offered("staff") == ["own", "use"]
    assert offered("staff", now=MONDAY + timedelta(days=1)) == ["use"]
    assert offered() == offered("staff", active=False) == []
    assert offered("heads") == []
    (use,) = (
        offer for offer in offers(found, person=person("ana", "staff"), now=MONDAY) if offer.entitlement.id == "use"
    )
    assert [ask.name for ask in use.asks] == ["n"]
    assert use.terms.max_s == 3600


def test_the_memory_of_merged_terms_is_bounded() -> None:
    count = 13
    groups = [f"g{number}" for number in range(count)]
    found = policies(*[rule(group, **{"for": {"groups": [group]}}) for group in groups])
    for number in range(1, 2**count):
        chosen = [group for bit, group in enumerate(groups) if number >> bit & 1]
        assert decide(found, context(person("ana", *chosen))).matched == tuple(sorted(chosen))
    assert len(found._merged) <= MAX_MERGED


def test_times_of_any_zone_are_one_instant() -> None:
    found = policies(rule(when="now == timestamp('2026-11-23T09:00:00Z')"))
    for at in (MONDAY, datetime.fromisoformat("2026-11-23T10:00:00+01:00"), MONDAY.astimezone(UTC)):
        assert decide(found, context(now=at)).effect is Effect.PERMIT


@pytest.mark.covers("R22")
@pytest.mark.parametrize("counts", [(1, 2), (2, 1)])
def test_of_equal_steps_the_larger_count_is_asked_once(counts: tuple[int, int]) -> None:
    one, two = (rule(name, approve=approve(HEAD | {"count": n})) for name, n in zip("ab", counts, strict=True))
    assert terms_of(one, two).steps == (Step("head", 2, ("heads",)),)


def test_digits_are_those_that_people_compare() -> None:
    asks = rule(ask=[{"name": "order", "type": "string", "matches": r"\d{3}"}])
    assert decide(policies(asks), context(inputs={"order": "417"})).effect is Effect.PERMIT
    assert refused(decide(policies(asks), context(inputs={"order": "٤١٧"}))) == (Code.INVALID_INPUT, None, "order")


@pytest.mark.parametrize(
    ("duration_s", "code"), [(0, Code.TOO_SHORT), (-1, Code.TOO_SHORT), (10**30, Code.TOO_LONG), (2**63, Code.TOO_LONG)]
)
def test_a_duration_beyond_sense_is_refused_before_a_condition_reads_it(duration_s: int, code: Code) -> None:
    set_ = policies(rule(when="request.duration_s > -100"))
    assert refused(decide(set_, context(duration_s=duration_s)))[0] is code


@pytest.mark.covers("R10")
def test_a_new_account_is_refused_what_is_of_high_risk_and_nothing_else() -> None:
    both = policies(rule(to={"target": "vault", "entitlements": ["use", "own"]}))
    assert refused(decide(both, context(new=True, entitlement="own")))[0] is Code.ACCOUNT_NEW
    assert decide(both, context(entitlement="own")).effect is Effect.PERMIT
    assert decide(both, context(new=True)).effect is Effect.PERMIT
