"""Keep with which passkey a lease was opened."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Go forward."""
    op.add_column("lease", sa.Column("passkey_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("lease", "passkey_id")
