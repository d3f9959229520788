"""Keep when somebody was switched on again."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Go forward."""
    op.add_column("person", sa.Column("enabled_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("person", "enabled_at")
