"""Tokens of the HTTP API, what was asked with an Idempotency-Key, and what webhooks still have to tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0005_tokens"
down_revision: str | None = "v0004_audit"


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("datasets", sa.String),
        sa.Column("rate", sa.String, nullable=False),
        sa.Column("made_by", sa.String, nullable=False),
        sa.Column("made_at", sa.String, nullable=False),
        sa.Column("expires_at", sa.String),
        sa.Column("revoked_at", sa.String),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("token_id", sa.Integer, sa.ForeignKey("tokens.id"), primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("process", sa.String, nullable=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("answer", sa.String),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("hook", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("made_at", sa.String, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Float),
        sa.Column("taken_at", sa.String),
        sa.Column("error", sa.String, nullable=False),
        sa.UniqueConstraint("hook", "subject"),
    )
    op.create_index("deliveries_by_time", "webhook_deliveries", ["next_at"])
