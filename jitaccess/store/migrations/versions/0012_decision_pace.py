"""Keep how long approvers look before they decide."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "decision_pace",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("took_ms", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("decision_pace_person", "decision_pace", ["person_id", "decided_at"], unique=False)


def downgrade() -> None:
    """Go back."""
    op.drop_index("decision_pace_person", "decision_pace")
    op.drop_table("decision_pace")
