"""Datasets, their images and the labels of these."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Path, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from core import roles
from core.api.v1 import access, door
from core.api.v1.access import DatasetId
from core.api.v1.lists import Cursor, Limit, Page, page, place
from core.api.v1.once import Key, once
from core.api.v1.problems import Problem
from core.data import images, imports, labels, listing, removed, store
from core.data.sources import Entry
from core.errors import Invalid, NotFound
from core.names import MAX_CLASS
from core.settings import settings
from core.types import Dataset, Image, LabelEvent, Split

MOST_FILES = 256  # of one request
router = APIRouter(tags=["Images and labels"])

ImageId = Annotated[str, Path(alias="image", max_length=64, description="The image's id: the first 16 digits of its SHA-256.")]
Files = Annotated[list[UploadFile], File(description=f"Up to {MOST_FILES} pictures: {images.ALLOWED}.")]


class DatasetOut(BaseModel):
    id: int
    name: str
    classes: list[str]
    images: int
    created_at: str

    @classmethod
    def of(cls, one: Dataset) -> DatasetOut:
        return cls(
            id=one.id, name=one.name, classes=list(one.classes), images=store.count(one.id, store.Filter()), created_at=one.created_at
        )


class ImageOut(BaseModel):
    id: str
    name: str
    label: str | None
    version: int = Field(description="Send it as `seen` when you label: a label that came since is not written over.")
    flagged: bool
    split: Split
    width: int
    height: int
    size_bytes: int
    added_at: str

    @classmethod
    def of(cls, one: Image) -> ImageOut:
        shown = ("id", "label", "flagged", "split", "width", "height", "size_bytes", "added_at")
        return cls(name=one.source, version=one.label_seq, **{key: getattr(one, key) for key in shown})


class Added(BaseModel):
    file: str
    id: str | None = Field(default=None, description="Of the image in the dataset.")
    added: bool = Field(description="false: the dataset had it already, or it was refused.")
    problem: str | None = Field(default=None, description="Why it was refused, or what was not taken over.")


class AddedOut(BaseModel):
    images: list[Added]


class LabelIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: str | None = Field(max_length=MAX_CLASS, description="A class of the dataset; null takes the label back.")
    seen: int = Field(ge=0, lt=1 << 31, description="The `version` of the image that you have seen.")


class LabelsIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: str | None = Field(max_length=MAX_CLASS, description="A class of the dataset; null takes the labels back.")
    seen: dict[str, Annotated[int, Field(ge=0, lt=1 << 31)]] = Field(
        max_length=labels.MAX_AT_ONCE, description="By image id the `version` that you have seen."
    )


class RemovalIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    images: list[Annotated[str, Field(max_length=64)]] = Field(min_length=1, max_length=removed.AT_ONCE, description="Ids of images.")


class RemovalOut(BaseModel):
    images: int = Field(description="How many were removed, or came back; the others were there no more.")


class Now(BaseModel):
    label: str | None
    version: int
    by: str
    at: str


class LabelsOut(BaseModel):
    label: str | None = Field(description="As stored: another word than the one sent where the class was renamed.")
    stored: dict[str, int] = Field(description="By image id its new version.")
    refused: dict[str, Now] = Field(description="Labelled by somebody since: what they carry now.")
    missing: list[str] = Field(description="Not in the dataset.")


@router.get("/datasets")
def list_datasets(limit: Limit = 100, after: Annotated[Cursor, Query(alias="cursor")] = None) -> Page[DatasetOut]:
    """The datasets that this token may see, in the order in which they were made."""
    last = place(after, int)
    found = sorted((one for one in access.datasets() if last is None or one.id > last[0]), key=lambda one: one.id)
    shown, following = page(found[: limit + 1], limit, lambda one: (one.id,))
    return Page(items=[DatasetOut.of(one) for one in shown], next=following)


@router.get("/datasets/{dataset}")
def get_dataset(dataset_id: DatasetId) -> DatasetOut:
    """One dataset."""
    return DatasetOut.of(access.dataset(dataset_id))


@router.get("/datasets/{dataset}/images")
def list_images(
    dataset_id: DatasetId,
    label: Annotated[str | None, Query(max_length=MAX_CLASS, description="Only with this label.")] = None,
    labelled: Annotated[bool | None, Query(description="Only with, or only without a label.")] = None,
    flagged: Annotated[bool | None, Query(description="Only flagged ones, or only others.")] = None,
    split: Annotated[Split | None, Query(description="Only of this split.")] = None,
    text: Annotated[str, Query(max_length=200, description="Only with this in their name.")] = "",
    limit: Limit = 100,
    after: Annotated[Cursor, Query(alias="cursor")] = None,
) -> Page[ImageOut]:
    """Images in the order in which they came."""
    dataset = access.dataset(dataset_id)
    want = store.Filter(label, split, labelled, text, flagged)
    found = listing.images_after(dataset.id, want, place(after, str, str), limit + 1)
    shown, following = page(found, limit, lambda one: (one.added_at, one.id))
    return Page(items=[ImageOut.of(one) for one in shown], next=following)


@router.post("/datasets/{dataset}/images", status_code=201, response_model=AddedOut)
def add_images(
    dataset_id: DatasetId,
    files: Files,
    label: Annotated[
        str | None, Form(max_length=MAX_CLASS, description="The label of all of them; without it they come unlabelled.")
    ] = None,
    key: Key = None,
) -> Response:
    """Adds pictures. One that is there already is not added again; without a label there, it gets the one sent."""
    dataset = access.dataset(dataset_id, "import")
    sent = received(files)
    ids = [images.image_id(data) for _, data in sent]

    def act() -> dict[str, Any]:
        before = store.known_images(dataset.id, ids)
        report = imports.add_sent(dataset.name, [Entry(name, label, data=data) for name, data in sent], roles.current().name)
        after = store.known_images(dataset.id, ids)
        why: dict[str, str] = {}
        for one in report.skipped:
            why.setdefault(one.name, one.reason)
        shown = []
        for (name, _), i in zip(sent, ids, strict=True):
            added = i in after and i not in before
            shown.append(Added(file=name, id=i if i in after else None, added=added, problem=None if added else why.get(name)).model_dump())
            before |= {i: None} if added else {}
        if not any(one["id"] for one in shown):
            raise Invalid(f"{shown[0]['file']}: {shown[0]['problem']}", f"Allowed are {images.ALLOWED}.")
        return {"images": shown}

    return once(key, ["add", dataset.id, label, [[name, hashlib.sha256(data).hexdigest()] for name, data in sent]], act, 201)


def received(files: list[UploadFile]) -> list[tuple[str, bytes]]:
    """Names and contents; Invalid if there are none or too many."""
    if not 0 < len(files) <= MOST_FILES:
        raise Invalid(f"{len(files):,} files were sent.", f"From 1 to {MOST_FILES} are allowed in one request.")
    return [((one.filename or "picture")[-200:], one.file.read()) for one in files]


@router.get("/datasets/{dataset}/images/{image}")
def get_image(dataset_id: DatasetId, image_id: ImageId) -> ImageOut:
    """One image."""
    return ImageOut.of(store.get_image(access.dataset(dataset_id).id, image_id))


@router.get(
    "/datasets/{dataset}/images/{image}/picture", response_class=Response, responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}}
)
def get_picture(dataset_id: DatasetId, image_id: ImageId) -> Response:
    """The picture as a browser shows it: upright, without metadata, up to 2,048 pixels."""
    one = store.get_image(access.dataset(dataset_id).id, image_id)
    try:
        data, media_type = images.picture_file(settings().images / one.path)
    except FileNotFoundError:
        raise NotFound(f"The file of image {image_id} is gone.", "Restore it from a backup.") from None
    return Response(data, media_type=media_type)


@router.get("/datasets/{dataset}/images/{image}/history")
def get_history(
    dataset_id: DatasetId, image_id: ImageId, limit: Limit = 100, after: Annotated[Cursor, Query(alias="cursor")] = None
) -> Page[LabelEvent]:
    """Who labelled the image when, newest first."""
    last, there = place(after, int), labels.history(access.dataset(dataset_id).id, store.get_image(dataset_id, image_id).id)
    found = [one for one in there if last is None or one.seq < last[0]]
    shown, following = page(found[: limit + 1], limit, lambda one: (one.seq,))
    return Page(items=shown, next=following)


@router.put("/datasets/{dataset}/images/{image}/label", response_model=ImageOut)
def put_label(dataset_id: DatasetId, image_id: ImageId, body: LabelIn, key: Key = None) -> Response:
    """Labels one image; 409 with what it carries now, if somebody labelled it since you saw it."""
    dataset = access.dataset(dataset_id, "label")
    store.get_image(dataset.id, image_id)  # or 404

    def act() -> dict[str, Any]:
        done = labels.apply(dataset.id, {image_id: body.seen}, body.label, roles.current().name, _operation(key, body))
        if (newer := done.refused.get(image_id)) is not None:
            carries = "has no label" if newer.label is None else f"is labelled “{newer.label}”"
            detail = f"Somebody was faster: the image {carries}, by {newer.by or 'an import'}."
            raise Problem(409, detail, f"Look again, and send it with seen {newer.seq}.", now=_now(newer))
        return ImageOut.of(store.get_image(dataset.id, image_id)).model_dump()

    return once(key, ["label one", dataset.id, image_id, body.model_dump()], act)


@router.post("/datasets/{dataset}/labels", response_model=LabelsOut)
def post_labels(dataset_id: DatasetId, body: LabelsIn, key: Key = None) -> Response:
    """Gives many images one label; those that somebody labelled since you saw them are left as they are, and told."""
    dataset = access.dataset(dataset_id, "label")

    def act() -> dict[str, Any]:
        done = labels.apply(dataset.id, body.seen, body.label, roles.current().name, _operation(key, body))
        refused = {i: _now(one) for i, one in done.refused.items()}
        return {"label": done.label, "stored": done.seqs, "refused": refused, "missing": list(done.missing)}

    return once(key, ["label", dataset.id, body.model_dump()], act)


@router.post("/datasets/{dataset}/removed", response_model=RemovalOut)
def remove_images(dataset_id: DatasetId, body: RemovalIn, key: Key = None) -> Response:
    """Removes images from the dataset as one act; they can be brought back, and runs keep what they were trained on."""
    return _moved(dataset_id, body, key, "remove", removed.remove)


@router.get("/datasets/{dataset}/removed")
def list_removed(dataset_id: DatasetId, limit: Limit = 100, after: Annotated[Cursor, Query(alias="cursor")] = None) -> Page[ImageOut]:
    """Removed images, the last first."""
    dataset, last = access.dataset(dataset_id, "delete"), place(after, int)
    shown, following = page(removed.after(dataset.id, last[0] if last else None, limit + 1), limit, lambda one: (one.label_seq,))
    return Page(items=[ImageOut.of(one) for one in shown], next=following)


@router.post("/datasets/{dataset}/removed/back", response_model=RemovalOut)
def bring_back(dataset_id: DatasetId, body: RemovalIn, key: Key = None) -> Response:
    """Brings removed images back into the dataset, with the labels they had."""
    return _moved(dataset_id, body, key, "bring back", removed.bring_back)


def _moved(dataset_id: int, body: RemovalIn, key: str | None, name: str, move: Callable[[int, Sequence[str], str, str], int]) -> Response:
    dataset = access.dataset(dataset_id, "delete")

    def act() -> dict[str, Any]:
        operation = _operation(key, body, name) or secrets.token_hex(16)
        return {"images": move(dataset.id, body.images, roles.current().name, operation)}

    return once(key, [name, dataset.id, body.model_dump()], act)


def _now(one: Any) -> dict[str, Any]:
    found = asdict(one)
    return {"label": found["label"], "version": found["seq"], "by": found["by"], "at": found["at"]}


def _operation(key: str | None, body: BaseModel, act: str = "") -> str | None:
    """The act's own id: under the same key the same label is stored once, in the transaction of the label itself.

    act: what tells it from another one of the same body.
    """
    return None if key is None else hashlib.sha256(f"{door.token().id} {key} {act}{body.model_dump_json()}".encode()).hexdigest()
