"""Add Token Status Lists: the lists, and the bit of each access token."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "status_list",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("given", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("full_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.add_column(sa.Column("status_list", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("status_idx", sa.Integer(), nullable=True))
        batch_op.create_index("token_status", ["status_list", "expires_at"], unique=False)


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.drop_index("token_status")
        batch_op.drop_column("status_idx")
        batch_op.drop_column("status_list")
    op.drop_table("status_list")
