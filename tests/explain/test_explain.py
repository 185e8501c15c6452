"""Maps: computed once, each with its own stop, refused in words; predictions do not wait for them."""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from PIL import Image as Pillow

from core.catalog import methods
from core.errors import AppError, Invalid, NotFound
from core.explain import explain
from core.review import predict
from core.runs import launch, runs
from core.types import Attribution, Prediction
from tests.held_out import pictures

if TYPE_CHECKING:
    from tests.conftest import Trained


@pytest.mark.parametrize("method", methods.METHODS)
def test_every_method_gives_a_map_of_the_size_of_the_picture_the_network_saw(trained: Trained, method: str) -> None:
    file = next(iter(pictures(trained).values()))
    found = explain.answer(explain.ask(trained.run_id, file, method, "3"))
    assert isinstance(found, Attribution)
    assert (found.method, found.target, found.image_id) == (method, "3", file.stem)
    assert found.image.dtype == np.uint8 and found.image.shape == (*found.map.shape, 3) and found.map.ndim == 2
    assert np.isfinite(found.map).all() and np.abs(found.map).max() > 0
    (answer,) = predict.predict(trained.run_id, [file])
    assert isinstance(answer, Prediction) and dict(answer.top(10))["3"] == pytest.approx(found.probability, abs=1e-5)
    again, other = (
        explain.answer(explain.ask(trained.run_id, file, method, "3")),
        explain.answer(explain.ask(trained.run_id, file, method, "8")),
    )
    assert (again.map == found.map).all() and not np.allclose(other.map, found.map)


@pytest.fixture
def unexplained(trained_copy: Trained) -> Trained:
    """A run of which no map is stored."""
    shutil.rmtree(runs.folder(trained_copy.run_id) / "maps", ignore_errors=True)
    return trained_copy


def test_a_map_is_computed_once_for_the_same_picture_class_settings_and_weights(unexplained: Trained, tmp_path: Path) -> None:
    run_id, files = unexplained.run_id, list(pictures(unexplained).values())
    first = explain.ask(run_id, files[0], "integrated_gradients", "3", {"steps": "8"})
    found = explain.answer(first)
    (renamed := tmp_path / "renamed.png").write_bytes(files[0].read_bytes())
    for again in (
        explain.ask(run_id, files[0], "integrated_gradients", "3", {"steps": 8}),
        explain.ask(run_id, renamed, "integrated_gradients", "3", {"steps": 8}),
    ):
        assert again.future is None and again.done and explain.progress(again) == (1, 1)
        stored = explain.answer(again)
        assert (
            (stored.map == found.map).all() and (stored.image == found.image).all() and stored.delta == found.delta and stored.target == "3"
        )
    others = [
        explain.ask(run_id, files[1], "integrated_gradients", "3", {"steps": 8}),
        explain.ask(run_id, files[0], "integrated_gradients", "4", {"steps": 8}),
        explain.ask(run_id, files[0], "integrated_gradients", "3", {"steps": 9}),
        explain.ask(run_id, files[0], "saliency", "3"),
    ]
    assert len({first.path, *(a.path for a in others)}) == 5 and all(a.future is not None for a in others)
    assert not any(np.allclose(explain.answer(a).map, found.map) for a in others)
    os.utime(runs.checkpoint(runs.folder(run_id)), ns=(1, 1))  # other weights
    assert explain.ask(run_id, files[0], "saliency", "3").path != others[3].path
    assert not [p for p in first.path.parent.iterdir() if p.suffix not in (".npz", ".json")]  # nothing of the questions is left


def test_two_who_ask_at_once_get_their_own_maps_and_each_can_stop_their_own(real_workers: None, unexplained: Trained) -> None:
    run_id, file = unexplained.run_id, next(iter(pictures(unexplained).values()))
    long = {"samples": 5000, "superpixels": 8}
    one = explain.ask(run_id, file, "kernel_shap", "1", long)
    two = explain.ask(run_id, file, "kernel_shap", "2", {"samples": 100, "superpixels": 8})
    same = explain.ask(run_id, file, "kernel_shap", "1", long)
    give_up = time.monotonic() + 60
    while explain.progress(one)[0] == 0 and not one.done:
        assert time.monotonic() < give_up
        time.sleep(0.005)
    assert explain.progress(one)[1] == 5000 and explain.progress(two) == (0, 0) and not two.done
    explain.stop(one)
    explain.stop(one)
    with pytest.raises(AppError, match="stopped"):
        explain.answer(one)
    assert explain.answer(two).target == "2"
    got = explain.answer(same)  # stopped by one of two who wanted it, and there for the other
    assert got.target == "1" and got.map.any()
    again = explain.ask(run_id, file, "kernel_shap", "3", long)
    waiting = explain.ask(run_id, file, "kernel_shap", "4", long)
    explain.stop(waiting)
    explain.stop(again)
    for stopped in (again, waiting):
        with pytest.raises(AppError, match="stopped"):
            explain.answer(stopped)
    explain.stop(two)  # too late, and no harm
    assert explain.answer(two).target == "2"
    assert not [p for p in one.path.parent.iterdir() if p.suffix not in (".npz", ".json")]


