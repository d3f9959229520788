"""Index what pages read without the wide rows: events by kind and person with their number, decisions and verdicts by time."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Go forward."""
    op.create_index("event_type_number", "event", ["type", "idx"])
    op.create_index("event_person_number", "event", ["person_id", "idx"])
    op.drop_index("ix_event_type", "event")
    op.drop_index("ix_event_person_id", "event")
    op.create_index("access_request_decided", "access_request", ["state", "created_at", "decided_at"])
    op.create_index("approval_given", "approval", ["verdict", "given_at", "person_id", "request_id"])


def downgrade() -> None:
    """Go back."""
    op.drop_index("approval_given", "approval")
    op.drop_index("access_request_decided", "access_request")
    op.create_index("ix_event_person_id", "event", ["person_id"])
    op.create_index("ix_event_type", "event", ["type"])
    op.drop_index("event_person_number", "event")
    op.drop_index("event_type_number", "event")
