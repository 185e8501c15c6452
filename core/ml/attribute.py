"""Which pixels spoke for a class: the methods of core.ml.methods on a run's own network and preprocessing."""

from __future__ import annotations

import copy
import importlib
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from core.catalog import methods
from core.data import images
from core.errors import AppError, Invalid, Stopped
from core.ml.baselines import baseline, extremes
from core.ml.devices import out_of_memory, unused_gpu
from core.ml.forward_passes import GRADIENT_BATCH, Counted, ForwardPasses, Tick, answers, enough_memory, largest_batch, merged, remembered
from core.ml.infer import loaded, normalised, probabilities, read
from core.ml.model import LoadedModel
from core.ml.rewrite import Different, Rewritten, copy_for, has_copy, noise
from core.ml.similarity import Similarity
from core.ml.superpixels import superpixels
from core.runs import runs
from core.types import Method


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of N pictures, signed: positive speaks for the target."""

    map: np.ndarray  # (N, H, W) float32
    delta: np.ndarray | None  # (N,) float64: what the parts add up to, less change; None where a method promises no sum
    change: np.ndarray | None  # (N,) float64: in score, that the parts should add up to
    notes: tuple[str, ...] = ()  # what the reader of these maps must know, in sentences
    passes: int = 0  # through the network for them, and none that was remembered
    seconds: float = 0.0
    device: str = "cpu"


@dataclass
class Batch:
    """Pictures as a method receives them: several if it is batched, else one."""

    method: Method
    network: LoadedModel
    x: Tensor  # (n, C, H, W), normalised
    targets: list[int]
    settings: Mapping[str, Any]
    internal_batch_size: int  # pictures that fit into one call of the network, as Captum names it
    forward: ForwardPasses  # the network, counted: (N, C, H, W) to (N, classes) logits
    notes: list[str] = field(default_factory=list)  # what the reader of the map must know, in sentences
    change: Tensor | None = None  # (n,) in score, that the parts should add up to, where the method has found it out

    @property
    def target(self) -> Any:
        return self.targets[0] if len(self.targets) == 1 else torch.tensor(self.targets, device=self.x.device)

    @property
    def baseline(self) -> Tensor:
        """(n, C, H, W) pictures without evidence, of the kind that the settings name."""
        return baseline(self.network.preprocess, self.x, self.settings["baseline"])

    @property
    def extremes(self) -> tuple[Tensor, Tensor]:
        """Black and white as the network receives them, (1, C, 1, 1)."""
        black, white = extremes(self.network.preprocess)
        return black.to(self.x.device), white.to(self.x.device)

    @property
    def superpixels(self) -> Tensor:
        """(1, 1, H, W) numbers of the picture's superpixels, about as many as the settings say."""
        regions = superpixels(self.x[0], self.network.preprocess, self.settings["superpixels"])
        return torch.from_numpy(regions)[None, None].to(self.x.device)

    @property
    def layer(self) -> nn.Module:
        return self.network.model.get_submodule(self.settings["layer"] or self.network.architecture.cam_layer)

    def regions(self, relu: bool) -> Tensor:
        """(n, 1, H, W) Grad-CAM of the layer; relu: without what speaks against the class.

        Slopes are followed back to the layer and no further, so what lies before it keeps nothing for the way back.
        """
        from captum.attr import LayerAttribution, LayerGradCam

        begins = self.layer.register_forward_hook(lambda module, given, out: out.detach().requires_grad_().clone())
        try:
            coarse = LayerGradCam(self.forward, self.layer).attribute(self.x, target=self.target, relu_attributions=relu)
        finally:
            begins.remove()
        wide: Tensor = LayerAttribution.interpolate(coarse, self.x.shape[2:], "bilinear")
        return wide

    @property
    def copy(self) -> Rewritten:
        """The network rewritten, for a method whose record asks for it."""
        return copy_for(self.network)


# Asking -------------------------------------------------------------------------------------------


