"""A network taken apart: its layers in the order they run, what comes out of each and how many parameters it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.catalog import networks
from core.ml.model import check_size, create, on_meta, shapes
from core.types import Layer, Preprocess


def describe(
    architecture: str, layers: Sequence[Layer], output: str, freeze: bool, channels: int, side: int, classes: int
) -> dict[str, Any]:
    """rows (see take_apart), side and channels of the picture, parameters, trained, multiply_adds of one picture.

    Only shapes are computed, so that the largest network takes a second. Invalid if it cannot take pictures of this size.
    """
    arch = networks.architecture(architecture)
    preprocess = Preprocess(channels, side, side, (0.0,) * channels, (1.0,) * channels)
    check_size(arch, preprocess)
    model = on_meta(lambda: create(arch, classes, preprocess, layers, output)).eval()
    rows = take_apart(model, torch.empty(1, channels, side, side, device="meta"), arch.head)
    total = sum(p.numel() for p in model.parameters())
    head = sum(p.numel() for p in model.get_submodule(arch.head).parameters())
    return {
        "rows": rows,
        "side": side,
        "channels": channels,
        "parameters": total,
        "trained": head if freeze else total,
        "multiply_adds": sum(row.pop("multiply_adds") for row in rows),
    }


def take_apart(model: nn.Module, x: Tensor, head: str) -> list[dict[str, Any]]:
    """One row for each layer that ran: name, kind, detail, shape of what came out, parameters, multiply_adds.

    What a larger part holds beside its layers (a token, a scale) is a row of its own; parameters used twice count once.
    """
    rows: list[dict[str, Any]] = []
    counted: set[int] = set()

    def note(name: str, module: nn.Module, out: Any) -> None:
        new = {id(p): p.numel() for p in module.parameters() if id(p) not in counted}
        leaf = next(module.children(), None) is None
        if (leaf and not isinstance(module, nn.Identity)) or new:
            counted.update(new)
            what = (
                "output" if name == head else kind(module) if leaf or isinstance(module, nn.MultiheadAttention) else _kind_of_part(module)
            )
            row = {
                "name": name,
                "kind": what,
                "detail": ", ".join(n for n, _ in module.named_parameters(recurse=False)) if what == "weights" else detail(module),
                "shape": _shape(out, len(x)) if name else [],
                "parameters": sum(new.values()),
                "multiply_adds": multiply_adds(module, out) if leaf else 0,
            }
            rows.insert(len(rows) if name else 0, row)  # what the whole network holds beside its parts comes first

    hooks = [
        module.register_forward_hook(lambda module, _, out, name=name: note(name, module, out)) for name, module in model.named_modules()
    ]
    try:
        shapes(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def kind(module: nn.Module) -> str:
    """The field's word for a layer; “other” where it has none."""
    name = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvNd):
        return "convolution"
    if isinstance(module, nn.Linear):
        return "dense"
    for part, word in (
        ("Norm", "normalisation"),
        ("Pool", "pooling"),
        ("Drop", "dropout"),
        ("Flatten", "flatten"),
        ("Attention", "attention"),
    ):
        if part in name:
            return word
    return "activation" if "activation" in type(module).__module__ else "other"


def _kind_of_part(module: nn.Module) -> str:
    """Batch normalisation with its activation inside is still one; the rest are weights beside layers."""
    return "normalisation" if "Norm" in type(module).__name__ else "weights"


def detail(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        (height, width), stride = module.kernel_size, module.stride[0]
        grouped = f", {module.groups} groups" if module.groups > 1 else ""
        return f"{height}×{width}{f', stride {stride}' if stride > 1 else ''}{grouped}"
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        side = module.kernel_size if isinstance(module.kernel_size, int) else module.kernel_size[0]
        return f"{'max' if isinstance(module, nn.MaxPool2d) else 'average'} {side}×{side}"
    if isinstance(module, nn.Linear):
        return f"{module.in_features:,} → {module.out_features:,}"
    if isinstance(module, nn.Dropout):
        return f"{module.p:.0%}"
    return type(module).__name__


def multiply_adds(module: nn.Module, out: Any) -> int:
    """Of convolutions and dense layers, which do nearly all the work; attention's own products are left out."""
    if not isinstance(out, Tensor):
        return 0
    if isinstance(module, nn.modules.conv._ConvNd):
        return out.numel() * module.weight[0].numel()
    return out.numel() * module.in_features if isinstance(module, nn.Linear) else 0


def _shape(out: Any, pictures: int) -> list[int]:
    """Of one picture; attention in windows has many rows for each."""
    while isinstance(out, list | tuple) and out:
        out = out[0]
    if not isinstance(out, Tensor):
        return []
    return list(out.shape[1:]) if out.shape[0] == pictures else list(out.shape)
