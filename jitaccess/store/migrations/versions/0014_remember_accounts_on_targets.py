"""Remember the accounts on targets that no lease made, and what is wrong with them."""

import sqlalchemy as sa
from alembic import op

from jitaccess.store.tables import Json, UtcDateTime

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "target_account",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rights", Json(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("first_seen_at", UtcDateTime(), nullable=False),
        sa.Column("gone_at", UtcDateTime(), nullable=True),
        sa.Column("finding", sa.Text(), nullable=True),
        sa.Column("extra", Json(), nullable=True),
        sa.Column("found_at", UtcDateTime(), nullable=True),
        sa.Column("acted", sa.Text(), nullable=True),
        sa.Column("statement", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=26), nullable=True),
        sa.Column("seal", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_target_account_target", "target_account", ["target"])


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_target_account_target", "target_account")
    op.drop_table("target_account")
