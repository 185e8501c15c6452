"""The rules by which LRP hands relevance on from layer to layer, on a rewritten copy of a network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule, IdentityRule
from torch import Tensor, fx, nn

from core.ml.rewrite import POINTWISE, Different

LINEAR = (
    nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, Addition_Module,
)  # fmt: skip
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
EPSILON = 1e-9  # as Captum does


def leaves(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if next(m.children(), None) is None]


def check_rules(model: fx.GraphModule) -> None:
    """Different if a layer has no rule by which relevance is handed on."""
    if without := sorted({type(m).__name__ for m in leaves(model) if not isinstance(m, (*LINEAR, *POINTWISE))}):
        raise Different(f"has layers without a rule ({', '.join(without)})")


def set_rules(model: fx.GraphModule, gamma: float) -> None:
    """Gives every layer its rule for one call of Captum's LRP, which takes them away again (Montavon et al. 2019, chapter 10.3).

    Gamma only for convolutions between two ReLUs: elsewhere its denominators may come near 0, and the relevance explodes.
    """
    for layer in leaves(model):
        layer.rule = IdentityRule() if isinstance(layer, POINTWISE) else EpsilonRule(EPSILON)
    for node in model.graph.nodes:
        if gamma and _is(model, node, (nn.Conv2d,)) and _positive(model, node.args[0]) and _clipped(model, node):
            model.get_submodule(node.target).rule = GammaRule(gamma)


def _is(model: fx.GraphModule, node: Any, kinds: tuple[type[nn.Module], ...]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), kinds)


def _positive(model: fx.GraphModule, node: Any) -> bool:
    """Whether what comes out of the node is never below 0."""
    while _is(model, node, POOLS):
        node = node.args[0]
    return _is(model, node, (nn.ReLU,))


def _clipped(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether what comes out of the node goes nowhere but into ReLUs."""
    return all(_is(model, user, (nn.ReLU,)) or (_is(model, user, POOLS) and _clipped(model, user)) for user in node.users)


def without_biases(model: fx.GraphModule) -> fx.GraphModule:
    """A copy whose layers add nothing of their own, in which relevance has nowhere else to go than to the pixels."""
    shared = {id(p): nn.Parameter(p.data, requires_grad=False) for p in model.parameters()}
    own = copy.deepcopy(model, shared)
    for layer in leaves(own):
        for name in ("bias", "running_mean"):
            if isinstance(value := getattr(layer, name, None), Tensor):
                zero = torch.zeros_like(value)
                setattr(layer, name, nn.Parameter(zero, requires_grad=False) if isinstance(value, nn.Parameter) else zero)
    return own
