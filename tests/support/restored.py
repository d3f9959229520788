"""Rows that are put back as they were: what the owner of a database, or a restored backup of single tables, can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import create_engine, text

from tests.support.world import World


@dataclass(slots=True)
class Kept:
    """The rows of some tables as they were when this was made."""

    world: World
    tables: Sequence[str]
    rows: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read them past the broker."""
        engine = create_engine(self.world.broker.settings.store.url)
        with engine.connect() as connection:
            for table in self.tables:
                found = connection.execute(text(f"SELECT * FROM {table}"))
                self.rows[table] = [dict(row._mapping) for row in found]
        engine.dispose()

    def put_back(self) -> None:
        """Write them over what stands there now, and make everybody read the register anew."""
        for table, rows in self.rows.items():
            for row in rows:
                names = ", ".join(f"{name} = :{name}" for name in row if name != "id")
                self.world.sql(f"UPDATE {table} SET {names} WHERE id = :id", **row)
        self.world.sql("UPDATE register_version SET n = n + 1")
