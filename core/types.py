"""The nouns that cross modules; standard library and numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Progress = Callable[[int, int, str], None]  # (done, total, what is being done); it may raise core.errors.Stopped


def silent(done: int, total: int, what: str) -> None:
    """The Progress of what nobody watches."""


def now() -> str:
    """The time as every noun writes it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Dataset:
    id: int
    name: str
    classes: tuple[str, ...]
    created_at: str
    splits_given: bool  # the source named train/test itself; images added later by hand then join train
    deleted_at: str | None = None
    places: tuple[int, ...] = ()  # of each class, for its key and colour: a retired class leaves a gap


@dataclass(frozen=True)
class Image:
    id: str  # sha256[:16] of the bytes (of shape and pixels for IDX and CIFAR arrays)
    dataset_id: int
    ext: str
    width: int  # upright, pixels
    height: int
    channels: int  # 1 grey, 3 colour
    size_bytes: int
    split: Split
    source: str  # file name inside the import
    added_at: str
    thumb_offset: int  # bytes into the dataset's thumbnail pack
    thumb_size: int
    label: str | None = None  # today's: the last event's
    label_seq: int = 0  # seq of its last event, 0 before any: the version a writer must have seen
    flagged: bool = False  # somebody wants it looked at again
    given_seq: int = 0  # seq of the event that gave the label; a flag may have come after
    import_id: int | None = None  # that brought it; None: Review, the API, or before imports were counted

    @property
    def path(self) -> str:
        """Where the untouched original lies, relative to the images folder."""
        return f"{self.id[:2]}/{self.id}.{self.ext}"


@dataclass(frozen=True)
class Class:
    """One class of a dataset; a retired one is not offered any more and no image carries it."""

    name: str
    guideline: str = ""
    retired_at: str | None = None
    accepted: tuple[str, ...] = ()  # ids of images that show what belongs to it
    rejected: tuple[str, ...] = ()  # ids of images that only seem to


QUIET = ("flag", "unflag", "remove", "return")  # sources of events that leave the label as it is


@dataclass(frozen=True)
class LabelEvent:
    seq: int
    image_id: str
    label: str | None  # the words of that day: a class may have another name by now
    source: str  # import, manual, cluster, model, review, flag, unflag, merge, retire, restore, undo, remove, return
    by: str
    at: str
    note: str
    previous: str | None


@dataclass(frozen=True)
class Current:
    """What an image carries now, and who said so."""

    id: str
    label: str | None
    seq: int
    by: str
    at: str
    flagged: bool


@dataclass(frozen=True)
class Act:
    """Label events that one person gave in one go."""

    first: int  # seq
    last: int
    by: str
    at: str
    source: str
    note: str
    label: str | None
    images: int
    mixed: bool  # the images did not all get the same label
    standing: int  # images that nothing has changed since
    operation: str | None
    acts: int = 1  # more: a row of acts by one person, told as one
    began: str = ""  # of such a row; at is its end


@dataclass(frozen=True)
class Skipped:
    name: str
    reason: str


@dataclass
class ImportReport:
    added: int = 0
    classes: dict[str, int] = field(default_factory=dict)  # how many of them of each; "": without a label
    duplicates: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    understood: list[str] = field(default_factory=list)  # what was taken for what: splits, wrapping folders, tables
    offered: int = 0  # images that were here without a label, and have one in the source
    given: int = 0  # of them, that got it
    differ: int = 0  # images that were here with another label than in the source, and keep it
    import_id: int | None = None  # by which it can be undone; None where it added nothing

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class SnapshotRow(NamedTuple):  # there may be a million: an object with fields of its own takes twice the memory
    image_id: str
    path: str  # relative to the images folder
    label: str
    split: Split


@dataclass(frozen=True)
class Snapshot:
    id: str  # sha256[:16] of the rows: equal snapshots have equal ids
    classes: tuple[str, ...]  # in the order of the logits
    rows: tuple[SnapshotRow, ...]


