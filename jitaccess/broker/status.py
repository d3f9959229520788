"""Which tokens have ended early? Giving out the bits of Token Status Lists, and reading from the rows which of them are set.

A bit says "ended" when its token was revoked or its family ended, when its lease or grant is no longer active, or when the one gate
refuses its person, account, passkeys, grant or target now: what introspection answers, seals apart. Bits are only ever set: what this
process saw ended stays ended, whatever the rows say later. Lists are never reused; a full one is served until nothing refers to it.
"""

from datetime import timedelta

from sqlalchemy import or_, select

from jitaccess.broker.context import Broker
from jitaccess.broker.verify import signers_refused
from jitaccess.domain.lifecycle import GrantState, LeaseState
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import on_hold
from jitaccess.store.db import View
from jitaccess.store.tables import Grant, Lease, StatusListRow, Token
from jitaccess.tokens.status import BLOCK, LIST_BITS, REBUILD_AFTER_S, Block, StatusRef, mint_status_list

BLOCK_LIFE = timedelta(minutes=15)
"""After this a process lets go of the bits it holds and did not give."""
SERVED_AFTER_FULL = timedelta(hours=1)
"""Longer than a block's life and a token's longest life together."""
TRIES = 20


def uri_of(broker: Broker, list_id: str) -> str:
    """Return the address of a list."""
    return f"{broker.site.origin}/oidc/status/{list_id}"


def reserve(broker: Broker) -> StatusRef:
    """Take the bit for one token that is about to be made. Called outside any Tx; a bit that is not used is lost."""
    memory = broker.status
    with memory.giving:
        block = memory.block
        if block is None or block.next >= block.end or broker.db.now() - block.taken_at > BLOCK_LIFE:
            block = memory.block = _take_block(broker)
        index = block.next
        block.next += 1
        return StatusRef(block.list_id, index, uri_of(broker, block.list_id))


def _take_block(broker: Broker) -> Block:
    for _ in range(TRIES):
        try:
            return _try_block(broker)
        except JitError as error:
            if error.kind is not Kind.CONFLICT:  # another process took bits of this list at the same moment
                raise
    raise JitError(Kind.UNAVAILABLE, "Too many tokens are being made at once. Try again in a moment.")


def _try_block(broker: Broker) -> Block:
    with broker.begin(SYSTEM) as tx:
        row = tx.first(select(StatusListRow).where(StatusListRow.full_at.is_(None)).order_by(StatusListRow.id.desc()))
        if row is None:
            key = tx.new_id()
            tx.insert(StatusListRow, id=key, size=LIST_BITS, given=BLOCK, created_at=tx.now)
            return Block(key, 0, BLOCK, tx.now)
        first = row.given
        last = first + BLOCK
        # Committed before any of it is used: a crash here loses bits and never gives one twice.
        tx.update(row, expect={"given": first}, given=last, full_at=tx.now if last >= row.size else None)
        return Block(row.id, first, last, tx.now)


def served(view: View) -> list[str]:
    """Return the ids of the lists that tokens may refer to now."""
    after = view.now - SERVED_AFTER_FULL
    known = or_(StatusListRow.full_at.is_(None), StatusListRow.full_at > after)
    return [row.id for row in view.all(select(StatusListRow).where(known).order_by(StatusListRow.id))]


def signed_list(broker: Broker, list_id: str) -> str:
    """Return a list as a signed JWT, at most half a second old; raises NOT_FOUND."""
    memory = broker.status
    with memory.building:
        known = memory.signed.get(list_id)
        if known is not None and (broker.db.now() - known[0]).total_seconds() < REBUILD_AFTER_S:
            return known[1]
        with broker.read() as view:
            broker.keyring.refresh(view)
            row = view.get(StatusListRow, list_id) if len(list_id) <= 64 else None
            if row is None or (row.full_at is not None and view.now - row.full_at > SERVED_AFTER_FULL):
                memory.signed.pop(list_id, None)
                memory.ended.pop(list_id, None)
                raise JitError(Kind.NOT_FOUND, "There is no such status list.")
            ended = memory.ended.setdefault(list_id, set())
            ended |= ended_now(view, list_id)
            text = mint_status_list(
                broker.keyring.token_key(),
                issuer=broker.site.origin,
                uri=uri_of(broker, list_id),
                ended=ended,
                size=row.size,
                now=view.now,
            )
        memory.signed[list_id] = (view.now, text)
        return text


def ended_now(view: View, list_id: str) -> set[int]:
    """Return the bits of tokens that would still be in time and that must not be accepted any more."""
    mine = (
        select(Token.status_idx)
        .join(Lease, Lease.id == Token.lease_id)
        .join(Grant, Grant.id == Token.grant_id)
        .where(Token.status_list == list_id, Token.expires_at > view.now)
    )
    over = or_(
        Token.ended_at.is_not(None), Lease.state != LeaseState.ACTIVE.value, Grant.state != GrantState.ACTIVE.value
    )
    found = {int(index) for index in view.rows(mine.where(over)).scalars()}
    refused = _refused(view, list_id)
    if refused:
        listed = mine.add_columns(Grant.id, Lease.passkey_id, Token.passkey_id).where(
            Grant.id.in_({grant for grant, _, _ in refused})
        )
        found |= {int(index) for index, *stands_on in view.rows(listed) if tuple(stands_on) in refused}
    return found


def _refused(view: View, list_id: str) -> set[tuple[str, str | None, str | None]]:
    """Return what the gate refuses now of what a list's live tokens stand on: grant, passkey that opened, passkey that signed in (R12)."""
    live = (
        select(Grant.id, Lease.passkey_id, Token.passkey_id, Grant.person_id, Grant.account_id, Grant.target)
        .join(Token, Token.grant_id == Grant.id)
        .join(Lease, Lease.id == Token.lease_id)
        .where(Token.status_list == list_id, Token.expires_at > view.now, Grant.state == GrantState.ACTIVE.value)
        .distinct()
    )
    return {
        (grant, opened, signed)
        for grant, opened, signed, person, account, target in view.rows(live)
        if signers_refused(view, person, account, opened, signed) is not None
        or on_hold(view, "grant", grant)
        or on_hold(view, "target", target)
    }
