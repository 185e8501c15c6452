"""Pictures that a person has on disk."""

from __future__ import annotations

import io

from PIL import Image
from sklearn.datasets import load_digits


def digit_png(index: int) -> bytes:
    """One of scikit-learn's digits, drawn larger than in the sample so that it is a new picture."""
    out = io.BytesIO()
    Image.fromarray((load_digits().images[index] * 15.9).astype("uint8")).resize((24, 24), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()
