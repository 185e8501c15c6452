"""What datasets and classes may be called, and how much may be said of a class."""

from __future__ import annotations

import unicodedata

from core.errors import Invalid

MAX_NAME = 80  # of a dataset
MAX_CLASS = 200  # characters of a class
MAX_GUIDELINE = 2000  # characters
MAX_EXAMPLES = 12  # of a class, of each kind
FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def name_problem(name: str, what: str = "class") -> str | None:
    """What is wrong with it, to follow “the name”."""
    longest = MAX_NAME if what == "dataset" else MAX_CLASS
    if not name.strip() or len(name) > longest:
        return f"must have 1 to {longest} characters"
    if what == "dataset" and ("/" in name or "\\" in name):
        return "must not hold slashes or begin with a dot"
    if name.startswith("."):
        return "must not begin with a dot"
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        return "must not hold line breaks or control characters"
    return None


def checked_name(name: str, what: str) -> str:
    """The name without surrounding blanks; Invalid says what is wrong with it."""
    name = unicodedata.normalize("NFC", name.strip())
    if problem := name_problem(name, what):
        raise Invalid(f"The name of a {what} {problem}.", "Choose a short name, such as “flowers”.")
    return name
