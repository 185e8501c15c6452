"""Review as a queue: answers of several runs, decisions as events, claims, skips, policies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0002_review"
down_revision: str | None = "v0001_before_alembic"

COLUMNS = (
    sa.Column("state", sa.String, nullable=False, server_default="waiting"),
    sa.Column("source", sa.String, nullable=False, server_default=""),
    sa.Column("risk", sa.Float, nullable=False, server_default="0"),
    sa.Column("band", sa.String),
    sa.Column("policy_id", sa.Integer),
    sa.Column("basket", sa.String),
    sa.Column("known", sa.String),
)


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("submissions", column)
    s = sa.table("submissions", *(sa.column(n) for n in ("id", "dataset_id", "run_id", "predicted", "probability", "probabilities")),
                 *(sa.column(n) for n in ("verdict", "label", "decided_by", "decided_at", "at", "state")))  # fmt: skip
    op.execute(s.update().where(s.c.verdict.is_not(None)).values(state="decided"))
    op.create_index("by_certainty", "submissions", ["dataset_id", "state", "probability", "id"])
    op.create_index("by_risk", "submissions", ["dataset_id", "state", "risk", "probability"])
    op.create_index("by_age", "submissions", ["dataset_id", "state", "at", "id"])
    op.create_index("by_picture", "submissions", ["dataset_id", "image_id"])
    answers = op.create_table(
        "answers",
        sa.Column("submission_id", sa.Integer, sa.ForeignKey("submissions.id"), primary_key=True),
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("predicted", sa.String, nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("probabilities", sa.String, nullable=False),
        sa.Column("at", sa.String, nullable=False),
    )
    given = sa.select(s.c.id, s.c.run_id, s.c.predicted, s.c.probability, s.c.probabilities, s.c.at)
    op.execute(answers.insert().from_select(["submission_id", "run_id", "predicted", "probability", "probabilities", "at"], given))
    decisions = op.create_table(
        "decisions",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("dataset_id", sa.Integer, nullable=False),
        sa.Column("submission_id", sa.Integer, sa.ForeignKey("submissions.id"), nullable=False),
        sa.Column("stage", sa.String, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("label", sa.String),
        sa.Column("predicted", sa.String, nullable=False),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("policy_id", sa.Integer),
        sa.Column("hint", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("seconds", sa.Float),
        sa.Column("note", sa.String, nullable=False, server_default=""),
        sa.Column("reason", sa.String, nullable=False, server_default=""),
        sa.Column("operation", sa.String, unique=True),
        sa.Column("undone_at", sa.String),
        sa.Column("undone_by", sa.String),
        sqlite_autoincrement=True,
    )
    op.create_index("decisions_of_one", "decisions", ["submission_id", "by"])
    op.create_index("decisions_by_time", "decisions", ["dataset_id", "at"])
    op.create_index("decisions_by_person", "decisions", ["dataset_id", "by", "seq"])
    done = sa.select(
        s.c.dataset_id, s.c.id, sa.literal("waiting"), s.c.verdict, s.c.label, s.c.predicted, s.c.run_id, s.c.decided_by, s.c.decided_at
    )
    names = ["dataset_id", "submission_id", "stage", "verdict", "label", "predicted", "run_id", "by", "at"]
    op.execute(decisions.insert().from_select(names, done.where(s.c.verdict.is_not(None)).order_by(s.c.decided_at), include_defaults=False))
    op.create_table(
        "review_claims",
        sa.Column("submission_id", sa.Integer, sa.ForeignKey("submissions.id"), primary_key=True),
        sa.Column("dataset_id", sa.Integer, nullable=False),
        sa.Column("session", sa.String, nullable=False),
        sa.Column("person", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index("claims_of_session", "review_claims", ["dataset_id", "session"])
    op.create_table(
        "review_skips",
        sa.Column("submission_id", sa.Integer, sa.ForeignKey("submissions.id"), primary_key=True),
        sa.Column("person", sa.String, primary_key=True),
    )
    op.create_table(
        "policies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("dataset_id", sa.Integer, sa.ForeignKey("datasets.id"), nullable=False),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("rules", sa.String, nullable=False),
    )
    op.create_table(
        "policy_events",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("dataset_id", sa.Integer, nullable=False),
        sa.Column("policy_id", sa.Integer, sa.ForeignKey("policies.id"), nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
