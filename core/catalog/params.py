"""Training parameters as data: the form, the worker and the tests read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from core.catalog import networks
from core.errors import Invalid
from core.types import Architecture, Layer, Param, RunConfig

TRAIN_PARAMS: tuple[Param, ...] = (
    Param(
        "architecture", "Network", "choice", "convnet",
        "The kind of network that learns: start with a simple one, and let a larger one prove that it is better.", "network",
    ),
    Param(
        "pretrained", "Start from pretrained weights", "bool", True,
        "Begin with what the network learned from ImageNet's photographs instead of random numbers.", "network",
    ),
    Param(
        "freeze", "Freeze the backbone", "bool", True,
        "Keep the pretrained layers as they are and train only the last one: much faster, and safer with few images.", "network",
    ),
    Param(
        "unfreeze_after", "Unfreeze after", "int", 0,
        "Train the last layer alone for so many epochs and then all layers; 0 keeps the backbone frozen to the end.", "network",
        low=0, high=1000, unit="epochs",
    ),
    Param(
        "backbone_rate", "First layers' learning rate", "float", 1.0,
        "The learning rate of the first layers as a share of the last one's: what they know serves any picture, so they should change "
        "least, and 1 treats all layers alike.", "network", low=0.0001, high=1.0,
    ),
    Param(
        "layers", "Layers", "layers", (),
        "The rows of a network of your own, from the picture to the answer; the output layer is added by itself.", "network",
    ),
    Param(
        "output", "Output", "choice", "softmax",
        "Softmax gives every class a share, and the shares add up to 1; sigmoid gives a single number, for exactly two classes.", "network",
        options=("softmax", "sigmoid"),
    ),
    Param(
        "epochs", "Epochs", "int", 10, "How many times the network sees every training image, at most.", "learning", low=1, high=1000,
    ),
    Param(
        "batch_size", "Batch size", "int", 64, "How many images are looked at before the weights change once.", "learning",
        low=1, high=4096, unit="images",
    ),
    Param(
        "optimizer", "Optimiser", "choice", "adam",
        "The rule that turns the loss into a change of the weights; Adam works almost everywhere.", "learning",
        options=("sgd", "adam", "adamw"),
    ),
    Param(
        "learning_rate", "Learning rate", "float", 1e-3,
        "The size of each change: too large and the loss jumps about, too small and nothing moves.", "learning", low=1e-7, high=10.0,
    ),
    Param(
        "momentum", "Momentum", "float", 0.9,
        "How much of the last change is carried into the next one, like a ball that keeps rolling; 0 is plain SGD.", "learning", low=0.0, high=0.999,
    ),
    Param(
        "schedule", "Schedule", "choice", "constant",
        "How the learning rate changes during the run: large strides first, small ones at the end.", "learning",
        options=("constant", "step", "cosine", "one_cycle"),
    ),
    Param("step_every", "Step every", "int", 10, "The learning rate drops each time so many epochs have passed.", "learning", low=1, high=1000, unit="epochs"),
    Param("step_factor", "Step factor", "float", 0.1, "What the learning rate is multiplied by at each drop.", "learning", low=0.001, high=1.0),
    Param(
        "warmup", "Warm-up", "float", 0.0,
        "Let the learning rate rise from nearly 0 over so many epochs, so that the first steps break nothing.", "learning",
        low=0.0, high=100.0, unit="epochs",
    ),
    Param(
        "weight_decay", "Weight decay", "float", 0.0,
        "Pulls every weight a little towards 0 at each step, against memorising.", "learning", low=0.0, high=1.0,
    ),
    Param(
        "label_smoothing", "Label smoothing", "float", 0.0,
        "Spread this share of each label over all classes: the network becomes less sure of itself and forgives some wrong labels.", "learning",
        low=0.0, high=0.5,
    ),
    Param(
        "balance", "Rare classes", "choice", "none",
        "Let images of rare classes count more in the loss (weights), or be drawn more often (sampling).", "learning",
        options=("none", "weights", "sampling"),
    ),
    Param(
        "clip", "Gradient clipping", "float", 0.0,
        "The greatest length (norm) that a gradient may have: a longer one is shortened to it, and 0 shortens none.", "learning", low=0.0, high=1000.0,
    ),
    Param(
        "precision", "Numeric precision", "choice", "auto",
        "How exactly the machine calculates: bfloat16 carries fewer digits and is faster where it is supported, and auto uses it on a GPU.", "learning",
        options=("auto", "float32", "bfloat16"),
    ),
    Param(
        "ema", "Average of the weights", "float", 0.0,
        "Judge and keep a running average of the weights (EMA) instead of the last ones: nearer to 1, such as 0.999, is a longer average, and 0 is none.", "learning",
        low=0.0, high=0.99999,
    ),
    Param(
        "stop_on", "Best epoch by", "choice", "loss",
        "The validation figure that decides which epoch is kept, and when to stop early.", "learning", options=("loss", "accuracy"),
    ),
    Param(
        "patience", "Early stopping patience", "int", 5,
        "Stop when validation has not become better for so many epochs; 0 never stops early.", "learning",
        low=0, high=1000, unit="epochs",
    ),
    Param(
        "seed", "Seed", "int", 0, "The same seed, data and settings give the same run on the same machine.", "learning",
        low=0, high=2**31 - 1,
    ),
    Param(
        "device", "Device", "choice", "auto", "Where the arithmetic runs; auto takes a GPU if there is one.", "learning",
        options=("auto", "cuda", "mps", "cpu"),
    ),
    Param("classes", "Classes", "names", (), "Learn only these classes; none chosen means all.", "images"),
    Param(
        "image_size", "Image size", "int", 0,
        "Side of the square that the network sees; 0 takes the network's own size, or the images' own if they are small.", "images",
        low=0, high=1024, unit="pixels, 0 = automatic",
    ),
    Param(
        "progressive", "Progressive resizing", "bool", False,
        "Small images first, full size for the last epochs: sooner done, and often no worse.", "images",
    ),
    Param(
        "rectangles", "Keep rectangles", "bool", False,
        "Show the network whole pictures in their own shape instead of a square cut from the middle.", "images",
    ),
    Param(
        "flip", "Flip", "choice", "none", "Mirror images at random; a mirrored digit or letter is another sign, or none.", "images",
        options=("none", "horizontal", "both"),
    ),
    Param(
        "crop", "Crop", "float", 0.0, "Cut away up to this share of each side at random, and enlarge the rest.", "images", low=0.0, high=0.9,
    ),
    Param("rotate", "Rotate", "float", 0.0, "Turn by up to so many degrees, either way.", "images", low=0.0, high=180.0, unit="degrees"),
    Param(
        "color", "Colour", "float", 0.0, "Change brightness, contrast and saturation by up to this share.", "images", low=0.0, high=0.9,
    ),
    Param(
        "randaugment", "RandAugment", "int", 0,
        "Make two changes, drawn at random from fourteen, to each image with this strength; 0 makes none.", "images", low=0, high=30,
    ),
    Param(
        "mixup", "Mixup", "float", 0.0,
        "Lay two images over each other and ask for both labels in that proportion: more (alpha, such as 0.2) mixes more evenly, and 0 mixes none.",
        "images", low=0.0, high=10.0,
    ),
    Param(
        "cutmix", "CutMix", "float", 0.0,
        "Paste a piece of one image into another and ask for both labels in that proportion: the number is alpha, 1 makes pieces of every size, and 0 pastes none.",
        "images", low=0.0, high=10.0,
    ),
)  # fmt: skip
PARAMS = {p.name: p for p in TRAIN_PARAMS}
AUGMENTATION = ("flip", "crop", "rotate", "color", "randaugment", "mixup", "cutmix")
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
    return any(getattr(config, name) != PARAMS[name].default for name in AUGMENTATION)


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
    return f"{value:g}" if kind == "float" else OPTION_TITLES.get(value, str(value))


def _checked(param: Param, value: Any) -> tuple[Any, str]:
    """The value in its own type, and the sentence that says what is wrong with it ("" if nothing)."""
    if param.kind == "names":
        names = [n.strip() for n in value.split(",")] if isinstance(value, str) else list(value)
        return tuple(dict.fromkeys(n for n in names if n)), ""
    if param.kind == "layers":
        return _layers(value)
    if param.kind == "choice":
        if value not in param.options:
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
