"""Copies of networks rewritten into parts that attribution methods know, with the same answers; the served network stays as it is.

DeepLift wants every activation and pooling as a module of its own, used once; guided backpropagation knows ReLU but not ReLU6; LRP
wants additions and means as modules, and batch normalisation merged into the convolution before it. Weights are shared with the
original wherever they are the same.
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


_copies: WeakKeyDictionary[LoadedModel, Rewritten] = WeakKeyDictionary()


def copy_for(network: LoadedModel) -> Rewritten:
    """The network as methods need it, checked to give equal answers; Different if there is no such copy. Kept beside the network."""
    if network not in _copies:
        _copies[network] = rewritten(network.model, noise(network))
    return _copies[network]


def has_copy(network: LoadedModel) -> bool:
    """Whether copy_for has made it already."""
    return network in _copies


def noise(network: LoadedModel) -> Tensor:
    """(1, C, S, S) normalised values at random, always the same."""
    side = network.preprocess.crop
    x = torch.randn(1, network.preprocess.channels, side, side, generator=torch.Generator().manual_seed(0))
    return x.to(network.device).contiguous(memory_format=torch.channels_last)


def rewritten(model: nn.Module, x: Tensor) -> Rewritten:
    """The copy, checked on x to give equal answers; Different if it cannot be made.

    Every activation, pooling and addition is a module that is used once, ReLU6 is a kind of ReLU, and batch normalisation is a part of
    the convolution before it.
    """
    shared: dict[int, Any] = {id(p): nn.Parameter(p.data, requires_grad=False) for p in model.parameters()}
    shared |= {id(b): b for b in model.buffers()}
    own = copy.deepcopy(model, shared)  # modules of its own around the same numbers
    try:
        traced = fx.GraphModule(own, Tracer().trace(own))
    except Exception as e:  # each network has its own way to decide while it runs
        raise Different("takes a way through its layers that cannot be followed without a picture") from e
    _split_normalisations(traced)
    _separate(traced)
    _drop_idle(traced)
    _merge_normalisations(traced)
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


def _separate(traced: fx.GraphModule) -> None:
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
                new = ReLU6()
            elif type(module).__name__ == "FastAdaptiveAvgPool":
                new = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if module.flatten else nn.AdaptiveAvgPool2d(1)
            elif used[node.target] > 1 and next(module.parameters(), None) is None:
                new = copy.deepcopy(module)
        elif node.op in ("call_function", "call_method"):
            if node.target in ACTIVATIONS:
                new = ACTIVATIONS[node.target]()
                if isinstance(new, nn.ReLU6):
                    new = ReLU6()
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
