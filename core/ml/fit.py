"""The training loop, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import Invalid
from core.ml.data import Tensors
from core.types import EpochEnd, RunConfig, Step, now

STEP_EVENT_SECONDS = 0.25
CHUNK_BYTES = 4_000_000  # rows gathered and normalised at once: many small batches, and they stay in the CPU's cache
EVAL_ROWS, EVAL_BYTES = 1024, 32_000_000  # at most, per forward pass

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters, **rest: torch.optim.SGD(parameters, momentum=0.9, **rest),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def fit(model: nn.Module, train: Tensors, validation: Tensors | None, config: RunConfig) -> Generator[Step | EpochEnd, None, None]:
    """Trains the model on the split's device and reports; when it ends, is closed or fails, the model has its best weights.

    Raises Invalid if the loss is no longer a number.
    """
    device = train.device
    parameters = [p for p in model.parameters() if p.requires_grad]
    fused = device.type in ("cpu", "cuda")
    optimizer = OPTIMIZERS[config.optimizer](parameters, lr=config.learning_rate, fused=fused)
    shuffler = torch.Generator().manual_seed(config.seed)
    convolves = any(isinstance(m, nn.Conv2d) for m in model.modules())
    halves = device.type == "cuda" and convolves and torch.cuda.is_bf16_supported()
    precision = torch.autocast("cuda", torch.bfloat16) if halves else nullcontext()

    n, sizes = len(train), batch_sizes(len(train), config.batch_size)
    per_chunk = max(1, CHUNK_BYTES // (4 * train.row_values * config.batch_size))  # batches
    best_loss, best_epoch, best = math.inf, 0, None
    step, begun = 0, time.perf_counter()
    try:
        for epoch in range(1, config.epochs + 1):
            model.train()
            epoch_begun = reported = time.perf_counter()
            order = torch.randperm(n, generator=shuffler)
            losses: list[Tensor] = []  # on the device: reading one back each step would make the GPU wait
            guesses: list[Tensor] = []
            truths: list[Tensor] = []
            seen, loss_sum, correct = 0, 0.0, 0  # of this epoch, as far as reported

            for first in range(0, len(sizes), per_chunk):
                some = sizes[first : first + per_chunk]
                start = first * config.batch_size
                x_chunk, y_chunk = train.take(order[start : start + sum(some)])
                for x, y in zip(x_chunk.split_with_sizes(some), y_chunk.split_with_sizes(some), strict=True):
                    with precision:
                        logits = model(x)
                        loss = F.cross_entropy(logits, y)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    optimizer.zero_grad()
                    step += 1
                    losses.append(loss.detach())
                    guesses.append(logits.detach())
                    truths.append(y)

                    last = step == epoch * len(sizes)
                    if last or time.perf_counter() - reported > STEP_EVENT_SECONDS:
                        batch_losses = torch.stack(losses).tolist()
                        refuse_nan(batch_losses, epoch, step % len(sizes) or len(sizes))
                        counts = [len(t) for t in truths]
                        right = int((torch.cat(guesses).argmax(1) == torch.cat(truths)).sum())
                        total = sum(value * count for value, count in zip(batch_losses, counts, strict=True))
                        took, reported = time.perf_counter() - reported, time.perf_counter()
                        seen, loss_sum, correct = seen + sum(counts), loss_sum + total, correct + right
                        yield Step(
                            epoch=epoch,
                            step=step,
                            loss=total / sum(counts),
                            accuracy=right / sum(counts),
                            images_per_s=sum(counts) / took,
                            seconds_left=(reported - begun) / step * (config.epochs * len(sizes) - step),
                            at=now(),
                        )
                        losses, guesses, truths = [], [], []

            trained = time.perf_counter() - epoch_begun
            val_loss, val_accuracy = evaluate(model, validation) if validation else (None, None)
            watched = loss_sum / n if val_loss is None else val_loss
            if not math.isfinite(watched):
                raise Invalid(f"The validation loss became {watched} in epoch {epoch}.", "Lower the learning rate, or try Adam.")
            if watched < best_loss:
                best_loss, best_epoch = watched, epoch
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            yield EpochEnd(
                epoch=epoch,
                step=step,
                train_loss=loss_sum / n,
                train_accuracy=correct / n,
                val_loss=val_loss,
                val_accuracy=val_accuracy,
                learning_rate=optimizer.param_groups[0]["lr"],
                images_per_s=n / trained,
                best_epoch=best_epoch,
                seconds=time.perf_counter() - epoch_begun,
                at=now(),
            )
            if config.patience and epoch - best_epoch >= config.patience:
                return
    finally:
        if best is not None:
            model.load_state_dict(best)


def batch_sizes(n: int, size: int) -> list[int]:
    """The images of each step; a last one of a single image joins its neighbour, for batch normalisation needs two."""
    sizes = [size] * (n // size) + [n % size] * (n % size > 0)
    if len(sizes) > 1 and sizes[-1] == 1 < size:
        sizes[-2:] = [size + 1]
    return sizes


def refuse_nan(losses: list[float], epoch: int, last_step: int) -> None:
    """Raises Invalid naming the first step, counted within its epoch, whose loss is no number."""
    for i, loss in enumerate(losses):
        if not math.isfinite(loss):
            name = "NaN" if math.isnan(loss) else "infinite"
            where = f"epoch {epoch}, step {last_step - len(losses) + 1 + i}"
            raise Invalid(f"The loss became {name} in {where}.", "Lower the learning rate, or try Adam.")


@torch.inference_mode()
def answers(model: nn.Module, data: Tensors) -> Tensor:
    """(N, classes) float32 logits on the CPU, in full precision so that every device gives the same."""
    model.eval()
    rows = max(1, min(EVAL_ROWS, EVAL_BYTES // (4 * data.row_values)))
    return torch.cat([model(data.take(some)[0]).float() for some in torch.split(torch.arange(len(data)), rows)]).cpu()


def evaluate(model: nn.Module, data: Tensors) -> tuple[float, float]:
    """Mean loss and accuracy over every image of the split: summed, then divided once."""
    logits, labels = answers(model, data), data.labels.cpu()
    loss = F.cross_entropy(logits.double(), labels, reduction="sum").item()
    return loss / len(data), int((logits.argmax(1) == labels).sum()) / len(data)
