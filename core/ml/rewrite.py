"""Copies of networks rewritten into parts that attribution methods know, with the same answers; the served network stays as it is.

DeepLift wants every activation as a module of its own, used once, and knows ReLU but not ReLU6; LRP wants additions and means
as modules, and batch normalisation merged into the convolution before it. Weights are shared with the original wherever they
are the same.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from captum.attr._utils.custom_modules import Addition_Module
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from core.ml.model import LoadedModel
from core.types import Rewrite

CLOSE = 1e-4  # of the largest answer: further apart the copy is not the same network

ACTIVATIONS: dict[Any, Callable[[], nn.Module]] = {
    F.relu: nn.ReLU, torch.relu: nn.ReLU, "relu": nn.ReLU, "relu_": nn.ReLU,
    F.relu6: nn.ReLU6, F.gelu: nn.GELU, F.silu: nn.SiLU, F.hardswish: nn.Hardswish, F.hardsigmoid: nn.Hardsigmoid,
    torch.sigmoid: nn.Sigmoid, F.sigmoid: nn.Sigmoid, "sigmoid": nn.Sigmoid, torch.tanh: nn.Tanh, F.tanh: nn.Tanh, "tanh": nn.Tanh,
}  # fmt: skip
POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus,
    nn.Hardtanh, nn.Mish, nn.PReLU, nn.Softmax,
)  # fmt: skip
PRODUCTS = (operator.mul, torch.mul, operator.truediv, torch.div, operator.matmul, torch.matmul, torch.bmm, F.scaled_dot_product_attention)
IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)  # which change nothing once a network has learned


class Different(Exception):
    """The network cannot be rewritten; the message says why, after its name."""


@dataclass(frozen=True, eq=False)
class Rewritten:
    model: fx.GraphModule
    activations: tuple[str, ...]  # names of their kinds, each once
    products: bool  # activations are multiplied with each other


class Tracer(fx.Tracer):
    """Follows a network into modules that have parts, but not into normalisations with an activation of timm's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or isinstance(m, nn.BatchNorm2d) or next(m.children(), None) is None


_copies: WeakKeyDictionary[LoadedModel, dict[Rewrite, Rewritten]] = WeakKeyDictionary()


def copy_for(network: LoadedModel, kind: Rewrite) -> Rewritten:
    """The network as a method needs it, checked to give equal answers; Different if there is no such copy. Kept beside the network."""
    kept = _copies.setdefault(network, {})
    if kind not in kept:
        kept[kind] = rewritten(network.model, noise(network), kind)
    return kept[kind]


def has_copy(network: LoadedModel, kind: Rewrite) -> bool:
    """Whether copy_for has made it already."""
    return kind in _copies.get(network, {})


