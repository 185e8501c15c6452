"""Pictures a run has not learned from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.runs import runs
from core.settings import settings

if TYPE_CHECKING:
    from tests.conftest import Trained


def pictures(trained: Trained) -> dict[str, Path]:
    """The files of the images the run has predictions for."""
    return {r.image_id: settings().images / r.path for r in runs.snapshot_rows(runs.folder(trained.run_id)) if r.split != "train"}
