"""Images that were taken out of their dataset, in a table of their own; and which import brought each image in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0011_removed_images"
down_revision: str | None = "v0010_leases"


def upgrade() -> None:
    op.add_column("images", sa.Column("import_id", sa.Integer))
    op.create_table(
        "removed",
        sa.Column("dataset_id", sa.Integer, sa.ForeignKey("datasets.id"), primary_key=True),
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("ext", sa.String, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("channels", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("split", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("added_at", sa.String, nullable=False),
        sa.Column("thumb_offset", sa.BigInteger, nullable=False),
        sa.Column("thumb_size", sa.Integer, nullable=False),
        sa.Column("label", sa.String),
        sa.Column("label_seq", sa.Integer, nullable=False),
        sa.Column("flagged", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("given_seq", sa.Integer, nullable=False, server_default="0"),
        sa.Column("import_id", sa.Integer),
    )
    op.create_index("removed_by_time", "removed", ["dataset_id", "label_seq"])
    op.create_table(
        "imports",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("dataset_id", sa.Integer, sa.ForeignKey("datasets.id"), nullable=False),
        sa.Column("operation", sa.String, nullable=False, unique=True),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("began", sa.String, nullable=False),
        sa.Column("ended", sa.String, nullable=False),
        sa.Column("after_seq", sa.Integer, nullable=False),
    )
    op.create_index("imports_of", "imports", ["dataset_id", "id"])