def noise(network: LoadedModel) -> Tensor:
    """(1, C, S, S) normalised values at random, always the same."""
    side = network.preprocess.crop
    x = torch.randn(1, network.preprocess.channels, side, side, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def rewritten(model: nn.Module, x: Tensor, kind: Rewrite) -> Rewritten:
    """The copy of a kind, checked on x to give equal answers; Different if it cannot be made.

    All: every activation, pooling and addition is a module that is used once; ReLU6 is a kind of ReLU.
    separate: no more than that. relu: ReLU6 and max pooling with windows that overlap are written with ReLUs, so that DeepLift's
    parts add up. merged: batch normalisation is a part of the convolution before it.
    """
    shared: dict[int, Any] = {id(p): nn.Parameter(p.data, requires_grad=False) for p in model.parameters()}
    shared |= {id(b): b for b in model.buffers()}
    own = copy.deepcopy(model, shared)  # modules of its own around the same numbers
    try:
        traced = fx.GraphModule(own, Tracer().trace(own))
    except Exception as e:  # each network has its own way to decide while it runs
        raise Different("takes a way through its layers that cannot be followed without a picture") from e
    _split_normalisations(traced)
    _separate(traced, by_relu=kind == "relu")
    _drop_idle(traced)
    if kind == "merged":
        _merge_normalisations(traced)
    else:
        _isolate(traced)
    traced.graph.lint()
    traced.recompile()
    traced.delete_all_unused_submodules()
    traced.eval()
    with torch.inference_mode():
        wanted, got = model(x), traced(x)
    if not wanted.isfinite().all():
        raise Different("answers with numbers that are not finite (NaN)")
    if not torch.allclose(got, wanted, rtol=0, atol=CLOSE * max(1.0, float(wanted.abs().max()))):
        raise Different("gives other answers when it is rewritten")
    kinds = {type(m).__name__ for m in traced.modules() if isinstance(m, POINTWISE) or _is_foreign(m)}
    return Rewritten(traced, tuple(sorted(kinds)), _multiplies(traced))


def _is_foreign(module: nn.Module) -> bool:
    """A part without weights of a library other than PyTorch, and not a pooling: an activation written by somebody else."""
    name = type(module).__name__.lower()
    foreign = not type(module).__module__.startswith(("torch", "captum", __name__)) and next(module.children(), None) is None
    return foreign and next(module.parameters(), None) is None and "pool" not in name and "flatten" not in name


def _multiplies(traced: fx.GraphModule) -> bool:
    for node in traced.graph.nodes:
        inputs = [a for a in node.args if isinstance(a, fx.Node)]
        if node.op == "call_function" and node.target in PRODUCTS and len(inputs) > 1 and all(_is_number(a) is False for a in inputs):
            return True
        if node.op == "call_method" and node.target in ("mul", "mul_", "matmul", "div") and len(inputs) > 1:
            return True
        if node.op == "call_module" and any(isinstance(m, nn.MultiheadAttention) for m in traced.get_submodule(node.target).modules()):
            return True
    return False


def _is_number(node: fx.Node) -> bool:
    """Whether the node is a weight or a shape, which no picture changes."""
    return node.op == "get_attr" or node.target in (getattr, "size")


def _put(traced: fx.GraphModule, node: fx.Node, name: str, module: nn.Module, args: tuple[Any, ...]) -> fx.Node:
    """Calls the module in place of the node."""
    traced.add_submodule(name, module)
    with traced.graph.inserting_after(node):
        new = traced.graph.call_module(name, args)
    node.replace_all_uses_with(new)
    new.args = args  # the module's own input may have been the node
    return new


def _split_normalisations(traced: fx.GraphModule) -> None:
    """timm's batch normalisation that carries dropout and an activation becomes plain ones in a row."""
    for node in list(traced.graph.nodes):
        module = traced.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, nn.BatchNorm2d) and any(module.children()):
            plain = nn.BatchNorm2d(module.num_features, module.eps, affine=module.affine).eval()
            plain.weight, plain.bias = module.weight, module.bias
            plain.running_mean, plain.running_var = module.running_mean, module.running_var
            name = node.target.replace(".", "_")
            last = _put(traced, node, f"{name}_plain", plain, (node.args[0],))
            for part, child in module.named_children():
                last = _put(traced, last, f"{name}_{part}", copy.deepcopy(child), (last,))
            traced.graph.erase_node(node)


def _separate(traced: fx.GraphModule, by_relu: bool) -> None:
    """Every activation, pooling and addition becomes a module that is used once."""
    used: Counter[str] = Counter()
    for number, node in enumerate(list(traced.graph.nodes)):
        new: nn.Module | None = None
        args: tuple[Any, ...] = node.args[:1]
        name = f"separate_{number}"
        if node.op == "call_module":
            module = traced.get_submodule(node.target)
            used[node.target] += 1
            if isinstance(module, nn.ReLU6) or (type(module) is nn.Hardtanh and (module.min_val, module.max_val) == (0, 6)):
                new = TwoReLUs() if by_relu else ReLU6()
            elif by_relu and type(module) is nn.MaxPool2d and overlaps(module):
                new = LargestByReLU(module)
            elif type(module).__name__ == "FastAdaptiveAvgPool":
                new = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if module.flatten else nn.AdaptiveAvgPool2d(1)
            elif used[node.target] > 1 and next(module.parameters(), None) is None:
                new = copy.deepcopy(module)
        elif node.op in ("call_function", "call_method"):
            if node.target in ACTIVATIONS:
                new = ACTIVATIONS[node.target]()
                if isinstance(new, nn.ReLU6):
                    new = TwoReLUs() if by_relu else ReLU6()
            elif node.target in (operator.add, operator.iadd, torch.add, "add", "add_") and _both_pictures(node):
                new, args = Addition_Module(), node.args[:2]
            elif node.target in (torch.mean, "mean") and _over_pictures(node):
                keeps = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
                new = nn.AdaptiveAvgPool2d(1) if keeps else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            elif node.target is F.adaptive_avg_pool2d:
                new = nn.AdaptiveAvgPool2d(node.args[1])
            elif node.target in (F.dropout, F.dropout2d, F.alpha_dropout):
                new = nn.Identity()
        if new is not None:
            _put(traced, node, name, new, args)
            traced.graph.erase_node(node)