def test_predictions_are_answered_while_a_long_map_is_computed(unexplained: Trained) -> None:
    run_id, file = unexplained.run_id, next(iter(pictures(unexplained).values()))
    explain.answer(explain.ask(run_id, file, "saliency"))
    predict.predict(run_id, [file])
    launch.submit_slow(time.sleep, 20)
    waiting = explain.ask(run_id, file, "occlusion")
    start = time.monotonic()
    predict.predict(run_id, [file])
    assert time.monotonic() - start < 10 and not waiting.done
    assert launch.ask(os.getpid) != psutil.Process().pid
    launch.close()


@pytest.mark.parametrize(
    ("side", "seconds", "second"),
    [
        (28, None, "integrated_gradients"),
        (224, None, "feature_ablation"),
        (28, 0.1, "feature_ablation"),
        (224, 0.01, "integrated_gradients"),
    ],
)
def test_what_is_shown_before_anybody_has_chosen_takes_seconds(
    unexplained: Trained, monkeypatch: pytest.MonkeyPatch, side: int, seconds: float | None, second: str
) -> None:
    network = {**explain._network(runs.trained(unexplained.run_id)), "side": side}
    monkeypatch.setattr(explain, "_network", lambda path: network)
    monkeypatch.setattr(explain, "_speed", lambda run_id: {} if seconds is None else {"gradient": seconds})
    assert explain.at_first(unexplained.run_id) == ("grad_cam", second)


def test_a_map_of_few_passes_does_not_wait_behind_long_ones(unexplained: Trained) -> None:
    run_id, file = unexplained.run_id, next(iter(pictures(unexplained).values()))
    launch.submit_slow(time.sleep, 60)
    assert explain.answer(explain.ask(run_id, file, "grad_cam")).map.any()
    long = explain.ask(run_id, file, "occlusion")
    assert not long.done
    launch.ask(os.getpid)  # behind all that the quick worker was asked
    assert explain.pass_seconds(run_id, gradient=True) is None  # to measure takes seconds, in which predictions would wait
    launch.close()


def test_what_a_map_costs_is_known_beforehand_once_the_machine_has_made_one(unexplained: Trained) -> None:
    run_id, file = unexplained.run_id, next(iter(pictures(unexplained).values()))
    before = explain.cost(run_id, "integrated_gradients", {"steps": 40})
    assert before == explain.Cost(40, None)
    explain.answer(explain.ask(run_id, file, "saliency"))
    give_up = time.monotonic() + 60
    while (after := explain.cost(run_id, "integrated_gradients", {"steps": 40})).seconds is None:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    twice = explain.cost(run_id, "integrated_gradients", {"steps": 80})
    assert twice.passes == 80 and twice.seconds == pytest.approx(2 * after.seconds) and 0 < after.seconds < 20
    assert explain.cost(run_id, "occlusion", {"window": 4, "stride": 2}).passes == 1 + 9
    assert explain.cost(run_id, "kernel_shap").passes == 200
    explain.answer(explain.ask(run_id, file, "integrated_gradients"))  # of at most 257 passes
    needed, each = explain.cost(run_id, "integrated_gradients"), explain.pass_seconds(run_id, gradient=True)
    assert needed.passes == 257 and needed.seconds is not None and each is not None and needed.seconds <= 100 * each
    with pytest.raises(Invalid, match="steps"):
        explain.cost(run_id, "integrated_gradients", {"steps": 600})


