"""Who stands in for whom? Deputies: named by the delegator's own signature, for a bounded time, without chains (ADR 0016).

A deputy borrows the delegator's own right to sign, where the rule's `deputies` allows one named for that long; the vote is of
both. Both must be able to act, at signing and again at issue; a hold on either ends the deputation. Naming and ending are recorded;
ending takes one tap of either, or of an administrator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import ColumnElement, bindparam, func, or_, select

from jitaccess.broker.context import Broker
from jitaccess.broker.informing import Informing, inform
from jitaccess.broker.votes import strong_enough
from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.domain.approval import (
    NO_LONGER_WAIT_S,
    ApprovalTerms,
    Lent,
    barred,
    both_able,
    could_sign,
    deputies_for,
)
from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.passkeys import Ceremony, Response, begin_assertion, complete_assertion
from jitaccess.identity.people import is_admin, may_act, register, too_new
from jitaccess.identity.sessions import Current
from jitaccess.proof.assertion import Assertion, StoredKey, verify_deputation
from jitaccess.proof.canonical import JsonValue, b64u_encode, sha256_b64u
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import NONCE_BYTES, DeputyStatement, Purpose
from jitaccess.store.db import Tx, View
from jitaccess.store.find import Find
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import Approval, Deputation, Passkey

LONGEST = timedelta(days=90)
AHEAD = timedelta(days=90)
"""How far ahead a deputation may begin."""
NAMED_A_DAY = 5
"""How often one person may name a deputy within 24 hours: each time two people are told, and again at its end (R26)."""
TAKEN = Find(
    Deputation,
    select(Deputation)
    .where(
        Deputation.deputy_id == bindparam("deputy"),
        Deputation.ended_at.is_(None),
        Deputation.ends_at > bindparam("now"),
    )
    .order_by(Deputation.created_at, Deputation.id),
)
"""What a person took over and is not over."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Whom, from when (None: now), for how long."""

    deputy: str
    starts_at: datetime | None
    lasts_s: int


# ---------------------------------------------------------------- naming


def begin_naming(tx: Tx, broker: Broker, current: Current, naming: Naming) -> Ceremony | Refused:
    """Let a person sign who stands in for him."""
    starts_at = max(tx.now, naming.starts_at or tx.now)
    ends_at = starts_at + timedelta(seconds=naming.lasts_s)
    refused = _naming_refused(tx, broker, current, naming.deputy, starts_at, ends_at)
    if refused is not None:
        return _refused(tx, current, refused)
    statement = DeputyStatement(
        instance=broker.site.instance_id,
        log_origin=broker.site.log_origin,
        deputation_id=tx.new_id(),
        delegator=current.person.id,
        deputy=naming.deputy,
        credential_id=current.passkey.credential_id,
        starts_at=to_epoch_s(starts_at),
        ends_at=to_epoch_s(ends_at),
        sign_by=to_epoch_s(tx.now) + broker.site.sessions.challenge_s,
        nonce=b64u_encode(new_bytes(NONCE_BYTES)),
    )
    return begin_assertion(
        tx,
        broker.site,
        current,
        purpose=Purpose.DEPUTY.value,
        subject_id=statement.deputation_id,
        statement=statement.to_bytes(),
    )


def complete_naming(
    tx: Tx, broker: Broker, current: Current, *, challenge_id: str, response: Response
) -> Deputation | Refused:
    """Write a signed deputation: the signature over the stored bytes, then the rights of now."""
    verified = complete_assertion(
        tx, broker.site, current, purpose=Purpose.DEPUTY.value, challenge_id=challenge_id, response=response
    )
    if isinstance(verified, Refused):
        return verified
    try:
        signed = DeputyStatement.parse(verified.statement or b"")
    except ProofError as error:
        raise JitError(Kind.INTERNAL, "The stored statement cannot be read.") from error
    if signed.delegator != current.person.id or to_epoch_s(tx.now) >= signed.sign_by:
        return _refused(tx, current, Refused(Kind.GONE, "too_late", "This took too long. Name your deputy again."))
    starts_at, ends_at = from_epoch_s(signed.starts_at), from_epoch_s(signed.ends_at)
    refused = _naming_refused(tx, broker, current, signed.deputy, starts_at, ends_at)
    if refused is not None:
        return _refused(tx, current, refused)
    event = tx.record(
        EventType.DEPUTY_NAMED,
        subject={"person": signed.delegator, "deputy": signed.deputy, "deputation": signed.deputation_id},
        body={
            "starts_at": signed.starts_at,
            "ends_at": signed.ends_at,
            "statement": sha256_b64u(verified.statement or b""),
        },
    )
    made = tx.insert(
        Deputation,
        event,
        id=signed.deputation_id,
        delegator_id=signed.delegator,
        deputy_id=signed.deputy,
        account_id=current.account.id,
        passkey_id=verified.passkey.id,
        statement=verified.statement,
        assertion=cast(JsonValue, verified.assertion),
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=tx.now,
    )
    _tell_both(tx, "deputy_named", [made])  # whose passkey was used by somebody else hears of it too
    return made


