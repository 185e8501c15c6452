"""Pictures of several frames: which frame's answer counts, and how that is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.types import FrameAnswer, Prediction


def counts(frames: Sequence[FrameAnswer], classes: Sequence[str], trained: Mapping[str, int]) -> FrameAnswer:
    """The frame whose answer is that of the whole picture: the one answered with the class rarest in training, there the most certain.

    There is no policy of risks yet; a moderator's risk is rarely the most frequent class.
    trained: training images by class.
    """
    return min(frames, key=lambda frame: (trained.get(_top(frame, classes), 0), -max(frame.probabilities)))


def _top(frame: FrameAnswer, classes: Sequence[str]) -> str:
    return classes[frame.probabilities.index(max(frame.probabilities))]


def judged(answer: Prediction, frames: Sequence[FrameAnswer], total: int, trained: Mapping[str, int]) -> Prediction:
    """The answer of a picture of so many frames, from those that were judged."""
    chosen = counts(frames, answer.classes, trained)
    note = _note(chosen, frames, total, answer.classes, trained)
    return replace(answer, probabilities=chosen.probabilities, frames=tuple(frames), frame=chosen.number, note=note)


def top(answer: Prediction, frame: FrameAnswer) -> tuple[str, float]:
    """A frame's likeliest class and its probability."""
    return _top(frame, answer.classes), max(frame.probabilities)


def _note(chosen: FrameAnswer, frames: Sequence[FrameAnswer], total: int, classes: Sequence[str], trained: Mapping[str, int]) -> str:
    answered = Counter(_top(frame, classes) for frame in frames)
    label, certain = _top(chosen, classes), f"{max(chosen.probabilities):.1%}"
    which = f"Frame {chosen.number:,} of {total:,}"
    some = f" {len(frames):,} of the {total:,} were judged, evenly spaced, the first and the last included." if len(frames) < total else ""
    if len(answered) == 1:
        all_of = f"All {len(frames):,} judged frames" if some else f"All {total:,} frames"
        return f"{all_of} are answered {label}; {which[0].lower()}{which[1:]} is the most certain ({certain}): that answer counts.{some}"
    others = {name: trained.get(name, 0) for name in answered if name != label}
    mine = trained.get(label, 0)
    if min(others.values()) == mine:
        why = "the most certain of those that training had fewest images of"
    elif mine == min(trained.get(name, 0) for name in classes):
        why = "the rarest class in training"
    else:
        why = "of the classes answered the rarest in training"
    answered[label] -= 1
    rest = ", ".join(f"{n:,} {name}" for name, n in answered.most_common() if n)
    n = len(frames) - 1
    said = (
        f"The other {n:,} {'is' if n == 1 else 'are'} answered {next(name for name, k in answered.items() if k)}."
        if sum(k > 0 for k in answered.values()) == 1
        else f"The other {n:,} are answered: {rest}."
    )
    return f"{which} is answered {label} ({certain}), {why}: that answer counts. {said}{some}"
