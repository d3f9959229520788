"""Which questions does the broker ask so often that they are compiled once? (docs/adr/0008, 0010)

A `Find` is a select over one class with named parameters (`bindparam`), written once beside the code that asks it. `View.find` runs it on
the driver and checks the seal of every row that comes out, exactly as for any other select; it is only cheaper to ask.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, Table, or_
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.visitors import iterate

from jitaccess.store.tables import Base

Row = TypeVar("Row", bound=Base)


class Find(Generic[Row]):
    """One question; compared by identity."""

    __slots__ = ("model", "statement", "tables")

    def __init__(self, model: type[Row], statement: Select[Row]) -> None:
        """Take the class whose rows are found, and the select with its named parameters."""
        self.model = model
        self.statement = statement
        self.tables = _tables_of(statement)


@dataclass(frozen=True, slots=True)
class Matching:
    """The rows that answer a question about these values."""

    question: Find[Any]
    values: Mapping[str, object]


class Joined:
    """One question whose answer joins a row of each of several classes, and some plain columns; compared by identity."""

    __slots__ = ("columns", "models", "statement", "tables")

    def __init__(
        self,
        statement: Select[*tuple[Any, ...]],
        models: Sequence[type[Base]],
        columns: Sequence[ColumnElement[Any] | InstrumentedAttribute[Any]] = (),
    ) -> None:
        """Take the joining select with its named parameters, the classes, and further columns; all in the order of the answer."""
        self.statement = statement
        self.models = models
        self.columns = columns
        self.tables = _tables_of(statement, *columns)


class Count:
    """One question whose answer is a row of plain numbers; compared by identity."""

    __slots__ = ("statement", "tables")

    def __init__(self, statement: "Select[*tuple[int, ...]]") -> None:
        """Take a select of counts with its named parameters."""
        self.statement = statement
        self.tables = _tables_of(statement)


def one_of(column: InstrumentedAttribute[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Return "the column is one of these", spelt so that the statement is always the same text; nothing matches no values."""
    return or_(False, *[column == value for value in values])


def _tables_of(*clauses: Any) -> frozenset[str]:
    """Return the names of all tables that are read, in whatever depth."""
    return frozenset(str(table.name) for clause in clauses for table in _read_by(clause))


def _read_by(clause: Any) -> Iterator[Table]:
    for part in iterate(clause):
        if isinstance(part, Table):
            yield part