def _tell_both(tx: Tx, kind: str, deputations: Sequence[Deputation]) -> None:
    inform(
        tx,
        [
            Informing(kind, person, found.delegator_id, found.id)
            for found in deputations
            for person in (found.delegator_id, found.deputy_id)
        ],
    )


def _naming_refused(
    view: View, broker: Broker, current: Current, deputy: str, starts_at: datetime, ends_at: datetime
) -> Refused | None:
    """Say why this person cannot be named, or None."""
    people = register(view)
    me, them = people.persons.get(current.person.id), people.persons.get(deputy)
    who = {"person_id": current.person.id, "account_id": current.account.id}
    refused = may_act(view, **who, passkey_id=current.passkey.id) or too_new(view, broker.site, **who)
    if refused is not None:
        return refused
    if not lendable(view, broker, current):
        return Refused(
            Kind.FORBIDDEN,
            "nothing_to_lend",
            "By the rules you sign nothing now, so a deputy could sign nothing in your place.",
        )
    if me is None or them is None or deputy not in people.able:
        return Refused(Kind.INVALID, "no_such_deputy", "Choose somebody who may act now.", "deputy")
    if me.id == them.id:
        return Refused(Kind.INVALID, "own_deputy", "Nobody is their own deputy. Choose somebody else.", "deputy")
    if me.institution != them.institution:
        return Refused(Kind.INVALID, "other_institution", "Choose somebody of your own institution.", "deputy")
    if not starts_at < ends_at or ends_at - starts_at > LONGEST or starts_at > view.now + AHEAD:
        return Refused(
            Kind.INVALID, "deputy_time", "Choose a time of at most 90 days that begins within 90 days.", "ends_at"
        )
    lately = select(func.count()).where(
        Deputation.delegator_id == me.id, Deputation.created_at > view.now - timedelta(days=1)
    )
    if view.scalar(lately) >= NAMED_A_DAY:
        return Refused(
            Kind.RATE_LIMITED,
            "deputies_often",
            "You named a deputy as often as is allowed within a day. Try again tomorrow.",
        )
    others = view.usable(
        select(Deputation).where(
            Deputation.delegator_id == me.id,
            Deputation.ended_at.is_(None),
            Deputation.starts_at < ends_at,
            Deputation.ends_at > max(starts_at, view.now),
        )
    )
    if others:
        return Refused(Kind.CONFLICT, "deputy_already", "You named a deputy for that time. End that first.", "deputy")
    return None


def _refused(tx: Tx, current: Current, refused: Refused) -> Refused:
    tx.record(EventType.DEPUTY_REFUSED, subject={"person": current.person.id}, body={"reason": refused.code})
    return refused


# ---------------------------------------------------------------- ending


def end(tx: Tx, current: Current, deputation_id: str) -> Deputation:
    """End a deputation early: either of the two, or an administrator. What was signed under it before stays signed."""
    found = tx.unchecked_get(Deputation, deputation_id) if len(deputation_id) <= 64 else None
    me = current.person.id
    if found is None or (me not in (found.delegator_id, found.deputy_id) and not is_admin(tx, me)):
        raise JitError(Kind.NOT_FOUND, "There is no such deputy of yours.")
    if found.ended_at is not None or tx.now >= found.ends_at:
        raise JitError(Kind.CONFLICT, "This has ended already.")
    _end(tx, [found], by=me)
    return found


