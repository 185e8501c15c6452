"""The training loop, read from top to bottom."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from core.catalog.schedule import COLD, DIVIDED, FALLEN, RISE
from core.errors import Invalid
from core.ml.augment import Augment
from core.ml.data import Tensors
from core.ml.devices import memory_mb
from core.ml.ranks import ALONE, Ranks
from core.types import EpochEnd, RunConfig, Step, now

STEP_EVENT_SECONDS = 0.25
CHUNK_BYTES = 4_000_000  # rows gathered and normalised at once: many small batches, and they stay in the CPU's cache
LONG_RUN, LONG_STEP = 200, 0.1  # steps, and seconds of CPU of one: from here on a trial of bfloat16 costs less than 2 % of the run,
HOPELESS = 3.0  # and little more on a processor that takes so many times as long for it
FASTER = 0.9  # of the time: what is not faster by more is not worth its digits
EVAL_ROWS, EVAL_BYTES = 1024, 32_000_000  # at most, per forward pass


class Diverged(Invalid):
    """The loss is no longer a number."""


@dataclass(eq=False)
class Stage:
    """Epochs in which the same part of the network learns from the same rows."""

    last: int  # epoch
    part: str  # path of the module that is run on the rows: "" the whole network on pixels, or its head on features
    frozen: bool  # the head alone learns
    train: Tensors
    validation: Tensors | None
    augment: Augment | None = None


@dataclass(eq=False)
class Training:
    """A network and all that changes while it learns: what a checkpoint has to carry, so that a resumed run equals another."""

    model: nn.Module
    head: str  # path of its last layer
    config: RunConfig
    stages: Sequence[Stage]
    classes: int
    ranks: Ranks = ALONE
    epoch: int = 0  # complete
    step: int = 0
    batch: int = 0  # done in the epoch that is going on
    seen: int = 0  # images of that epoch, with their summed loss and number of right answers
    loss_sum: float = 0.0
    correct: float = 0.0
    best_epoch: int = 0
    best_figure: float = math.inf  # smaller is better
    best: dict[str, Tensor] | None = None
    logits: Tensor | None = None  # (N, classes) of the validation images, after the last epoch
    bfloat16: bool = False  # on this CPU the steps are faster in bfloat16: tried out when the run began
    changing: nn.Module = field(init=False)  # the part of the model that ever changes

    def __post_init__(self) -> None:
        train, config = self.stages[0].train, self.config
        self.changing = self.model.get_submodule("" if any(not s.part for s in self.stages) else self.stages[0].part)
        self.batches = len(self.divided(train, torch.arange(len(train)), None))  # in an epoch
        self.shuffler = torch.Generator().manual_seed(config.seed)
        self.shuffled = self.shuffler.get_state()  # as it was when the epoch that is going on began
        self.in_blocks = any(stage.train.exceeds_memory for stage in self.stages)  # the order of the images, of the whole run
        self.optimizer = make_optimizer(parameter_groups(self.changing, self.model, self.head, config), config, train.device)
        self.scheduler = make_scheduler(self.optimizer, config, self.batches)
        self.ema = AveragedModel(self.changing, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True) if config.ema else None  # type: ignore[no-untyped-call]
        counts = torch.bincount(train.labels.cpu(), minlength=self.classes).clamp(min=1)
        self.rarity = len(train) / (self.classes * counts.double())  # (classes,): 1 where all are equally common
        self.class_weights = self.rarity.float().to(train.device) if config.balance == "weights" else None

    def divided(self, data: Tensors, order: Tensor, shuffler: torch.Generator | None) -> list[Tensor]:
        """The positions in batches, of which every rank gets at least two: batch normalisation needs them."""
        return data.batches(order, self.config.batch_size, shuffler, 2 * self.ranks.count)

    @property
    def planned(self) -> int:
        """Steps of the whole run; where rare classes are drawn, several shapes of picture can make it a few more."""
        return self.config.epochs * self.batches

    @property
    def judged(self) -> nn.Module:
        """The part whose weights are judged and kept."""
        return self.changing if self.ema is None else self.ema.module

    def state(self) -> dict[str, Any]:
        """Plain values and tensors; to be taken between two events, by all ranks."""
        state = {name: getattr(self, name) for name in PLAIN} | {
            "batch_size": self.config.batch_size,
            "changing": self.changing.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "shuffled": self.shuffled,
            "in_blocks": self.in_blocks,
            "halved": self.bfloat16,
            "random": torch.get_rng_state(),
            "randoms": self.ranks.gather(torch.get_rng_state()),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        if torch.cuda.is_available():
            state["random_cuda"] = torch.cuda.get_rng_state()
        return state

    def restore(self, state: dict[str, Any], best: dict[str, Tensor] | None) -> None:
        """Goes on from a state; with another batch size, from the beginning of the epoch it was in."""
        for name in PLAIN:
            setattr(self, name, state[name])
        self.changing.load_state_dict(state["changing"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None and "ema" in state:
            self.ema.load_state_dict(state["ema"])
        self.best = best
        self.shuffled, self.in_blocks = state["shuffled"], state.get("in_blocks", False)
        self.bfloat16 = state.get("halved", False)
        randoms = state.get("randoms", [state["random"]])
        if len(randoms) == self.ranks.count:  # else it goes on with other numbers than it would have
            torch.set_rng_state(randoms[self.ranks.number])
        if "random_cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random_cuda"])
        if state["batch_size"] == self.config.batch_size:
            self.scheduler.load_state_dict(state["scheduler"])
        else:
            self.step, self.batch, self.seen, self.loss_sum, self.correct = self.epoch * self.batches, 0, 0, 0.0, 0.0
            self.reschedule()
        self.shuffler.set_state(self.shuffled)

    def reschedule(self) -> None:
        """Plans the learning rates anew and goes on from the step that is reached."""
        for group in self.optimizer.param_groups:
            group.pop("initial_lr", None)
            group["lr"] = group["top_lr"]
        self.scheduler = make_scheduler(self.optimizer, self.config, self.batches)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch expects a step of the optimiser before each
            for _ in range(self.step):
                self.scheduler.step()


PLAIN = ("epoch", "step", "batch", "seen", "loss_sum", "correct", "best_epoch", "best_figure")


def fit(t: Training) -> Generator[Step | EpochEnd, None, None]:
    """Trains on the stages' device and reports; when it ends, is closed or fails, the model has its best weights.

    Raises Diverged if the loss is no longer a number.
    """
    if callable(getattr(t.model, "learn", None)):
        yield from once(t)
        return
    try:
        for stage in (s for s in t.stages if t.epoch < s.last):
            step, meter = stepper(t, stage), Meter(t)
            while t.epoch < stage.last:
                train_mode(t.model, t.head, stage)
                meter.begin_epoch()
                t.shuffled = t.shuffler.get_state()
                batches = t.divided(stage.train, drawn(t, stage.train), t.shuffler)
                for x, y, of in rows_of(t, stage, batches[t.batch :]):
                    loss, logits = step(x, y, of)
                    meter.add(loss, logits, y, of)
                    advance(t)
                    if t.batch == len(batches) or t.ranks.agree(meter.due()):
                        yield step_event(t, stage, meter)
                yield epoch_event(t, stage, meter)
                if t.config.patience and t.epoch - t.best_epoch >= t.config.patience:
                    return
    finally:
        if t.best is not None:
            t.changing.load_state_dict(t.best)


def rows_of(t: Training, stage: Stage, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor, int]]:
    """This rank's rows and labels of each batch, and how many images it has; gathered in chunks that fit into the CPU's cache."""
    per_chunk = max(1, CHUNK_BYTES // (4 * stage.train.row_values * t.config.batch_size))  # batches
    mine = [t.ranks.share(batch) for batch in batches]
    for first in range(0, len(batches), per_chunk):
        after = first + per_chunk
        stage.train.ahead(mine[first : after + per_chunk])
        shares = stage.train.take_batches(mine[first:after], stage.augment)
        yield from ((x, y, len(batch)) for (x, y), batch in zip(shares, batches[first:after], strict=True))


# The step -----------------------------------------------------------------------------------------------


def stepper(t: Training, stage: Stage) -> Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]:
    """Freezes what does not learn in this stage, and returns one step of the optimiser on the rest.

    The step takes (B, …) rows, their labels and how many images the ranks together have, and gives this rank's part of the mean loss
    and its (B, classes) logits; both stay on the device.
    """
    freeze(t.model, t.head, stage)
    config, optimizer, learner, ranks = t.config, t.optimizer, t.model.get_submodule(stage.part), t.ranks
    precision = autocast(t, learner, stage.train.device)
    network = ranks.wrap(learner, stage.train.device)

    def step(x: Tensor, y: Tensor, of: int) -> tuple[Tensor, Tensor]:
        with precision:
            logits = network(x)
            loss = F.cross_entropy(logits, y, t.class_weights, label_smoothing=config.label_smoothing)
        if ranks.count > 1:
            loss = loss * part_of(y, of)
        (loss * ranks.count).backward()  # type: ignore[no-untyped-call]  # the ranks' gradients are averaged, not summed
        if config.clip:
            nn.utils.clip_grad_norm_((p for p in learner.parameters() if p.grad is not None), config.clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach(), logits.detach()

    def part_of(y: Tensor, of: int) -> float:
        """What this rank's images weigh in the mean over all."""
        if t.class_weights is None or y.dim() > 1:
            return len(y) / of
        mine = t.class_weights[y].sum()
        return float(mine) / float(ranks.total(mine.clone()))

    return step


