"""Runs: what there is, what they are worth, starting and stopping them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from core import roles
from core.api.v1 import access
from core.api.v1.access import DatasetId, RunId
from core.api.v1.lists import Cursor, Limit, Page, page, place
from core.api.v1.once import Key, once
from core.evaluate import evaluate
from core.metrics import wilson
from core.runs import openings
from core.train import train
from core.types import ClassMetrics, Interval, RunStatus

router = APIRouter(tags=["Runs"])


class Measured(BaseModel):
    n: int = Field(description="Images it was measured on.")
    value: float
    low: float = Field(description="Where the 95% interval begins.")
    high: float = Field(description="Where it ends.")


class RunOut(BaseModel):
    id: str
    name: str
    dataset: int
    status: RunStatus
    architecture: str
    classes: list[str]
    images: dict[str, int] = Field(description="By split.")
    progress: float = Field(description="0 to 1.")
    epoch: int
    epochs: int
    best_epoch: int | None
    validation_accuracy: Measured | None = Field(description="Of the best epoch.")
    message: str
    by: str
    created_at: str

    @classmethod
    def of(cls, one: train.RunState) -> RunOut:
        run, n = one.run, one.run.counts["validation"]
        value = one.best.val_accuracy if one.best else None
        share = None if value is None else wilson(round(value * n), n)
        return cls(
            id=run.id,
            name=run.name,
            dataset=run.dataset_id,
            status=one.status,
            architecture=run.config.architecture,
            classes=list(run.classes),
            images=run.counts,
            progress=one.progress,
            epoch=one.epoch,
            epochs=one.epochs,
            best_epoch=one.best_epoch,
            validation_accuracy=None if share is None else Measured(n=n, value=share.value, low=share.low, high=share.high),
            message=one.message,
            by=run.by,
            created_at=run.created_at,
        )


class EvaluationOut(BaseModel):
    """Each figure with its 95 % interval; null where it is undefined."""

    run: str
    split: str
    n: int = Field(description="Images that carry a label of the run's classes today.")
    accuracy: Interval | None
    balanced_accuracy: Interval | None
    macro_f1: Interval | None
    loss: Interval | None
    top_k: dict[str, Interval]
    per_class: list[ClassMetrics]
    confusion: list[list[int]] = Field(description="Counts; rows: what it is, columns: what the run says, in the order of per_class.")
    labels_changed: int = Field(description="Since the run began.")
    without_label: int = Field(description="Answered, and without a label of the run's classes today.")


class Start(BaseModel):
    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Any] = Field(
        description="As of `python -m core train`: architecture, epochs, learning_rate and so on; what is left out takes its usual value.",
        examples=[{"architecture": "convnet", "epochs": 5}],
    )


@router.get("/runs")
def list_runs(
    dataset: Annotated[int | None, Query(description="Only runs on this dataset.")] = None,
    limit: Limit = 100,
    after: Annotated[Cursor, Query(alias="cursor")] = None,
) -> Page[RunOut]:
    """Runs, the newest first."""
    only = None if dataset is None else access.dataset(dataset).id
    last, me = place(after, str), roles.current()
    found = [one for one in train.list_runs(only) if me.may("see", one.run.dataset_id) and (last is None or one.run.id < last[0])]
    shown, following = page(found[: limit + 1], limit, lambda one: (one.run.id,))
    return Page(items=[RunOut.of(one) for one in shown], next=following)


@router.get("/runs/{run}")
def get_run(run_id: RunId) -> RunOut:
    """One run, and how it stands."""
    return RunOut.of(train.state(access.run(run_id).id))


@router.get("/runs/{run}/evaluation")
def get_evaluation(
    run_id: RunId,
    split: Annotated[
        Literal["validation", "test"], Query(description="Every look at the test images is counted and shown.")
    ] = "validation",
) -> EvaluationOut:
    """What the run is worth, against the labels of today."""
    run = access.run(run_id)
    found = evaluate.evaluate(run.id, split)
    if split == "test":
        openings.record(run.id, roles.current().name)
    return EvaluationOut(
        run=run.id,
        split=split,
        n=found.n,
        accuracy=found.accuracy,
        balanced_accuracy=found.balanced_accuracy,
        macro_f1=found.macro_f1,
        loss=found.loss,
        top_k={str(k): share for k, share in found.top_k.items()},
        per_class=list(found.per_class),
        confusion=found.confusion.tolist(),
        labels_changed=found.changed,
        without_label=found.without_label,
    )


@router.post("/datasets/{dataset}/runs", status_code=201, response_model=RunOut)
def start_run(dataset_id: DatasetId, body: Start, key: Key = None) -> Response:
    """Starts a run on the labelled images of this moment."""
    dataset = access.dataset(dataset_id, "train")

    def act() -> dict[str, Any]:
        return RunOut.of(train.state(train.start(dataset.id, body.settings, roles.current().name).id)).model_dump()

    return once(key, ["train", dataset.id, body.model_dump()], act, 201, repeatable=False)


@router.post("/runs/{run}/stop", response_model=RunOut)
def stop_run(run_id: RunId, key: Key = None) -> Response:
    """Asks the run to stop after its current step; its best weights are kept. A second time changes nothing."""
    run = access.run(run_id, "train")

    def act() -> dict[str, Any]:
        if train.state(run.id).active:
            train.stop(run.id)
        return RunOut.of(train.state(run.id)).model_dump()

    return once(key, ["stop", run.id], act, 202)
