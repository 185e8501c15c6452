"""The tables as they were before Alembic: made in an empty database, completed in one of Loupe 0.1.0 or later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0001_before_alembic"
down_revision: str | None = None

meta = sa.MetaData()
datasets = sa.Table(
    "datasets",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("splits_given", sa.Boolean, nullable=False, default=False),
    sa.Column("deleted_at", sa.String),
)
sa.Index(
    "live_name",
    datasets.c.name,
    unique=True,
    sqlite_where=datasets.c.deleted_at.is_(None),
    postgresql_where=datasets.c.deleted_at.is_(None),
)
classes = sa.Table(
    "classes",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("guideline", sa.String, nullable=False, server_default=""),
    sa.Column("retired_at", sa.String),
)
class_events = sa.Table(
    "class_events",
    meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("to", sa.String),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("after_seq", sa.Integer, nullable=False),
    sqlite_autoincrement=True,
)
examples = sa.Table(
    "examples",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("class", sa.String, primary_key=True),
    sa.Column("image_id", sa.String(16), primary_key=True),
    sa.Column("accepted", sa.Boolean, nullable=False),
)
images = sa.Table(
    "images",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
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
    sa.Column("label_seq", sa.Integer, nullable=False, default=0),
    sa.Column("flagged", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("given_seq", sa.Integer, nullable=False, server_default="0"),
)
sa.Index("by_time", images.c.dataset_id, images.c.added_at, images.c.id)
sa.Index("by_label", images.c.dataset_id, images.c.split, images.c.label)
sa.Index("by_change", images.c.dataset_id, images.c.label_seq)
label_events = sa.Table(
    "label_events",
    meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("dataset_id", sa.Integer, nullable=False),
    sa.Column("image_id", sa.String(16), nullable=False),
    sa.Column("label", sa.String),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False, default=""),
    sa.Column("previous", sa.String),
    sa.Column("flagged", sa.Boolean),
    sa.Column("operation", sa.String),
    sa.UniqueConstraint("dataset_id", "image_id", "operation"),
    sqlite_autoincrement=True,
)
sa.Index("events_by_time", label_events.c.dataset_id, label_events.c.at)
claims = sa.Table(
    "claims",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("image_id", sa.String(16), primary_key=True),
    sa.Column("session", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
predictions = sa.Table(
    "predictions",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("image_id", sa.String(16), primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("score", sa.Float),
)
submissions = sa.Table(
    "submissions",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("image_id", sa.String(16), nullable=False),
    sa.Column("ext", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("predicted", sa.String, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("probabilities", sa.String, nullable=False),
    sa.Column("verdict", sa.String),
    sa.Column("label", sa.String),
    sa.Column("decided_by", sa.String),
    sa.Column("decided_at", sa.String),
)
sa.Index("queue", submissions.c.dataset_id, submissions.c.verdict)


def upgrade() -> None:
    """Adds the tables, columns and indexes that are missing; nothing is ever dropped."""
    connection = op.get_bind()
    meta.create_all(connection)
    found = sa.inspect(connection)
    for table in meta.sorted_tables:
        have = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in have:
                op.add_column(
                    table.name, sa.Column(column.name, column.type, nullable=column.nullable, server_default=column.server_default)
                )
                if column is images.c.given_seq:  # there were no flags then
                    connection.execute(images.update().values(given_seq=images.c.label_seq))
        for index in table.indexes:
            index.create(connection, checkfirst=True)
