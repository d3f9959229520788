"""How does a key give way to the next one? Rotation of token, audit and seal keys (R35).

token  the new key signs at once, the old one verifies until its overlap is over.
audit  the log names the new key and both sign every checkpoint during the overlap, the first one at once: a verifier that trusts only
       the old key follows to the new one.
seal   the new key seals what is written from now on, and every row is sealed anew. The old key is accepted until its overlap is over
       and nothing intact bears it (`tokens.keys.retire_due`): other processes may write with it until they have read the new one.
"""

from datetime import timedelta

from jitaccess.audit.checkpoints import Checkpoints
from jitaccess.domain.values import Actor
from jitaccess.store.db import Database
from jitaccess.tokens.keys import Keyring, Purpose, rotate, seal_table_anew, sealed_models


def rotate_key(
    db: Database,
    keyring: Keyring,
    checkpoints: Checkpoints,
    purpose: Purpose,
    *,
    origin: str,
    overlap: timedelta,
    actor: Actor,
) -> str:
    """Rotate the key of one purpose and return the new key's id. Never called inside a transaction."""
    with db.begin(actor) as tx:
        key_id, announced = rotate(tx, keyring, purpose, origin=origin, overlap=overlap)
    with db.read() as view:
        keyring.refresh(view)
    if purpose is Purpose.AUDIT:
        checkpoints.cover([announced.id])
    return key_id


def reseal(db: Database, old: str, *, actor: Actor) -> int:
    """Seal every intact row that bears an old seal key with the active one; return how many. May be repeated."""
    total = 0
    for model in sealed_models():
        after: str | None = ""
        while after is not None:
            with db.begin(actor) as tx:
                done, after_key = seal_table_anew(tx, model, old, after=after)
            total += done
            after = after_key or None
    return total
