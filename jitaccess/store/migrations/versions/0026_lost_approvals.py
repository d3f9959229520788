"""Let an approval stop to count, because who gave it lost the right, and let the same person sign again."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"

NAMES = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}
"""How PostgreSQL names such constraints itself; SQLite has them without names."""
ONE_OF_A_KIND = "approval_request_id_person_id_verdict_key"
COUNTS = sa.text("lost_at IS NULL")


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("approval", naming_convention=NAMES) as batch_op:
        batch_op.add_column(sa.Column("lost_at", sa.BigInteger(), nullable=True))
        batch_op.drop_constraint(ONE_OF_A_KIND, type_="unique")
    op.create_index(
        "approval_one_of_a_kind",
        "approval",
        ["request_id", "person_id", "verdict"],
        unique=True,
        sqlite_where=COUNTS,
        postgresql_where=COUNTS,
    )


def downgrade() -> None:
    """Go back; refused by the database where somebody signed again."""
    op.drop_index("approval_one_of_a_kind", "approval")
    with op.batch_alter_table("approval", naming_convention=NAMES) as batch_op:
        batch_op.create_unique_constraint(ONE_OF_A_KIND, ["request_id", "person_id", "verdict"])
        batch_op.drop_column("lost_at")
