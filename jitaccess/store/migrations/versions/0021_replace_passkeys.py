"""Say by what a replacement of passkeys was begun, and for which one a paper key was presented."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Go forward."""
    op.add_column("recovery", sa.Column("change_id", sa.String(length=64), nullable=True))
    op.add_column("recovery_key", sa.Column("recovery_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("recovery_key", schema=None) as batch_op:
        batch_op.drop_column("recovery_id")
    with op.batch_alter_table("recovery", schema=None) as batch_op:
        batch_op.drop_column("change_id")
