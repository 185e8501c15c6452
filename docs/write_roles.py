"""Writes roles.md from the table in core/roles.py: `python docs/write_roles.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "roles.md"
sys.path.insert(0, str(ROOT))

from core.roles import MAY, ROLES  # noqa: E402

HEAD = """# Roles: who may do what

Everybody has one role, everywhere or in single datasets; in a dataset without any role for them people see nothing, not even its name (who may make datasets and gives a new one that name is told that it is taken). An admin gives roles on the page *People* or the [command line](people.md#roles); a role that was taken away counts at the next click. Without sign-in there is one local person, who may do everything: [People](people.md) says how to sign in.

The table is [core/roles.py](../core/roles.py). The functions of the stories ask it before they do anything, so pages, routes and the API refuse alike; pages also hide what somebody may not do. This page is made from it by `python docs/write_roles.py`, and a test says so when it is out of date.
"""


def text() -> str:
    head = f"| may | {' | '.join(ROLES)} |\n|---|{'---|' * len(ROLES)}\n"
    rows = "".join(f"| {words} | {' | '.join('yes' if role in may else '–' for role in ROLES)} |\n" for words, may in MAY.values())
    return f"{HEAD}\n{head}{rows}"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
