"""Can a map be trusted: what is checked of it, what that costs, and what came out, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.catalog import params
from core.errors import Invalid
from core.explain import explain
from core.explain.explain import Asked, Cost
from core.runs import remote, runs
from core.types import Param

PARAMS: tuple[Param, ...] = (
    Param(
        "cover", "Covered with", "choice", "blur",
        "What a covered pixel becomes: that of the blurred picture, or the mean colour the network learned from.", "method",
        options=("blur", "grey"),
    ),
    Param(
        "steps", "Steps", "int", 20, "In how many equal steps the picture is covered, and shown again.", "method", low=4, high=200,
    ),
    Param(
        "draws", "Random orders", "int", 5,
        "How often the same is done at random: the map is moved and mirrored at random, so that it covers in patches of the same size.",
        "method", low=2, high=50,
    ),
    Param(
        "reverse", "Least important first", "bool", False,
        "Also cover the pixels in the reverse order: the farther both curves lie apart, the more the map knows.", "method",
    ),
    Param(
        "randomise", "Random weights", "choice", "whole",
        "Make all weights of a copy random, or layer by layer from the last to the first.", "method", options=("whole", "cascading"),
    ),
    Param(
        "networks", "Random networks", "int", 3, "With how many random networks the map is compared, where all weights are random.", "method",
        low=1, high=20,
    ),
    Param(
        "squares", "Squares", "int", 32, "How many squares are covered, one at a time, to see whether the map foretells the fall of the score.",
        "method", low=8, high=500,
    ),
    Param("noise", "Noisy copies", "int", 4, "How many copies with weak noise are explained, too.", "method", low=1, high=50),
    Param(
        "radius", "Noise", "float", 0.02,
        "The strongest noise, in standard deviations of the pixels; 0.02 is about one of 255 steps of brightness.", "method",
        low=0.0001, high=1.0,
    ),
    Param("seed", "Seed", "int", 0, "The same seed gives the same figures.", "method", low=0, high=2**31 - 1),
)  # fmt: skip
TITLES = {"blur": "The picture, blurred", "grey": "Mean colour", "whole": "All at once", "cascading": "Layer by layer"}

# The limits between the words are ours: no paper gives any.
LEAST_FALL = 0.05  # of the probability between the whole picture and the covered one; less, and a curve says nothing
SAME, PARTLY_SAME = 0.7, 0.4  # correlation with the map of a random network
COMPLETE, NEARLY_COMPLETE = 0.05, 0.2  # error of the sum, as a share of the change in score
FORETOLD, PARTLY_FORETOLD = 0.5, 0.1  # share of the fall in score that the map explains
STEADY, FAIRLY_STEADY = 0.2, 0.6  # change of the map under weak noise

Mark = Literal["good", "doubt", "bad", "undefined"]


@dataclass(frozen=True)
class Curves:
    """Probability of the class at steps + 1 equally spaced shares of pixels, 0 to 1."""

    own: tuple[float, ...]
    random: tuple[tuple[float, ...], ...]
    reverse: tuple[float, ...] | None

    @property
    def random_areas(self) -> list[float]:
        return [area(one) for one in self.random]


@dataclass(frozen=True)
class Similarity:
    """Of the map and that of a network whose weights are random; None where undefined."""

    share: float  # of the layers that are random
    rank: float | None  # Spearman's correlation of the values
    strength: float | None  # the same of their absolute values
    ssim: float | None

    @property
    def most(self) -> float | None:
        known = [value for value in (self.rank, self.strength) if value is not None]
        return max(known, default=None)


@dataclass(frozen=True, eq=False)
class Trust:
    """What was found about one method's map of one picture."""

    run_id: str
    image_id: str
    method: str
    target: str
    how: dict[str, Any]
    image: np.ndarray  # (H, W, 3) uint8
    map: np.ndarray  # (H, W) float32
    random_map: np.ndarray | None  # of a network with random weights
    deletion: Curves | None  # None: the map marks nothing
    insertion: Curves | None
    completeness: tuple[float, float] | None  # error of the sum, and the change in score that it should be; None: it promises no sum
    randomised: tuple[Similarity, ...]  # one for each random network
    infidelity: float | None  # mean squared error, of the scaled map (Yeh et al. 2019)
    unexplained: float | None  # the same as a share, 0 to 1
    agrees: bool  # whether the map's signs fit
    sensitivity: float | None  # greatest change of the map, as a share of it


@dataclass(frozen=True)
class Finding:
    """One check: a figure, and what it means."""

    name: str  # deletion, insertion, completeness, randomised, infidelity, sensitivity
    mark: Mark
    figure: str
    words: str


