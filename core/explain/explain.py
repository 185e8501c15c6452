"""Why a network answered as it did: attribution maps over the picture it saw."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import processes, storage
from core.catalog import methods
from core.data import images
from core.errors import AppError, Invalid, NotFound
from core.runs import launch, runs
from core.runs.remote import attribute, infer
from core.types import Attribution, Param

CODE = 1  # raised when a method, or what is known of a network, comes out otherwise: what older code has stored is asked anew
FEW, SOON = 2, 2.0  # passes, and seconds, of a map that the quick worker makes
LONG = 5.0  # seconds of a map that nobody has asked for
PHOTOGRAPH = 96  # pixels of a side from which on a network is taken for slow, until its first map tells
RED, BLUE = (214, 39, 40), (31, 93, 200)


@dataclass(frozen=True)
class Cost:
    """What a map takes."""

    passes: int  # of one picture through the network, forward and in a gradient method backward
    seconds: float | None  # about, of a model worker; None until the run's first map


@dataclass(frozen=True, eq=False)
class Asked:
    """A map that is on its way or there; whoever asks has their own."""

    run_id: str
    image_id: str
    method: str
    settings: dict[str, Any]
    path: Path  # of the stored map
    future: Future[Any] | None  # None: it was there
    token: str  # of this question

    @property
    def done(self) -> bool:
        """Whether answer() returns, or raises, at once."""
        return self.future is None or self.future.done()


# The network --------------------------------------------------------------------------------------


@runs.needs("see")
def expect(run_id: str) -> None:
    """The slow worker loads the run's network meanwhile, and what a map needs: somebody is about to ask for one."""
    launch.submit_slow(infer.warm, str(runs.trained(run_id)))
    launch.submit_slow(infer.load_module, "core.ml.attribute")


def supported(run_id: str) -> dict[str, str]:
    """Every method, and why the run's network does not support it; "" where it does."""
    why = _network(runs.trained(run_id))["unsupported"]
    return {name: why[name] for name in methods.METHODS}


@runs.needs("see")
def method_params(run_id: str, method: str) -> tuple[Param, ...]:
    """The settings of a method, with the layers of the run's network to choose from."""
    facts = methods.method(method)
    if not facts.chooses_layer:
        return facts.params
    return tuple(methods.with_layers(p, _network(runs.trained(run_id))["layers"]) for p in facts.params)


