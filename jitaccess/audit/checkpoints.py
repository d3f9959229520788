"""What is the log's head, signed? Numbering, signing and publishing checkpoints (R67, R69).

A checkpoint is a C2SP signed note over the size and root of the tree. `make` is safe from several processes: numbering goes by
compare-and-set on the size and a checkpoint's row is keyed by its size. A head is signed only if it extends, leaf hash by leaf hash,
what this process saw signed before: whoever rewrites the stored tree does not get our signature on it. `cover` is what the
issuer asks before it grants: are these events under a signed checkpoint? Never called inside a transaction.
"""

import logging
import math
import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from sqlalchemy import bindparam, func, select

from jitaccess.audit.proofs import hashes_between
from jitaccess.clock import to_epoch_s
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.proof.checkpoint import Checkpoint, open_checkpoint
from jitaccess.proof.errors import ProofError
from jitaccess.proof.merkle import Frontier
from jitaccess.proof.notes import VerifierKey
from jitaccess.store.db import Database, View
from jitaccess.store.find import Count
from jitaccess.store.log import HEAD_ID
from jitaccess.store.tables import CheckpointRow, Event, LogHead
from jitaccess.tokens.keys import Keyring

log = logging.getLogger(__name__)
COVER_ATTEMPTS = 8
"""How often `cover` looks again after another process numbered or signed first."""
SIGN_WITHIN = timedelta(seconds=60)
"""So old an entry may be without a signed head over it (R69); beyond that nothing is given out (R64)."""
LOOK_EVERY_S = 1.0
"""How long a look at that counts, in monotonic seconds."""
_UNSIGNED = Count(
    select(
        func.coalesce(
            select(func.count())
            .where(Event.idx == func.coalesce(select(func.max(CheckpointRow.size)).scalar_subquery(), 0))
            .where(Event.at < bindparam("before", type_=Event.at.type))
            .scalar_subquery(),
            0,
        ),
        func.coalesce(
            select(func.count())
            .where(Event.idx.is_(None), Event.at < bindparam("before", type_=Event.at.type))
            .where(Event.at >= func.coalesce(select(func.max(CheckpointRow.at)).scalar_subquery(), 0))
            .scalar_subquery(),
            0,
        ),
    )
)
"""Is the first entry after the newest checkpoint, or one that waits for its number since, older than a moment?"""


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
        self._seen: Frontier | None = None
        self._published = -1
        self._kept_up_until = -math.inf

    def make(self) -> CheckpointRow | None:
        """Number what is committed, sign the head if it grew, publish it, and return the newest checkpoint (None: no entries).

        Raises SEAL_BROKEN when the stored tree is not the one that was signed before.
        """
        with self._guard:
            newest = self._make()
            if newest is not None:
                self._publish(newest)
            return newest

    def _make(self) -> CheckpointRow | None:
        while self._db.number_events():
            pass
        with self._db.read() as view:
            head = view.rows(select(LogHead.size, LogHead.frontier).where(LogHead.id == HEAD_ID)).one()
            newest = self.latest(view)
            if head.size == 0 or (newest is not None and newest.size >= head.size):
                return newest
            frontier = self._followed(view, newest, head.size)
        if frontier is None or frontier.to_bytes() != head.frontier:
            raise JitError(
                Kind.SEAL_BROKEN,
                "The stored log is not the one that was signed before: it is not signed. Keep the database as it is and run "
                "`jitaccess audit export` and `jitaccess audit verify` on it.",
            )
        try:
            newest = self._sign(frontier)
        except JitError as error:
            if error.kind is not Kind.CONFLICT:  # another process signed the same size first: as good
                raise
            with self._db.read() as view:
                newest = self.latest(view)
        self._seen = frontier
        return newest

    def _followed(self, view: View, newest: CheckpointRow | None, size: int) -> Frontier | None:
        """Extend the tree last seen by the leaf hashes added since; None when it is not a continuation."""
        seen = self._seen
        if seen is None:
            seen = Frontier().extend(hashes_between(view, 0, newest.size if newest is not None else 0))
            if newest is not None and not self._signed_by_us(newest, seen):
                return None
        if seen.size > size:
            return None
        return seen.extend(hashes_between(view, seen.size, size))

    def _signed_by_us(self, row: CheckpointRow, frontier: Frontier) -> bool:
        try:
            opened = open_checkpoint(row.note, [VerifierKey.parse(text) for text in self._keyring.vkeys()])
        except ProofError:
            return False
        return opened.size == frontier.size == row.size and opened.root == frontier.root()

    def _sign(self, frontier: Frontier) -> CheckpointRow:
        with self._db.begin(SYSTEM) as tx:
            self._keyring.refresh(tx)
            checkpoint = Checkpoint(self._origin, frontier.size, frontier.root(), to_epoch_s(tx.now), self._pilot)
            note = checkpoint.sign(*self._keyring.audit_signers())
            return tx.insert(CheckpointRow, size=frontier.size, note=note, at=tx.now)

    def latest(self, view: View) -> CheckpointRow | None:
        """Return the newest checkpoint."""
        return view.first(select(CheckpointRow).order_by(CheckpointRow.size.desc()))

    def cover(self, event_ids: Sequence[str]) -> None:
        """Make sure that these events are under a signed checkpoint; raises UNAVAILABLE when they cannot be."""
        if not event_ids or self._covered(event_ids):
            return
        for _ in range(COVER_ATTEMPTS):
            with self._guard:
                # Whoever waited for the lock is mostly covered by the checkpoint made meanwhile.
                if self._covered(event_ids):
                    return
                newest = self._make()
                if newest is not None:
                    self._publish(newest)
            if self._covered(event_ids):
                return
        raise JitError(Kind.UNAVAILABLE, "The log cannot take the approvals now, so nothing is granted. Try again.")

    def keep_up(self) -> None:
        """Make sure that no entry is without a signed head for longer than `SIGN_WITHIN`; raises UNAVAILABLE when that cannot be.

        What is given out without any approval has no event to cover; this bound stands for it. Never called inside a transaction.
        """
        if self._db.clock.monotonic() < self._kept_up_until:
            return
        if self._behind():
            try:
                self.make()
            except JitError as error:
                log.error("the log cannot be signed: %s", error.message)
            if self._behind():
                raise JitError(Kind.UNAVAILABLE, "The log cannot be signed now, so nothing is given out. Try again.")
        self._kept_up_until = self._db.clock.monotonic() + LOOK_EVERY_S

    def _behind(self) -> bool:
        with self._db.read() as view:
            return any(view.count(_UNSIGNED, before=view.now - SIGN_WITHIN))

    def _covered(self, event_ids: Sequence[str]) -> bool:
        with self._db.read() as view:
            signed = view.scalar(select(func.max(CheckpointRow.size))) or 0
            numbers = view.rows(select(Event.idx).where(Event.id.in_(event_ids))).scalars().all()
        return len(numbers) == len(set(event_ids)) and all(index is not None and index < signed for index in numbers)

    def _publish(self, checkpoint: CheckpointRow) -> None:
        """Write the newest checkpoint where another host can see it: `checkpoint` and `checkpoint-<size>`.

        A folder that cannot be written never keeps anybody from being served; it is logged, and tried again at the next tick.
        """
        folder = self._publish_folder
        if folder is None or checkpoint.size == self._published:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (f"checkpoint-{checkpoint.size}", "checkpoint"):
                beside = folder / f".{name}.{os.getpid()}.new"
                beside.write_text(checkpoint.note)
                os.replace(beside, folder / name)  # atomic: a reader sees the old or the new one
        except OSError as error:
            log.error("the checkpoint could not be published in %s: %s", folder, error.strerror)
        else:
            self._published = checkpoint.size
