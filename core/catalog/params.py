"""Training parameters as data: the form, the worker and the tests read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from core.catalog import networks
from core.errors import Invalid
from core.types import Architecture, Layer, Param, RunConfig

KINDS: dict[Any, Any] = {
    "bool": "bool", "int": "int", "float": "float", "str": "choice", "tuple[str, ...]": "names", "tuple[Layer, ...]": "layers",
}  # fmt: skip
# The fields of RunConfig, which carry all the rest.
TRAIN_PARAMS = tuple(
    Param(**{"name": f.name, "kind": KINDS[f.type], "default": f.default, **f.metadata})  # a setting's own default comes last
    for f in fields(RunConfig)
)
PARAMS = {p.name: p for p in TRAIN_PARAMS}
OPTION_TITLES = {
    "sgd": "SGD", "adam": "Adam", "adamw": "AdamW",
    "constant": "Constant", "step": "Step", "cosine": "Cosine", "one_cycle": "One-cycle",
    "none": "None", "weights": "Class weights", "sampling": "Balanced sampling",
    "loss": "Validation loss", "accuracy": "Validation accuracy",
    "horizontal": "Left and right", "both": "Left and right, up and down",
    "mean": "Average colour", "black": "Black", "white": "White", "blur": "The picture, blurred",
    "softmax": "Softmax", "sigmoid": "Sigmoid", "auto": "Auto", "cuda": "CUDA GPU", "mps": "Apple GPU", "cpu": "CPU",
}  # fmt: skip
NUMBERS_OF_LAYERS = {"size": (1, 65_536), "window": (1, 64), "stride": (1, 32), "padding": (0, 32)}
LAYER_KINDS = ("convolution", "normalisation", "activation", "pooling", "dropout", "dense")
MOST_LAYERS = 64


def checked_settings(title: str, params: Sequence[Param], values: Mapping[str, Any]) -> dict[str, Any]:
    """All of the params from partial values; Invalid reports all problems at once. A choice without options is not checked."""
    known = {p.name: p for p in params}
    problems = [f"“{key}” is not a setting of {title}. It has: {', '.join(known) or 'none'}." for key in values if key not in known]
    checked: dict[str, Any] = {}
    for param in known.values():
        value = param.default if values.get(param.name) in (None, "") else values[param.name]
        checked[param.name], problem = _checked(param, value) if param.options or param.kind != "choice" else (str(value), "")
        if problem:
            problems.append(problem)
    if problems:
        raise Invalid("Please correct the settings: " + " ".join(problems))
    return checked


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """A checked RunConfig from partial values; all problems are reported at once.

    Missing values take the architecture's default, then the parameter's.
    """
    values = dict(values)
    problems: list[str] = []
    for name in values.keys() - PARAMS.keys():
        problems.append(f"“{name}” is not a setting. Settings are: {', '.join(PARAMS)}.")
    wanted = str(values.get("architecture", PARAMS["architecture"].default))
    arch = networks.find(wanted)
    if arch is None:
        problems.append(networks.unknown(wanted))
    defaults = {p.name: p.default for p in TRAIN_PARAMS}
    if arch is not None:
        defaults |= {"batch_size": arch.batch_size, "learning_rate": arch.learning_rate}
        if not arch.weights:
            defaults |= {"pretrained": False, "freeze": False}
    checked: dict[str, Any] = {"architecture": wanted}
    for param in TRAIN_PARAMS[1:]:
        value, problem = _checked(param, values.get(param.name, defaults[param.name]))
        checked[param.name] = value
        if problem:
            problems.append(problem)
    if arch is not None and not problems:
        problems += _together(arch, checked)
    if problems:
        raise Invalid("Please correct the settings: " + " ".join(problems))
    return RunConfig(**checked)


def _together(arch: Architecture, v: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with settings that are right one by one."""
    if v["pretrained"] and not arch.weights:
        yield f"{arch.title} has no pretrained weights. Turn off {titled('pretrained')}."
    elif v["freeze"] and not v["pretrained"]:
        yield f"Freezing a network with random weights learns little. Turn off {titled('freeze')}, or turn on {titled('pretrained')}."
    if v["unfreeze_after"] and not v["freeze"]:
        yield f"{titled('unfreeze_after')} needs a frozen backbone. Turn on {titled('freeze')}, or set it to 0."
    if v["unfreeze_after"] >= v["epochs"] > 0 and v["unfreeze_after"]:
        yield f"{titled('unfreeze_after')} is {v['unfreeze_after']}, but there are only {v['epochs']} epochs. Use a smaller number, or more epochs."
    if v["image_size"] and v["image_size"] < 8:
        yield f"{titled('image_size')} is {v['image_size']}. Use 0, or a whole number from 8 to 1024."
    if v["image_size"] >= 8 and (problem := networks.wrong_size(arch, v["image_size"])):
        yield problem
    if v["layers"] and arch.name != "own":
        yield f"Layers belong to the network “own”, and {arch.title} has its own. Leave layers out."
    if v["output"] == "sigmoid" and arch.name != "own":
        yield f"A single output with sigmoid belongs to the network “own”. Set {titled('output')} to softmax."
    if len(v["classes"]) == 1:
        yield "One class is no choice. Name two classes or more, or none for all."
    if v["rectangles"] and not arch.any_shape:
        yield f"{arch.title} needs square pictures. Turn off {titled('rectangles')}."
    if v["progressive"] and not arch.any_shape:
        yield f"{arch.title} takes pictures of one size only. Turn off {titled('progressive')}."
    if v["warmup"] and v["schedule"] == "one_cycle":
        yield f"One-cycle has its own warm-up. Set {titled('warmup')} to 0, or choose another schedule."
    if v["warmup"] >= v["epochs"]:
        yield f"{titled('warmup')} is {v['warmup']:g}, but there are only {v['epochs']} epochs. Use a smaller number, or more epochs."
    if v["mixup"] and v["cutmix"]:
        yield "Mixup and CutMix both rewrite the answers. Use one of them."