def settings_of(run_id: str, method: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All settings of a method, checked; Invalid names every problem."""
    path = runs.trained(run_id)
    layers = _network(path)["layers"] if methods.method(method).chooses_layer else ()
    return methods.method_settings(method, settings or {}, layers)


def cost(run_id: str, method: str, settings: Mapping[str, Any] | None = None) -> Cost:
    network = _network(runs.trained(run_id))
    count = methods.passes(method, settings_of(run_id, method, settings), network["side"], network["side"])
    seconds = pass_seconds(run_id, methods.METHODS[method].gradient)
    return Cost(count, None if seconds is None else _speed(run_id).get(f"{method} {count}", count) * seconds)


@runs.needs("see")
def at_first(run_id: str) -> tuple[str, str]:
    """The methods that are shown before anybody has chosen: those of seconds, Feature Ablation where Integrated Gradients takes long."""
    seconds = cost(run_id, "integrated_gradients").seconds
    slow = _network(runs.trained(run_id))["side"] >= PHOTOGRAPH if seconds is None else seconds > LONG
    return "grad_cam", "feature_ablation" if slow else "integrated_gradients"


def pass_seconds(run_id: str, gradient: bool) -> float | None:
    """Seconds of a model worker for one picture's pass, as the latest maps took; None until the run's first map."""
    return _speed(run_id).get("gradient" if gradient else "forward")


def _speed(run_id: str) -> dict[str, float]:
    try:
        found: dict[str, float] = runs.read_json(runs.maps_folder(runs.trained(run_id)) / "speed.json")
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _network(path: Path) -> dict[str, Any]:
    """What the model worker knows of the run's network; asked once for the same weights and methods."""
    file = runs.maps_folder(path) / "network.json"
    with contextlib.suppress(FileNotFoundError, ValueError):
        stored: dict[str, Any] = runs.read_json(file)
        if stored["code"] == CODE and stored["unsupported"].keys() == methods.METHODS.keys():
            return stored
    found = {**launch.ask(attribute.describe, str(path)), "code": CODE}
    file.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(file, found)
    return found


# Maps ---------------------------------------------------------------------------------------------


@runs.needs("ask")
def ask(
    run_id: str,
    file: Path,
    method: str,
    target: str | None = None,
    settings: Mapping[str, Any] | None = None,
    quick: bool = True,
    shared: bool = True,
) -> Asked:
    """Queues one map, unless it is stored; read it with answer(). No target: the likeliest class. Not shared: nobody else finds it.

    In the slow worker, but for a map of few passes, if it may be quick: it does not wait behind long ones, nor for that worker to load
    PyTorch.
    """
    path = runs.trained(run_id)
    checked = settings_of(run_id, method, settings)
    classes = runs.load(path).classes
    if target is not None and target not in classes:
        raise Invalid(f"“{target}” is not a class of this run.", f"Its classes are: {', '.join(classes)}.")
    if why := supported(run_id)[method]:
        raise Invalid(why)
    wanted = cost(run_id, method, checked)
    submit = launch.submit if quick and wanted.passes <= FEW and (wanted.seconds or 0) < SOON else launch.submit_slow
    number = None if target is None else classes.index(target)
    return question(run_id, file, attribute.answer, method, number, checked, submit=submit, shared=shared)


@runs.needs("ask")
def question(
    run_id: str,
    file: Path,
    answer: Callable[..., None],
    method: str,
    target: int | None,
    checked: dict[str, Any],
    *more: Any,
    submit: Callable[..., Future[Any]] = launch.submit_slow,
    shared: bool = True,
) -> Asked:
    """Queues the answer of the method's map with more plain arguments, unless what it writes is stored."""
    path, stored = runs.trained(run_id), place(run_id, file, method, target, checked, *more)
    token = f"{processes.own()}-{secrets.token_hex(4)}"
    if stored.exists():
        return Asked(run_id, file.stem, method, checked, stored, None, token)
    if not shared:
        stored = stored.with_stem(secrets.token_hex(16))  # named as the others are, so that it goes with them if its server dies
    stored.parent.mkdir(parents=True, exist_ok=True)
    files = [str(stored), str(_progress(stored, token)), str(_stop(stored, token))]
    future = submit(answer, str(path), str(file), method, target, checked, *more, *files)
    if not (speed := stored.with_name("speed.json")).exists():
        launch.submit_slow(attribute.measure, str(path), str(speed))  # it takes a second or more, in which predictions would wait
    return Asked(run_id, file.stem, method, checked, stored, future, token)


@runs.needs("see")
def place(run_id: str, file: Path, *asked: Any) -> Path:
    """Where the answer to a question about a picture is stored, once it is."""
    try:
        picture = hashlib.sha256(storage.local(file).read_bytes()).hexdigest()
    except OSError:
        raise NotFound(f"The picture {file.name} is not there any more.", "It may have been deleted. Choose another one.") from None
    key = hashlib.sha256(json.dumps([CODE, picture, *asked], sort_keys=True).encode()).hexdigest()[:32]
    return runs.maps_folder(runs.trained(run_id)) / f"{key}.npz"


def progress(asked: Asked) -> tuple[int, int]:
    """Passes done and in all; (0, 0) while it waits for its turn, (1, 1) when it is done."""
    if asked.done:
        return 1, 1
    with contextlib.suppress(FileNotFoundError, ValueError):
        done, total = _progress(asked.path, asked.token).read_text(encoding="ascii").split()
        return int(done), int(total)
    return 0, 0


def stop(asked: Asked) -> None:
    """Ends this question, and nobody else's; answer() then raises."""
    if asked.future is not None and not asked.future.cancel() and not asked.done:
        _stop(asked.path, asked.token).touch()


def answer(asked: Asked, seconds: float | None = None) -> Attribution:
    """Waits for the map, TimeoutError after so long; AppError where there is none: it was stopped, or the picture cannot be read."""
    row = wait(asked, seconds)
    target = runs.load(runs.trained(asked.run_id)).classes[row["target"]]
    facts = (row["image"], row["map"], row["delta"], row["change"], tuple(row["notes"]))
    return Attribution(asked.run_id, asked.image_id, asked.method, target, row["probability"], *facts)


def wait(asked: Asked, seconds: float | None = None) -> dict[str, Any]:
    """What was written in answer to a question."""
    if asked.future is not None:
        try:
            launch.result(asked.future, seconds)
        except CancelledError:
            raise AppError("It was stopped before it was begun.", "Ask for it again.") from None
    try:
        return runs.read_map(asked.path)
    except FileNotFoundError:
        raise NotFound("This map is not stored any more.", "Ask for it again.") from None


def _progress(path: Path, token: str) -> Path:
    return path.with_name(f"{path.stem}-{token}.progress")


def _stop(path: Path, token: str) -> Path:
    return path.with_name(f"{path.stem}-{token}.stop")


# Pictures -----------------------------------------------------------------------------------------


def scale(maps: list[np.ndarray]) -> float:
    """One colour scale for maps that are compared: their 99.5th percentile of strength."""
    return float(max((np.percentile(np.abs(m), 99.5) for m in maps), default=1.0)) or 1.0


def map_png(values: np.ndarray, strength: float, top: float = 1.0) -> bytes:
    """(H, W) signed values as a PNG: red for, blue against, more opaque where stronger; top: the share of pixels that is shown."""
    if top < 1:
        values = np.where(np.abs(values) >= np.quantile(np.abs(values), 1 - top), values, 0)
    alpha = np.clip(np.abs(values) / strength, 0, 1)
    rgba = np.empty((*values.shape, 4), np.uint8)
    rgba[..., :3] = np.where(values[..., None] >= 0, RED, BLUE)
    rgba[..., 3] = (alpha * 255).round()
    return images.png(rgba)


def picture_png(attribution: Attribution) -> bytes:
    """The picture the network saw."""
    return images.png(attribution.image)


def overlay_png(attribution: Attribution, opacity: float = 0.7, strength: float | None = None) -> bytes:
    """The map laid over the picture the network saw, in one file; strength: a scale it shares with other maps."""
    values, strength = attribution.map, strength or scale([attribution.map])
    alpha = (np.clip(np.abs(values) / strength, 0, 1) * opacity)[..., None]
    colour = np.where(values[..., None] >= 0, RED, BLUE)
    return images.png((attribution.image * (1 - alpha) + colour * alpha).round().astype(np.uint8))
