"""Let a person who approved refuse afterwards: one verdict of each kind."""

from alembic import op

revision = "0023"
down_revision = "0022"

NAMES = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}
"""How PostgreSQL names such constraints itself; SQLite has them without names."""
ONE = "approval_request_id_person_id_key"
ONE_OF_A_KIND = "approval_request_id_person_id_verdict_key"


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("approval", naming_convention=NAMES) as batch_op:
        batch_op.drop_constraint(ONE, type_="unique")
        batch_op.create_unique_constraint(ONE_OF_A_KIND, ["request_id", "person_id", "verdict"])


def downgrade() -> None:
    """Go back; refused by the database where somebody refused after approving."""
    with op.batch_alter_table("approval", naming_convention=NAMES) as batch_op:
        batch_op.drop_constraint(ONE_OF_A_KIND, type_="unique")
        batch_op.create_unique_constraint(ONE, ["request_id", "person_id"])