def _both_pictures(node: fx.Node) -> bool:
    return len(node.args) > 1 and all(isinstance(a, fx.Node) and not _is_number(a) for a in node.args[:2]) and not node.kwargs


def _over_pictures(node: fx.Node) -> bool:
    over: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return over is not None and not isinstance(over, int) and sorted(over) in ([2, 3], [-2, -1])


def _drop_idle(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        if node.op == "call_module":
            module = traced.get_submodule(node.target)
            if isinstance(module, IDLE) or type(module).__name__ in ("StochasticDepth", "DropPath", "DropBlock2d"):
                node.replace_all_uses_with(node.args[0])
                traced.graph.erase_node(node)


def _isolate(traced: fx.GraphModule) -> None:
    """Activations and poolings receive a tensor of their own.

    Captum hooks the tensors, not the modules: on one that two modules share, the first hook sees what the second has not
    changed yet, and the second overwrites what came from elsewhere; then DeepLift's parts do not add up.
    """
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), (*POINTWISE, nn.MaxPool2d)):
            with traced.graph.inserting_before(node):
                node.args = (traced.graph.call_method("clone", (node.args[0],)),)


def _merge_normalisations(traced: fx.GraphModule) -> None:
    """A batch normalisation after a convolution is a part of the convolution's weights."""
    for node in list(traced.graph.nodes):
        module = traced.get_submodule(node.target) if node.op == "call_module" else None
        before = node.args[0] if type(module) is nn.BatchNorm2d else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution = traced.get_submodule(str(before.target))
        if isinstance(convolution, nn.Conv2d) and isinstance(module, nn.BatchNorm2d):
            name = f"{before.target}_merged".replace(".", "_")
            merged = fuse_conv_bn_eval(convolution, module).requires_grad_(False)
            merged.to(memory_format=torch.channels_last)
            traced.add_submodule(name, merged)
            before.target = name
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)


# Equal expressions --------------------------------------------------------------------------------


class ReLU6(nn.ReLU):
    """ReLU6 that guided backpropagation takes for what it is, a ReLU: whose slope is 0 above 6, too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)  # type: ignore[no-any-return]


class TwoReLUs(nn.Module):
    """ReLU6 as relu(x) − relu(x − 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        clipped: Tensor = self.lower(x.clone()) - self.upper(x - 6)  # a clone of its own for the hook: see _isolate
        return clipped


def overlaps(pool: nn.MaxPool2d) -> bool:
    """Captum's DeepLift gives a pixel that wins in two windows the share of one of them only."""
    return _pair(pool.kernel_size) != _pair(pool.stride)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class LargestByReLU(nn.Module):
    """Max pooling as a chain of max(a, b) = a + relu(b − a), along the rows and then along the columns."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)
        if _pair(pool.dilation) != (1, 1) or pool.return_indices:
            raise Different("has a max pooling that cannot be rewritten")
        self.ceil_mode = pool.ceil_mode
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(sum(self.kernel) - 2))

    def forward(self, x: Tensor) -> Tensor:
        relus = iter(self.relus)
        for axis in (2, 3):
            x = self.along(x, axis, relus)
        return x

    def along(self, x: Tensor, axis: int, relus: Any) -> Tensor:
        kernel, stride, padding, length = self.kernel[axis - 2], self.stride[axis - 2], self.padding[axis - 2], x.shape[axis]
        steps = (length + 2 * padding - kernel + (stride - 1 if self.ceil_mode else 0)) // stride + 1
        if self.ceil_mode and (steps - 1) * stride >= length + padding:  # a window must begin within the picture
            steps -= 1
        after = max(0, (steps - 1) * stride + kernel - length - padding)
        # Edge pixels repeated, in place of minus infinity: a window that reaches out holds the edge pixel anyway.
        sides = (0, 0, padding, after) if axis == 2 else (padding, after, 0, 0)
        padded = F.pad(x, sides, mode="replicate") if max(sides) else x
        parts = [
            padded.narrow(axis, i, (steps - 1) * stride + 1)[(slice(None),) * axis + (slice(None, None, stride),)] for i in range(kernel)
        ]
        largest = parts[0]
        for part in parts[1:]:
            largest = largest + next(relus)(part - largest)
        return largest
