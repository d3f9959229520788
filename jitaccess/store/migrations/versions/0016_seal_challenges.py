"""Seal challenges: what a ceremony decides must not be changed between its two halves (ADR 0038)."""

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Go forward; ceremonies under way are begun again."""
    op.execute("DELETE FROM challenge")
    anew: Literal["always", "never"] = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("challenge", schema=None, recreate=anew) as batch_op:
        batch_op.add_column(sa.Column("version", sa.Integer(), nullable=False))
        batch_op.add_column(sa.Column("event_id", sa.String(length=26), nullable=True))
        batch_op.add_column(sa.Column("seal", sa.Text(), nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("challenge", schema=None) as batch_op:
        batch_op.drop_column("seal")
        batch_op.drop_column("event_id")
        batch_op.drop_column("version")
