"""Accounts that are switched off for a while, and when people were last seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0006_accounts"
down_revision: str | None = "v0005_tokens"


def upgrade() -> None:
    op.add_column("people", sa.Column("off_at", sa.String))
    op.add_column("people", sa.Column("seen_at", sa.String))
