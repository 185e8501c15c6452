"""What made the network's answer, beside the decision: a map over the picture, and nothing where the answer is hidden."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from core.data import schema, uploads
from core.data.queue import Submission
from core.errors import AppError, Invalid
from core.explain import explain
from core.review import predict, review, why
from core.runs import launch, runs
from core.types import Prediction
from tests import reviewing
from tests.data.animated import animation
from tests.held_out import pictures

if TYPE_CHECKING:
    from tests.conftest import Trained


@pytest.fixture
def waits(trained_copy: Trained, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], Submission]:
    """Puts a picture into the queue; its map is made by the worker that has PyTorch loaded, which does not measure itself."""
    monkeypatch.setattr(launch, "submit_slow", launch.submit)
    folder = runs.maps_folder(runs.trained(trained_copy.run_id))
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(folder / "speed.json", {})

    def make(name: str, data: bytes) -> Submission:
        kept = uploads.keep(name, data)
        (answer,) = predict.predict(trained_copy.run_id, [kept.path], [name])
        assert isinstance(answer, Prediction) and review.submit(trained_copy.dataset.id, trained_copy.run_id, answer, "Ann")
        (one,) = reviewing.waiting(trained_copy.dataset.id)
        return one

    return make


def test_the_map_of_the_answer_lies_over_the_picture_and_is_refused_where_the_answer_is_hidden(
    trained_copy: Trained, waits: Callable[[str, bytes], Submission]
) -> None:
    one = waits("one.png", next(iter(pictures(trained_copy).values())).read_bytes())
    found = why.why(one.id)
    pixels = np.asarray(Image.open(io.BytesIO(found.picture)).convert("RGB"), int)
    assert np.abs(pixels[..., 0] - pixels[..., 2]).max() > 20, "a grey digit with red or blue over it"
    assert f"“{one.predicted}”" in found.words
    with schema.writing() as c:
        c.execute(schema.submissions.update().values(blind=True))
    with pytest.raises(Invalid, match="without the network's answer"):
        why.why(one.id)


def test_of_a_frames_map_nothing_stays_that_holds_the_picture(trained_copy: Trained, waits: Callable[[str, bytes], Submission]) -> None:
    one = waits("a.gif", animation([20, 90, 160]))
    maps = runs.maps_folder(runs.trained(trained_copy.run_id))
    kept = {*uploads.pictures().iterdir(), *maps.glob("*.npz")}  # the shared run may have maps
    assert why.why(one.id).picture
    assert {*uploads.pictures().iterdir(), *maps.glob("*.npz")} == kept


def test_a_map_that_takes_too_long_is_stopped_and_said(
    waits: Callable[[str, bytes], Submission], trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = waits("one.png", next(iter(pictures(trained_copy).values())).read_bytes())
    never: Future[Any] = Future()
    monkeypatch.setattr(launch, "submit_slow", lambda *_: never)
    monkeypatch.setattr(why, "LONGEST", 0.01)
    with pytest.raises(AppError, match="takes longer than"):
        why.why(one.id)
    assert never.cancelled()


def test_a_map_that_is_given_up_in_its_last_pass_is_not_kept_either(
    waits: Callable[[str, bytes], Submission], trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = waits("one.png", next(iter(pictures(trained_copy).values())).read_bytes())
    maps = runs.maps_folder(runs.trained(trained_copy.run_id))
    kept = set(maps.glob("*.npz"))  # the shared run may have some
    running: Future[Any] = Future()
    running.set_running_or_notify_cancel()
    written: list[Path] = []

    def begins(*asked: Any) -> Future[Any]:
        written.append(Path(asked[-3]))
        return running

    monkeypatch.setattr(launch, "submit_slow", begins)
    monkeypatch.setattr(why, "LONGEST", 0.01)
    with pytest.raises(AppError, match="takes longer than"):
        why.why(one.id)
    (path,) = written
    runs.write_map(path, {})
    running.set_result(None)
    assert set(maps.glob("*.npz")) == kept


def test_a_map_that_somebody_asks_for_on_explain_at_the_same_moment_stays_theirs(
    trained_copy: Trained, waits: Callable[[str, bytes], Submission], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = waits("one.png", next(iter(pictures(trained_copy).values())).read_bytes())
    kept = set(runs.maps_folder(runs.trained(trained_copy.run_id)).glob("*.npz"))
    theirs: list[explain.Asked] = []

    def beside(*asked: Any) -> Future[Any]:
        monkeypatch.setattr(launch, "submit_slow", launch.submit)
        mine = launch.submit(*asked)
        file = uploads.find(one.image_id, one.name).path
        theirs.append(explain.ask(one.run_id, file, explain.at_first(one.run_id)[0], one.predicted, quick=False))
        explain.answer(theirs[0])
        return mine

    monkeypatch.setattr(launch, "submit_slow", beside)
    assert why.why(one.id).picture
    assert explain.answer(theirs[0]).target == one.predicted
    assert set(theirs[0].path.parent.glob("*.npz")) == {*kept, theirs[0].path}
