"""Keep approvals that were signed at once as one set."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "approval_set",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("passkey_id", sa.Text(), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("assertion", sa.Text(), nullable=True),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=26), nullable=True),
        sa.Column("seal", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_approval_set_person_id", "approval_set", ["person_id"], unique=False)
    op.add_column("approval", sa.Column("set_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("approval", "set_id")
    op.drop_index("ix_approval_set_person_id", "approval_set")
    op.drop_table("approval_set")
