"""Makes core/catalog/networks.csv, the facts of every classification network of torchvision and timm: python -m core.ml.registry."""

from __future__ import annotations

import csv
import inspect
import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.catalog.networks import CATALOGUE, COLUMNS
from core.data.images import MULTIPLE
from core.ml.model import TORCHVISION_OPTIONS, on_meta, set_module, shapes

CLASSES = 7  # no layer has so few outputs by chance
SIDES = (8, 16, 32, 48, 64, 75, 96, 128)  # pixels tried for the smallest picture
Part = tuple[str, nn.Module, Any, Any]  # module path, module, what it received, what it gave
META = torch.device("meta")  # shapes and no numbers: the largest network takes as long as the smallest


class LeftOut(Exception):
    """The network cannot be given other classes by replacing one linear layer, or does not answer to a batch of pictures."""


def networks() -> Iterator[str]:
    yield from (f"torchvision:{name}" for name in torchvision.models.list_models(module=torchvision.models))
    yield from (f"timm:{name}" for name in timm.list_models())


def facts(name: str) -> dict[str, Any]:
    """One row of the catalogue; raises LeftOut with the reason."""
    library, _, short = name.partition(":")
    make, row = torchvision_facts(short) if library == "torchvision" else timm_facts(short)
    side = row["input_size"]
    try:
        model = on_meta(lambda: make(CLASSES)).eval()
        answer, order = watch(model, side)
        head = head_path(answer, order)
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AssertionError, AttributeError, IndexError, KeyError) as e:
        raise LeftOut(f"it does not answer to a batch of pictures ({type(e).__name__})") from e
    last = model.get_submodule(head)
    assert isinstance(last, nn.Linear)
    width = last.in_features
    high, wide = (round(side * ratio / MULTIPLE) * MULTIPLE for ratio in (2**0.5, 0.5**0.5))
    any_shape = works(model, high, wide)
    multiple = 1 if any_shape and works(model, side + 17, side + 17) else MULTIPLE
    row |= {
        "name": name,
        "head": head,
        "cam_layer": cam_layer(order),
        "parameters": sum(p.numel() for p in model.parameters()) + (1000 - CLASSES) * (width + (last.bias is not None)),
        "per_class": width + (last.bias is not None),
        "any_shape": int(any_shape),
        "multiple": multiple if any_shape else 0,
        "smallest": smallest(model, side, multiple) if any_shape else side,
        "batch_norm": "1" if any(isinstance(m, _BatchNorm) for m in model.modules()) else "",
    }
    set_module(model, head, nn.Identity())
    try:
        features = run(model, side, side)
    except (RuntimeError, AttributeError, TypeError) as e:
        raise LeftOut("its head is not one linear layer") from e
    if tuple(features.shape) != (2, width):
        raise LeftOut("its head is not one linear layer")
    return row


def torchvision_facts(name: str) -> tuple[Callable[[int], nn.Module], dict[str, Any]]:
    """How the network is made, and what torchvision says about it."""
    known = list(torchvision.models.get_model_weights(name))
    # The others have no head (VGG's features), or want larger pictures than the network is built for (SWAG, but for its linear variant).
    best = max((w for w in known if re.fullmatch(r"IMAGENET1K_(V\d|SWAG_LINEAR_V1)", w.name)), key=lambda w: ("SWAG" not in w.name, w.name))
    transform = best.transforms()
    builder = torchvision.models.get_model_builder(name)
    options = TORCHVISION_OPTIONS.get(name, {})
    mean, std = (0.5,) * 3 if options else tuple(transform.mean), (0.5,) * 3 if options else tuple(transform.std)
    return lambda classes: torchvision.models.get_model(name, weights=None, num_classes=classes, **options), {
        "family": builder.__module__.rpartition(".")[2],
        "input_size": transform.crop_size[0],
        "resize": transform.resize_size[0],
        "mean": numbers(mean),
        "std": numbers(std),
        "weights": best.name,
        "url": best.url,
        "licence": "",
        "source": arxiv(builder, sys.modules[builder.__module__]),
    }


