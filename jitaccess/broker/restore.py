"""A record of the register was changed or deleted outside the broker: what is damaged, and how does it come back? (ADR 41)

The log keeps no personal text, only the digest of each record's content. So administrators say what the record was, and it is taken only
when its digest is the one that the log last knew: a record comes back exactly as it was, or not at all.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from sqlalchemy import LargeBinary, Text, select

from jitaccess.clock import from_epoch_us
from jitaccess.domain.events import EventType
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import staff
from jitaccess.proof.canonical import b64u_decode
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import REGISTER, Account, Base, Group, Hold, Membership, Passkey, Person, UtcDateTime

Value = str | int | bool | None
RESTORABLE: Mapping[str, type[Base]] = {
    model.__tablename__: model for model in (Person, Account, Passkey, Group, Membership, Hold)
}
"""Records that are restored by signatures. A policy set is proposed anew, a client registered anew, a key rotated."""

STALE = timedelta(minutes=3)
"""A check every minute that is older than this is not running."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that is not as the log wrote it."""

    table: str
    key: str
    gone: bool
    about: str
    """A person's name, where it is about one."""
    fields: tuple[tuple[str, str], ...]
    """Text that may be said otherwise, as it stands there now."""


def damaged(view: View) -> list[Damaged]:
    """Return the damaged records by a look at every record: what the last check found, and what does not carry its seal now."""
    found: list[Damaged] = []
    for model in RESTORABLE.values():
        rows = {_key_of(row): row for row in view.unchecked_all(select(model))}
        broken = {key for key, row in rows.items() if not view.intact(row)} | view.blocked(model)
        found += _told(view, model, rows, broken)
    return found


def noted(view: View) -> list[Damaged]:
    """Return the damaged records without looking at all: what the last check found, and what did not hold at its use since.

    A record that was changed after that check and not used yet is not among them; every use asks the seal. Where the last check is
    older than `STALE`, or there was none, every record is looked at.
    """
    compared_at = view.compared_at()
    if compared_at is None or view.now - compared_at > STALE:
        return damaged(view)
    found: list[Damaged] = []
    for model in RESTORABLE.values():
        keys = view.doubted(model)
        rows = {key: row for key in keys if (row := view.unchecked_get(model, key)) is not None}
        broken = {key for key, row in rows.items() if not view.intact(row)} | view.blocked(model)
        found += _told(view, model, rows, broken)
    return found


def one(view: View, table: str, key: str) -> Damaged | None:
    """Return one record that is damaged now; None where it is intact, or of another kind."""
    model = RESTORABLE.get(table)
    if model is None:
        return None
    row = view.unchecked_get(model, key)
    rows = {} if row is None else {key: row}
    if key not in view.blocked(model) and (row is None or view.intact(row)):
        return None
    return _told(view, model, rows, {key})[0]


def _told(view: View, model: type[Base], rows: Mapping[str, Base], broken: AbstractSet[str]) -> list[Damaged]:
    if not broken:
        return []
    names = {key: person.name for key, person in staff(view).register.persons.items()}
    found: list[Damaged] = []
    for key in sorted(broken):
        row = rows.get(key)
        fields = () if row is None else tuple((name, str(getattr(row, name) or "")) for name in _texts(model))
        about = next((names[part] for part in (key, *_persons(row), *key.split("/")) if part in names), "")
        found.append(Damaged(model.__tablename__, key, row is None, about, fields))
    return found


def _key_of(row: Base) -> str:
    return str(cast(Person, row).id)


def _texts(model: type[Base]) -> list[str]:
    """Return the columns that people can say: text that is neither key nor random."""
    hidden = {"id", "salt", "seal", "event_id", "user_handle", "credential_id", "aaguid", "member_id", "group_id"}
    return [
        str(column.key)
        for column in model.__table__.columns
        if isinstance(column.type, Text) and column.key not in hidden and not column.foreign_keys
    ]


def _persons(row: Base | None) -> list[str]:
    return [str(row.person_id)] if isinstance(row, Account | Passkey) else []


def concerns(view: View, table: str, key: str, values: Mapping[str, Value]) -> frozenset[str]:
    """Return the ids of the persons whom a record is about, as it stands and as it would be: they do not sign it."""
    model = RESTORABLE.get(table)
    row = view.unchecked_get(model, key) if model is not None else None
    said = [str(values[name]) for name in ("person_id", "member_id", "subject_id") if name in values]
    stands = [str(getattr(row, name)) for name in ("person_id", "member_id", "subject_id") if hasattr(row, name)]
    return frozenset({key, *key.split("/"), *said, *stands})


def said(table: str, name: str, text: str) -> Value:
    """Return what was typed for a column as its value: nothing is NULL where a column may be."""
    column = RESTORABLE[table].__table__.columns[name]
    return text or (None if column.nullable else "")


def matches(view: View, table: str, key: str, values: Mapping[str, Value]) -> bool:
    """Say whether a record with these values is the one that the log last knew."""
    model = RESTORABLE[table]
    known = view.known_content(model, key)
    return known is not None and view.digest_of(model, key, known[0], _content(view, model, key, values)) == known[1]


def restore(tx: Tx, table: str, key: str, values: Mapping[str, Value]) -> None:
    """Put a record back as the log last knew it; the caller has checked signatures. Raises CONFLICT for anything else."""
    model = RESTORABLE.get(table)
    if model is None or table not in REGISTER:
        raise JitError(Kind.INVALID, "Records of this kind are not restored.", field="subject")
    row = tx.unchecked_get(model, key)
    if row is not None and tx.intact(row):
        raise JitError(Kind.CONFLICT, "This record is as the log knows it: there is nothing to restore.")
    if tx.known_content(model, key) is None:
        raise JitError(
            Kind.CONFLICT, "The log does not know this record, or was not looked at yet. Try again in a minute."
        )
    if not matches(tx, table, key, values):
        raise JitError(
            Kind.CONFLICT,
            "This is not what the log last knew of the record. Say every field as it was, or use a backup.",
        )
    event = tx.record(
        EventType.RECORD_RESTORED,
        subject={table if table != "person_group" else "group": key[:64]},
        body={"table": table, "gone": row is None, "fields": [*sorted(values)]},
    )
    tx.put_right(model, event, key, _content(tx, model, key, values))


def _content(view: View, model: type[Base], key: str, values: Mapping[str, Value]) -> dict[str, object]:
    """Return the columns of a record: those that stand there, with the values said instead."""
    row = view.unchecked_get(model, key)
    columns = {str(column.key): column for column in model.__table__.columns}
    unknown = set(values) - set(columns) | {"version", "event_id", "seal"} & set(values)
    if unknown:
        raise JitError(Kind.INVALID, "There is no such field.", field=sorted(unknown)[0])
    found: dict[str, object] = {name: getattr(row, name, None) for name in columns}
    for name, value in values.items():
        match columns[name].type:
            case UtcDateTime() if isinstance(value, int):
                found[name] = from_epoch_us(value)
            case LargeBinary() if isinstance(value, str):
                found[name] = b64u_decode(value)
            case UtcDateTime() | LargeBinary() if value is not None:
                raise JitError(Kind.INVALID, "This value has the wrong form.", field=name)
            case _:
                found[name] = value
    return found | {"id": key}
