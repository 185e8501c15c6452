"""Leases of servers that share one database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0010_leases"
down_revision: str | None = "v0009_history"


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
