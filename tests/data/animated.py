"""Pictures of several frames, each of one colour, made by the tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

KINDS = {"gif": "GIF", "webp": "WEBP", "png": "PNG", "tif": "TIFF", "avif": "AVIF", "heic": "HEIF"}


def animation(levels: list[int], ext: str = "gif", size: tuple[int, int] = (12, 12)) -> bytes:
    """A frame of each grey level; a black corner that wanders keeps a writer from joining two that are alike."""
    made = []
    for i, level in enumerate(levels):
        values = np.full((size[1], size[0], 3), level, np.uint8)
        values[0, i % size[0]] = 0
        made.append(Pillow.fromarray(values))
    out = io.BytesIO()
    made[0].save(out, KINDS[ext], save_all=True, append_images=made[1:])
    return out.getvalue()
