"""Why the network answered as it did, beside the decision: one map over the picture that waits."""

from __future__ import annotations

from dataclasses import dataclass

from core import roles
from core.catalog import methods
from core.data import queue, uploads
from core.errors import AppError, Invalid
from core.explain import explain
from core.review import predict, review
from core.runs import runs
from core.settings import settings

LONGEST = 15.0  # seconds that somebody who decides waits for a map; the worker's first one takes 5 to 10, in which it loads PyTorch


@dataclass(frozen=True)
class Why:
    picture: bytes  # PNG: what the network saw, with the map over it
    words: str


def why(submission_id: int) -> Why:
    """The map of the answer that the picture waits with, by the first of the run's quick methods that its network supports.

    Made apart from the worker that decodes pictures, so that none waits for it, and not kept: it holds the picture, which may be removed.
    Invalid where the answer is hidden: the map would tell it. AppError where it takes longer than LONGEST.
    """
    one = queue.get(submission_id)
    roles.allow("decide", one.dataset_id)
    if review.is_blind(one):
        raise Invalid("This picture is decided without the network's answer.", "What made the answer would tell it.")
    upload = uploads.find(one.image_id, one.name)
    frames = review.frames(one)
    refused = explain.supported(one.run_id)
    method = next((name for name in explain.at_first(one.run_id) if not refused[name]), None)
    if method is None:
        raise Invalid("No quick map of this network can be made.", "Explain has other methods.")
    with runs.scratch(settings().uploads / "asked") as folder:
        file = predict.keep_frame(upload, frames.frame, folder).path if frames else upload.path
        asked = explain.ask(one.run_id, file, method, one.predicted, quick=False, shared=False)
        try:
            found = explain.answer(asked, LONGEST)
        except TimeoutError:
            explain.stop(asked)
            raise AppError(f"This map takes longer than {LONGEST:.0f} s.", "Decide without it, or ask for it on Explain.") from None
        finally:
            if asked.future is not None:  # one that was there before was asked for on Explain
                asked.future.add_done_callback(lambda _: asked.path.unlink(missing_ok=True))  # its last pass may end after it was given up
    name = review.today(one).predicted
    return Why(explain.overlay_png(found), f"Red speaks for “{name}”, blue against it: {methods.method(method).title}.")
