"""May this process trust its own log? Checked before anything is served (R68, R73).

The stored leaf hashes must give the root that the head claims and that the newest checkpoint signed: a database put back to an older
backup, or one whose log was edited, does not start.
"""

from sqlalchemy import func, select

from jitaccess.errors import JitError, Kind
from jitaccess.proof.checkpoint import open_checkpoint
from jitaccess.proof.errors import ProofError
from jitaccess.proof.merkle import Frontier
from jitaccess.proof.notes import VerifierKey
from jitaccess.store.db import Database
from jitaccess.store.tables import CheckpointRow, Event, LogHead
from jitaccess.tokens.keys import Keyring

_HOW = "Keep this database as it is and run `jitaccess audit export` and `jitaccess audit verify` on it."


def check_at_start(db: Database, keyring: Keyring, origin: str) -> None:
    """Raise SEAL_BROKEN when the log contradicts itself or its newest checkpoint."""
    with db.read() as view:
        head = view.rows(select(LogHead.size, LogHead.frontier)).one_or_none()
        checkpoint = view.first(select(CheckpointRow).order_by(CheckpointRow.size.desc()))
        if head is None:
            raise JitError(Kind.CONFIGURATION, "This database has no log: run `jitaccess init` first.")
        numbered = view.scalar(select(func.count()).select_from(Event).where(Event.idx.is_not(None)))
        hashes = view.rows(
            select(Event.leaf_hash).where(Event.idx.is_not(None)).order_by(Event.idx).execution_options(yield_per=5000)
        )
        frontier, signed = Frontier(), None
        wanted = checkpoint.size if checkpoint is not None else 0
        for number, hash_of_leaf in enumerate(hashes.scalars(), start=1):
            frontier = frontier.append(hash_of_leaf)
            if number == wanted:
                signed = frontier.root()
    if numbered != head.size or Frontier.from_bytes(head.frontier).root() != frontier.root():
        raise JitError(Kind.SEAL_BROKEN, f"The log does not give the root that its head claims. {_HOW}")
    if checkpoint is None:
        return
    try:
        opened = open_checkpoint(checkpoint.note, [VerifierKey.parse(text) for text in keyring.vkeys()])
    except ProofError as error:
        raise JitError(Kind.SEAL_BROKEN, f"The newest checkpoint is not signed by this log's keys. {_HOW}") from error
    if opened.origin != origin or opened.size != wanted or opened.root != signed:
        raise JitError(Kind.SEAL_BROKEN, f"The log is not the one that its newest checkpoint signed. {_HOW}")
