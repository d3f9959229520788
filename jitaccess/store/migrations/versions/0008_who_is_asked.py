"""Keep who was asked to sign, when a request is escalated next, and look up a person's notices by index."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "asked",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("people", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=26), nullable=True),
        sa.Column("seal", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["request_id"], ["access_request.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_asked_request_id", "asked", ["request_id"], unique=False)
    op.add_column("access_request", sa.Column("escalate_at", sa.BigInteger(), nullable=True))
    op.create_index("access_request_escalate", "access_request", ["state", "escalate_at"], unique=False)
    op.create_index("outbox_person", "outbox", ["person_id", "kind", "created_at"], unique=False)


def downgrade() -> None:
    """Go back."""
    op.drop_index("outbox_person", "outbox")
    op.drop_index("access_request_escalate", "access_request")
    op.drop_column("access_request", "escalate_at")
    op.drop_index("ix_asked_request_id", "asked")
    op.drop_table("asked")