def end_all_of(tx: Tx, person_id: str, *, by: str) -> int:
    """End every deputation of a person, given or taken, because of a hold; return how many. Asks no seal."""
    live = tx.unchecked_all(
        select(Deputation)
        .where(
            or_(Deputation.delegator_id == person_id, Deputation.deputy_id == person_id),
            Deputation.ended_at.is_(None),
            Deputation.ends_at > tx.now,
        )
        .with_for_update()  # an end at the same moment must not make a hold fail
    )
    _end(tx, live, by=by)
    return len(live)


def _end(tx: Tx, deputations: Sequence[Deputation], *, by: str) -> None:
    for found in deputations:
        event = tx.record(
            EventType.DEPUTY_ENDED,
            subject={"person": found.delegator_id, "deputy": found.deputy_id, "deputation": found.id},
            body={"by": by},
        )
        tx.update(found, event, expect={"ended_at": None}, ended_at=tx.now, ended_by=by)
    _tell_both(tx, "deputy_ended", deputations)


# ---------------------------------------------------------------- standing in


def in_force(deputation: Deputation, at: datetime) -> bool:
    """Say whether a deputation was in force at an instant: `starts_at <= at < ends_at`, and not ended before."""
    ended = deputation.ended_at is not None and deputation.ended_at <= at
    return deputation.starts_at <= at < deputation.ends_at and not ended


def standing_in(view: View, deputy: str) -> list[Deputation]:
    """Return the deputations under which this person may sign now, where terms allow one named for so long."""
    found = view.find(TAKEN, deputy=deputy, now=view.now)
    return [one for one in found if in_force(one, view.now) and _signer_may_act(view, one)]


def short_enough(found: Sequence[Deputation], terms: ApprovalTerms) -> list[Deputation]:
    """Return those of some deputations that were named for no longer than the terms allow."""
    return [one for one in found if _short_enough(one, terms)]


def _signer_may_act(view: View, deputation: Deputation) -> bool:
    """Say whether the delegator may act now, with the account and the passkey that signed the deputation."""
    return (
        may_act(
            view,
            person_id=deputation.delegator_id,
            account_id=deputation.account_id,
            passkey_id=deputation.passkey_id,
        )
        is None
    )


def _short_enough(deputation: Deputation, terms: ApprovalTerms) -> bool:
    return deputation.ends_at - deputation.starts_at <= timedelta(seconds=terms.deputies_s or 0)


def deputies_of(
    view: View, persons: frozenset[str], terms: ApprovalTerms, *, requester: str, step: str | None = None
) -> frozenset[str]:
    """Return the ids of all who stand in for any of these persons now; for one step, or for any."""
    if terms.deputies_s is None or not persons:
        return frozenset()
    steps = [found.name for found in terms.steps] if step is None else [step]
    found = [
        _lent(one)
        for one in _live(view, Deputation.delegator_id.in_(persons))
        if any(lends(view, one, terms, name) for name in steps)
    ]
    return deputies_for(persons, terms, found, register=register(view), requester=requester)


def all_lent(view: View) -> tuple[Lent, ...]:
    """Return every right to sign that is lent now."""
    return tuple(_lent(one) for one in _live(view))


def _live(view: View, *which: ColumnElement[bool]) -> list[Deputation]:
    wanted = select(Deputation).where(Deputation.ended_at.is_(None), Deputation.ends_at > view.now, *which)
    found = view.usable(wanted.order_by(Deputation.id))
    return [one for one in found if in_force(one, view.now) and _signer_may_act(view, one)]


def _lent(deputation: Deputation) -> Lent:
    lasts = deputation.ends_at - deputation.starts_at
    return Lent(deputation.delegator_id, deputation.deputy_id, int(lasts.total_seconds()))


def lends(view: View, deputation: Deputation, terms: ApprovalTerms, step: str) -> bool:
    """Say whether a deputation reaches a step: named for no longer than the terms allow, with a passkey as strong as the step
    asks of its signers (R6)."""
    return _short_enough(deputation, terms) and strong_enough(terms, step, view.get(Passkey, deputation.passkey_id))