@dataclass(frozen=True)
class Param:
    """One setting: draws the form field, checks the value and writes the help."""

    name: str
    title: str
    kind: Literal["int", "float", "choice", "bool", "names", "layers"]
    default: Any
    help: str
    group: Literal["network", "learning", "images", "method"]
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()
    unit: str = ""
    # Of training:
    applies: Callable[[Mapping[str, Any], Architecture, int], bool] | None = None  # with these values, this network and so many classes
    augments: bool = False  # an image differs from epoch to epoch
    timed: bool = True  # has a say in how long an epoch takes


@dataclass(frozen=True)
class Architecture:
    name: str
    title: str
    summary: str
    factory: str  # "scratch:<class of core.ml.scratch>", "torchvision:<name>" or "timm:<name>"
    head: str  # module path of the last linear layer, replaced for the run's classes
    cam_layer: str  # module path Grad-CAM reads; "" where the network has no convolution
    input_size: int | None = None  # None: any; the dataset decides
    resize: int | None = None  # shorter side before the centre crop; None: the input size
    mean: tuple[float, ...] | None = None  # None: measured on the training images
    std: tuple[float, ...] | None = None
    weights: str = ""  # "" none; "embedded"; or the torchvision weights enum, e.g. "IMAGENET1K_V1"
    batch_size: int = 64  # defaults that train well with this network
    learning_rate: float = 1e-3
    source: str = ""  # paper or tutorial
    parameters: int | None = None  # with 1,000 classes; None: the pictures and classes decide
    any_shape: bool = False  # takes pictures that are not square
    # Of networks for any size, which are Loupe's own:
    largest: int = 64  # pixels: larger pictures are made this small, unless the run asks for more
    tutorial: tuple[int, int] | None = None  # channels and side of the pictures it was first used with: its speed is measured on such
    formula: Callable[[int, int, int], int] | None = None  # parameters for so many channels, so large a side and so many classes
    sketch: tuple[tuple[Literal["planes", "dots", "bars", "arcs"], int], ...] = (("arcs", 9),)  # what stands between picture and answer

    @property
    def measurable(self) -> tuple[int, int] | None:
        """Channels and side of the pictures on which its speed is measured; None where only a run's settings say what it is."""
        return (3, self.input_size) if self.input_size else self.tutorial


def _one_pass(settings: Mapping[str, Any], height: int, width: int) -> int:
    return 1


def _no_problem(settings: Mapping[str, Any]) -> str:
    return ""


@dataclass(frozen=True)
class Method:
    """One attribution method: the record at the head of its file in core/ml/methods."""

    name: str  # that of its file
    title: str
    summary: str
    trust: str  # one sentence: how far this map can be trusted
    source: str  # paper, and where the method departs from it
    order: int  # its place in every list
    params: tuple[Param, ...] = ()  # of the kinds int, float and choice; a choice without options takes those of the network
    problem: Callable[[Mapping[str, Any]], str] = _no_problem  # what is wrong with settings that are each allowed; "" if nothing
    passes: Callable[[Mapping[str, Any], int, int], int] = _one_pass  # through the network, about: of settings, height and width
    passes_at_most: bool = False  # it may take fewer: as many as its sum needs
    gradient: bool = True  # asks for slopes; else it tries out changed pictures
    batched: bool = False  # receives several pictures together; else one at a time
    sums_to: Literal["change", "score"] | None = (
        None  # what its parts should add up to: the change in score from the baseline, or the score
    )
    rewrite: bool = False  # works on a rewritten copy of the network (core.ml.rewrite), and does not support networks without one
    activations: tuple[str, ...] = ()  # classes of torch.nn: with a copy, networks with others are not supported

    @property
    def chooses_layer(self) -> bool:
        """Whether it weighs the regions of a convolution, which not every network has."""
        return any(p.name == "layer" for p in self.params)