# Asking -------------------------------------------------------------------------------------------


def settings_of(how: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All settings of the checks, checked; Invalid names every problem."""
    return params.checked_settings("The check", PARAMS, how or {})


def cost(run_id: str, method: str, settings: Mapping[str, Any] | None = None, how: Mapping[str, Any] | None = None) -> Cost:
    """What the checks of one map take, about."""
    h, one = settings_of(how), explain.cost(run_id, method, settings)
    maps = 2 + (h["networks"] if h["randomise"] == "whole" else 5) + h["noise"]
    forward = 2 * (h["steps"] + 1) * (1 + h["reverse"] + h["draws"]) + 3 * h["squares"]
    seconds = explain.pass_seconds(run_id, gradient=False)
    known = None if one.seconds is None or seconds is None else maps * one.seconds + forward * seconds
    return Cost(maps * one.passes + forward, known)


@runs.needs("ask")
def ask(
    run_id: str,
    file: Path,
    method: str,
    target: str,
    settings: Mapping[str, Any] | None = None,
    how: Mapping[str, Any] | None = None,
) -> Asked:
    """Queues the checks of one map in the slow worker, unless their outcome is stored; progress and stop as of explain."""
    if why := explain.supported(run_id)[method]:
        raise Invalid(why)
    return explain.question(run_id, file, remote.trust.answer, *_question(run_id, method, target, settings, how))


def place(
    run_id: str,
    file: Path,
    method: str,
    target: str,
    settings: Mapping[str, Any] | None = None,
    how: Mapping[str, Any] | None = None,
) -> Path:
    """Where the outcome is stored, once it is."""
    return explain.place(run_id, file, *_question(run_id, method, target, settings, how))


def _question(
    run_id: str, method: str, target: str, settings: Mapping[str, Any] | None, how: Mapping[str, Any] | None
) -> tuple[str, int, dict[str, Any], dict[str, Any]]:
    classes = runs.load(runs.trained(run_id)).classes
    if target not in classes:
        raise Invalid(f"“{target}” is not a class of this run.", f"Its classes are: {', '.join(classes)}.")
    return method, classes.index(target), explain.settings_of(run_id, method, settings), settings_of(how)


def answer(asked: Asked) -> Trust:
    """Waits for the outcome; AppError where there is none."""
    row = explain.wait(asked)
    told = row["infidelity"] or {}
    return Trust(
        run_id=asked.run_id,
        image_id=asked.image_id,
        method=asked.method,
        target=runs.load(runs.trained(asked.run_id)).classes[row["target"]],
        how=row["how"],
        image=row["image"],
        map=row["map"],
        random_map=row["random_map"],
        deletion=_curves(row["deletion"]),
        insertion=_curves(row["insertion"]),
        completeness=None if row["completeness"] is None else tuple(row["completeness"]),
        randomised=tuple(Similarity(**one) for one in row["randomised"]),
        infidelity=told.get("infidelity"),
        unexplained=told.get("unexplained"),
        agrees=told.get("agrees", True),
        sensitivity=row["sensitivity"],
    )


def _curves(row: Mapping[str, Any] | None) -> Curves | None:
    if row is None:
        return None
    reverse = None if row["reverse"] is None else tuple(row["reverse"])
    return Curves(tuple(row["own"]), tuple(tuple(one) for one in row["random"]), reverse)


# In words -----------------------------------------------------------------------------------------


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def area(probabilities: Sequence[float]) -> float:
    """Under a curve over shares of 0 to 1, by trapezoids: its mean height."""
    return float(np.trapezoid(probabilities, dx=1 / (len(probabilities) - 1)))


def findings(t: Trust) -> list[Finding]:
    """The outcome of each check, in the order of the table."""
    return [
        _covering("deletion", t.deletion),
        _covering("insertion", t.insertion),
        _completeness(t.completeness),
        _randomised(t),
        _infidelity(t),
        _sensitivity(t.sensitivity),
    ]


def _covering(name: str, curves: Curves | None) -> Finding:
    if curves is None:
        return Finding(name, "bad", "undefined", "The map is the same everywhere: it marks nothing that could come first.")
    ends = (curves.own[0], curves.own[-1])
    whole, covered = ends if name == "deletion" else ends[::-1]
    own, random = area(curves.own), curves.random_areas
    figure = f"{own:.2f} (random {np.mean(random):.2f})"
    if whole - covered < LEAST_FALL:
        return Finding(
            name, "undefined", figure,
            f"Says nothing here: the answer is {whole:.0%} with the whole picture and {covered:.0%} with all of it covered.",
        )  # fmt: skip
    act, does = ("Covering", "changes the answer") if name == "deletion" else ("Showing", "brings the answer back")
    better = own < min(random) if name == "deletion" else own > max(random)
    worse = own > max(random) if name == "deletion" else own < min(random)
    mean = float(np.mean(random))
    ahead = own < mean if name == "deletion" else own > mean
    chance = "sooner on average, though not more so than chance brings about, than" if ahead else "no sooner than"
    how = "sooner than" if better else "later than" if worse else chance
    beside = f"area {own:.2f} against {np.mean(random):.2f} ({len(random)} random orders, {min(random):.2f} to {max(random):.2f})"
    return Finding(
        name,
        "good" if better else "bad" if worse else "doubt",
        figure,
        f"{act} what it marks first {does} {how} {act.lower()} at random: {beside}.",
    )


def _completeness(found: tuple[float, float] | None) -> Finding:
    if found is None:
        return Finding("completeness", "undefined", "–", "This method does not promise that its parts add up to anything.")
    delta, change = found
    if abs(change) < LEAST_FALL:
        return Finding(
            "completeness", "undefined", "undefined",
            f"The score changes by {_two(change)} only from the picture without evidence to this one, so no share of it can be given.",
        )  # fmt: skip
    error = abs(delta / change)
    mark: Mark = "good" if error <= COMPLETE else "doubt" if error <= NEARLY_COMPLETE else "bad"
    does = {"good": "add up", "doubt": "nearly add up", "bad": "do not add up"}[mark]
    return Finding(
        "completeness",
        mark,
        f"{error:.0%} off",
        f"Its parts {does} to the change in score: off by {error:.0%} ({_two(delta)} of {_two(change)}).",
    )


def _randomised(t: Trust) -> Finding:
    whole = [one for one in t.randomised if one.share == 1]
    known = [one.most for one in whole if one.most is not None]
    if not t.randomised:
        return Finding("randomised", "undefined", "–", "This network has no weights that could be made random.")
    if not known:
        return Finding("randomised", "undefined", "undefined", "A network with random weights gives a map that is the same everywhere.")
    mean = float(np.mean(known))
    ssim = [one.ssim for one in whole if one.ssim is not None]
    of = f"{len(known)} random networks, {_two(min(known))} to {_two(max(known))}" if len(known) > 1 else "1 random network"
    beside = f"rank correlation {_two(mean)} ({of})" + (f", SSIM {_two(float(np.mean(ssim)))}" if ssim else "")
    if mean >= SAME:
        return Finding(
            "randomised", "bad", f"{_two(mean)}", f"This map would look the same for a network that has learned nothing: {beside}."
        )
    if mean >= PARTLY_SAME:
        return Finding(
            "randomised",
            "doubt",
            f"{_two(mean)}",
            f"Part of this map would look the same for a network that has learned nothing: {beside}.",
        )
    return Finding("randomised", "good", f"{_two(mean)}", f"For a network that has learned nothing the map is another one: {beside}.")


def _infidelity(t: Trust) -> Finding:
    if t.unexplained is None:
        return Finding("infidelity", "undefined", "undefined", "Covering squares changes nothing, or the map is 0 on all of them.")
    explained = 1 - t.unexplained
    beside = f"{explained:.0%} of the change in score under {t.how['squares']} covered squares (mean squared error {t.infidelity:.3g})"
    if not t.agrees:
        return Finding(
            "infidelity",
            "bad",
            f"{t.unexplained:.2f}",
            f"Covering what it marks as for raises the score: it foretells the opposite of what happens, {beside}.",
        )
    mark: Mark = "good" if explained >= FORETOLD else "doubt" if explained >= PARTLY_FORETOLD else "bad"
    does = {"good": "most", "doubt": "a part", "bad": "hardly anything"}[mark]
    return Finding("infidelity", mark, f"{t.unexplained:.2f}", f"It foretells {does} of what covering a square does: {beside}.")


def _sensitivity(value: float | None) -> Finding:
    if value is None:
        return Finding("sensitivity", "undefined", "undefined", "The map under noise is not a number.")
    mark: Mark = "good" if value <= STEADY else "doubt" if value <= FAIRLY_STEADY else "bad"
    does = {"good": "hardly changes it", "doubt": "changes it", "bad": "makes another map of it"}[mark]
    return Finding("sensitivity", mark, f"{value:.2f}", f"Noise too weak to see {does}: by {value:.0%} of its strength at most.")