def timm_facts(name: str) -> tuple[Callable[[int], nn.Module], dict[str, Any]]:
    """How the network is made, and what timm says about it and its default weights."""
    cfg = timm.models.get_pretrained_cfg(name)
    if cfg is None:
        raise LeftOut("timm says nothing about its pictures")
    entry = timm.models.model_entrypoint(name)
    channels, *sides = cfg.input_size
    if channels != 3 or sides[0] != sides[1]:
        raise LeftOut(f"it takes pictures of {channels} × {sides[0]} × {sides[1]}")
    url = cfg.url if isinstance(cfg.url, str) else ""
    if cfg.hf_hub_id:
        file = cfg.hf_hub_filename or "model.safetensors"
        url = f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/{file}"
    papers = cfg.paper_ids if isinstance(cfg.paper_ids, str) else " ".join(cfg.paper_ids or ())
    return lambda classes: timm.create_model(name, num_classes=classes), {
        "family": entry.__module__.rpartition(".")[2],
        "input_size": sides[0],
        "resize": math.floor(sides[0] / cfg.crop_pct),
        "mean": numbers(cfg.mean),
        "std": numbers(cfg.std),
        "weights": (cfg.tag or "default") if url else "",
        "url": url,
        "licence": cfg.license or "" if url else "",
        "source": " ".join(re.findall(r"arXiv:[\d.]+", papers)[:1]) or arxiv(entry, sys.modules[entry.__module__]),
    }


def numbers(values: Any) -> str:
    """Mean or standard deviation as the table holds it."""
    return " ".join(f"{v:.6g}" for v in values)


def arxiv(*described: Any) -> str:
    """The paper that a function or its module names, if it names one and no other."""
    for one in described:
        found = set(re.findall(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})", inspect.getdoc(one) or ""))
        if found:
            return f"arXiv:{found.pop()}" if len(found) == 1 else ""
    return ""


# Parts --------------------------------------------------------------------------------------------


def run(model: nn.Module, height: int, width: int) -> Tensor:
    answer: Tensor = shapes(model, torch.empty(2, 3, height, width, device=META))
    return answer


def works(model: nn.Module, height: int, width: int) -> bool:
    try:
        return tuple(run(model, height, width).shape) == (2, CLASSES)
    except Exception:  # each network has its own way to refuse
        return False


def smallest(model: nn.Module, side: int, multiple: int) -> int:
    """The shortest side tried that works; what is larger leaves more for the last layers."""
    return next((s for s in SIDES if s < side and s % multiple == 0 and works(model, s, s)), side)


def watch(model: nn.Module, side: int) -> tuple[Any, list[Part]]:
    """What the network answers, and its parts in the order in which they end; LeftOut if training gets another answer."""
    order: list[Part] = []
    hooks = [
        m.register_forward_hook(lambda module, given, out, name=name: order.append((name, module, given, out)))
        for name, m in model.named_modules()
    ]
    try:
        answer = run(model, side, side)
    finally:
        for hook in hooks:
            hook.remove()
    for one in (answer, run(model.train(), side, side)):
        if not isinstance(one, Tensor) or tuple(one.shape) != (2, CLASSES):
            raise LeftOut("it answers with something else than one figure per class")
    model.eval()
    return answer, order


def head_path(answer: Tensor, order: list[Part]) -> str:
    """Where the one linear layer lies whose output is the answer."""
    found = [part for part in order if isinstance(part[1], nn.Linear) and part[1].out_features == CLASSES]
    if len(found) != 1 or found[0][2][0].ndim != 2:
        raise LeftOut("its head is not one linear layer")
    if found[0][3] is not answer:
        raise LeftOut("its head is not the last thing it computes")
    return found[0][0]


def cam_layer(order: list[Part]) -> str:
    """The last part with convolutions that gives (N, C, h, w), in the second half of the network; "" where there is none."""
    weighty = [bool(list(m.parameters(recurse=False))) for _, m, *_ in order]
    for i in range(len(order) - 1, -1, -1):
        name, module, _, out = order[i]
        if sum(weighty[: i + 1]) < sum(weighty) / 2:
            return ""
        shaped = isinstance(out, Tensor) and out.ndim == 4 and out.shape[2] == out.shape[3] > 1 and out.shape[1] != out.shape[2]
        if name and shaped and any(isinstance(m, nn.Conv2d) for m in module.modules()):
            return name
    return ""


# The file -----------------------------------------------------------------------------------------


def main(wanted: list[str]) -> None:
    """Writes the whole catalogue, or prints the rows of the networks named."""
    warnings.filterwarnings("ignore")
    rows, reasons = [], Counter[str]()
    names = wanted or list(networks())
    for i, name in enumerate(names, 1):
        try:
            rows.append(facts(name))
        except LeftOut as e:
            rows.append({"name": name, "left_out": str(e)})
            reasons[str(e)] += 1
        if wanted or i % 50 == 0:
            print(rows[-1] if wanted else f"{i} of {len(names)}", flush=True)
    if not wanted:
        write(CATALOGUE, rows)
    print(f"{len(rows) - reasons.total()} networks of torchvision {version('torchvision')} and timm {version('timm')}; left out:")
    for reason, count in reasons.most_common():
        print(f"{count:5} {reason}")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as f:
        table = csv.DictWriter(f, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