def advance(t: Training) -> None:
    """What follows each step: the next learning rate, and the average of the weights."""
    if t.step + 1 < t.planned:
        t.scheduler.step()
    if t.ema is not None:
        t.ema.update_parameters(t.changing)
    t.step, t.batch = t.step + 1, t.batch + 1


# The meter ----------------------------------------------------------------------------------------------


class Meter:
    """Losses and right answers of a stage's steps; they stay on the device, for reading one back each step would make a GPU wait."""

    def __init__(self, t: Training) -> None:
        self.t, self.begun, self.steps_before = t, time.perf_counter(), t.step

    def begin_epoch(self) -> None:
        self.epoch_begun = self.read_at = time.perf_counter()
        self.seen_before, self.rate = self.t.seen, self.t.optimizer.param_groups[-1]["lr"]
        self.losses: list[Tensor] = []
        self.hits: list[Tensor] = []
        self.counts: list[int] = []

    def add(self, loss: Tensor, logits: Tensor, y: Tensor, of: int) -> None:
        """One step, whose learning rate still stands in the optimiser."""
        self.rate = self.t.optimizer.param_groups[-1]["lr"]
        self.losses.append(loss)
        self.hits.append(right(logits, y))
        self.counts.append(of)

    def due(self) -> bool:
        return time.perf_counter() - self.read_at > STEP_EVENT_SECONDS

    def read(self) -> tuple[float, float, float]:
        """Mean loss, accuracy and images a second since the last reading; they are added to the epoch's. Diverged if a loss is no number."""
        t, counts = self.t, self.counts
        losses, hits = t.ranks.total(torch.stack(self.losses)).tolist(), t.ranks.total(torch.stack(self.hits)).tolist()
        refuse_nan(losses, t.epoch + 1, t.batch)
        for loss, hit, count in zip(losses, hits, counts, strict=True):
            # One by one, so that the sum is the same however often it is read.
            t.loss_sum, t.correct, t.seen = t.loss_sum + loss * count, t.correct + hit, t.seen + count
        took, self.read_at = time.perf_counter() - self.read_at, time.perf_counter()
        self.losses, self.hits, self.counts = [], [], []
        total = sum(counts)
        return sum(v * c for v, c in zip(losses, counts, strict=True)) / total, sum(hits) / total, total / took


