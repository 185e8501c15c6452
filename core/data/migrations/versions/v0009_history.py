"""The lines of History as a table, folded from the label events that are there; an index of the images flagged since their label."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "v0009_history"
down_revision: str | None = "v0008_many_images"


def upgrade() -> None:
    changed = sa.column("given_seq", sa.Integer) != sa.column("label_seq", sa.Integer)
    op.create_index("by_given", "images", ["dataset_id", "given_seq"], sqlite_where=changed, postgresql_where=changed)
    history = op.create_table(
        "history",
        sa.Column("dataset_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("began", sa.String, nullable=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("label", sa.String),
        sa.Column("mixed", sa.Boolean, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("acts", sa.Integer, nullable=False),
        sa.Column("operation", sa.String),
    )
    folded = lines(op.get_bind())
    while some := list(islice(folded, 1000)):
        op.bulk_insert(history, some)
    op.create_index("history_by_time", "history", ["dataset_id", "last", "at", "began"])
    op.create_index("history_by_person", "history", ["dataset_id", "by", "last"])
    op.create_index("history_by_operation", "history", ["dataset_id", "operation"])


def lines(c: sa.Connection) -> Iterator[dict[str, Any]]:
    """Four and more acts of one person in a row as one line, as core.data.labels told them until then."""
    rows: dict[tuple[int, str], list[dict[str, Any]]] = {}  # everybody's latest: lines of one act, or a line of four and more
    by_hand = ("manual", "flag", "unflag", "review", "cluster", "model")
    for found in c.execute(_acts().execution_options(yield_per=1000)):
        act = {**found._mapping, "acts": 1}
        row = rows.get((act["dataset_id"], act["by"]), [])
        last = row[-1] if row else None
        if last is None or act["source"] not in by_hand or act["source"] != last["source"] or _minutes(last["at"], act["at"]) > 30:
            yield from row
            row = []
        row = [*row, act]
        if sum(line["acts"] for line in row) > 3:
            mixed = any(line["mixed"] for line in row) or len({line["label"] for line in row}) > 1
            counted = {name: sum(line[name] for line in row) for name in ("images", "acts")}
            row = [{**act, "first": row[0]["first"], "began": row[0]["began"], "mixed": mixed, **counted}]
        rows[act["dataset_id"], act["by"]] = row
    for row in rows.values():
        yield from row


def _minutes(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds() / 60


def _acts() -> sa.Select[Any]:
    """One operation, or one person at one moment; what was done elsewhere and came with an import is none."""
    names = ("dataset_id", "seq", "label", "source", "by", "at", "note", "operation")
    events = sa.table("label_events", *(sa.column(name) for name in names))
    e, f = events.c, sa.func
    none = f.max(sa.case((e.label.is_(None), 1), else_=0))
    return (
        sa.select(e.dataset_id, f.min(e.seq).label("first"), f.max(e.seq).label("last"), e.by, e.source)
        .add_columns(f.min(e.at).label("began"), f.max(e.at).label("at"), f.max(e.note).label("note"), f.max(e.label).label("label"))
        .add_columns((f.count(e.label.distinct()) + none > 1).label("mixed"), f.count().label("images"), e.operation)
        .where(sa.or_(e.operation.is_(None), ~e.operation.startswith("past ")))
        .group_by(e.dataset_id, e.by, e.source, e.operation, sa.case((e.operation.is_(None), e.at)))
        .order_by(sa.literal_column("last"))
    )
