"""Index requests by person and right, by right, and requests and grants by time: what the desks read."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Go forward."""
    op.create_index("access_request_same", "access_request", ["person_id", "target", "entitlement", "created_at"])
    op.create_index("access_request_right", "access_request", ["target", "entitlement", "created_at"])
    op.create_index("access_request_created", "access_request", ["created_at"])
    op.create_index("access_grant_created", "access_grant", ["created_at"])


def downgrade() -> None:
    """Go back."""
    op.drop_index("access_grant_created", "access_grant")
    op.drop_index("access_request_created", "access_request")
    op.drop_index("access_request_right", "access_request")
    op.drop_index("access_request_same", "access_request")
