"""How does the log leave the house, whole? An export folder of plain files (docs/adr/0007-export-folder.md).

`entries.jsonl` line n is leaf n byte for byte, `hashes` 32 bytes a leaf, `checkpoint` the newest signed note, `checkpoints.jsonl` all of
them by size, `keys.json` the origin and all verifier keys; `texts.jsonl` with personal text only when asked for. Exporting is
itself an entry of the log.
"""

import json
from pathlib import Path

from sqlalchemy import select

from jitaccess.audit.checkpoints import Checkpoints
from jitaccess.domain.events import EventType
from jitaccess.domain.values import Actor
from jitaccess.errors import JitError, Kind
from jitaccess.store.db import Database
from jitaccess.store.tables import CheckpointRow, Event, EventText
from jitaccess.tokens.keys import Keyring


def export(
    db: Database,
    keyring: Keyring,
    checkpoints: Checkpoints,
    folder: Path,
    *,
    origin: str,
    actor: Actor,
    with_texts: bool = False,
) -> int:
    """Write everything up to a fresh checkpoint into an empty or new folder; return the number of entries."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may hold personal text
        if any(folder.iterdir()):
            raise JitError(Kind.INVALID, f"{folder} is not empty: name a new folder.")
    except OSError as error:
        raise JitError(Kind.INVALID, f"{folder} cannot be written: {error.strerror}.") from error
    with db.begin(actor) as tx:
        tx.record(EventType.LOG_EXPORTED, body={"with_texts": with_texts})
    newest = checkpoints.make()
    if newest is None:
        raise JitError(Kind.CONFIGURATION, "There is nothing to export.")
    with db.read() as view:
        entries = view.rows(
            select(Event.leaf, Event.leaf_hash)
            .where(Event.idx < newest.size)
            .order_by(Event.idx)
            .execution_options(yield_per=2000)
        )
        with (folder / "entries.jsonl").open("w", newline="") as lines, (folder / "hashes").open("wb") as hashes:
            for leaf, leaf_hash in entries:
                lines.write(leaf + "\n")
                hashes.write(leaf_hash)
        notes = view.rows(
            select(CheckpointRow.note).where(CheckpointRow.size <= newest.size).order_by(CheckpointRow.size)
        ).scalars()
        with (folder / "checkpoints.jsonl").open("w", newline="") as lines:
            lines.writelines(json.dumps({"note": note}) + "\n" for note in notes)
        if with_texts:
            columns = select(EventText.event_id, EventText.name, EventText.salt, EventText.text)
            covered = columns.join(Event, Event.id == EventText.event_id).where(Event.idx < newest.size)
            texts = view.rows(covered.order_by(Event.idx, EventText.name))
            with (folder / "texts.jsonl").open("w", newline="") as lines:
                for text in texts:
                    value = {"event": text.event_id, "name": text.name, "salt_b64u": text.salt, "text": text.text}
                    lines.write(json.dumps(value, ensure_ascii=False) + "\n")
    (folder / "checkpoint").write_text(newest.note)
    keys = {"origin": origin, "vkeys": list(keyring.vkeys())}
    (folder / "keys.json").write_text(json.dumps(keys, indent=1) + "\n")
    return newest.size
