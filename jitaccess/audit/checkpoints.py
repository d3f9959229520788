"""What is the log's head, signed? Numbering, signing and publishing checkpoints (R67, R69).

A checkpoint is a C2SP signed note over the size and root of the tree. `make` is safe from several processes: numbering goes by
compare-and-set on the size and a checkpoint's row is keyed by its size. `cover` is what the issuer asks before it grants: are
these events under a signed checkpoint? Never called inside a transaction.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, select

from jitaccess.clock import to_epoch_s
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.proof.checkpoint import Checkpoint
from jitaccess.proof.merkle import Frontier
from jitaccess.store.db import Database, View
from jitaccess.store.tables import CheckpointRow, Event, LogHead
from jitaccess.tokens.keys import Keyring

HEAD_ID = 1


class Checkpoints:
    """Signs the head of the log."""

    def __init__(
        self, db: Database, keyring: Keyring, *, origin: str, pilot: bool, publish_folder: Path | None = None
    ) -> None:
        self._db = db
        self._keyring = keyring
        self._origin = origin
        self._pilot = pilot
        self._publish_folder = publish_folder
        self._guard = threading.Lock()

    def make(self) -> CheckpointRow | None:
        """Number what is committed, sign the head if it grew, publish it, and return the newest checkpoint (None: no entries)."""
        with self._guard:
            while self._db.number_events():
                pass
            with self._db.read() as view:
                head = view.rows(select(LogHead.size, LogHead.frontier).where(LogHead.id == HEAD_ID)).one()
                newest = self.latest(view)
            if head.size == 0 or (newest is not None and newest.size >= head.size):
                return newest
            try:
                newest = self._sign(head.size, head.frontier)
            except JitError as error:
                if error.kind is not Kind.CONFLICT:  # another process signed the same size first: as good
                    raise
                with self._db.read() as view:
                    newest = self.latest(view)
            if newest is not None:
                self._publish(newest)
            return newest

    def _sign(self, size: int, frontier: bytes) -> CheckpointRow:
        with self._db.begin(SYSTEM) as tx:
            self._keyring.refresh(tx)
            root = Frontier.from_bytes(frontier).root()
            checkpoint = Checkpoint(self._origin, size, root, to_epoch_s(tx.now), self._pilot)
            note = checkpoint.sign(*self._keyring.audit_signers())
            return tx.insert(CheckpointRow, size=size, note=note, at=tx.now)

    def latest(self, view: View) -> CheckpointRow | None:
        """Return the newest checkpoint."""
        return view.first(select(CheckpointRow).order_by(CheckpointRow.size.desc()))

    def cover(self, event_ids: Sequence[str]) -> None:
        """Make sure that these events are under a signed checkpoint; raises UNAVAILABLE when they cannot be."""
        if not event_ids:
            return
        if not self._covered(event_ids):
            self.make()
            if not self._covered(event_ids):
                raise JitError(
                    Kind.UNAVAILABLE, "The log cannot take the approvals now, so nothing is granted. Try again."
                )

    def _covered(self, event_ids: Sequence[str]) -> bool:
        with self._db.read() as view:
            signed = view.scalar(select(func.max(CheckpointRow.size))) or 0
            numbers = view.rows(select(Event.idx).where(Event.id.in_(event_ids))).scalars().all()
        return len(numbers) == len(set(event_ids)) and all(index is not None and index < signed for index in numbers)

    def _publish(self, checkpoint: CheckpointRow) -> None:
        """Write the newest checkpoint where another host can see it: `checkpoint` and `checkpoint-<size>`."""
        folder = self._publish_folder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name in (f"checkpoint-{checkpoint.size}", "checkpoint"):
            beside = folder / f".{name}.new"
            beside.write_text(checkpoint.note)
            os.replace(beside, folder / name)  # atomic: a reader sees the old or the new one
