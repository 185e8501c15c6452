"""The images a run would use, and what a person should know before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median
from typing import Any

from core import pace, roles
from core.catalog import networks, params
from core.data import alike, depth, splits, store
from core.data.store import Filter
from core.errors import Invalid
from core.runs import launch
from core.runs.remote import preview
from core.settings import settings
from core.types import SPLITS, Image, RunConfig, Snapshot, SnapshotRow, Split

# Without a known seed two people would get two validation sets, and their figures could not be compared.
VALIDATION_SEED = 0
FEW = 10  # images: of fewer, what is learned may be chance
UNEVEN = 10  # times as many images in one class as in another
FAR = 4  # times the size of a picture that it is enlarged, or shrunk to a few pixels
SMALL = 64  # pixels a side, at most, of pictures that the small networks take as they are
HOUR = 3600.0
WORDS = {"train": "training", "validation": "validation", "test": "test"}
SIGNS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}


@dataclass(frozen=True)
class Plan:
    """How many images of each class a run would use; the counts of the snapshot it would freeze."""

    classes: tuple[str, ...]
    images: Mapping[Split, Mapping[str, int]]  # of classes that have any
    next_images: str = ""  # in a sentence: what becomes of images that are added to this dataset

    def count(self, split: Split) -> int:
        return sum(self.images[split].values())


@dataclass(frozen=True)
class Guard:
    """What a person should know before a run starts, and what can be done about it."""

    message: str
    remedy: str
    title: str = ""  # of the button that does it
    values: Mapping[str, Any] = field(default_factory=dict)  # the settings it changes
    page: str = ""  # or the page it opens


@dataclass(frozen=True)
class Pictures:
    """The middle one of a sample of training images."""

    short: float  # pixels
    long: float
    channels: int
    sizes: tuple[tuple[int, int, int], ...]  # (width, height, channels) of the sample


@roles.needs("see")
def plan(dataset_id: int, only: Sequence[str] = (), frozen: Snapshot | None = None) -> Plan:
    """Counted in the database's index, so that it costs milliseconds at 100,000 images; Invalid if nothing can be learned.

    frozen: of these classes, where it was made already.
    """
    dataset = store.get_dataset(dataset_id)
    if unknown := [name for name in only if name not in dataset.classes]:
        raise Invalid(f"{names(unknown)} is no class of “{dataset.name}”.", "Choose among the classes of this dataset, or none for all.")
    images: dict[Split, dict[str, int]] = {split: {} for split in SPLITS}
    for split, label, n in store.counts(dataset_id):
        if label is not None:
            images[split][label] = n  # type: ignore[index]
    if not any(images.values()):
        raise Invalid("No image of this dataset carries a label.", "Label some images on the Label page first.")
    if not images["validation"] and frozen is not None:
        images |= _counted(frozen.rows)
    elif not images["validation"] and (groups := alike.groups(dataset_id)):
        images |= _drawn(dataset_id, len(groups), tuple(sorted(images["train"].items())))
    elif not images["validation"]:
        images["validation"] = {name: held for name, n in images["train"].items() if (held := store.held_out(n))}
        for name, held in images["validation"].items():
            images["train"][name] -= held
    if only:
        images = {split: {name: n for name, n in held.items() if name in only} for split, held in images.items()}
    train = images["train"]
    if len(train) < 2:
        found = f"the only class with training images is “{next(iter(train))}”" if train else "no training image carries a label"
        raise Invalid(f"A classifier needs at least two classes; {found}.", "Add images of another class, or label some.")
    return Plan(tuple(c for c in dataset.classes if any(c in held for held in images.values())), images, splits.next_images(dataset))


@lru_cache(maxsize=32)
def _drawn(dataset_id: int, _groups: int, _images: tuple[tuple[str, int], ...]) -> dict[Split, dict[str, int]]:
    """Where near copies stay together no formula counts the images: among 100,000 it takes a second, and the page is drawn often."""
    return _counted(store.snapshot(dataset_id, VALIDATION_SEED, groups=alike.groups(dataset_id)).rows)


def _counted(rows: Sequence[SnapshotRow]) -> dict[Split, dict[str, int]]:
    """Training and validation images by class, where the latter were drawn among the former."""
    drawn: dict[Split, dict[str, int]] = {"train": {}, "validation": {}}
    for (split, label), n in Counter((row.split, row.label) for row in rows).items():
        if split in drawn:
            drawn[split][label] = n
    return drawn


@roles.needs("see")
def snapshot(dataset_id: int, config: RunConfig) -> Snapshot:
    """The images of a run, frozen; Invalid if it cannot learn from them."""
    if not any(split == "validation" and label is not None for split, label, _ in store.counts(dataset_id)):
        splits.compare(dataset_id)
    frozen = store.snapshot(dataset_id, VALIDATION_SEED, config.classes, alike.groups(dataset_id))
    check(plan(dataset_id, config.classes, frozen), config, pictures(dataset_id))
    return frozen


def check(found: Plan, config: RunConfig, seen: Pictures | None = None) -> None:
    """Invalid where the settings are right in themselves, but not for these images."""
    if config.output == "sigmoid" and len(found.classes) != 2:
        raise Invalid(
            f"A single output with sigmoid tells two classes apart; here are {len(found.classes)}.",
            "Choose two classes under Images, or set the output to softmax.",
        )
    if problem := networks.problem(config, seen.sizes if seen else (), len(found.classes)):
        raise Invalid(problem)


@roles.needs("see")
def pictures(dataset_id: int) -> Pictures | None:
    """None where there is no training image."""
    sizes = tuple((i.width, i.height, i.channels) for i in store.some(dataset_id, "train", 255))
    if not sizes:
        return None
    channels = round(median(c for _, _, c in sizes))
    return Pictures(median(min(w, h) for w, h, _ in sizes), median(max(w, h) for w, h, _ in sizes), channels, sizes)


def suggested(found: Pictures | None) -> str:
    """The network to start with: a small one for small pictures, a pretrained one for photos."""
    if found is None or found.long > SMALL:
        return "efficientnet_lite0"
    return "convnet" if found.channels == 1 else "cnn3"


def recommended(found: Plan, seen: Pictures | None) -> tuple[dict[str, Any], list[str]]:
    """Network and settings to start with on these images, and why, in sentences."""
    name = suggested(seen)
    values: dict[str, Any] = {"architecture": name}
    arch = networks.architecture(name)
    if seen is None or seen.long > SMALL:
        size = "" if seen is None else f" of about {seen.long:.0f} × {seen.short:.0f} pixels"
        why = [f"These are photos{size}: {arch.title} has learned from a million photos already, so that only its last layer has to learn."]
    else:
        colour = "grey" if seen.channels == 1 else "coloured"
        why = [
            f"These are small {colour} pictures of about {seen.long:.0f} × {seen.short:.0f} pixels: {arch.title} takes them as they are."
        ]
    for _ in range(5):  # each remedy can be a reason for another
        mended = next((g for g in guards(found, params.run_config(values), seen, None) if g.values and "classes" not in g.values), None)
        if mended is None or mended.values.items() <= values.items():
            break
        values |= mended.values
        why.append(f"{mended.message} {mended.remedy}")
    return values, why


# Guards -----------------------------------------------------------------------------------------------


def guards(found: Plan, config: RunConfig, seen: Pictures | None, seconds: float | None) -> list[Guard]:
    """What a person should know before this run starts; seen: the pictures, seconds: how long it would take, where that is known."""
    return [
        *_few(found),
        *_splits(found),
        *_balance(found, config),
        *_size(config, seen),
        *_signs(found, config),
        *_effort(found, config, seconds),
    ]


def _few(found: Plan) -> Iterator[Guard]:
    train = found.images["train"]
    few = [c for c in found.classes if train.get(c, 0) < FEW]
    if not few:
        return
    enough = [c for c in found.classes if c not in few]
    if len(enough) > 1:
        remedy, leave = "Label more of them, or leave them out.", {"classes": enough}
    else:
        remedy, leave = "Label more of them.", {}
    yield Guard(
        f"Fewer than ten training images of {names(few)}: what is learned about them may be chance.",
        remedy,
        f"Leave {'it' if len(few) == 1 else 'them'} out" if leave else "Label images",
        leave,
        "" if leave else "label.py",
    )


def _splits(found: Plan) -> Iterator[Guard]:
    consequence = {
        "train": "They are never learned.",
        "validation": "The choice of the best epoch does not heed them.",
        "test": "The final figure will not speak of them.",
    }
    if not found.images["validation"]:
        yield Guard(
            "There are no validation images: the training loss decides which epoch is best, and nobody sees when it begins to memorise.",
            "Label more images; of every class with two training images one is kept for validation.",
            "Label images",
            page="label.py",
        )
    if not found.images["test"]:
        yield Guard(
            "There are no test images: the only figure will be that of the validation images, which had a say in the training.",
            f"{found.next_images} Draw a test split now, or import images into a folder “test”.".strip(),
            "Draw a test split",
            page="dataset.py",
        )
    for split, held in found.images.items():
        missing = [c for c in found.classes if c not in held]
        if held and missing:
            yield Guard(
                f"No {WORDS[split]} image of {names(missing)}. {consequence[split]}", "Label more of them.", "Label images", page="label.py"
            )


def _balance(found: Plan, config: RunConfig) -> Iterator[Guard]:
    train = found.images["train"]
    common, rare = max(train, key=lambda c: train[c]), min(train, key=lambda c: train[c])
    if train[common] > UNEVEN * train[rare] and config.balance == "none":
        yield Guard(
            f"“{common}” has {train[common]:,} training images, “{rare}” only {train[rare]:,}: rare classes are learned worse.",
            "Let images of rare classes count more in the loss.",
            "Use class weights",
            {"balance": "weights"},
        )


def _size(config: RunConfig, seen: Pictures | None) -> Iterator[Guard]:
    if seen is None:
        return
    arch = networks.architecture(config.architecture)
    side = networks.preprocess_for(config, seen.sizes).crop
    here = f"{seen.long:.0f} × {seen.short:.0f} pixels"
    better = suggested(seen)
    if side >= FAR * seen.short:
        text = f"The images have about {here} and are enlarged to {side} × {side}: many times the work, and no more detail."
        if config.freeze and seen.channels == 1:
            text += " And the frozen layers know colour photographs, not small grey pictures."
        if arch.input_size is None:
            yield Guard(text, "Take their own size.", "Use their own size", {"image_size": 0})
        else:
            yield Guard(text, f"{networks.architecture(better).title} learns from them as they are.", *_instead(better))
    elif config.freeze and seen.channels == 1 and seen.long <= SMALL:
        text = "The frozen layers know colour photographs, not small grey pictures."
        yield Guard(text, "Let all layers learn, or take a network for small pictures.", *_instead(better))
    elif side <= SMALL and seen.short >= FAR * side:
        text = f"The images have about {here} and are shrunk to {side} × {side}: what is small in them is lost."
        if arch.input_size and config.image_size:
            yield Guard(
                text, f"The network was made for {arch.input_size} × {arch.input_size}.", "Use the network's own size", {"image_size": 0}
            )
        elif config.image_size:
            yield Guard(text, "Take a larger image size.", "Use image size 128", {"image_size": 128})
        else:
            yield Guard(text, f"{networks.architecture(better).title} sees more of them.", *_instead(better))


def _instead(name: str) -> tuple[str, dict[str, Any]]:
    return f"Use {networks.architecture(name).title}", {"architecture": name}


def _signs(found: Plan, config: RunConfig) -> Iterator[Guard]:
    """Pictures whose meaning a mirror or a turn changes."""
    signs = [c for c in found.classes if (len(c) == 1 and c.isalnum()) or c.lower() in SIGNS]
    sides = [c for c in found.classes if {"left", "right"} & set(c.lower().replace("_", " ").replace("-", " ").split())]
    if config.flip != "none" and (len(signs) > 1 or sides):
        what = (
            f"{names(signs)} are digits or letters: mirrored, one is another sign or none"
            if len(signs) > 1
            else f"A mirror makes {names(sides)} the other side"
        )
        yield Guard(f"{what}. The network would learn wrong answers.", "Do not flip them.", "No flips", {"flip": "none"})
    if config.rotate > 45 and len(signs) > 1:
        turned = (
            "a 6 turned round is a 9"
            if {"6", "9"} <= set(signs) or {"six", "nine"} <= {s.lower() for s in signs}
            else "turned, it may be another"
        )
        text = f"{names(signs)} are digits or letters: {turned}. Up to {config.rotate:g} degrees is too much for them."
        yield Guard(text, "Turn them by up to 15 degrees.", "Rotate by up to 15", {"rotate": 15.0})


def _effort(found: Plan, config: RunConfig, seconds: float | None) -> Iterator[Guard]:
    n = found.count("train")
    if config.batch_size > n:
        size = 1 << max(1, (n // 8).bit_length() - 1)
        text = f"A batch of {config.batch_size:,} is more than the {n:,} training images: the weights change only once in an epoch."
        yield Guard(text, "Take a smaller batch.", f"Use batch size {size}", {"batch_size": size})
    if config.batch_size == 1 and networks.learns_batch_norm(config):
        text = (
            "With one image in a batch, batch normalisation takes its mean from that image alone: the network learns badly, "
            "and the run stops where one number is left of the picture."
        )
        yield Guard(text, "Take several images in a batch.", "Use batch size 8", {"batch_size": 8})
    if seconds is not None and seconds > HOUR:
        text = f"The network may take {pace.duration(seconds)} with {n:,} training images on this machine."
        if config.pretrained and not config.freeze:
            yield Guard(text, "With a frozen backbone every image passes through it only once.", "Freeze the backbone", {"freeze": True})
        else:
            yield Guard(text, "Fewer epochs, smaller images or a smaller network take less; a run can be paused, too.")


def duplicates(groups: int | None, new: int = 0) -> Guard | None:
    """Of groups of near duplicates in more than one split; None: nobody has looked. new: images that came after the look."""
    if groups is None:
        text = "Whether near duplicates lie in training and in test as well is not checked yet."
        return Guard(text, "Loupe looks at every image once; a run need not wait for it.", "Look for near duplicates")
    if groups:
        what = "One group of near duplicates lies" if groups == 1 else f"{groups:,} groups of near duplicates lie"
        text = f"{what} in more than one split: the network is then tested on what it has learned by heart."
        return Guard(text, "Take the label away from the copies in one of the splits.", "Show them", page="label.py")
    if new:
        return Guard(
            f"{new:,} images came after Loupe looked for near duplicates.", "Let it look at them, too.", "Look for near duplicates"
        )
    return None


def names(found: Sequence[str]) -> str:
    shown = [f"“{n}”" for n in found[:4]]
    if len(found) > 4:
        return f"{', '.join(shown)} and {len(found) - 4} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


# Nine variants ----------------------------------------------------------------------------------------


@roles.needs("see")
def example(dataset_id: int, found: Plan, number: int) -> Image | None:
    """A training image; counting on goes through the classes, and through the images of each."""
    held = found.images["train"]
    name = list(held)[number % len(held)]
    chosen = store.browse(dataset_id, Filter(label=name, split="train"), number // len(held) * 7919 % held[name], 1)
    return chosen[0] if chosen else None


@roles.needs("see")
def variants(dataset_id: int, config: RunConfig, file: str, other: str, seed: int) -> bytes:
    """Nine pictures training might make of the image, three by three, as a PNG; the other one is what it is mixed with."""
    seen = pictures(dataset_id)
    one, two = (str(settings().images / name) for name in (file, other))
    return launch.ask(preview.variants, config, seen.sizes if seen else (), one, two, seed, depth.of(dataset_id))
