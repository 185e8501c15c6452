"""The formats in which datasets leave and come back, by the names that the command line and its users know, and those that only come."""

from collections.abc import Sequence

from core.data.formats import coco, folders, jsonl, label_studio, spreadsheet
from core.data.tables import Format, Reader

FORMATS: dict[str, Format] = {
    "folders": folders.FORMAT,
    "csv": spreadsheet.FORMAT,
    "jsonl": jsonl.FORMAT,
    "label-studio": label_studio.FORMAT,
}
READERS = (coco.READER, *spreadsheet.READERS)  # tables of others that Loupe does not write


def for_table(name: str) -> Sequence[Reader]:
    """The formats whose table may be called so."""
    return [one for one in (*FORMATS.values(), *READERS) if one.suffix and name.lower().endswith(one.suffix)]