def attribute(
    run_folder: str, file: str, method: str, target: int | None, settings: Mapping[str, Any] | None = None, tick: Tick | None = None
) -> dict[str, Any]:
    """The map of one picture for one class's logit (None: the likeliest), beside the picture the network saw.

    image (H, W, 3) uint8, map (H, W) float32, target, probability, probabilities, delta, change, notes; made: the Maps.
    """
    methods.method(method)
    found = loaded(run_folder)
    if target is not None and not 0 <= target < len(found.classes):
        raise Invalid(f"There is no class number {target}.", f"This run has {len(found.classes)} classes, counted from 0.")
    array = read(file, found.preprocess)
    x = normalised([array], found.preprocess)
    with torch.inference_mode():
        chances = probabilities(found.model(x))[0]
    wanted = int(np.argmax(chances)) if target is None else target
    maps_ = maps(found, x, method, [wanted], settings, tick)
    return {
        "image": images.as_seen(array),
        "map": maps_.map[0],
        "target": wanted,
        "probability": chances[wanted],
        "probabilities": chances,
        "delta": None if maps_.delta is None else float(maps_.delta[0]),
        "change": None if maps_.change is None else float(maps_.change[0]),
        "notes": maps_.notes,
        "made": maps_,
    }


def answer(
    run_folder: str, file: str, method: str, target: int | None, settings: Mapping[str, Any], out: str, progress: str, stop: str
) -> None:
    """Writes the map into the file out."""

    def work(tick: Tick) -> dict[str, Any]:
        row = attribute(run_folder, file, method, target, settings, tick)
        height, width = row["map"].shape
        learned(Path(out).with_name("speed.json"), methods.method(method), row["made"], methods.passes(method, settings, height, width))
        return {key: value for key, value in row.items() if key not in ("probabilities", "made")}

    written(work, out, progress, stop)


def written(work: Callable[[Tick], dict[str, Any]], out: str, progress: str, stop: str) -> None:
    """Writes what the work makes into the file out, on the way `done total` into progress; ends where the file stop appears."""
    last = 0.0

    def tick(done: int, total: int) -> None:
        nonlocal last
        if Path(stop).exists():
            raise Stopped
        if time.monotonic() - last > 0.1:
            last = time.monotonic()
            Path(progress).write_text(f"{done} {total}", encoding="ascii")

    try:
        if not Path(out).exists():  # somebody else may have asked for the same in the meantime
            tick(0, 0)
            runs.write_map(Path(out), work(tick))
    except Stopped:
        raise AppError("It was stopped before it was done.", "Ask for it again.") from None
    except AppError:
        raise
    except Exception as e:  # of a library, about a network that nobody has tried
        traceback.print_exc(file=sys.stderr)
        raise AppError(f"This method failed on this network ({type(e).__name__}).", "Choose another method.") from e
    finally:
        Path(progress).unlink(missing_ok=True)
        Path(stop).unlink(missing_ok=True)


def maps(
    found: LoadedModel,
    x: Tensor,
    method: str,
    targets: Sequence[int],
    settings: Mapping[str, Any] | None = None,
    tick: Tick | None = None,
) -> Maps:
    """Maps of (N, C, H, W) normalised pictures, each for its own target; zero is the mean picture.

    On a GPU on which nobody trains, where there is one. A call that does not fit into memory is made again with half as many pictures.
    tick(done, total) hears of passes through the network and may raise Stopped. Invalid where the network does not support the method,
    or answers NaN.
    """
    if why := unsupported(found, method):
        raise Invalid(why)
    try:
        if gpu := unused_gpu():
            return _maps(moved(found, gpu), x.to(gpu), method, targets, settings, tick)
    except (Invalid, Stopped) as e:
        raise e.with_traceback(None) from None  # its frames hold the GPU's memory
    except Exception:  # too little memory, or a layer that cannot be computed there: the CPU can
        traceback.print_exc(file=sys.stderr)
    finally:
        with suppress(RuntimeError):  # after an error that lasts
            torch.cuda.empty_cache()  # for whoever trains next
    return _maps(found, x, method, targets, settings, tick)


def moved(found: LoadedModel, device: torch.device) -> LoadedModel:
    """A copy of the network on the device, kept beside the network."""
    if found not in _moved or _moved[found].device != device:
        torch.backends.cudnn.allow_tf32 = False  # else maps differ from the CPU's in the third digit
        _moved[found] = replace(found, model=copy.deepcopy(found.model).to(device))
    return _moved[found]


_moved: WeakKeyDictionary[LoadedModel, LoadedModel] = WeakKeyDictionary()


