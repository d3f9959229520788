"""How does a statement run without being built anew each time? Compiled once, then sent straight to the driver.

Building and running a statement through SQLAlchemy costs several times what the database needs for it (docs/adr/0008). The hot
paths of the store use these instead; types convert exactly as SQLAlchemy would. Errors are the driver's own: `Database` translates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Dialect, Executable, String, Table, TableValuedAlias, Text, bindparam, column, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine

from jitaccess.store.tables import Json, UtcDateTime

Convert = Callable[[Any], Any] | None


class Cursor(Protocol):
    """What is used of a DB-API cursor (PEP 249). One serves a whole view: rows are always fetched to their end."""

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

    def fetchall(self) -> Any:
        """Return all rows."""
        ...

    def close(self) -> Any:
        """Let go of the last statement; the cursor is of no use afterwards."""
        ...


class Raw(Protocol):
    """What is used of a DB-API connection (PEP 249)."""

    def cursor(self) -> Cursor:
        """Return a cursor."""
        ...


class Arrays:
    """One statement of PostgreSQL over many rows: every column is one array parameter, and `unnest` makes rows of them."""

    __slots__ = ("_convert", "_fixed", "_order", "_sql")

    def __init__(
        self, kinds: Mapping[str, TypeEngine[Any]], build: Callable[[TableValuedAlias], Executable], dialect: Dialect
    ) -> None:
        """Take the types of the parameters by name, and what is to be done with the rows of these columns."""
        # A cast to VARCHAR(n) would cut longer text off in silence; as TEXT it meets the column's own limit.
        plain = {name: Text() if isinstance(kind, String) else kind for name, kind in kinds.items()}
        arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in plain.items()]
        given = func.unnest(*arrays).table_valued(*[column(name, kind) for name, kind in plain.items()], name="given")
        statement = build(given.render_derived())
        assert isinstance(statement, ClauseElement)  # noqa: S101 - every statement is; says so to the type checker
        compiled: Any = statement.compile(dialect=dialect)
        self._sql: str = compiled.string
        self._order: Sequence[str] = compiled.positiontup
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if bind.value is not None}
        self._convert = tuple((name, to_driver(kind, dialect)) for name, kind in plain.items())

    def run(self, cursor: Cursor, many: Sequence[Mapping[str, object]]) -> int:
        """Run for all rows; return how many rows were touched."""
        arrays: dict[str, object] = {
            name: [values[name] if convert is None else convert(values[name]) for values in many]
            for name, convert in self._convert
        }
        parameters = self._fixed | arrays
        cursor.execute(self._sql, [parameters[name] for name in self._order])
        return cursor.rowcount


AT_ONCE = 8
"""From so many rows on PostgreSQL gets one statement over arrays instead of a statement a row."""


class Prepared:
    """One statement of one dialect."""

    __slots__ = ("_convert", "_fixed", "_many", "_positional", "sql")

    def __init__(
        self,
        statement: Executable,
        dialect: Dialect,
        names: Sequence[str] | None = None,
        many: Arrays | None = None,
    ) -> None:
        """Compile; `names` lists the columns of an insert, `many` is the same statement over many rows at once."""
        assert isinstance(statement, ClauseElement)  # noqa: S101 - every statement is; says so to the type checker
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(names) if names is not None else None)
        self.sql: str = compiled.string
        if "POSTCOMPILE" in self.sql:
            raise ValueError("a list of values changes the statement's text: spell it with `one_of`")
        self._positional = bool(compiled.positional)
        order: Sequence[str] = compiled.positiontup if self._positional else tuple(compiled.binds)
        self._convert = tuple((name, to_driver(compiled.binds[name].type, dialect)) for name in order)
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if bind.value is not None}
        """Values that stand in the statement itself."""
        self._many = many

    def parameters(self, values: Mapping[str, object]) -> Any:
        """Return the driver's parameters for named values."""
        if self._fixed:
            values = self._fixed | dict(values)
        if self._positional:
            return [values[name] if convert is None else convert(values[name]) for name, convert in self._convert]
        return {name: values[name] if convert is None else convert(values[name]) for name, convert in self._convert}

    def rows(self, cursor: Cursor, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """Run a select; return all rows in the driver's form."""
        cursor.execute(self.sql, self.parameters(values))
        found: Sequence[Sequence[Any]] = cursor.fetchall()
        return found

    def run(self, cursor: Cursor, values: Mapping[str, object]) -> int:
        """Run once; return how many rows were touched."""
        cursor.execute(self.sql, self.parameters(values))
        return cursor.rowcount

    def run_many(self, cursor: Cursor, many: Sequence[Mapping[str, object]]) -> int:
        """Run once for each set of values; return how many rows were touched."""
        if len(many) == 1:
            return self.run(cursor, many[0])
        if self._many is not None and len(many) >= AT_ONCE:
            return self._many.run(cursor, many)
        cursor.executemany(self.sql, [self.parameters(values) for values in many])
        return cursor.rowcount


def to_driver(kind: TypeEngine[Any], dialect: Dialect) -> Convert:
    """Return what turns a value into the driver's form, or None for nothing to do."""
    match kind:
        case UtcDateTime():
            return kind.to_driver
        case Json():
            return kind.to_driver
        case _:
            return kind.dialect_impl(dialect).bind_processor(dialect)


def from_driver(kind: TypeEngine[Any], dialect: Dialect) -> Convert:
    """Return what turns the driver's form back into a value, or None for nothing to do."""
    match kind:
        case UtcDateTime():
            return kind.from_driver
        case Json():
            return kind.from_driver
        case _:
            return kind.dialect_impl(dialect).result_processor(dialect, None)


class Reading:
    """How a row of the driver becomes the values of one table's columns."""

    __slots__ = ("_convert", "_json", "_names")

    def __init__(self, table: Table, dialect: Dialect) -> None:
        """Look at the columns once."""
        self._names = tuple(str(column.key) for column in table.columns)
        found = [
            (place, name, from_driver(column.type, dialect), isinstance(column.type, Json))
            for place, (name, column) in enumerate(zip(self._names, table.columns, strict=True))
        ]
        self._convert = tuple((place, name, convert) for place, name, convert, _ in found if convert is not None)
        self._json = tuple(
            (place, name, convert) for place, name, convert, json in found if json and convert is not None
        )

    def values(self, row: Sequence[Any]) -> dict[str, object]:
        """Return column -> value; what stands in the row behind the columns is not looked at."""
        found = dict(zip(self._names, row, strict=False))
        for place, name, convert in self._convert:
            found[name] = convert(row[place])
        return found

    def again(self, row: Sequence[Any], known: Mapping[str, object]) -> dict[str, object]:
        """Return the values of a row that was read before. Lists and objects are made anew: nobody shares them."""
        found = dict(known)
        for place, name, convert in self._json:
            found[name] = convert(row[place])
        return found
