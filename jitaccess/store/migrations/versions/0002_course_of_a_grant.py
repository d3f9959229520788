"""Add what a grant's course needs: a scheduled start, what it continues, a soft end, its terms, and a warning."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Go forward."""
    op.add_column("access_request", sa.Column("extends", sa.String(length=64), nullable=True))
    with op.batch_alter_table("access_grant", schema=None) as batch_op:
        batch_op.add_column(sa.Column("not_before", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("extends", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("closes_at", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("course", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("warn_at", sa.BigInteger(), nullable=True))
        batch_op.create_index("access_grant_state_start", ["state", "not_before"], unique=False)
        batch_op.create_index("access_grant_state_warn", ["state", "warn_at"], unique=False)
        batch_op.create_index("access_grant_extends", ["extends"], unique=False)