def titled(name: str) -> str:
    """A setting as the form and the command line call it."""
    return f"“{PARAMS[name].title}” ({name})"


def differing(configs: Sequence[RunConfig]) -> list[str]:
    """Names of the settings that are not the same in all, in the order of the training form."""
    return [p.name for p in TRAIN_PARAMS if len({getattr(c, p.name) for c in configs}) > 1]


def augmented(config: RunConfig) -> bool:
    """Whether an image differs from epoch to epoch."""
    return any(getattr(config, p.name) != p.default for p in TRAIN_PARAMS if p.augments)


def applies(name: str, values: Mapping[str, Any], classes: int) -> bool:
    """Whether a setting has a say beside the others, in a dataset of so many classes."""
    rule = PARAMS[name].applies
    return rule is None or rule(values, networks.architecture(values["architecture"]), classes)


def words(name: str, value: Any) -> str:
    """A setting's value as people read it."""
    kind = PARAMS[name].kind
    if name == "architecture":
        known = networks.find(value)
        return known.title if known else str(value)
    if kind == "bool":
        return "yes" if value else "no"
    if kind == "layers":
        return " → ".join(f"{layer.kind} {layer.size or layer.function or ''}".strip() for layer in value) or "none"
    if kind == "names":
        return ", ".join(value) or "all"
    if not value and "0 = automatic" in PARAMS[name].unit:
        return "automatic"
    return f"{value:g}" if kind == "float" else OPTION_TITLES.get(value, str(value))


def _checked(param: Param, value: Any) -> tuple[Any, str]:
    """The value in its own type, and the sentence that says what is wrong with it ("" if nothing)."""
    if param.kind == "names":
        if not isinstance(value, str) and not (isinstance(value, list | tuple) and all(isinstance(n, str) for n in value)):
            return (), f"{param.title} ({param.name}) must be a list of names."
        names = [n.strip() for n in value.split(",")] if isinstance(value, str) else list(value)
        return tuple(dict.fromkeys(n for n in names if n)), ""
    if param.kind == "layers":
        return _layers(value)
    if param.kind == "choice":
        if not isinstance(value, str) or value not in param.options:
            return value, f"{param.title} ({param.name}) is “{value}”. Choose one of: {', '.join(param.options)}."
        return value, ""
    if param.kind == "bool":
        if isinstance(value, bool):
            return value, ""
        text = str(value).lower()
        if text in ("true", "1", "yes", "false", "0", "no"):
            return text in ("true", "1", "yes"), ""
        return value, f"{param.title} ({param.name}) is “{value}”. Use true or false."
    whole = param.kind == "int"
    allowed = f"Use a {'whole ' if whole else ''}number from {param.low:g} to {param.high:g}."
    try:
        number = float(value)
    except (TypeError, ValueError):
        comma = " Write decimals with a point." if "," in str(value) else ""
        return value, f"{param.title} ({param.name}) is “{value}”. {allowed}{comma}"
    inside = (param.low is None or number >= param.low) and (param.high is None or number <= param.high)
    if not inside or (whole and number != int(number)):
        return value, f"{param.title} ({param.name}) is {value}. {allowed}"
    return (int(number) if whole else number), ""


def _layers(value: Any) -> tuple[Any, str]:
    """Rows of a network as Layers; they may come as JSON, as mappings or as Layers."""
    try:
        rows = [asdict(v) if isinstance(v, Layer) else dict(v) for v in (json.loads(value or "[]") if isinstance(value, str) else value)]
    except (TypeError, ValueError):
        return value, "Layers (layers) must be a JSON list of objects, such as [{“kind”: “dense”, “size”: 30}]."
    if len(rows) > MOST_LAYERS:
        return value, f"Layers (layers) has {len(rows)} rows; {MOST_LAYERS} are allowed."
    for i, row in enumerate(rows, 1):
        if problem := layer_problem(row):
            return value, f"Layer {i}: {problem}"
    return tuple(Layer(**row) for row in rows), ""


def layer_problem(row: Mapping[str, Any]) -> str:
    """What is wrong with one row of the table, "" if nothing."""
    known = {f.name for f in fields(Layer)}
    if unknown := row.keys() - known:
        return f"“{', '.join(sorted(unknown))}” is unknown. Allowed are {', '.join(sorted(known))}."
    kind = row.get("kind")
    if kind not in LAYER_KINDS:
        return f"its kind is “{kind}”. Choose one of: {', '.join(LAYER_KINDS)}."
    needed = {"convolution": ("size", "window", "stride", "padding"), "dense": ("size",), "pooling": ("window", "stride", "padding")}.get(
        kind, ()
    )
    for name in needed:
        low, high = NUMBERS_OF_LAYERS[name]
        number = row.get(name, getattr(Layer(kind), name))
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            return f"its {name} is {'empty' if number is None else number}. Use a whole number from {low} to {high:,}."
    rate = row.get("rate", 0.5)
    if kind == "dropout" and not (isinstance(rate, int | float) and 0 <= rate < 1):
        return f"its rate is {rate}. Use a number from 0 up to, but not including, 1."
    functions = {"activation": ("relu", "gelu", "tanh", "sigmoid"), "pooling": ("max", "average")}.get(kind, ())
    if functions and row.get("function", "") not in ("", *functions):
        return f"its function is “{row['function']}”. Choose one of: {', '.join(functions)}."
    return ""
