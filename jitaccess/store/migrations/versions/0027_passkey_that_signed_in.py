"""Keep with which passkey somebody signed in to an application: on the code, and on every token that follows it."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Go forward."""
    op.add_column("authorization_code", sa.Column("passkey_id", sa.String(length=64), nullable=True))
    op.add_column("token", sa.Column("passkey_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("token", "passkey_id")
    op.drop_column("authorization_code", "passkey_id")
