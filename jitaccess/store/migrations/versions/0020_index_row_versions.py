"""Index which versions of sealed rows the log names, and entries by request and type."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

CHUNK = 1_000


def upgrade() -> None:
    """Go forward: the index is filled from the log."""
    index = op.create_table(
        "row_version",
        sa.Column("row_table", sa.String(length=32), nullable=False),
        sa.Column("row_key", sa.String(length=160), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("row_table", "row_key", "version"),
        sqlite_with_rowid=False,
    )
    op.drop_index("ix_event_request_id", "event")
    op.create_index("event_request_type", "event", ["request_id", "type"], unique=False)
    connection = op.get_bind()
    event = sa.table("event", sa.column("id", sa.Text()), sa.column("leaf", sa.Text()))
    after = ""
    while True:
        found = connection.execute(
            sa.select(event.c.id, event.c.leaf).where(event.c.id > after).order_by(event.c.id).limit(CHUNK)
        ).all()
        if not found:
            break
        after = found[-1].id
        rows = [
            {"row_table": table, "row_key": key, "version": version}
            for one in found
            for table, key, version, _ in json.loads(one.leaf).get("rows", ())
            if version > 1
        ]
        if rows:
            connection.execute(sa.insert(index), rows)


def downgrade() -> None:
    """Go back."""
    op.drop_index("event_request_type", "event")
    op.create_index("ix_event_request_id", "event", ["request_id"], unique=False)
    op.drop_table("row_version")