# The report ---------------------------------------------------------------------------------------------


def step_event(t: Training, stage: Stage, meter: Meter) -> Step:
    loss, accuracy, images_per_s = meter.read()
    left = (meter.read_at - meter.begun) / (t.step - meter.steps_before) * max(0, t.planned - t.step)
    return Step(
        epoch=t.epoch + 1,
        step=t.step,
        loss=loss,
        accuracy=accuracy,
        images_per_s=images_per_s,
        # Stages differ in speed a thousandfold: how long the next ones take is not known before they begin.
        seconds_left=left if stage is t.stages[-1] else None,
        at=now(),
        learning_rate=meter.rate,
        memory_mb=memory_mb(stage.train.device),
    )


def epoch_event(t: Training, stage: Stage, meter: Meter) -> EpochEnd:
    """Ends the epoch: judges it, and keeps its weights if they are the best so far."""
    speed = (t.seen - meter.seen_before) / (time.perf_counter() - meter.epoch_begun)
    part = t.judged if t.changing is t.model.get_submodule(stage.part) else t.judged.get_submodule(stage.part)
    t.ranks.same_buffers(part)
    t.logits = answers(part, stage.validation, t.ranks) if stage.validation else None
    val_loss, val_accuracy = scores(t.logits, stage.validation) if stage.validation and t.logits is not None else (None, None)
    train_loss, train_accuracy = t.loss_sum / t.seen, t.correct / t.seen
    t.epoch, t.batch = t.epoch + 1, 0
    t.loss_sum, t.correct, t.seen = 0.0, 0.0, 0
    keep_if_best(t, train_loss if val_loss is None else val_loss, train_accuracy if val_accuracy is None else val_accuracy)
    t.shuffled = t.shuffler.get_state()
    return EpochEnd(
        epoch=t.epoch,
        step=t.step,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        learning_rate=meter.rate,
        images_per_s=speed,
        best_epoch=t.best_epoch,
        seconds=time.perf_counter() - meter.epoch_begun,
        at=now(),
    )


