"""How do all rows come under a new seal key? After a rotation: read with any accepted key, write with the new one, retire the old.

A row whose seal does not hold is left as it is: re-sealing must never heal what somebody changed. Its key then stays accepted by nobody,
so the row stays refused.
"""

from typing import cast

from sqlalchemy import Table, select

from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL
from jitaccess.store.db import Database
from jitaccess.store.tables import Base, KeyRecord, Sealed
from jitaccess.tokens.keys import Purpose, Status, retire

BATCH = 500


def reseal(db: Database) -> int:
    """Seal every intact row with the active key and retire the other seal keys; return how many rows."""
    total = 0
    for mapper in sorted(Base.registry.mappers, key=lambda mapper: mapper.class_.__tablename__):
        if issubclass(mapper.class_, Sealed):
            total += _table(db, cast("type[Base]", mapper.class_))
    with db.begin(LOCAL) as tx:
        old = tx.all(
            select(KeyRecord).where(KeyRecord.purpose == Purpose.SEAL.value, KeyRecord.status == Status.OVERLAP.value)
        )
        for record in old:
            retire(tx, record)
    return total


def _table(db: Database, model: type[Base]) -> int:
    table = cast(Table, model.__table__)
    key = next(iter(table.primary_key))
    after, total = "", 0
    while True:
        with db.begin(LOCAL) as tx:
            rows = tx.unchecked_all(select(model).where(key > after).order_by(key).limit(BATCH))
            if not rows:
                return total
            intact = [row for row in rows if tx.intact(row)]
            event = tx.record(
                EventType.KEYS_ROTATED, body={"purpose": "seal", "table": table.name, "rows": len(intact)}
            )
            for row in intact:
                tx.update(row, event, expect=None, **tx.sealed_values(row))
            total += len(intact)
            after = str(getattr(rows[-1], key.key))
