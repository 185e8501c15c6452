"""A network of one's own, layer by layer: what comes out of each, how many parameters it has, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from core.types import Layer

MOST_PARAMETERS = 500_000_000  # 2 GB of float32, and Adam keeps twice as much again
FUNCTIONS = {"relu": "ReLU", "gelu": "GELU", "tanh": "tanh", "sigmoid": "sigmoid", "max": "max", "average": "average"}
FIRST_FUNCTION = {"activation": "relu", "pooling": "max"}
RELU = Layer("activation", function="relu")

EXAMPLES: dict[str, tuple[Layer, ...]] = {
    "Two hidden layers of 200": (Layer("dense", size=200), RELU, Layer("dense", size=200), RELU),
    "Two 5 × 5 convolutions": (
        Layer("convolution", size=32, window=5, padding=2),
        RELU,
        Layer("pooling", window=2, stride=2, function="max"),
        Layer("convolution", size=64, window=5, padding=2),
        RELU,
        Layer("pooling", window=2, stride=2, function="max"),
        Layer("dense", size=1000),
        RELU,
        Layer("dropout", rate=0.5),
    ),
    "5 and 8 hidden units": (Layer("dense", size=5), RELU, Layer("dense", size=8), RELU),
}


@dataclass(frozen=True)
class Row:
    """One layer of a network that receives pictures of a known size."""

    name: str  # module path in the network that core.ml.model builds
    kind: str  # that of the layer; flatten and output are added
    title: str
    shape: tuple[int, ...]  # (channels, height, width) or (units,) of one picture; () where a problem comes before
    parameters: int = 0
    formula: str = ""  # of the output's side, with the numbers put in
    problem: str = ""
    number: int | None = None  # of the layer, from 1


def walk(layers: Sequence[Layer], channels: int, side: int, classes: int, output: str = "softmax") -> list[Row]:
    """The rows of a network of these layers for square pictures; after the first problem shapes are unknown."""
    rows: list[Row] = []
    shape: tuple[int, ...] = (channels, side, side)
    dense = 0  # the number of the first dense layer
    for number, layer in enumerate(layers, 1):
        if layer.kind == "dense" and len(shape) == 3:
            shape = (prod(shape),)
            rows.append(Row("layers.flatten", "flatten", "Flatten: the picture becomes one row of numbers", shape))
        row = _row(layer, number, shape, dense)
        dense = dense or number * (layer.kind == "dense")
        shape = row.shape
        rows.append(row)
    if len(shape) == 3:
        shape = (prod(shape),)
        rows.append(Row("layers.flatten", "flatten", "Flatten: the picture becomes one row of numbers", shape))
    units = 1 if output == "sigmoid" else classes
    title = "Sigmoid: one output for two classes" if output == "sigmoid" else f"Softmax: one output for each of {classes} classes"
    problem = ""
    if output == "sigmoid" and classes != 2:
        problem = f"a single output tells two classes apart, not {classes}. Choose softmax, or learn only two classes."
    rows.append(Row("head", "output", title, (units,) if shape else (), (shape[0] + 1) * units if shape else 0, problem=problem))
    return rows


def problem(rows: Sequence[Row]) -> str:
    """The first thing that is wrong, as a sentence; "" if nothing."""
    for row in rows:
        if row.problem:
            where = f"Layer {row.number} ({row.kind})" if row.number else "The output"
            return f"{where}: {row.problem}"
    total = sum(row.parameters for row in rows)
    if total > MOST_PARAMETERS:
        return f"This network has {total:,} parameters, more than {MOST_PARAMETERS:,}. Use fewer units, or a pooling layer before the first dense one."
    return ""


def cam_layer(layers: Sequence[Layer]) -> str:
    """The module path of the last convolution; "" where there is none."""
    numbers = [i for i, layer in enumerate(layers, 1) if layer.kind == "convolution"]
    return f"layers.convolution{numbers[-1]}" if numbers else ""


def _row(layer: Layer, number: int, shape: tuple[int, ...], dense: int) -> Row:
    """The layer for what comes out of the one before; () is unknown."""
    row = Row(f"layers.{layer.kind}{number}", layer.kind, _title(layer), shape, number=number)
    if not shape:
        return row
    if layer.kind in ("convolution", "pooling"):
        if len(shape) == 1:
            what = f"a {layer.kind} needs a picture, but layer {dense} (dense) has made one row of numbers of it. Move it before layer {dense}."
            return replace(row, shape=(), problem=what)
        return _windowed(row, layer, shape)
    if layer.kind == "dense":
        return replace(row, shape=(layer.size,), parameters=(shape[0] + 1) * layer.size)
    if layer.kind == "normalisation":
        return replace(row, parameters=2 * shape[0])
    return row


def _windowed(row: Row, layer: Layer, shape: tuple[int, ...]) -> Row:
    """A convolution or pooling: (W − F + 2P) / S + 1 windows fit beside each other."""
    channels, side, _ = shape
    window, stride, padding = layer.window, layer.stride, layer.padding
    if layer.kind == "pooling" and padding > window / 2:
        return replace(
            row, shape=(), problem=f"its padding of {padding} is more than half of its window of {window}. Use {window // 2} at most."
        )
    if window > side + 2 * padding:
        padded = f", {side + 2 * padding}×{side + 2 * padding} with its padding" if padding else ""
        text = f"its input is {side}×{side}{padded}, smaller than the window of {window}. Remove it, or use larger images."
        return replace(row, shape=(), problem=text)
    exact = (side - window + 2 * padding) / stride + 1
    out = int(exact)
    formula = f"({side} − {window} + 2×{padding}) / {stride} + 1 = {exact:.4g}"
    if out != exact:
        formula = f"({side} − {window} + 2×{padding}) / {stride} + 1 = {exact:.2f}, rounded down to {out}"
    if layer.kind == "pooling":
        return replace(row, shape=(channels, out, out), formula=formula)
    return replace(row, shape=(layer.size, out, out), formula=formula, parameters=(channels * window * window + 1) * layer.size)


def _title(layer: Layer) -> str:
    function = FUNCTIONS.get(layer.function or FIRST_FUNCTION.get(layer.kind, ""), "")
    return {
        "convolution": f"Convolution {layer.window}×{layer.window}, {layer.size} filters",
        "normalisation": "Batch normalisation",
        "activation": f"Activation {function}",
        "pooling": f"{function.capitalize()} pooling {layer.window}×{layer.window}",
        "dropout": f"Dropout of {layer.rate:.0%}",
        "dense": f"Dense, {layer.size} units",
    }[layer.kind]
