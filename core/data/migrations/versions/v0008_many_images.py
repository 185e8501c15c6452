"""Indexes for a million images: what filters ask for beside the order in which they came, and those that are flagged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0008_many_images"
down_revision: str | None = "v0007_near_removal"


def upgrade() -> None:
    op.drop_index("by_time", "images")
    in_order = ["dataset_id", "added_at", "id", "label", "split", "flagged"]
    if op.get_bind().dialect.name == "sqlite":
        op.create_index("by_time_and_name", "images", [*in_order, "source"])
    else:  # whose indexes hold no long text
        op.create_index("by_time", "images", in_order)
    flagged = sa.column("flagged", sa.Boolean).is_(True)
    op.create_index("by_flag", "images", ["dataset_id", "added_at", "id"], sqlite_where=flagged, postgresql_where=flagged)
