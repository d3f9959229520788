"""Add deputies, and in whose place an approval was given."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "deputation",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("delegator_id", sa.Text(), nullable=False),
        sa.Column("deputy_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("passkey_id", sa.Text(), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("assertion", sa.Text(), nullable=True),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=26), nullable=True),
        sa.Column("seal", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("deputation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deputation_delegator_id"), ["delegator_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_deputation_deputy_id"), ["deputy_id"], unique=False)
    with op.batch_alter_table("approval", schema=None) as batch_op:
        batch_op.add_column(sa.Column("deputy_of", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("deputation_id", sa.String(length=64), nullable=True))
