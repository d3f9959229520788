"""Give each channel of a notice a row of its own; what was not sent yet is divided anew."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.add_column(sa.Column("channel", sa.Text(), nullable=True))
        batch_op.drop_index("outbox_due")
        batch_op.create_index("outbox_due", ["channel", "sent_at", "next_at"], unique=False)
        batch_op.create_index("outbox_subject", ["subject_id", "kind"], unique=False)


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index("outbox_subject")
        batch_op.drop_index("outbox_due")
        batch_op.create_index("outbox_due", ["sent_at", "next_at"], unique=False)
        batch_op.drop_column("channel")