def once(t: Training) -> Iterator[EpochEnd]:
    """A model that is computed from the images in one pass, not trained step by step."""
    stage, begun = t.stages[0], time.perf_counter()
    train = stage.train
    order = torch.split(torch.arange(len(train)), EVAL_ROWS)
    t.model.learn(train.take(some) for some in order)  # type: ignore[operator]
    figures = [scores(answers(t.model, data), data) for data in (train, stage.validation) if data]
    t.logits = answers(t.model, stage.validation) if stage.validation else None
    (loss, accuracy), (val_loss, val_accuracy) = figures[0], figures[1] if stage.validation else (None, None)
    t.epoch = t.best_epoch = t.step = 1
    took = time.perf_counter() - begun
    yield EpochEnd(1, 1, loss, accuracy, val_loss, val_accuracy, 0.0, len(train) / took, 1, took, now())


# What learns ------------------------------------------------------------------------------------------


def freeze(model: nn.Module, head: str, stage: Stage) -> None:
    model.requires_grad_(not stage.frozen)
    model.get_submodule(head).requires_grad_(True)


def train_mode(model: nn.Module, head: str, stage: Stage) -> None:
    """A frozen backbone stays in evaluation mode: its batch statistics are not to drift."""
    model.train(not stage.frozen)
    model.get_submodule(head).train()


def autocast(t: Training, learner: nn.Module, device: torch.device) -> Any:
    """bfloat16 where it was asked for, or where it is known to help."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(t, learner, device))


def uses_bfloat16(t: Training, learner: nn.Module, device: torch.device) -> bool:
    if t.config.precision != "auto" or not convolves(learner):
        return t.config.precision == "bfloat16"
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else t.bfloat16 and device.type == "cpu"


def convolves(learner: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) for m in learner.modules())


def worth_a_trial(t: Training) -> bool:
    """Whether a trial of bfloat16 is worth its time: on a CPU, of a network that convolves, in a run of many steps."""
    stage = t.stages[-1]
    known = t.config.precision != "auto" or stage.train.device.type != "cpu"
    return not known and t.planned >= LONG_RUN and convolves(t.model.get_submodule(stage.part))


def bfloat16_pays(t: Training) -> bool:
    """Whether bfloat16 makes the steps of the last stage faster on this CPU: the second of two of each, on a copy that is thrown away.

    A processor with instructions for it takes 0.7 of the time for a ResNet-18 at 128 pixels, one without several times as much.
    """
    stage = t.stages[-1]
    learner = copy.deepcopy(t.model.get_submodule(stage.part)).requires_grad_(True).train()
    with torch.random.fork_rng(devices=[]):
        x, y = next(iter(stage.train.take_batches([t.ranks.share(torch.arange(min(t.config.batch_size, len(stage.train))))], None)))

        def took(half: bool) -> float:
            begun = time.process_time()  # what others take of a busy machine says nothing of either
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = F.cross_entropy(learner(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            return time.process_time() - begun

        took(False)
        whole = took(False)
        if whole < LONG_STEP or (first := took(True)) > HOPELESS * whole:
            return False
        return min(first, took(True)) < FASTER * whole


def keep_if_best(t: Training, loss: float, accuracy: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(f"The validation loss became {loss} in epoch {t.epoch}.", "Lower the learning rate, or try Adam.")
    figure = -accuracy if t.config.stop_on == "accuracy" else loss
    if figure < t.best_figure:
        t.best_figure, t.best_epoch = figure, t.epoch
        t.best = {name: tensor.clone() for name, tensor in t.judged.state_dict().items()}


# Optimiser and schedule ---------------------------------------------------------------------------------


def parameter_groups(changing: nn.Module, model: nn.Module, head: str, config: RunConfig) -> list[dict[str, Any]]:
    """The backbone's and the head's; with discriminative rates one per layer, from the first layer's to the head's.

    After Howard and Ruder 2018 (arXiv:1801.06146), with a geometric course instead of a factor of 2.6 per layer.
    """
    last = set(model.get_submodule(head).parameters())
    backbone = [p for p in changing.parameters() if p not in last]
    layers = [[p for p in m.parameters(recurse=False) if p not in last] for m in model.modules()]
    if config.backbone_rate == 1 or not backbone:
        layers = [backbone]  # apart from the head: PyTorch's fused SGD fails where some of a group have learned before others
    layers = [layer for layer in layers if layer]
    groups = []
    for i, layer in enumerate([*layers, list(last)]):
        rate = config.learning_rate * config.backbone_rate ** (1 - i / max(1, len(layers)))
        groups.append({"params": layer, "lr": rate, "top_lr": rate})
    return groups


def make_optimizer(groups: list[dict[str, Any]], config: RunConfig, device: torch.device) -> torch.optim.Optimizer:
    rest: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": device.type in ("cpu", "cuda")}
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, **rest)
    return (torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam)(groups, **rest)


def make_scheduler(optimizer: torch.optim.Optimizer, config: RunConfig, batches: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Stepped after every batch; batches: in an epoch."""
    all_of_them = torch.optim.lr_scheduler
    total, warm = config.epochs * batches, round(config.warmup * batches)
    if config.schedule == "one_cycle" and total > 3:
        rates = [group["top_lr"] for group in optimizer.param_groups]
        moving = config.optimizer != "sgd" or config.momentum > 0
        return all_of_them.OneCycleLR(
            optimizer, rates, total, pct_start=RISE, cycle_momentum=moving, div_factor=DIVIDED, final_div_factor=FALLEN
        )
    main: torch.optim.lr_scheduler.LRScheduler
    if config.schedule == "cosine":
        main = all_of_them.CosineAnnealingLR(optimizer, max(1, total - warm))
    elif config.schedule == "step":
        main = all_of_them.StepLR(optimizer, config.step_every * batches, config.step_factor)
    else:
        main = all_of_them.ConstantLR(optimizer, 1.0)
    if not warm:
        return main
    rise = all_of_them.LinearLR(optimizer, COLD, total_iters=warm)
    return all_of_them.SequentialLR(optimizer, [rise, main], [warm])


