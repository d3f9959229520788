"""How is a refresh token renewed with the least around it? (docs/adr/0061, 0068)

The most frequent durable act: a good refresh token of a client with a secret. All that stands behind it is read in one statement, after the
grant's row is locked, and verified exactly as `provider.Provider.redeem` does. What is not good is not refused here: the transaction is
undone as if nothing had been asked, and the caller lets the provider decide anew, find the words, and record them.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, bindparam, select
from werkzeug.datastructures import Authorization

from jitaccess.broker.clients import ClientFacts, remembered
from jitaccess.broker.context import Broker
from jitaccess.broker.issue import evidence_of, ready
from jitaccess.broker.revoke import LIVE_LEASES
from jitaccess.broker.status import reserve
from jitaccess.broker.verify import signers_refused
from jitaccess.broker.votes import CLOSED
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError
from jitaccess.oidc.client_auth import ClientRefused, actor_of, authenticate
from jitaccess.oidc.provider import GRANT_OF_REFRESH, Redeemed, issue, said, sign_in_behind
from jitaccess.store.db import Tx
from jitaccess.store.find import Joined, Matching, one_of
from jitaccess.store.ids import hash_secret
from jitaccess.store.tables import AccessRequest, Grant, Lease, Passkey, Token

BEHIND = Joined(
    select(Token)
    .join(Grant, Grant.id == Token.grant_id)
    .join(AccessRequest, AccessRequest.id == Grant.request_id)
    .outerjoin(Passkey, Passkey.id == AccessRequest.filing_passkey_id)
    .outerjoin(Lease, and_(Lease.grant_id == Grant.id, one_of(Lease.state, LIVE_LEASES)))
    .where(Token.secret_hash == bindparam("secret_hash"), Token.kind == "refresh")
    .order_by(Lease.id),
    (Token, Grant, AccessRequest, Passkey, Lease),
    (CLOSED,),
)


class _NotPlain(Exception):
    """Something is not as a plain renewal wants it: nothing of it is kept."""


def renew(broker: Broker, proof: Authorization | None, secret: str) -> dict[str, Any] | None:
    """Return the fields of the answer to a good refresh token; None where nothing was done and the provider is to decide.

    1 who cannot be the client by what is remembered never waits for a writer · 2 the log keeps up · 3 the grant's row is locked, then the
    client proves itself by the register of now · 4 everything behind the token is read and verified · 5 new tokens, the old one spent.

    Raises JitError where all was good and the store may or may not have kept it: the old token must not be tried again.
    """
    client = _perhaps(broker, proof)  # 1
    if client is None:
        return None
    answer: dict[str, Any] | None = None
    try:
        status = reserve(broker)
        broker.checkpoints.keep_up()  # 2
        key = hash_secret(secret)
        with broker.begin(actor_of(client), lock=[Matching(GRANT_OF_REFRESH, {"secret_hash": key})]) as tx:
            broker.keyring.refresh(tx)
            client = authenticate(broker, form={}, authorization=proof, view=tx)  # 3
            token, behind = _verified(tx, broker, client, key)  # 4
            issued = issue(tx, broker, client.id, behind, token.scope, status)  # 5
            tx.update(token, issued.event, expect={"used_at": None}, used_at=tx.now)
            answer = said(tx, broker, client.id, behind, issued)
    except (JitError, ClientRefused, _NotPlain):
        if answer is not None:
            raise
    return answer


def _perhaps(broker: Broker, proof: Authorization | None) -> ClientFacts | None:
    """Return the client that this proof may be of, by what this process last read: nothing is decided by it but whether to try."""
    if proof is None or proof.type != "basic":
        return None
    known = remembered(broker.db, proof.username or "")
    return known if known is not None and known.knows_secret(proof.password or "") else None


def _verified(tx: Tx, broker: Broker, client: ClientFacts, secret_hash: str) -> tuple[Token, Redeemed]:
    """Return a refresh token that may be renewed, with what stands behind it; raises _NotPlain or SEAL_BROKEN."""
    rows = tx.joined(BEHIND, secret_hash=secret_hash)
    if not rows:
        raise _NotPlain
    token, grant, request, passkey, lease, closed = rows[0]
    live = token.used_at is None and token.ended_at is None and tx.now < token.expires_at
    if not live or token.client_id != client.id or grant.target != client.target or lease is None:
        raise _NotPlain
    found = ready(broker) or evidence_of(tx, broker, grant, request, passkey, closed)
    if isinstance(found, Refused):
        raise _NotPlain
    if signers_refused(tx, grant.person_id, grant.account_id, lease.passkey_id, token.passkey_id) is not None:
        raise _NotPlain
    return token, Redeemed(
        found,
        lease,
        token.family,
        token.session_id,
        sign_in_behind(token),
        token.passkey_id,
        nonce=None,
        refreshed=True,
    )


def plain(form: Mapping[str, str]) -> str | None:
    """Return the refresh token of a form that asks for its renewal and for nothing else."""
    if form.keys() == {"grant_type", "refresh_token"} and form["grant_type"] == "refresh_token":
        return form["refresh_token"]
    return None
