"""Why the network answered as it did, beside the decision: one map over the picture that waits."""

from __future__ import annotations

from dataclasses import dataclass

from core import roles
from core.catalog import methods
from core.data import queue, uploads
from core.errors import Invalid
from core.explain import explain
from core.review import predict, review


@dataclass(frozen=True)
class Why:
    picture: bytes  # PNG: what the network saw, with the map over it
    words: str


def why(submission_id: int) -> Why:
    """The map of the answer that the picture waits with, by the first of the run's quick methods that its network supports.

    Made apart from the worker that decodes pictures, so that none waits for it. Invalid where the answer is hidden: the map would tell it.
    """
    one = queue.get(submission_id)
    roles.allow("decide", one.dataset_id)
    if review.is_blind(one):
        raise Invalid("This picture is decided without the network's answer.", "What made the answer would tell it.")
    upload = uploads.find(one.image_id, one.name)
    if frames := review.frames(one):
        upload = predict.keep_frame(upload, frames.frame)
    refused = explain.supported(one.run_id)
    method = next((name for name in explain.at_first(one.run_id) if not refused[name]), None)
    if method is None:
        raise Invalid("No quick map of this network can be made.", "Explain has other methods.")
    found = explain.answer(explain.ask(one.run_id, upload.path, method, one.predicted, quick=False))
    name = review.today(one).predicted
    return Why(explain.overlay_png(found), f"Red speaks for “{name}”, blue against it: {methods.method(method).title}.")
