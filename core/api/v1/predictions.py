"""Asking a run, or a dataset's policy by its name, about pictures."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Form
from pydantic import BaseModel, Field
from starlette.responses import Response

from core import roles
from core.api.v1 import access
from core.api.v1.access import DatasetId, RunId
from core.api.v1.images import Files, received
from core.api.v1.once import Key, once
from core.api.v1.problems import Problem
from core.review import policy, predict, review
from core.types import Band, Prediction, Run

router = APIRouter(tags=["Predictions"])
IN_REVIEW = {"waiting", "audit", "waits"}  # what became of a picture that was kept: it is with people now


class Answer(BaseModel):
    file: str
    label: str | None = Field(default=None, description="The likeliest class.")
    probability: float | None = None
    probabilities: dict[str, float] | None = Field(default=None, description="Of every class.")
    frame: int | None = Field(default=None, description="Of a picture of several frames the one whose answer counts, from 1.")
    note: str | None = Field(default=None, description="Which frame counts, and why.")
    band: Band | None = Field(default=None, description="What the policy does with it: it passes, a person is asked, or it is blocked.")
    risk: float | None = Field(default=None, description="The highest probability of a class that the policy blocks.")
    in_review: bool = Field(default=False, description="It waits in Review now: sent by this request, or waiting already.")
    problem: str | None = Field(default=None, description="Why there is no answer.")


class Answers(BaseModel):
    run: str
    policy: int | None = Field(default=None, description="The active version of the policy that was asked by its name.")
    answers: list[Answer]


@router.post("/runs/{run}/predictions", response_model=Answers)
def post_predictions(
    run_id: RunId,
    files: Files,
    to_review: Annotated[bool, Form(alias="review", description="Sends the answers to Review, where people decide.")] = False,
    key: Key = None,
) -> Response:
    """Asks the run about one picture or many: an answer for each, in order. Nothing is kept, unless it is sent to Review."""
    asked = access.run(run_id, "ask")
    sent = received(files)

    def act() -> dict[str, Any]:
        found = _predicted(asked.id, sent, to_review)
        return Answers(run=asked.id, answers=[_answer(asked, one, to_review) for one in found]).model_dump(exclude_none=True)

    return once(key, ["predict", asked.id, to_review, _named(sent)], act)


@router.post("/datasets/{dataset}/predictions", response_model=Answers)
def post_predictions_of_policy(
    dataset_id: DatasetId,
    files: Files,
    name: Annotated[str, Form(alias="policy", max_length=80, description="The name of the policy; its active version answers.")],
    to_review: Annotated[
        bool, Form(alias="review", description="Keeps the pictures, sorted by the policy: people decide what it asks.")
    ] = False,
    key: Key = None,
) -> Response:
    """Asks the run of the dataset's active policy, by the policy's name: an answer with its band for each picture, in order."""
    made = access.dataset(dataset_id, "ask")
    sent = received(files)

    def act() -> dict[str, Any]:
        asked = policy.named(made.id, name)
        run, said = access.run(asked.run_id, "ask"), policy.of_run(asked)

        def judged(one: Prediction | predict.Failure) -> Answer:
            if isinstance(one, predict.Failure):
                return _answer(run, one, False)
            there = policy.route(asked, said, one)
            waits = to_review and review.keep(made.id, run.id, [one], roles.current().name, "api").keys() & IN_REVIEW
            return _answer(run, one, False).model_copy(update={"band": there.band, "risk": there.risk, "in_review": bool(waits)})

        found = [judged(one) for one in _predicted(run.id, sent, to_review)]
        return Answers(run=run.id, policy=asked.id, answers=found).model_dump(exclude_none=True)

    return once(key, ["predict by policy", made.id, name, to_review, _named(sent)], act)


def _named(sent: list[tuple[str, bytes]]) -> list[list[str]]:
    return [[name, hashlib.sha256(data).hexdigest()] for name, data in sent]


def _predicted(run_id: str, sent: list[tuple[str, bytes]], keep: bool) -> list[Prediction | predict.Failure]:
    """An answer for each, if there is one for any."""
    found = predict.predict_data(run_id, sent, keep=keep)
    failed = [one for one in found if isinstance(one, predict.Failure)]
    if len(failed) == len(found):
        errors = [{"field": one.file, "message": one.message} for one in failed]
        raise Problem(422, f"{failed[0].file}: {failed[0].message}", failed[0].hint, errors=errors)
    return found


def _answer(run: Run, one: Prediction | predict.Failure, to_review: bool) -> Answer:
    if isinstance(one, predict.Failure):
        return Answer(file=one.file, problem=f"{one.message} {one.hint}".strip())
    if to_review:
        review.submit(run.dataset_id, run.id, one, roles.current().name, "api")
    label, probability = one.top(1)[0]
    return Answer(
        file=one.file,
        label=label,
        probability=probability,
        probabilities=dict(zip(one.classes, one.probabilities, strict=True)),
        frame=one.frame if one.frames else None,
        note=one.note if one.frames else None,
        in_review=to_review,
    )
