"""How does a statement run without being built anew each time? Compiled once, then sent straight to the driver.

Building and running a statement through SQLAlchemy costs several times what the database needs for it (docs/adr/0008). The hot
paths of the store use these instead; types convert exactly as SQLAlchemy would. Errors are the driver's own: `Database` translates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Dialect, Executable, Table
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine

Convert = Callable[[Any], Any] | None


class Cursor(Protocol):
    """What is used of a DB-API cursor (PEP 249)."""

    @property
    def rowcount(self) -> int:
        """Return how many rows the last statement touched."""
        ...

    def execute(self, sql: str, parameters: Any, /) -> Any:
        """Run a statement."""
        ...

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """Run a statement once for each set of parameters."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> Any:
        """Return all rows."""
        ...


class Raw(Protocol):
    """What is used of a DB-API connection (PEP 249)."""

    def cursor(self) -> Cursor:
        """Return a cursor."""
        ...


class Prepared:
    """One statement of one dialect."""

    __slots__ = ("_convert", "_fixed", "_positional", "sql")

    def __init__(self, statement: Executable, dialect: Dialect, names: Sequence[str] | None = None) -> None:
        """Compile; `names` lists the columns of an insert."""
        assert isinstance(statement, ClauseElement)  # noqa: S101 - every statement is; says so to the type checker
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(names) if names is not None else None)
        self.sql: str = compiled.string
        self._positional = bool(compiled.positional)
        order: Sequence[str] = compiled.positiontup if self._positional else tuple(compiled.binds)
        self._convert = tuple((name, to_driver(compiled.binds[name].type, dialect)) for name in order)
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if bind.value is not None}
        """Values that stand in the statement itself."""

    def parameters(self, values: Mapping[str, object]) -> Any:
        """Return the driver's parameters for named values."""
        if self._fixed:
            values = self._fixed | dict(values)
        if self._positional:
            return tuple(
                [values[name] if convert is None else convert(values[name]) for name, convert in self._convert]
            )
        return {name: values[name] if convert is None else convert(values[name]) for name, convert in self._convert}

    def all(self, raw: Raw, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """Run a select; return the rows in the driver's form."""
        found: Sequence[Sequence[Any]] = self.run(raw, values).fetchall()
        return found

    def run(self, raw: Raw, values: Mapping[str, object]) -> Cursor:
        """Run once; the cursor has the row count and the rows."""
        cursor = raw.cursor()
        cursor.execute(self.sql, self.parameters(values))
        return cursor

    def run_many(self, raw: Raw, many: Sequence[Mapping[str, object]]) -> int:
        """Run once for each set of values; return how many rows were touched."""
        if len(many) == 1:
            return self.run(raw, many[0]).rowcount
        cursor = raw.cursor()
        cursor.executemany(self.sql, [self.parameters(values) for values in many])
        return cursor.rowcount


def to_driver(kind: TypeEngine[Any], dialect: Dialect) -> Convert:
    """Return what turns a value into the driver's form, or None for nothing to do."""
    return kind.dialect_impl(dialect).bind_processor(dialect)


def from_driver(table: Table, dialect: Dialect) -> tuple[tuple[str, Convert], ...]:
    """Return, column by column, what turns the driver's form back into a value."""
    return tuple(
        (str(column.key), column.type.dialect_impl(dialect).result_processor(dialect, None)) for column in table.columns
    )
