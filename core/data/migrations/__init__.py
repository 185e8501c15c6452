"""The way from every older database to the tables in core.data.schema, one file in versions/ for each step.

To change a table: change it in core/data/schema.py, then add versions/v0002_what_changes.py (the next number) with
revision = its file name without .py, down_revision = the revision before it, and upgrade(), which calls alembic.op.
Give what is never null a server_default, since old rows are there already. tests/data/test_migrations.py prints
the operations that are missing. Every step runs inside the one transaction that core.data.schema begins: never commit in it.
Add tables, columns and indexes; batch_alter_table copies a table and drops the old one, which SQLite's foreign keys may refuse.
A step that people may have run is never changed again, and names no table of core.data.schema: that one moves on.
"""