@dataclass(frozen=True)
class Preprocess:
    """What happens between a picture and the network: part of the model, saved with it."""

    channels: int
    resize: int  # the shorter side is resized to this
    crop: int  # then the centre square of this side is cut out
    mean: tuple[float, ...]  # per channel, of values in 0..1
    std: tuple[float, ...]
    rectangles: bool = False  # a rectangle of the square's area, close to the picture's own shape, in place of the square
    srgb: bool = False  # colours are converted by the file's profile; runs of an older Loupe, which do not say it, took them as they are
    bits: int = 16  # that hold the grey values of the set's 16-bit pictures: 12 of many cameras


@dataclass(frozen=True)
class Layer:
    """One row of a network built by hand; what does not belong to its kind is ignored."""

    kind: Literal["convolution", "normalisation", "activation", "pooling", "dropout", "dense"]
    size: int = 0  # filters of a convolution, units of a dense layer
    window: int = 3  # F, of a convolution or pooling, pixels
    stride: int = 1  # S
    padding: int = 0  # P
    rate: float = 0.5  # of a dropout
    function: str = ""  # relu, gelu, tanh or sigmoid; of a pooling max or average


def _setting(title: str, group: Literal["network", "learning", "images"], help: str, **more: Any) -> dict[str, Any]:
    """What a field of RunConfig adds to its name, type and default to make a Param; default: what a new run takes, if it is another."""
    return {"title": title, "group": group, "help": help, **more}


