"""Of what was predicted: fingerprints that copies share, and who decides blind as a column; rules by which it is removed."""

from __future__ import annotations

import hmac
import json

import sqlalchemy as sa
from alembic import op

revision = "v0007_near_removal"
down_revision: str | None = "v0006_accounts"


def upgrade() -> None:
    op.add_column("submissions", sa.Column("fingerprint", sa.BigInteger))
    op.add_column("submissions", sa.Column("blind", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("by_fingerprint", "submissions", ["dataset_id", "fingerprint", "id"])
    _draw_again()
    op.create_table(
        "removal_rules",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("dataset_id", sa.Integer, sa.ForeignKey("datasets.id"), nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("classes", sa.String, nullable=False),
        sa.Column("waiting", sa.Boolean, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("off_at", sa.String),
        sa.Column("ran_at", sa.String),
        sa.Column("removed", sa.Integer),
    )
    op.create_index("removal_rules_of", "removal_rules", ["dataset_id"])


def _draw_again() -> None:
    """Marks what a policy has drawn to be decided without the network's answer: the draw of core.review.arms, as it was then."""
    s = sa.table("submissions", *(sa.column(name) for name in ("id", "policy_id", "image_id", "blind")))
    p = sa.table("policies", sa.column("id"), sa.column("rules"))
    c = op.get_bind()
    for policy_id, text in c.execute(sa.select(p.c.id, p.c.rules)).all():
        rules = json.loads(text)
        drawn = []
        for number, image_id in c.execute(sa.select(s.c.id, s.c.image_id).where(s.c.policy_id == policy_id)).all():
            parts = [part.encode() for part in (image_id, str(policy_id), "blind")]
            digest = hmac.digest(rules["salt"].encode(), b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")
            if (int.from_bytes(digest[:8], "big") >> 11) / 2**53 < rules["blind"]:
                drawn.append(number)
        for start in range(0, len(drawn), 500):
            c.execute(s.update().where(s.c.id.in_(drawn[start : start + 500])).values(blind=True))