def test_the_oldest_maps_go_when_there_are_too_many(unexplained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, files = unexplained.run_id, list(pictures(unexplained).values())
    asked = [explain.ask(run_id, file, "saliency", "3") for file in files[:3]]
    kept = [explain.answer(a).map for a in asked]
    for age, one in zip((30, 20, 10), asked, strict=True):
        os.utime(one.path, (time.time() - age,) * 2)
    assert (explain.answer(asked[0]).map == kept[0]).all()  # used again, it is the youngest
    monkeypatch.setattr(runs, "MOST_MAPS", 3 * asked[0].path.stat().st_size)
    features = asked[0].path.with_name("features.npz")  # no map, and minutes of work
    features.write_bytes(bytes(runs.MOST_MAPS))
    os.utime(features, (time.time() - 40,) * 2)
    runs.write_map(asked[0].path.with_name(f"{'0' * 32}.npz"), {"map": kept[0], "image": kept[0], "target": 0})
    assert asked[0].path.exists() and not asked[1].path.exists() and features.exists()
    with pytest.raises(NotFound, match="not stored any more"):
        explain.answer(asked[1])
    asked[0].path.write_bytes(b"half a map")
    with pytest.raises(Invalid, match="damaged"):
        explain.answer(asked[0])
    assert (
        not explain.ask(run_id, files[0], "saliency", "3").path.exists()
        and (explain.answer(explain.ask(run_id, files[0], "saliency", "3")).map == kept[0]).all()
    )


def test_a_picture_that_is_gone_or_none_is_refused_in_words(unexplained: Trained, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not there any more"):
        explain.ask(unexplained.run_id, tmp_path / "gone.png", "saliency")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(Invalid):
        explain.answer(explain.ask(unexplained.run_id, tmp_path / "text.png", "saliency"))


def test_what_a_network_supports_is_asked_once(unexplained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    found = explain.supported(unexplained.run_id)
    monkeypatch.setattr(launch, "ask", lambda *args: pytest.fail("the worker was asked again"))
    assert explain.supported(unexplained.run_id) == found == dict.fromkeys(methods.METHODS, "")
    (layer,) = explain.method_params(unexplained.run_id, "grad_cam")
    assert layer.default == "conv2" and layer.options == ("conv2", "conv1")
    with pytest.raises(Invalid, match="conv2, conv1"):
        explain.settings_of(unexplained.run_id, "guided_grad_cam", {"layer": "conv9"})
    assert [p.name for p in explain.method_params(unexplained.run_id, "occlusion")] == ["window", "stride", "baseline"]


def test_methods_and_targets_that_do_not_exist_are_refused(trained: Trained) -> None:
    file = next(iter(pictures(trained).values()))
    assert explain.supported(trained.run_id) == dict.fromkeys(methods.METHODS, "")
    with pytest.raises(Invalid, match="“horse” is not a class of this run"):
        explain.answer(explain.ask(trained.run_id, file, "saliency", "horse"))
    with pytest.raises(Invalid, match="no method called “magic”"):
        explain.answer(explain.ask(trained.run_id, file, "magic"))


def test_without_a_target_the_likeliest_class_is_explained(trained: Trained) -> None:
    file = next(iter(pictures(trained).values()))
    (answer,) = predict.predict(trained.run_id, [file])
    assert isinstance(answer, Prediction)
    assert explain.answer(explain.ask(trained.run_id, file, "saliency")).target == answer.top(1)[0][0]


def test_maps_and_overlays_are_png_pictures_red_for_and_blue_against() -> None:
    values = np.array([[1, 0], [0, -1]], np.float32)
    found = Attribution("r", "i", "saliency", "a", 0.5, np.full((2, 2, 3), 100, np.uint8), values, None)
    overlay = explain.overlay_png(found, opacity=1.0)
    assert overlay.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = np.asarray(Pillow.open(io.BytesIO(overlay)))
    assert pixels.shape == (2, 2, 3)
    assert pixels[0, 0, 0] > 190 > 60 > pixels[0, 0, 2] and pixels[1, 1, 2] > 180 > 60 > pixels[1, 1, 0]
    assert (pixels[0, 1] == 100).all()
    flat = np.asarray(Pillow.open(io.BytesIO(explain.map_png(values, explain.scale([values])))))
    assert flat.shape == (2, 2, 4) and flat[0, 1, 3] == 0 and flat[0, 0, 3] == 255
    empty = Attribution("r", "i", "saliency", "a", 0.5, found.image, np.zeros((2, 2), np.float32), None)
    assert (np.asarray(Pillow.open(io.BytesIO(explain.overlay_png(empty)))) == 100).all()
