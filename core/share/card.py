"""The model card of a run: what a person should know before they use its network, in Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.catalog import networks, params
from core.metrics import TOO_FEW
from core.types import SPLITS, Ended, EpochEnd, Evaluation, Event, Interval, Preprocess, Run, SnapshotRow, Started

MAIN = ("epochs", "batch_size", "optimizer", "learning_rate", "patience", "seed")  # told even where they are the usual ones
FILES = {
    "model.safetensors": "the weights; reading them runs no code",
    "model.onnx": "the network: “images” (float32, N × C × H × W) to “logits” (N × classes)",
    "labels.txt": "the classes, one a line, in the order of the logits",
    "preprocessing.json": "what happens to a picture before the network sees it, as numbers",
    "preprocess.py": "the same as code, and an example: python preprocess.py PICTURE",
    "config.json": "the run: its settings, classes and numbers of pictures",
    "dataset.csv": "every picture it learned from or was measured on: id, label, split and the SHA-256 of its file",
    "events.jsonl": "what happened while it trained",
    "notes.json": "the note and tags that people gave it",
    "predictions.csv": "its answer to every validation and test picture",
    "metrics.json": "how often it was right, with the number of pictures and 95% intervals",
    "parity.json": "how far ONNX Runtime and PyTorch are apart",
    "SHA256SUMS": "the SHA-256 of every other file here; sha256sum -c SHA256SUMS compares them",
}
SUMS = "SHA256SUMS"


@dataclass(frozen=True, eq=False)
class Facts:
    """What the card is written from."""

    run: Run
    rows: Sequence[SnapshotRow]
    hashed: int  # pictures whose file was there
    events: Sequence[Event]
    metrics: Sequence[Evaluation]  # validation, test: those the run has predictions for
    preprocess: Preprocess
    parameters: int
    without_onnx: str  # why there is no model.onnx; "" if there is one
    parity: Mapping[str, Any] | None
    files: Sequence[str]  # of FILES, that the zip holds


def parity_words(parity: Mapping[str, Any] | None, without_onnx: str) -> str:
    """What the comparison of ONNX Runtime and PyTorch has shown."""
    if parity is None:
        return f"There is no model.onnx, so nothing was compared. {without_onnx}"
    if not parity["images"]:
        return "ONNX Runtime and PyTorch were not compared: none of the run's pictures could be read."
    n, same = parity["images"], parity["same_answer"]
    probabilities, logits = (_small(parity[f"largest_difference_of_{what}"]) for what in ("probabilities", "logits"))
    return (
        f"{'Passed' if parity['passed'] else 'FAILED'}: ONNX Runtime and PyTorch name the same class for "
        f"{f'all {n}' if same == n else f'{same} of {n}'} {parity['of']}. Their probabilities differ by at most {probabilities} "
        f"(allowed: {_small(parity['allowed_difference_of_probabilities'])}), their logits by {logits}."
    )


def _small(number: float) -> str:
    """0.000000077 as 7.7 × 10⁻⁸."""
    digits, _, power = f"{number:.1e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if power else ""
    return "0" if number == 0 else digits if not raised else f"{digits} × 10{raised}"


def text(f: Facts) -> str:
    """The whole card."""
    chapters = (_what, _not_for, _saw, _trained, _measured, _receives, _files)
    return "\n".join(line.rstrip() for chapter in chapters for line in chapter(f)) + "\n"


def plain(name: str) -> str:
    """A name from outside as text, also inside a table; an address gets something invisible in its midst, or readers make it a link."""
    for mark in "\\`*_[]<>#|~$&":
        name = name.replace(mark, f"\\{mark}")
    name = re.sub(r"(?i)(?<=htt)(?=ps?://)|(?<=ft)(?=p://)|(?<=ww)(?=w\.)|(?<=@)", "\u2060", name)
    return " ".join(name.split())


def _what(f: Facts) -> Iterator[str]:
    arch = networks.architecture(f.run.config.architecture)
    yield f"# {plain(f.run.name)}"
    yield ""
    yield f"A network that sorts pictures into {len(f.run.classes)} classes: {', '.join(plain(c) for c in f.run.classes)}."
    yield ""
    yield f"- Network: {arch.title}, {f.parameters:,} trainable weights{f' ({arch.source})' if arch.source else ''}"
    yield f"- Trained on {f.run.created_at[:10]} with Loupe (code version {plain(f.run.code_version)}), run {f.run.id}"
    yield "- **Licence of the weights: not stated yet. Write it here before you pass this file on.**"
    if f.run.config.pretrained:
        yield "  The weights it began with, learned from ImageNet's photographs, have terms of their own; so do the pictures it learned from."
    else:
        yield "  The pictures it learned from have terms of their own."


def _not_for(f: Facts) -> Iterator[str]:
    learned = Counter(r.label for r in f.rows if r.split == "train")
    few = [f"{plain(c)} ({learned[c]})" for c in f.run.classes if learned[c] < TOO_FEW]
    yield from ("", "## What it must not be used for", "")
    yield (
        f"- **Pictures of anything else.** It always names one of its {len(f.run.classes)} classes, also where the picture shows none "
        "of them, and it may do so with a high probability."
    )
    yield (
        "- **Pictures made in another way** than those it learned from (another camera, light, background or size) before it has been "
        "measured on some of them: the figures below say nothing about those."
    )
    yield (
        "- **Decisions about people or their safety, health, money or rights** without a person who looks at the picture, "
        "decides, and can be asked."
    )
    yield "- **As proof.** A probability of 0.99 is how sure the network is, not how often it is right."
    if few:
        yield f"- **Alone, for classes it saw fewer than {TOO_FEW} training pictures of:** {', '.join(few)}. What it learned of them may be chance."


def _saw(f: Facts) -> Iterator[str]:
    counts = Counter((r.label, r.split) for r in f.rows)
    yield from ("", "## What it saw", "")
    yield f"The dataset “{plain(f.run.dataset_name)}” as it was then (snapshot {f.run.snapshot_id}), {len(f.rows):,} pictures:"
    yield from ("", "| class | training | validation | test |", "|---|---:|---:|---:|")
    for c in f.run.classes:
        yield f"| {plain(c)} | " + " | ".join(f"{counts[c, s]:,}" for s in SPLITS) + " |"
    yield "| **all** | " + " | ".join(f"{sum(counts[c, s] for c in f.run.classes):,}" for s in SPLITS) + " |"
    yield ""
    yield (
        "It learned from the training pictures alone. The validation pictures decided which epoch was kept. "
        "The test pictures decided nothing."
    )
    missing = len(f.rows) - f.hashed
    hashes = "the SHA-256 of every file" if not missing else f"the SHA-256 of {f.hashed:,} files; {missing:,} were not there any more"
    yield f"dataset.csv holds {hashes}."


def _trained(f: Facts) -> Iterator[str]:
    config = f.run.config
    yield from ("", "## How it was trained", "")
    yield (
        "Nothing was trained: each picture is compared with the mean picture of every class. Its probabilities put the classes in order; "
        "how sure it is they do not say."
        if not f.parameters
        else "It began with weights learned from ImageNet's photographs"
        + (", which stayed as they were; only the last layer learned." if config.freeze and not config.unfreeze_after else ".")
        if config.pretrained
        else "It began with random weights."
    )
    if words := took(f.run, f.events):
        yield words
    yield ""
    for name, param in params.PARAMS.items():
        value = getattr(config, name)
        if name in ("architecture", "pretrained", "freeze", "layers") or (name not in MAIN and value == param.default):
            continue
        yield f"- {param.title}: {plain(params.words(name, value))}{f' {param.unit}' if param.unit else ''}"
    if config.layers:
        yield f"- Layers: {len(config.layers)}, listed in config.json"


def took(run: Run, events: Sequence[Event]) -> str:
    """How many epochs, which was kept, and how long."""
    epochs = [e for e in events if isinstance(e, EpochEnd)]
    started = next((e for e in reversed(events) if isinstance(e, Started)), None)
    ended = next((e for e in reversed(events) if isinstance(e, Ended)), None)
    said = []
    if epochs:
        kept = ended.best_epoch if ended and ended.best_epoch else epochs[-1].best_epoch
        said.append(f"{epochs[-1].epoch} of {run.config.epochs} epochs were trained; the weights are those of epoch {kept}.")
    if ended:
        said.append(f"It took {ended.seconds:,.0f} s{f' on {plain(started.device)}' if started else ''}.")
    return " ".join(said)


def _measured(f: Facts) -> Iterator[str]:
    yield from ("", "## How often it is right", "")
    if not f.metrics:
        yield "**Nobody knows:** there are no predictions for validation or test pictures."
    for e in f.metrics:
        yield f"- **{e.split.capitalize()}:** {share(e)}"
    if f.metrics and not any(e.split == "test" for e in f.metrics):
        yield "- **Test:** not measured, for there were no test pictures."
    if any(e.split == "validation" for e in f.metrics):
        yield ""
        yield "The validation figure is a little too good: those pictures chose the epoch."
    for e in f.metrics:
        yield from ("", f"### Each class, {e.split} pictures (95% intervals in brackets)", "")
        yield "| class | n | precision | recall | F1 |"
        yield "|---|---:|---|---|---|"
        for i, c in enumerate(e.per_class):
            hit, name, few = int(e.confusion[i, i]), plain(c.name), min(c.n, c.predicted) < TOO_FEW
            both = f"{percent(c.f1)}{interval(c.f1)}" if not few else interval(c.f1).strip() or "undefined"
            yield f"| {name} | {c.n:,} | {part(hit, c.predicted, c.precision)} | {part(hit, c.n, c.recall)} | {both} |"
    if f.metrics:
        yield ""
        yield (
            "Precision: of the pictures it gave this class, the share that are. Recall: of the pictures that are this class, the share it "
            f"found. F1: both in one figure. Of fewer than {TOO_FEW} pictures the count stands here, for a share would say too much."
        )


def share(e: Evaluation) -> str:
    if e.accuracy is None:
        return "no pictures"
    right, between = int(e.confusion.trace()), f"95% interval {e.accuracy.low:.1%} to {e.accuracy.high:.1%}"
    if e.n < TOO_FEW:
        return f"{right} of {e.n} right ({between}); too few pictures to call it an accuracy"
    loss = f"; cross-entropy loss {e.loss.value:.3f} ({e.loss.low:.3f} to {e.loss.high:.3f})" if e.loss else ""
    return f"{e.accuracy.value:.1%} of {e.n:,} right ({between}){loss}"


def part(hit: int, of: int, share: Interval | None) -> str:
    """A share with its interval; of few pictures the count."""
    return f"{f'{hit} of {of}' if share is not None and of < TOO_FEW else percent(share)}{interval(share)}"


def percent(share: Interval | None) -> str:
    return "undefined" if share is None else f"{share.value:.1%}"


def interval(share: Interval | None) -> str:
    return "" if share is None else f" ({share.low:.1%} to {share.high:.1%})"


def _receives(f: Facts) -> Iterator[str]:
    p = f.preprocess
    colour = "grey" if p.channels == 1 else "in colour (RGB)"
    numbers = "; ".join(f"{name} {', '.join(f'{v:.4g}' for v in values)}" for name, values in (("mean", p.mean), ("std", p.std)))
    yield from ("", "## What it receives", "")
    if p.rectangles:
        cut = f"brought to the nearest of the shapes in preprocessing.json (about {p.crop} × {p.crop} pixels), cut at the edges"
    else:
        cut = f"shorter side resized to {p.resize} pixels (bilinear, antialiased), the square of {p.crop} × {p.crop} cut from the middle"
    yield f"The picture upright, {colour}, {cut}. Then (value / 255 − mean) / std for each channel: {numbers}."
    yield "preprocess.py does exactly this. The probabilities are the softmax of the logits."


def _files(f: Facts) -> Iterator[str]:
    yield from ("", "## The same answers elsewhere", "", parity_words(f.parity, f.without_onnx))
    yield from ("", "## Files", "")
    for name in f.files:
        yield f"- {name}: {FILES[name]}"
    if f.without_onnx:
        yield f"- There is no model.onnx. {plain(f.without_onnx)}"
