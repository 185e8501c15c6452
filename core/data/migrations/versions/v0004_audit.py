"""The audit, and triggers that let it be added to only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0004_audit"
down_revision: str | None = "v0003_people"

TABLES = ("audit", "audit_images")
REFUSED = "the audit can only be added to"
IN_ORDER = "an entry of the audit follows the one before it"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("audit_by_person", "audit", ["by", "kind", "at"])
    op.create_index("audit_by_kind", "audit", ["kind", "at"])
    op.create_index("audit_by_time", "audit", ["at"])
    op.create_table(
        "audit_images",
        sa.Column("seq", sa.Integer, sa.ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
        sa.Column("image_id", sa.String(16), primary_key=True),
    )
    op.create_index("audit_by_image", "audit_images", ["image_id"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _on_sqlite() if sqlite else _on_postgresql():
        op.execute(statement)


def _on_sqlite() -> list[str]:
    # REPLACE deletes without asking a trigger: that a number is there already, or leaves a gap, is refused before it comes to that.
    next_one = "(SELECT coalesce(max(seq), 0) + 1 FROM audit)"
    known = "EXISTS (SELECT 1 FROM audit_images WHERE seq = NEW.seq AND image_id = NEW.image_id)"
    return [
        *(
            f"CREATE TRIGGER {table}_no_{act} BEFORE {act} ON {table} BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
            for table in TABLES
            for act in ("update", "delete")
        ),
        f"CREATE TRIGGER audit_next BEFORE INSERT ON audit WHEN NEW.seq <> {next_one} BEGIN SELECT RAISE(ABORT, '{IN_ORDER}'); END",
        f"CREATE TRIGGER audit_images_once BEFORE INSERT ON audit_images WHEN {known} BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
    ]


def _on_postgresql() -> list[str]:
    return [
        f"CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{REFUSED}'; END $$",
        "CREATE FUNCTION audit_in_order() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM audit) THEN RAISE EXCEPTION '{IN_ORDER}'; END IF; RETURN NEW; END $$",
        *(
            f"CREATE TRIGGER {table}_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
            for table in TABLES
        ),
        "CREATE TRIGGER audit_next BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_in_order()",
    ]