@dataclass(frozen=True, slots=True)
class Lendable:
    """A right of a person's own to sign, and how it may be lent; over all rules for it, the strictest."""

    target: str
    entitlement: str
    longest_s: int | None
    """For how long a deputy may be named at most; None: nobody signs in another's place."""
    strong: bool
    """Whether it takes a passkey that is stronger than the one asked about."""

    def reached(self, lasts_s: float) -> bool:
        """Say whether a deputy named for so long reaches it."""
        return self.longest_s is not None and lasts_s <= self.longest_s


def lendable(view: View, broker: Broker, current: Current) -> list[Lendable]:
    """Return what a person may sign by the active policy, at once or after a wait, and how it may be lent with this session's passkey."""
    policies = broker.policies.active_or_none(view)
    found: dict[tuple[str, str], Lendable] = {}
    for rule in policies.rules.values() if policies is not None else ():
        approval = rule.terms.approval
        if approval is None:
            continue
        could = could_sign(approval, register=register(view), requester="", waited_s=NO_LONGER_WAIT_S)
        steps = [step for step, people in could.items() if current.person.id in people]
        strong = any(not strong_enough(approval, step, current.passkey) for step in steps)
        for entitlement in rule.entitlements if steps else ():
            key = (rule.target, entitlement)
            known = found.get(key, Lendable(*key, approval.deputies_s, strong))
            shortest = _shortest(known.longest_s, approval.deputies_s)
            found[key] = Lendable(*key, shortest, known.strong or strong)
    return [found[key] for key in sorted(found)]


def _shortest(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else min(one, other)


def mine(view: View, person_id: str) -> list[Deputation]:
    """Return the deputations that a person gave or took and that are not over, the nearest first."""
    return view.usable(
        select(Deputation)
        .where(
            or_(Deputation.delegator_id == person_id, Deputation.deputy_id == person_id),
            Deputation.ended_at.is_(None),
            Deputation.ends_at > view.now,
        )
        .order_by(Deputation.starts_at, Deputation.id)
    )


def digest_of(deputation: Deputation) -> str:
    """Return what an approver signs of the deputation: the digest of its statement."""
    return sha256_b64u(deputation.statement)


def verify(view: View, broker: Broker, vote: Approval, terms: ApprovalTerms, *, requester: str) -> Refused | None:
    """Say why a deputy's signature does not count now, or None; also for one that nobody lent.

    1 the deputation is the one of this vote, in force when it was given, and no longer than the terms allow · 2 its signature, with a
    passkey as strong as the step asks, and the row against its statement · 3 both may act now, and belong to one institution; the
    deputy is not barred.
    """
    if vote.deputation_id is None and vote.deputy_of is None:
        return None
    found = view.get(Deputation, vote.deputation_id)
    bad = Refused(
        Kind.FORBIDDEN, "deputy_lost_right", "A deputy may not sign for somebody any more. Ask anew.", "approver"
    )
    if found is None or (found.delegator_id, found.deputy_id) != (vote.deputy_of, vote.person_id):
        return bad
    if not in_force(found, vote.given_at) or not _short_enough(found, terms):  # 1
        return bad
    passkey = view.get(Passkey, found.passkey_id)
    if passkey is None or not _signer_may_act(view, found):
        return bad
    if not strong_enough(terms, vote.step, passkey):  # 2
        return Refused(
            Kind.FORBIDDEN,
            "deputy_credential_too_weak",
            "An approver's passkey is not strong enough. Ask anew.",
            "approver",
        )
    try:
        signed = verify_deputation(
            found.statement,
            Assertion.from_json(found.assertion),
            StoredKey(passkey.public_key_der, passkey.algorithm),
            origin=broker.site.origin,
            rp_id=broker.site.rp_id,
        )
    except ProofError:
        return bad
    said = (signed.deputation_id, signed.delegator, signed.deputy, signed.starts_at, signed.ends_at)
    row = (found.id, found.delegator_id, found.deputy_id, to_epoch_s(found.starts_at), to_epoch_s(found.ends_at))
    ours = (signed.instance, signed.log_origin) == (broker.site.instance_id, broker.site.log_origin)
    if said != row or not ours or signed.credential_id != passkey.credential_id:  # 2
        return bad
    people = register(view)
    if found.deputy_id in barred(requester, register=people, never=terms.never):
        return bad
    return None if both_able(people, found.delegator_id, found.deputy_id) else bad  # 3