def _maps(
    found: LoadedModel, x: Tensor, method: str, targets: Sequence[int], settings: Mapping[str, Any] | None, tick: Tick | None
) -> Maps:
    facts, work = methods.method(method), code(method).attribute
    checked = methods.method_settings(method, settings or {}, layers(found) if facts.chooses_layer else ())
    with enough_memory():
        size = largest_batch(found, x[:1], facts.gradient)
    each = facts.passes(checked, x.shape[2], x.shape[3])
    # A layer to hook is in the network as it is built; for a single pass no copy is made.
    sloped = merged(found) if not facts.chooses_layer and (each > 1 or has_copy(found)) else found.model
    raws: list[Tensor] = []
    changes: list[Tensor | None] = []
    notes: list[str] = []
    start, passes, begun = 0, 0, time.perf_counter()
    while start < len(x):
        some = x[start : start + (size if facts.batched else 1)].clone()
        chosen = [int(t) for t in targets[start : start + len(some)]]
        counted = Counted(start * each, (start + len(some)) * each, len(x) * each, tick)
        if facts.gradient:
            forward = ForwardPasses(found, counted, None, sloped)
        else:
            forward = ForwardPasses(found, counted, remembered(found, some, method, checked, size))
        batch = Batch(facts, found, some, chosen, checked, size, forward)
        try:
            with quiet(), private_randomness(seed=0), torch.set_grad_enabled(facts.gradient):
                raw = work(batch)
        except (RuntimeError, MemoryError) as e:
            if not out_of_memory(e):
                raise
            if size == 1:
                with enough_memory():
                    raise
            size //= 2
            continue
        raws.append(raw.detach().float().sum(1) if facts.gradient else raw.detach().float().mean(1))
        changes.append(batch.change)
        notes += [note for note in batch.notes if note not in notes]
        passes += forward.made
        start += len(some)
    values = torch.cat(raws).cpu().numpy()
    if not np.isfinite(values).all():
        raise Invalid(
            "This map holds numbers that are not finite (NaN).",
            "The training of this network went wrong, or the slope is infinite here. Try another method.",
        )
    if not values.reshape(len(values), -1).any(1).all():
        notes.append("The map is empty: nothing here speaks for or against the class.")
    if tick:
        tick(len(x) * each, len(x) * each)
    took = time.perf_counter() - begun
    if facts.sums_to is None:
        return Maps(values, None, None, tuple(notes), passes, took, found.device.type)
    known = [one.cpu().numpy() for one in changes if one is not None]
    change = (
        np.concatenate(known)
        if len(known) == len(changes)
        else score_change(found, x, targets, checked["baseline"] if facts.sums_to == "change" else None, size)
    )
    delta = values.sum((1, 2), dtype=np.float64) - change
    return Maps(values, delta, change, tuple(notes), passes, took, found.device.type)


def score_change(found: LoadedModel, x: Tensor, targets: Sequence[int], kind: str | None, size: int) -> np.ndarray:
    """(N,) of the target's logit from the baseline of this kind to the picture; None: from 0."""

    def scores(pictures: Tensor) -> Tensor:
        return torch.cat([found.model(pictures[i : i + size]) for i in range(0, len(x), size)]).double()[range(len(x)), list(targets)]

    with torch.inference_mode():
        change = scores(x) if kind is None else scores(x) - scores(baseline(found.preprocess, x, kind))
    return change.cpu().numpy()  # type: ignore[no-any-return]


def code(method: str) -> Any:
    """The file of a method: attribute(Batch) gives (n, C, H, W) or (n, 1, H, W) parts; unsupported(Batch) may be there, see reason."""
    return importlib.import_module(f"core.ml.methods.{method}")


# What a network supports --------------------------------------------------------------------------


def unsupported(found: LoadedModel, method: str) -> str:
    """Why the network does not support the method; "" if it does."""
    known = _unsupported.setdefault(found, {})
    if method not in known:
        with enough_memory():
            known[method] = reason(found, method)
    return known[method]


_unsupported: WeakKeyDictionary[LoadedModel, dict[str, str]] = WeakKeyDictionary()


