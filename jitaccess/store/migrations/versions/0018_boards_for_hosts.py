"""Keep what is posted for hosts that come and fetch, and what they report."""

import sqlalchemy as sa
from alembic import op

from jitaccess.store.tables import Json, UtcDateTime

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "posting",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("value", Json(), nullable=True),
        sa.Column("until", UtcDateTime(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=26), nullable=True),
        sa.Column("seal", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_posting_target_number", "posting", ["target", "number"])
    op.create_index("ix_posting_target_until", "posting", ["target", "until"])
    op.create_table(
        "host_report",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_host_report_target", "host_report", ["target"])


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_host_report_target", "host_report")
    op.drop_table("host_report")
    op.drop_index("ix_posting_target_until", "posting")
    op.drop_index("ix_posting_target_number", "posting")
    op.drop_table("posting")
