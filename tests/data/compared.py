"""The tables that are there beside those in core.data.schema, as Alembic compares them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.migration import MigrationContext


def context(connection: sa.Connection) -> MigrationContext:
    def default_differs(_context: Any, _there: Any, _wanted: Any, there: str | None, _default: Any, wanted: str | None) -> bool:
        # Alembic's own comparison takes an empty text for none; SQLite quotes what it tells, and Alembic puts it in brackets;
        # PostgreSQL adds the type.
        return (there if there is None else there.partition("::")[0].strip("()'")) != wanted

    def of_this_database(one: Any, _name: Any, kind: str, there: bool, _wanted: Any) -> bool:
        return there or kind != "index" or one.info.get("only", connection.dialect.name) == connection.dialect.name

    opts = {"compare_type": True, "compare_server_default": default_differs, "include_object": of_this_database}
    return MigrationContext.configure(connection, opts=opts)
