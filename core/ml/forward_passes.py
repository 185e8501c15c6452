"""How attribution methods call a network: counted, in calls that fit into memory, and not twice for the same answer."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import AppError, Invalid
from core.ml.devices import free_memory, out_of_memory
from core.ml.features import Forward, by_onnx, is_exported
from core.ml.model import LoadedModel, head_of, set_module
from core.ml.rewrite import Different, copy_for, noise

GRADIENT_BATCH, FORWARD_BATCH = 8, 16  # pictures of 224 × 224 in one call; of smaller ones more, up to LARGEST_BATCH
LARGEST_BATCH = 256
SHARE = 0.3  # of the free memory that a call may fill, as estimated

Tick = Callable[[int, int], None]


@dataclass
class Counted:
    """Forward passes of pictures, told to tick(done, total) before they begin."""

    done: int
    most: int  # of the pictures at hand: Captum asks a few times more, to check a sum
    total: int
    tick: Tick | None

    def add(self, pictures: int) -> None:
        if self.tick:
            self.tick(min(self.done, self.most), self.total)
        self.done += pictures


class ForwardPasses:
    """The network as a method calls it: counted, and not asked again where it has answered the same calls before.

    sloped: what is followed back to the picture, the network itself or a copy that gives equal answers.
    """

    def __init__(self, found: LoadedModel, counted: Counted, answers: list[Tensor] | None, sloped: nn.Module | None = None) -> None:
        self.found, self.counted, self.answers = found, counted, answers
        self.sloped = sloped or found.model
        self.calls = self.made = 0  # calls by the method; pictures that went through the network

    def __call__(self, x: Tensor) -> Tensor:
        self.counted.add(len(x))
        self.calls += 1
        if self.answers is not None and self.calls <= len(self.answers):
            return self.answers[self.calls - 1]
        self.made += len(x)
        answer: Tensor = self.sloped(x) if torch.is_grad_enabled() else answers(self.found, x)
        if not answer.isfinite().all():
            raise Invalid(
                "The network answers with numbers that are not finite (NaN).",
                "Its training went wrong. Train it again with a smaller learning rate.",
            )
        if self.answers is not None:
            self.answers.append(answer)
        return answer


def merged(found: LoadedModel) -> nn.Module:
    """The network with batch normalisation within its convolutions, of equal answers and slopes; itself where that cannot be.

    EfficientNet-Lite0 at 224: 44 ms of CPU for a pass forward and back, and 56 as it is built.
    """
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in found.model.modules()):
        with suppress(Different):
            return copy_for(found).model
    return found.model


EXPORT_AFTER = 5.0  # seconds of PyTorch's passes without slopes, about as long as the export to ONNX takes
_spent: WeakKeyDictionary[LoadedModel, float] = WeakKeyDictionary()
_exported: WeakKeyDictionary[LoadedModel, Forward | None] = WeakKeyDictionary()  # None: not possible


def answers(found: LoadedModel, x: Tensor) -> Tensor:
    """(N, classes) logits without slopes; by ONNX Runtime once that pays, equal to the fifth digit.

    EfficientNet-Lite0 at 224 on two cores: three times as fast as PyTorch, and six times on a busy machine. A GPU has no need of it.
    """
    if found.device.type != "cpu":
        return found.model(x)  # type: ignore[no-any-return]
    square = x.shape[2] == x.shape[3] == found.preprocess.crop
    if square and found not in _spent:
        with suppress(Exception):
            _exported[found] = _by_backbone(found)
    if square and _spent.get(found, 0.0) > EXPORT_AFTER and found not in _exported:
        try:
            _exported[found] = by_onnx(found.model, found.preprocess)
        except Exception:  # whatever the exporter cannot do, PyTorch can
            _exported[found] = None
    _spent.setdefault(found, 0.0)
    if square and (forward := _exported.get(found)) is not None:
        return torch.from_numpy(forward(x))
    start = time.perf_counter()
    answer: Tensor = found.model(x)
    _spent[found] += time.perf_counter() - start
    return answer


def _by_backbone(found: LoadedModel) -> Forward:
    """The network whose frozen backbone training has exported already, so that nothing waits for an export; raises where it has not."""
    path = found.architecture.head
    head = head_of(found.model, found.architecture)
    set_module(found.model, path, nn.Identity())
    try:
        if not is_exported(found.model, found.preprocess):
            raise FileNotFoundError
        features = by_onnx(found.model, found.preprocess)
    finally:
        set_module(found.model, path, head)

    def forward(x: Tensor) -> np.ndarray:
        answer: np.ndarray = head(torch.from_numpy(features(x))).numpy()
        return answer

    x = noise(found)
    wanted = found.model(x)
    if not np.allclose(forward(x), wanted.numpy(), rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        raise ValueError("the head is not the last thing it computes")
    return forward


_remembered: OrderedDict[tuple[int, str], tuple[LoadedModel, list[Tensor]]] = OrderedDict()


def remembered(found: LoadedModel, x: Tensor, method: str, settings: Mapping[str, Any], batch_size: int) -> list[Tensor]:
    """The answers so far, in order, to the calls of a method that covers parts of a picture; of the last four pictures.

    Such a method asks the same for every class, and the answers hold all classes.
    """
    asked = hashlib.sha256(repr((method, sorted(settings.items()), batch_size, x.shape)).encode() + x.cpu().numpy().tobytes()).hexdigest()
    _, answers = _remembered.setdefault((id(found), asked), (found, []))
    _remembered.move_to_end((id(found), asked))
    while len(_remembered) > 4:
        _remembered.popitem(last=False)
    return answers


def largest_batch(found: LoadedModel, x: Tensor, gradient: bool) -> int:
    """How many pictures like x, (1, C, H, W), one call may hold, by an estimate from what the layers put out; a GPU takes what fits."""
    usual = (GRADIENT_BATCH if gradient else FORWARD_BATCH) * 224 * 224 // (x.shape[2] * x.shape[3])
    every, largest = outputs(found, x)
    fits = int(SHARE * free_memory(found.device) / (2 * every if gradient else 3 * largest))
    return max(1, min(fits, LARGEST_BATCH, *([usual] if found.device.type == "cpu" else [])))


_outputs: WeakKeyDictionary[LoadedModel, dict[tuple[int, ...], tuple[int, int]]] = WeakKeyDictionary()


def outputs(found: LoadedModel, x: Tensor) -> tuple[int, int]:
    """Bytes of one picture that all layers put out, and the largest of them."""
    sizes = _outputs.setdefault(found, {})
    if x.shape not in sizes:
        seen = [x.numel() * 4]

        def note(module: nn.Module, args: Any, out: Any) -> None:
            if isinstance(out, Tensor):
                seen.append(out.numel() * 4)

        handles = [m.register_forward_hook(note) for m in found.model.modules() if next(m.children(), None) is None]
        try:
            with torch.inference_mode():
                found.model(x)
        finally:
            for handle in handles:
                handle.remove()
        sizes[x.shape] = (sum(seen), max(seen))
    return sizes[x.shape]


@contextmanager
def enough_memory() -> Iterator[None]:
    """Says in words that there is not enough of it."""
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        if not out_of_memory(e):
            raise
        raise AppError("Not even one picture fits into the memory for this method.", "Choose another method, or a smaller network.") from e
