"""May this process trust its own log? Checked before anything is served (R68, R73).

The stored leaf hashes must give the root that the head claims and that the newest checkpoint signed, and the newest checkpoint that was
published outside the database must be one of this log: a database put back to an older backup, or one whose log was edited, does not start.
"""

from pathlib import Path

from sqlalchemy import func, select

from jitaccess.audit.proofs import hashes_between
from jitaccess.errors import JitError, Kind
from jitaccess.proof.checkpoint import Checkpoint, open_checkpoint
from jitaccess.proof.errors import ProofError
from jitaccess.proof.merkle import Frontier, leaf_hash
from jitaccess.proof.notes import VerifierKey
from jitaccess.store.db import Database, View
from jitaccess.store.holds import HOLD_EVENTS, LoggedHolds
from jitaccess.store.log import HEAD_ID
from jitaccess.store.tables import CheckpointRow, Event, LogHead
from jitaccess.tokens.keys import Keyring

_HOW = "Keep this database as it is and run `jitaccess audit export` and `jitaccess audit verify` on it."


def check_at_start(db: Database, keyring: Keyring, origin: str, *, published: Path | None = None) -> None:
    """Raise SEAL_BROKEN when the log contradicts itself, its newest checkpoint, or the one in the folder `published`."""
    keys = [VerifierKey.parse(text) for text in keyring.vkeys()]
    with db.read() as view:
        head = view.rows(select(LogHead.size, LogHead.frontier).where(LogHead.id == HEAD_ID)).one_or_none()
        if head is None:
            raise JitError(Kind.CONFIGURATION, "This database has no log: run `jitaccess init` first.")
        row = view.first(select(CheckpointRow).order_by(CheckpointRow.size.desc()))
        numbered, last = view.rows(select(func.count(Event.idx), func.max(Event.idx))).one()
        signed = [_opened(row.note, keys, "newest checkpoint", origin)] if row is not None else []
        if row is not None and signed[0].size != row.size:
            raise _broken("The newest checkpoint stands under another size than it signed.")
        outside = _published(published, keys, origin)
        if outside is not None:
            if outside.size > head.size:
                raise _broken(
                    f"A checkpoint over {outside.size} entries was published, the log holds only {head.size}: "
                    "this database was put back to an earlier state."
                )
            signed.append(outside)
        if numbered != head.size or (last if last is not None else -1) != head.size - 1:
            raise _broken("The log does not hold as many entries as its head claims.")
        roots = _roots(view, {*(point.size for point in signed), head.size})
        holds = _holds(view, head.size)
    try:
        claimed = Frontier.from_bytes(head.frontier)
    except ProofError as error:
        raise _broken("The log's head cannot be read.") from error
    if claimed.size != head.size or claimed.root() != roots[head.size]:
        raise _broken("The log does not give the root that its head claims.")
    for point in signed:
        if point.size > head.size or point.root != roots[point.size]:
            raise _broken("The log is not the one that its newest checkpoint signed.")
    db.holds = holds


def _holds(view: View, size: int) -> LoggedHolds:
    """Return the holds in force, from entries whose hashes are checked against the signed root."""
    told = view.rows(
        select(Event.id, Event.leaf, Event.leaf_hash)
        .where(Event.type.in_(HOLD_EVENTS), Event.idx < size)
        .order_by(Event.idx)
    ).all()
    for event_id, leaf, hash_of_leaf in told:
        if leaf_hash(leaf.encode()) != hash_of_leaf:
            raise _broken(f"The entry {event_id} is not what its hash says.")
    return LoggedHolds().after((one.leaf for one in told), upto=size - 1)


def _roots(view: View, sizes: set[int]) -> dict[int, bytes]:
    frontier, roots = Frontier(), {}
    for size in sorted(sizes):
        frontier = frontier.extend(hashes_between(view, frontier.size, size))
        roots[size] = frontier.root()
    return roots


def _published(folder: Path | None, keys: list[VerifierKey], origin: str) -> Checkpoint | None:
    file = folder / "checkpoint" if folder is not None else None
    if file is None or not file.exists():
        return None
    try:
        note = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise JitError(Kind.CONFIGURATION, f"The published checkpoint {file} cannot be read.") from error
    return _opened(note, keys, "published checkpoint", origin)


def _opened(note: str, keys: list[VerifierKey], what: str, origin: str) -> Checkpoint:
    try:
        opened = open_checkpoint(note, keys)
    except ProofError as error:
        raise _broken(f"The {what} is not signed by this log's keys.") from error
    if opened.origin != origin:
        raise _broken(f"The {what} is one of another log.")
    return opened


def _broken(message: str) -> JitError:
    return JitError(Kind.SEAL_BROKEN, f"{message} {_HOW}")
