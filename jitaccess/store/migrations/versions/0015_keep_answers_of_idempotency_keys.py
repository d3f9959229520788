"""Keep the answers that belong to idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "kept_answer",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("kept_answer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_kept_answer_created_at"), ["created_at"], unique=False)


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("kept_answer", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_kept_answer_created_at"))
    op.drop_table("kept_answer")
