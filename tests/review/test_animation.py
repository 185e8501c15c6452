"""Animated pictures: all frames are judged, the riskiest answer counts, and Predict, Review and the command line say so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image as Pillow
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from core.api import signing
from core.api.routes import ROUTES
from core.data import uploads
from core.review import animation, predict, review
from core.runs import launch, runs
from core.types import FrameAnswer, Prediction
from tests import reviewing
from tests.conftest import Trained
from tests.data.animated import animation as gif
from tests.held_out import pictures
from tests.pages.app import elements, opened, words

CLASSES = ("approved", "risk", "spam")
TRAINED = {"approved": 900, "risk": 40, "spam": 300}


def answered(*frames: tuple[str, float], total: int = 0, trained: dict[str, int] = TRAINED) -> Prediction:
    def row(label: str, p: float) -> tuple[float, ...]:
        return tuple(p if name == label else (1 - p) / 2 for name in CLASSES)

    judged = [FrameAnswer(i + 1, row(label, p)) for i, (label, p) in enumerate(frames)]
    return animation.judged(Prediction("a.gif", "0", CLASSES, ()), judged, total or len(frames), trained)


def test_the_frame_answered_with_the_class_rarest_in_training_counts_however_certain_the_others_are() -> None:
    found = answered(*[("approved", 0.99)] * 6, ("risk", 0.55), *[("spam", 0.97)] * 5)
    assert (found.frame, found.top(1), len(found.frames)) == (7, [("risk", 0.55)], 12)
    assert found.note.startswith("Frame 7 of 12 is answered risk (55.0%), the rarest class in training: that answer counts.")
    assert "The other 11 are answered: 6 approved, 5 spam." in found.note


def test_of_frames_answered_alike_the_most_certain_counts_and_of_those_the_first() -> None:
    found = answered(("approved", 0.99), ("risk", 0.6), ("risk", 0.9), ("risk", 0.9))
    assert found.frame == 3
    alike = answered(("approved", 0.8), ("approved", 0.9))
    assert alike.note == "All 2 frames are answered approved; frame 2 of 2 is the most certain (90.0%): that answer counts."


def test_a_class_that_is_the_rarest_only_of_those_answered_is_said_to_be_that() -> None:
    found = answered(("approved", 0.99), ("spam", 0.9))
    assert "of the classes answered the rarest in training" in found.note and found.note.endswith("The other 1 is answered approved.")


def test_among_classes_that_are_equally_rare_the_most_certain_frame_counts_and_the_words_say_that() -> None:
    found = answered(("approved", 0.7), ("risk", 0.9), trained={"approved": 5, "risk": 5, "spam": 9})
    assert found.frame == 2 and "the most certain of those that training had fewest images of" in found.note


def test_a_class_that_training_never_saw_counts_as_the_rarest() -> None:
    assert answered(("risk", 0.9), ("spam", 0.5), trained={"approved": 9, "risk": 1}).frame == 2


def test_it_is_said_when_not_every_frame_was_judged() -> None:
    found = answered(("approved", 0.99), ("risk", 0.9), total=1000)
    assert "Frame 2 of 1,000" in found.note and "2 of the 1,000 were judged, evenly spaced" in found.note


def bait(trained: Trained, tmp_path: Path) -> tuple[Path, list[Prediction]]:
    """An animation of pictures that the run answers differently, and its answer to each as a still; the riskiest is not the first."""
    files = [f for _, f in sorted(pictures(trained).items())][:30]
    counted = Counter(r.label for r in runs.snapshot_rows(runs.folder(trained.run_id)) if r.split == "train")
    stills = [a for a in predict.predict(trained.run_id, files) if isinstance(a, Prediction)]
    order = sorted(range(len(stills)), key=lambda i: -counted[stills[i].top(1)[0][0]])  # frequent answers first
    frames = [Pillow.open(files[i]).convert("L") for i in order]
    frames[0].save(tmp_path / "bait.png", save_all=True, append_images=frames[1:])
    return tmp_path / "bait.png", [stills[i] for i in order]


def test_every_frame_gets_the_answer_that_it_gets_as_a_still(trained: Trained, tmp_path: Path) -> None:
    file, stills = bait(trained, tmp_path)
    (tmp_path / "one.gif").write_bytes(gif([90]))
    (tmp_path / "cut.gif").write_bytes(gif([20, 90], size=(200, 200))[:-60])
    found, still, cut = predict.predict(trained.run_id, [file, tmp_path / "one.gif", tmp_path / "cut.gif"])
    assert isinstance(found, Prediction) and isinstance(still, Prediction) and isinstance(cut, predict.Failure)
    assert [one.number for one in found.frames] == list(range(1, len(stills) + 1))
    for one, alone in zip(found.frames, stills, strict=True):
        assert one.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    assert found.frame > 1 and found.top(1)[0][0] != stills[0].top(1)[0][0]  # its first frame is harmless
    assert (still.frames, still.frame, still.note) == ((), 1, "") and "Frame 2 of 2" in cut.message


def test_a_thousand_frames_are_64_answers_with_the_first_and_the_last(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "long.gif").write_bytes(gif([i % 200 + 20 for i in range(1000)], size=(8, 8)))
    (found,) = predict.predict(trained.run_id, [tmp_path / "long.gif"])
    assert isinstance(found, Prediction) and len(found.frames) == 64
    assert (found.frames[0].number, found.frames[-1].number) == (1, 1000) and "64 of the 1,000 were judged" in found.note


def test_the_command_says_which_frame_counts(trained: Trained, tmp_path: Path, command: Callable[..., CompletedProcess[str]]) -> None:
    file, stills = bait(trained, tmp_path)
    done = command("predict", trained.run_id, str(file))
    (row,) = json.loads(done.stdout)
    assert row["frame"] > 1 and row["note"].startswith(f"Frame {row['frame']} of {len(stills)}") and "that answer counts" in done.stderr


def strip(app: AppTest) -> str:
    """What stands under the picture."""
    return next(str(e.proto.body) for e in elements(app, "html") if 'class="frames"' in str(e.proto.body))


def shows(app: AppTest, address: str) -> bool:
    return any(f"{address}?" in str(e.proto.body) for e in elements(app, "html"))


def test_predict_and_review_show_the_frame_that_counts_and_all_others(
    trained_copy: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.close()  # a worker that another test started looks into that test's home
    file, _ = bait(trained_copy, tmp_path)
    kept = uploads.keep("bait.png", file.read_bytes())
    (answer,) = predict.predict(trained_copy.run_id, [kept.path], ["bait.png"])
    assert isinstance(answer, Prediction) and answer.frame > 1
    address = f"/uploaded/{kept.path.name}/{answer.frame}"
    page = opened("predict", dataset=trained_copy.dataset.name)
    page.session_state["brought"] = {kept.id: kept}
    page.run()
    assert not page.exception and "that answer counts" in words(page) and shows(page, address)
    assert strip(page).count('class="frame-picture"') == len(answer.frames)

    assert review.submit(trained_copy.dataset.id, trained_copy.run_id, answer, "Ann")
    (waiting,) = reviewing.waiting(trained_copy.dataset.id)
    assert waiting.predicted == answer.top(1)[0][0]
    told = about(waiting.id)
    assert "that answer counts" in told["note"] and told["url"].startswith(f"{address}?") and "first frame" in told["learned"]
    assert (told["counts"], len(told["answers"])) == (answer.frame, len(answer.frames))
    assert [answer.frame, waiting.predicted] in [one[:2] for one in told["answers"]]
    monkeypatch.setattr(review, "is_blind", lambda _: True)
    hidden = about(waiting.id)
    assert (
        hidden["note"] == "" and hidden["url"].startswith(f"{address}?") and {tuple(one[1:]) for one in hidden["answers"]} == {(None, None)}
    )


def about(submission_id: int) -> dict[str, Any]:
    """What the queue says of a picture's frames."""
    client = TestClient(Starlette(routes=ROUTES))
    answer = client.get(f"/api/review/about/{submission_id}", headers={"X-Loupe-Token": signing.token("Ann")})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["frames"])