# Batches ------------------------------------------------------------------------------------------------


def drawn(t: Training, data: Tensors) -> Tensor:
    """(N,) positions of an epoch: each once, or rare classes as often as common ones."""
    n = len(data)
    if t.config.balance == "sampling":
        weights = t.rarity[t.stages[0].train.labels.cpu()]
        chosen = torch.multinomial(weights, n, replacement=True, generator=t.shuffler)
        return data.in_blocks(chosen, t.shuffler) if t.in_blocks else chosen
    return data.in_blocks(torch.arange(n), t.shuffler) if t.in_blocks else torch.randperm(n, generator=t.shuffler)


def right(logits: Tensor, y: Tensor) -> Tensor:
    """How many are right; of mixed images, the share of the class that was named."""
    guesses = logits.argmax(1)
    return (guesses == y).sum().float() if y.dim() == 1 else y.gather(1, guesses[:, None]).sum().float()


def refuse_nan(losses: list[float], epoch: int, last_step: int) -> None:
    """Raises Diverged naming the first step, counted within its epoch, whose loss is no number."""
    for i, loss in enumerate(losses):
        if not math.isfinite(loss):
            name = "NaN" if math.isnan(loss) else "infinite"
            where = f"epoch {epoch}, step {last_step - len(losses) + 1 + i}"
            raise Diverged(f"The loss became {name} in {where}.", "Lower the learning rate, or try Adam.")


# Judging ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def answers(model: nn.Module, data: Tensors, ranks: Ranks = ALONE) -> Tensor:
    """(N, classes) float32 logits on the CPU, in full precision so that every device gives the same; each rank asks for its share."""
    model.eval()
    rows = max(1, min(EVAL_ROWS, EVAL_BYTES // (4 * data.row_values)))
    divided = ranks if len(data) >= ranks.count else ALONE
    mine = divided.share(torch.arange(len(data)))
    found: Tensor | None = None
    batches = data.batches(mine, rows, None)
    for i, some in enumerate(batches):
        data.ahead(batches[i : i + 2])
        logits = torch.cat(list(in_pieces(model, data.take(some)[0]))).float().cpu()
        found = torch.empty(len(mine), logits.shape[1]) if found is None else found
        found[some - mine[0]] = logits
    assert found is not None
    return divided.joined(found, len(data))


def in_pieces(model: nn.Module, x: Tensor) -> Iterable[Tensor]:
    """The model's answers; a batch that does not fit into memory is halved."""
    try:
        return [model(x)]
    except torch.OutOfMemoryError:
        if len(x) == 1:
            raise
        torch.cuda.empty_cache()
    half = len(x) // 2
    return [*in_pieces(model, x[:half]), *in_pieces(model, x[half:])]


def scores(logits: Tensor, data: Tensors) -> tuple[float, float]:
    """Mean loss and accuracy over every image of the split: summed, then divided once."""
    labels = data.labels.cpu()
    loss = F.cross_entropy(logits.double(), labels, reduction="sum").item()
    return loss / len(data), int((logits.argmax(1) == labels).sum()) / len(data)