# fmt: off
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How a network is trained; every field is a Param of core.catalog.params, in the order of the form.

    Defaults are what runs did before the field was; the settings without one stand in every config.json.
    """

    architecture: str = field(metadata=_setting(
        "Network", "network", "The kind of network that learns: start with a simple one, and let a larger one prove that it is better.",
        default="convnet",
    ))
    pretrained: bool = field(metadata=_setting(
        "Start from pretrained weights", "network",
        "Begin with what the network learned from ImageNet's photographs instead of random numbers.",
        default=True,
    ))
    freeze: bool = field(metadata=_setting(
        "Freeze the backbone", "network",
        "Keep the pretrained layers as they are and train only the last one: much faster, and safer with few images.",
        default=True,
    ))
    unfreeze_after: int = field(default=0, metadata=_setting(
        "Unfreeze after", "network",
        "Train the last layer alone for so many epochs and then all layers; 0 keeps the backbone frozen to the end.",
        low=0, high=1000, unit="epochs",
    ))
    backbone_rate: float = field(default=1.0, metadata=_setting(
        "First layers' learning rate", "network",
        "The learning rate of the first layers as a share of the last one's: what they know serves any picture, so they should change "
        "least, and 1 treats all layers alike.",
        low=0.0001, high=1.0,
    ))
    layers: tuple[Layer, ...] = field(default=(), metadata=_setting(
        "Layers", "network", "The rows of a network of your own, from the picture to the answer; the output layer is added by itself.",
    ))
    output: str = field(default="softmax", metadata=_setting(
        "Output", "network",
        "Softmax gives every class a share, and the shares add up to 1; sigmoid gives a single number, for exactly two classes.",
        options=("softmax", "sigmoid"),
    ))
    epochs: int = field(metadata=_setting(
        "Epochs", "learning", "How many times the network sees every training image, at most.",
        default=10, low=1, high=1000, timed=False,
    ))
    batch_size: int = field(metadata=_setting(
        "Batch size", "learning", "How many images are looked at before the weights change once.",
        default=64, low=1, high=4096, unit="images",
    ))
    optimizer: str = field(metadata=_setting(
        "Optimiser", "learning", "The rule that turns the loss into a change of the weights; Adam works almost everywhere.",
        default="adam", options=("sgd", "adam", "adamw"), timed=False,
    ))
    learning_rate: float = field(metadata=_setting(
        "Learning rate", "learning", "The size of each change: too large and the loss jumps about, too small and nothing moves.",
        default=0.001, low=1e-07, high=10.0, timed=False,
    ))
    momentum: float = field(default=0.9, metadata=_setting(
        "Momentum", "learning", "How much of the last change is carried into the next one, like a ball that keeps rolling; 0 is plain SGD.",
        low=0.0, high=0.999, timed=False, applies=lambda v, arch, classes: v["optimizer"] == "sgd",
    ))
    schedule: str = field(default="constant", metadata=_setting(
        "Schedule", "learning", "How the learning rate changes during the run: large strides first, small ones at the end.",
        options=("constant", "step", "cosine", "one_cycle"), timed=False,
    ))
    step_every: int = field(default=10, metadata=_setting(
        "Step every", "learning", "The learning rate drops each time so many epochs have passed.",
        low=1, high=1000, unit="epochs", timed=False, applies=lambda v, arch, classes: v["schedule"] == "step",
    ))
    step_factor: float = field(default=0.1, metadata=_setting(
        "Step factor", "learning", "What the learning rate is multiplied by at each drop.",
        low=0.001, high=1.0, timed=False, applies=lambda v, arch, classes: v["schedule"] == "step",
    ))
    warmup: float = field(default=0.0, metadata=_setting(
        "Warm-up", "learning", "Let the learning rate rise from nearly 0 over so many epochs, so that the first steps break nothing.",
        low=0.0, high=100.0, unit="epochs", timed=False, applies=lambda v, arch, classes: v["schedule"] != "one_cycle",
    ))
    weight_decay: float = field(default=0.0, metadata=_setting(
        "Weight decay", "learning", "Pulls every weight a little towards 0 at each step, against memorising.",
        low=0.0, high=1.0, timed=False,
    ))
    label_smoothing: float = field(default=0.0, metadata=_setting(
        "Label smoothing", "learning",
        "Spread this share of each label over all classes: the network becomes less sure of itself and forgives some wrong labels.",
        low=0.0, high=0.5, timed=False,
    ))
    balance: str = field(default="none", metadata=_setting(
        "Rare classes", "learning", "Let images of rare classes count more in the loss (weights), or be drawn more often (sampling).",
        options=("none", "weights", "sampling"), timed=False,
    ))
    clip: float = field(default=0.0, metadata=_setting(
        "Gradient clipping", "learning",
        "The greatest length (norm) that a gradient may have: a longer one is shortened to it, and 0 shortens none.",
        low=0.0, high=1000.0, timed=False,
    ))
    precision: str = field(default="auto", metadata=_setting(
        "Numeric precision", "learning",
        "How exactly the machine calculates: bfloat16 carries fewer digits and is faster where it is supported; auto uses it on a GPU, "
        "and where a trial shows that this processor is faster with it.",
        options=("auto", "float32", "bfloat16"),
    ))
    ema: float = field(default=0.0, metadata=_setting(
        "Average of the weights", "learning",
        "Judge and keep a running average of the weights (EMA) instead of the last ones: nearer to 1, such as 0.999, is a longer "
        "average, and 0 is none.",
        low=0.0, high=0.99999,
    ))
    stop_on: str = field(default="loss", metadata=_setting(
        "Best epoch by", "learning", "The validation figure that decides which epoch is kept, and when to stop early.",
        options=("loss", "accuracy"), timed=False,
    ))
    patience: int = field(metadata=_setting(
        "Early stopping patience", "learning", "Stop when validation has not become better for so many epochs; 0 never stops early.",
        default=5, low=0, high=1000, unit="epochs", timed=False,
    ))
    seed: int = field(metadata=_setting(
        "Seed", "learning", "The same seed, data and settings give the same run on the same machine.",
        default=0, low=0, high=2**31 - 1, timed=False,
    ))
    restarts: int = field(default=0, metadata=_setting(
        "Restarts", "learning",
        "How often the run goes on by itself from its last checkpoint when its process is gone, as after a restart of the machine.",
        low=0, high=3, unit="times", timed=False,
    ))
    device: str = field(metadata=_setting(
        "Device", "learning", "Where the arithmetic runs; auto takes a GPU if there is one.",
        default="auto", options=("auto", "cuda", "mps", "cpu"),
    ))
    devices: int = field(default=1, metadata=_setting(
        "Devices", "learning",
        "How many devices share every batch, each with a copy of the network: for a machine with several GPUs.",
        low=1, high=64,
    ))
    classes: tuple[str, ...] = field(default=(), metadata=_setting(
        "Classes", "images", "Learn only these classes; none chosen means all.",
        timed=False, applies=lambda v, arch, classes: classes > 2,
    ))
    image_size: int = field(metadata=_setting(
        "Image size", "images",
        "Side of the square that the network sees; 0 takes the network's own size, or the images' own if they are small.",
        default=0, low=0, high=1024, unit="pixels, 0 = automatic",
    ))
    progressive: bool = field(default=False, metadata=_setting(
        "Progressive resizing", "images", "Small images first, full size for the last epochs: sooner done, and often no worse.",
        applies=lambda v, arch, classes: arch.any_shape,
    ))
    rectangles: bool = field(default=False, metadata=_setting(
        "Keep rectangles", "images", "Show the network whole pictures in their own shape instead of a square cut from the middle.",
        applies=lambda v, arch, classes: arch.any_shape,
    ))
    flip: str = field(default="none", metadata=_setting(
        "Flip", "images", "Mirror images at random; a mirrored digit or letter is another sign, or none.",
        options=("none", "horizontal", "both"), augments=True,
    ))
    crop: float = field(default=0.0, metadata=_setting(
        "Crop", "images", "Cut away up to this share of each side at random, and enlarge the rest.",
        low=0.0, high=0.9, augments=True,
    ))
    rotate: float = field(default=0.0, metadata=_setting(
        "Rotate", "images", "Turn by up to so many degrees, either way.",
        low=0.0, high=180.0, unit="degrees", augments=True,
    ))
    color: float = field(default=0.0, metadata=_setting(
        "Colour", "images", "Change brightness, contrast and saturation by up to this share.",
        low=0.0, high=0.9, augments=True,
    ))
    randaugment: int = field(default=0, metadata=_setting(
        "RandAugment", "images", "Make two changes, drawn at random from fourteen, to each image with this strength; 0 makes none.",
        low=0, high=30, augments=True,
    ))
    mixup: float = field(default=0.0, metadata=_setting(
        "Mixup", "images",
        "Lay two images over each other and ask for both labels in that proportion: more (alpha, such as 0.2) mixes more evenly, and 0 "
        "mixes none.",
        low=0.0, high=10.0, augments=True,
    ))
    cutmix: float = field(default=0.0, metadata=_setting(
        "CutMix", "images",
        "Paste a piece of one image into another and ask for both labels in that proportion: the number is alpha, 1 makes pieces of "
        "every size, and 0 pastes none.",
        low=0.0, high=10.0, augments=True,
    ))
    # fmt: on

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> RunConfig:
        """From what config.json holds."""
        layers = tuple(Layer(**one) for one in values.get("layers", ()))
        return cls(**{**values, "layers": layers, "classes": tuple(values.get("classes", ()))})


@dataclass(frozen=True)
class Run:
    id: str
    name: str
    dataset_id: int
    dataset_name: str
    config: RunConfig
    classes: tuple[str, ...]
    snapshot_id: str
    counts: dict[str, int]  # images per split
    created_at: str
    by: str
    code_version: str
    preset: str = ""  # name of the preset it was started from


# A run's events, one JSON line each; "kind" is the class name.
@dataclass(frozen=True)
class Queued:
    device: str
    at: str
    place: int = 1  # in line for the device; 1 is next


@dataclass(frozen=True)
class Started:
    device: str
    parameters: int
    trained: int  # parameters that learn
    steps: int  # per epoch
    epochs: int
    at: str
    note: str = ""
    ranks: int = 1  # processes that train together, each on a device


@dataclass(frozen=True)
class Preparing:
    """Progress before the first step: reading images, running a frozen backbone once."""

    what: str
    done: int
    total: int
    at: str

    @property
    def words(self) -> str:
        return f"{self.what}: {self.done:,} of {self.total:,}" if self.total > 1 else self.what


@dataclass(frozen=True)
class Resumed:
    """The run goes on after this step: what earlier events say about later steps did not last."""

    epoch: int  # that is complete
    step: int
    at: str


@dataclass(frozen=True)
class Step:
    epoch: int  # from 1
    step: int  # since the start of the run
    loss: float  # mean since the last Step event
    accuracy: float
    images_per_s: float
    seconds_left: float | None
    at: str
    learning_rate: float | None = None
    memory_mb: float | None = None  # of the GPU, or of the process


@dataclass(frozen=True)
class EpochEnd:
    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None  # None without validation images
    val_accuracy: float | None
    learning_rate: float
    images_per_s: float
    best_epoch: int
    seconds: float
    at: str


@dataclass(frozen=True)
class Answers:
    """What the network says about validation images after an epoch."""

    epoch: int
    confusion: list[list[int]]  # [actual, predicted, images] of the cells that are not empty; [] with more than 50 classes
    samples: list[list[Any]]  # [image id, actual, predicted, probability of predicted, probability of actual] of the same few images
    at: str


@dataclass(frozen=True)
class Ended:
    outcome: Literal["succeeded", "stopped", "paused", "failed"]
    best_epoch: int | None
    message: str
    seconds: float
    at: str
    detail: str = ""  # the traceback of a crash, for the log
    remedy: dict[str, Any] = field(default_factory=dict)  # settings with which it would have worked


Event = Queued | Started | Preparing | Resumed | Step | EpochEnd | Answers | Ended
RunStatus = Literal["pending", "queued", "running", "paused", "succeeded", "stopped", "failed", "lost"]


@dataclass(frozen=True)
class FrameAnswer:
    number: int  # from 1, as people count
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Prediction:
    file: str
    image_id: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    frames: tuple[FrameAnswer, ...] = ()  # of a picture of several frames those that were judged
    frame: int = 1  # whose answer it is
    note: str = ""  # which frame counts and why, in sentences
    fingerprint: int | None = None  # core.data.images.fingerprint of its first frame

    def top(self, k: int = 3) -> list[tuple[str, float]]:
        ranked = sorted(zip(self.classes, self.probabilities, strict=True), key=lambda pair: -pair[1])
        return ranked[:k]


@dataclass(frozen=True, eq=False)
class Attribution:
    run_id: str
    image_id: str
    method: str
    target: str
    probability: float
    image: np.ndarray  # (H, W, 3) uint8: what the network saw
    map: np.ndarray  # (H, W) float32; positive speaks for the target, negative against
    delta: float | None  # what the parts add up to, less the change that they should; None where a method promises no sum
    change: float | None = None  # in score, from the baseline to the picture, that the parts should add up to
    notes: tuple[str, ...] = ()  # what the reader of this map must know, in sentences


@dataclass(frozen=True)
class Opening:
    """One opening of a run's test images."""

    by: str
    at: str


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


