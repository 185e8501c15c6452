"""Asking a run about pictures."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Form
from pydantic import BaseModel, Field
from starlette.responses import Response

from core import roles
from core.api.v1 import access
from core.api.v1.access import RunId
from core.api.v1.images import Files, received
from core.api.v1.once import Key, once
from core.api.v1.problems import Problem
from core.review import predict, review
from core.types import Prediction, Run

router = APIRouter(tags=["Predictions"])


class Answer(BaseModel):
    file: str
    label: str | None = Field(default=None, description="The likeliest class.")
    probability: float | None = None
    probabilities: dict[str, float] | None = Field(default=None, description="Of every class.")
    frame: int | None = Field(default=None, description="Of a picture of several frames the one whose answer counts, from 1.")
    note: str | None = Field(default=None, description="Which frame counts, and why.")
    in_review: bool = Field(default=False, description="It waits in Review now: sent by this request, or waiting already.")
    problem: str | None = Field(default=None, description="Why there is no answer.")


class Answers(BaseModel):
    run: str
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
        found = predict.predict_data(asked.id, sent, keep=to_review)
        if all(isinstance(one, predict.Failure) for one in found):
            errors = [{"field": one.file, "message": one.message} for one in found if isinstance(one, predict.Failure)]
            first = next(one for one in found if isinstance(one, predict.Failure))
            raise Problem(422, f"{first.file}: {first.message}", first.hint, errors=errors)
        return Answers(run=asked.id, answers=[_answer(asked, one, to_review) for one in found]).model_dump(exclude_none=True)

    return once(key, ["predict", asked.id, to_review, [[name, hashlib.sha256(data).hexdigest()] for name, data in sent]], act)


def _answer(run: Run, one: Prediction | predict.Failure, to_review: bool) -> Answer:
    if isinstance(one, predict.Failure):
        return Answer(file=one.file, problem=f"{one.message} {one.hint}".strip())
    if to_review:
        review.submit(run.dataset_id, run.id, one, roles.current().name)
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