def test_what_was_sent_with_the_answer_of_its_first_frame_is_said_to_have_been(trained_copy: Trained, tmp_path: Path) -> None:
    launch.close()
    file, stills = bait(trained_copy, tmp_path)
    kept = uploads.keep("bait.png", file.read_bytes())
    old = replace(stills[0], file="bait.png", image_id=kept.id)
    assert review.submit(trained_copy.dataset.id, trained_copy.run_id, old, "Ann")
    (waiting,) = reviewing.waiting(trained_copy.dataset.id)
    told = about(waiting.id)  # the page compares the two
    (counts,) = [label for frame, label, _ in told["answers"] if frame == told["counts"]]
    assert waiting.predicted == stills[0].top(1)[0][0] != counts


def test_a_frame_and_the_sheet_of_all_have_signed_addresses_of_their_own(trained_copy: Trained) -> None:
    launch.close()
    kept = uploads.keep("a.gif", gif([20, 90, 160]))
    client = TestClient(Starlette(routes=ROUTES))
    first, third, sheet = (
        client.get(u) for u in (signing.upload_url(1, kept.path), signing.upload_url(1, kept.path, 3), signing.frames_url(1, kept.path))
    )
    assert [r.status_code for r in (first, third, sheet)] == [200] * 3 and len({first.content, third.content, sheet.content}) == 3
    assert client.get(f"/uploaded/{kept.path.name}/3").status_code == client.get(f"/uploaded/{kept.path.name}/frames").status_code == 403
    asked = predict.keep_frame(kept, 2)
    assert asked.name == "a.gif, frame 2" and Pillow.open(asked.path).convert("L").getpixel((5, 5)) == 90