Band = Literal["pass", "ask", "block"]

@dataclass(frozen=True)
class ClassMetrics:
    """One class of an evaluation; None where the metric is undefined (0 / 0)."""

    name: str
    n: int  # images that carry the label
    predicted: int  # images the network gave it to
    precision: Interval | None
    recall: Interval | None
    f1: Interval | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    run_id: str
    split: str
    classes: tuple[str, ...]
    n: int
    accuracy: Interval | None
    loss: Interval | None  # mean cross-entropy in nats
    per_class: tuple[ClassMetrics, ...]
    confusion: np.ndarray  # (actual, predicted) counts
    rows: Any  # pandas: image_id, true, predicted, confidence
    changed: int  # labels changed since training
    without_label: int  # predicted, but carrying no label of the run's classes today
    balanced_accuracy: Interval | None = None  # mean recall of the classes that have images
    macro_f1: Interval | None = None  # mean F1 of the classes that have images or answers
    top_k: Mapping[int, Interval] = field(default_factory=dict)  # share whose label is among the k likeliest; of more than 5 classes
    invalid: int = 0  # images with a probability that is no number: they count as answered, and not where probabilities are needed
    probabilities: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))  # (n, classes) float64, of rows; read only
    today: bool = True  # judged by today's labels; else by those of the run's snapshot
