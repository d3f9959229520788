"""May a deputy sign, and does the signature count as both people's?"""

import pytest

from jitaccess.domain.approval import ApprovalTerms, could_sign, open_to, open_to_deputy, tally
from jitaccess.domain.register import RegisterView
from jitaccess.policy.change import ChangeClass, classify
from jitaccess.policy.evaluate import Terms, decide
from jitaccess.proof.errors import ProofError
from jitaccess.proof.quorum import Step, Vote, count
from jitaccess.proof.statements import ApprovalStatement, DeputyStatement
from tests.support.policy_sets import approve, context, person, policies, register, rule

TWO = (Step("head", 1, ("heads",)), Step("owner", 1, ("owners",), None, "head"))


def people() -> RegisterView:
    return register(
        person("ana", "staff", manager="ben"),
        person("ben", "heads"),
        person("cem"),
        person("dea", "heads", "owners"),
        person("eli", manager="ana"),
        person("fay", institution="infra"),
        person("gil", on_hold=True),
    )


def steps(deputy: str, delegator: str, *votes: Vote, terms: ApprovalTerms | None = None) -> tuple[str, ...]:
    return open_to_deputy(
        deputy,
        delegator,
        terms or ApprovalTerms(TWO, never=frozenset({"requester", "subordinates_of_requester"})),
        register=people(),
        requester="ana",
        votes=votes,
    )


@pytest.mark.covers("R21", "R22")
@pytest.mark.parametrize(
    ("deputy", "delegator", "found"),
    [
        ("cem", "ben", ("head",)),
        ("ana", "ben", ()),  # the requester signs for nobody
        ("cem", "ana", ()),  # and nobody for the requester
        ("eli", "ben", ()),  # who is barred is barred as deputy too
        ("fay", "ben", ()),  # another institution
        ("gil", "ben", ()),  # on hold
        ("eve", "ben", ()),  # unknown
        ("dea", "cem", ()),  # cem has no right of his own to lend: no chains
    ],
)
def test_a_deputy_signs_only_what_the_delegator_could(deputy: str, delegator: str, found: tuple[str, ...]) -> None:
    assert steps(deputy, delegator) == found


@pytest.mark.covers("R21", "T-04")
def test_a_signature_of_a_deputy_is_of_both() -> None:
    vote = Vote("cem", "mof", "head", "approve", "ben")
    terms, known = ApprovalTerms(TWO), people()
    assert steps("dea", "ben", vote) == ()  # ben signed already, through cem
    assert steps("cem", "dea", vote) == ()  # cem signed already
    assert open_to("dea", terms, register=known, requester="ana", votes=[vote]) == ("owner",)
    both = Vote("cem", "mof", "head", "approve", "dea")
    assert open_to("dea", terms, register=known, requester="ana", votes=[both]) == ()
    found = tally(terms, requester="ana", votes=[both, Vote("dea", "mof", "owner", "approve")])
    assert not found.met
    assert [reason for _, reason in found.refused] == ["same_person"]


@pytest.mark.parametrize(
    "vote", [Vote("cem", "mof", "head", "approve", "ana"), Vote("ana", "mof", "head", "approve", "b")]
)
def test_the_count_takes_no_vote_of_the_requester_on_either_side(vote: Vote) -> None:
    found = count(TWO, distinct=frozenset({"person"}), requester="ana", votes=[vote])
    assert [reason for _, reason in found.refused] == ["requester"]


def terms_of(*rules: dict[str, object]) -> dict[str, object]:
    found = decide(policies(*rules), context())
    assert found.terms is not None
    document = found.terms.to_document()
    assert Terms.from_document(document) == found.terms
    return document["approve"]  # type: ignore[return-value] # an object


def test_the_term_is_read_and_the_strictest_wins() -> None:
    week, month = rule("a", approve=approve(deputies="7d")), rule("b", approve=approve(deputies="30d"))
    assert terms_of(week, month)["deputies_s"] == 7 * 86_400
    assert "deputies_s" not in terms_of(week, rule("b", approve=approve()))
    assert could_sign(ApprovalTerms(TWO, deputies_s=1), register=people(), requester="ana")["head"] == {"ben", "dea"}


@pytest.mark.covers("R29")
@pytest.mark.parametrize(
    ("was", "now", "kind"),
    [
        (None, "7d", ChangeClass.WIDENING),
        ("7d", None, ChangeClass.NARROWING),
        ("7d", "8d", ChangeClass.WIDENING),
        ("7d", "6d", ChangeClass.NARROWING),
    ],
)
def test_longer_deputies_widen(was: str | None, now: str | None, kind: ChangeClass) -> None:
    def one(longest: str | None) -> dict[str, object]:
        return rule(approve=approve(**({"deputies": longest} if longest else {})))

    assert classify(policies(one(was)), policies(one(now))).kind is kind


APPROVAL = {
    "instance": "i", "log_origin": "l", "request_id": "r", "requester": "ana", "requester_assertion_digest": "A" * 43,
    "target": "t", "target_config_digest": "A" * 43, "entitlement": "e", "inputs": {}, "terms": {},
    "policy_digest": "A" * 43, "holder_jkt": None, "earliest_start": 1, "latest_end": 2, "max_duration_s": 1,
    "approve_by": 2, "approver": "cem", "credential_id": "AAAA", "step": "head", "verdict": "approve", "nonce": "A" * 22,
}  # fmt: skip


@pytest.mark.covers("R19", "R21")
def test_an_approval_says_in_whose_place_it_is_given_or_nothing_at_all() -> None:
    plain = ApprovalStatement(**APPROVAL).to_bytes()  # type: ignore[arg-type] # a table of fields
    assert b"deputy" not in plain
    lent = ApprovalStatement(**APPROVAL, deputy_of="ben", deputation_digest="A" * 43).to_bytes()  # type: ignore[arg-type] # the same
    assert ApprovalStatement.parse(lent).deputy_of == "ben"
    for wrong in ({"deputy_of": "ben"}, {"deputy_of": "ana", "deputation_digest": "A" * 43}):
        bad = ApprovalStatement(**(APPROVAL | wrong)).to_bytes()  # type: ignore[arg-type] # the same
        with pytest.raises(ProofError):
            ApprovalStatement.parse(bad)


@pytest.mark.parametrize("wrong", [{"ends_at": 5}, {"deputy": "ben"}, {"sign_by": 0}, {"nonce": "AA"}])
def test_a_deputation_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    good = {
        "instance": "i", "log_origin": "l", "deputation_id": "d", "delegator": "ben", "deputy": "cem",
        "credential_id": "AAAA", "starts_at": 5, "ends_at": 9, "sign_by": 7, "nonce": "A" * 22,
    }  # fmt: skip
    assert DeputyStatement.parse(DeputyStatement(**good).to_bytes()).deputy == "cem"  # type: ignore[arg-type] # a table
    bad = DeputyStatement(**(good | wrong)).to_bytes()  # type: ignore[arg-type] # a table of fields
    with pytest.raises(ProofError):
        DeputyStatement.parse(bad)
