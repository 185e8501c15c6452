"""What made the network's answer, beside the decision: a map over the picture, and nothing where the answer is hidden."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from core.data import schema, uploads
from core.errors import Invalid
from core.review import predict, review, why
from core.types import Prediction
from tests import reviewing
from tests.held_out import pictures

if TYPE_CHECKING:
    from tests.conftest import Trained


def test_the_map_of_the_answer_lies_over_the_picture_and_is_refused_where_the_answer_is_hidden(trained_copy: Trained) -> None:
    kept = uploads.keep("one.png", next(iter(pictures(trained_copy).values())).read_bytes())
    (answer,) = predict.predict(trained_copy.run_id, [kept.path], ["one.png"])
    assert isinstance(answer, Prediction) and review.submit(trained_copy.dataset.id, trained_copy.run_id, answer, "Ann")
    (one,) = reviewing.waiting(trained_copy.dataset.id)
    found = why.why(one.id)
    pixels = np.asarray(Image.open(io.BytesIO(found.picture)).convert("RGB"), int)
    assert np.abs(pixels[..., 0] - pixels[..., 2]).max() > 20, "a grey digit with red or blue over it"
    assert f"“{one.predicted}”" in found.words
    with schema.writing() as c:
        c.execute(schema.submissions.update().values(blind=True))
    with pytest.raises(Invalid, match="without the network's answer"):
        why.why(one.id)
