"""People who sign in: their roles, sessions, one-time links and how often a password was wrong."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0003_people"
down_revision: str | None = "v0002_review"


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("role", sa.String),
        sa.Column("way", sa.String, nullable=False),
        sa.Column("subject", sa.String, unique=True),
        sa.Column("password", sa.String),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("removed_at", sa.String),
    )
    op.create_table(
        "dataset_roles",
        sa.Column("person_id", sa.Integer, sa.ForeignKey("people.id"), primary_key=True),
        sa.Column("dataset_id", sa.Integer, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("role", sa.String),
    )
    op.create_table(
        "sessions",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("person_id", sa.Integer, sa.ForeignKey("people.id"), nullable=False),
        sa.Column("way", sa.String, nullable=False),
        sa.Column("browser", sa.String, nullable=False),
        sa.Column("begun_at", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_index("sessions_of", "sessions", ["person_id"])
    op.create_table(
        "links",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("person_id", sa.Integer, sa.ForeignKey("people.id"), nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table(
        "wrong_passwords",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("last", sa.Float, nullable=False),
    )