def reason(found: LoadedModel, method: str) -> str:
    """The same, found out: by the record, and where the method's file has a function unsupported by what it says of noise."""
    facts, title = methods.method(method), found.architecture.title
    if isinstance(found.model, Similarity) and facts.gradient:
        return f"{title} compares pixels with mean images and has no weights: its slope shows nothing. Use a method that covers parts of the picture."
    if facts.chooses_layer and not found.architecture.cam_layer:
        return f"{facts.title} needs a convolution near the answer, and {title} has none."
    try:
        if facts.rewrite and (why := _unsuited(copy_for(found), facts, title)):
            return why
        if tries := getattr(code(method), "unsupported", None):
            forward = ForwardPasses(found, Counted(0, 0, 0, None), None)
            batch = Batch(facts, found, noise(found), [0], methods.method_settings(method, {}), 1, forward)
            with quiet(), private_randomness(seed=0), torch.set_grad_enabled(facts.gradient):
                return str(tries(batch))
    except Different as e:
        return f"{facts.title} needs a rewritten copy of the network, but {title} {e}."
    return ""


def _unsuited(rewritten: Rewritten, facts: Method, title: str) -> str:
    if foreign := [name for name in rewritten.activations if facts.activations and name not in facts.activations]:
        return f"{facts.title} is defined for {listed(facts.activations)}, and {title} uses {listed(foreign)}."
    if facts.sums_to and rewritten.products:
        return f"{title} multiplies activations with each other, and {facts.title} cannot share a product out."
    return ""


def listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


BOUND = 1e-3  # of the parts' strengths together: an error of the sum beyond is no rounding


def adds_up(parts: Tensor, delta: Tensor) -> bool:
    """Whether the (n,) errors of the parts' sums are no more than rounding."""
    return bool((delta.detach().abs() <= BOUND * parts.detach().abs().flatten(1).sum(1) + 1e-7).all())


def layers(found: LoadedModel) -> list[str]:
    """The layers whose regions Grad-CAM can weigh, the usual one first, then all convolutions from the picture on."""
    names = [name for name, module in found.model.named_modules() if isinstance(module, nn.Conv2d)]
    return list(dict.fromkeys([found.architecture.cam_layer, *names])) if found.architecture.cam_layer else []


def describe(run_folder: str) -> dict[str, Any]:
    """The run's layers for Grad-CAM, and why it does not support the methods that it does not."""
    found = loaded(run_folder)
    return {
        "layers": layers(found),
        "unsupported": {name: unsupported(found, name) for name in methods.METHODS},
        "side": found.preprocess.crop,
    }


def measure(run_folder: str, out: str) -> None:
    """Writes into out the seconds that one picture's pass takes on this machine, without and with gradients, in calls of usual size.

    Every map of so many passes says better: see learned.
    """
    if Path(out).exists():
        return
    found = loaded(run_folder)
    side = found.preprocess.crop
    seconds = {}
    for kind, gradient, network in (("forward", False, partial(answers, found)), ("gradient", True, merged(found))):
        x = torch.zeros(1, found.preprocess.channels, side, side)
        x = x.expand(largest_batch(found, x, True), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        best = float("inf")
        for _ in range(2):
            start = time.perf_counter()
            with torch.set_grad_enabled(gradient):
                scores = network(x.clone().requires_grad_(gradient))
                if gradient:
                    scores.sum().backward()
            best = min(best, time.perf_counter() - start)
        seconds[kind] = best / len(x)
    runs.write_json(Path(out), seconds)


def learned(speed: Path, method: Method, made: Maps, most: int) -> None:
    """Corrects what measure wrote by what these maps took, of the CPU's; most: passes that the method may take."""
    if made.device != "cpu":
        return
    with suppress(FileNotFoundError, ValueError):  # it is not measured yet
        known = runs.read_json(speed)
        if made.passes >= GRADIENT_BATCH:
            known["gradient" if method.gradient else "forward"] = made.seconds / made.passes
        if method.passes_at_most:
            known[f"{method.name} {most}"] = made.passes
        runs.write_json(speed, known)


@contextmanager
def quiet() -> Iterator[None]:
    """Captum warns of the hooks that it sets and takes away again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def private_randomness(seed: int) -> Iterator[None]:
    """Captum draws from the global generators of torch and numpy; they are put back afterwards."""
    before = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed)
            yield
    finally:
        np.random.set_state(before)
