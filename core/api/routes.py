"""The HTTP routes beside the pages: pictures by signed URL, labels, streamed uploads, a run's events."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import plotly
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import NotModifiedResponse

from core import roles, space, storage
from core.api import bodies, gate, review, signing
from core.catalog import glossary
from core.data import claims, images, labels, store, uploads
from core.errors import AppError, Conflict, Forbidden, NotFound, Unavailable, Unwritable, WorkerFailed
from core.evaluate import evaluate
from core.label import embed, teach
from core.runs import launch, remote, runs
from core.runs.remote import infer
from core.settings import settings
from core.share import archive, export
from core.train import watch
from core.types import SPLITS

FOREVER = {"Cache-Control": f"private, max-age={signing.DAY}, immutable", "X-Content-Type-Options": "nosniff"}
NEVER = {**FOREVER, "Cache-Control": "no-store"}
MAX_INT = (1 << 31) - 1  # what every database holds
ALL = 0  # in place of a frame, which are counted from 1
MAX_JSON = 1_000_000  # bytes
MAX_MASK = 200_000  # bytes: one bit for each of 1024 × 1024 pixels, and some more for rectangles
MOST_EVENTS = 500_000  # bytes folded for one answer: a long run's thousands of lines come in parts
ASSETS = Path(__file__).resolve().parents[2] / "assets"
SERVED = frozenset(path.relative_to(ASSETS).as_posix() for path in ASSETS.glob("*/*") if path.suffix in (".js", ".css"))


def _dataset(request: Request) -> int:
    """The dataset of the address; a number that no database could hold is that of none."""
    number: int = request.path_params["dataset"]
    if number > MAX_INT:
        raise NotFound("This dataset does not exist.", "It may have been deleted. Choose another dataset.")
    roles.allow("see", number)
    return number


async def thumb(request: Request) -> Response:
    # Offset and size stand in the signed URL, so a thumbnail costs one pread and no SQL.
    signing.check(request)
    p = request.path_params
    read, where = images.ThumbPack(settings().thumbs, _dataset(request)).read, (p["offset"], p["size"])
    data = await anyio.to_thread.run_sync(read, *where) if storage.on() else read(*where)  # which may have to be asked for it
    return Response(data, media_type="image/png" if data.startswith(b"\x89PNG") else "image/jpeg", headers=FOREVER)


@lru_cache(maxsize=64)
def _picture(path: Path, foreign: bool, frame: int) -> tuple[bytes, str]:
    """Files of strangers are decoded in the model worker, which may die; those of a dataset have been decoded before."""
    if not foreign:
        return images.picture_file(path)
    if not os.path.isfile(path) and not _fetched(path):  # False, too, for a name that no file can have
        raise NotFound("This picture is not stored any more.", "Upload it again.")
    return (launch.ask(infer.contact_sheet, str(path)), "image/jpeg") if frame == ALL else launch.ask(infer.picture, str(path), frame - 1)


def _fetched(path: Path) -> bool:
    return storage.on() and "\0" not in path.name and storage.local(path).is_file()


async def _serve_picture(request: Request, folder: Path, foreign: bool, frame: int = 1) -> Response:
    signing.check(request)
    data, media_type = await anyio.to_thread.run_sync(_picture, folder / request.path_params["name"], foreign, frame)
    headers = NEVER if request.url.path.startswith(signing.UNSTORED) else FOREVER
    return Response(data, media_type=media_type, headers=headers)


async def picture(request: Request) -> Response:
    return await _serve_picture(request, settings().images / request.path_params["shard"], foreign=False)


async def uploaded(request: Request) -> Response:
    return await _serve_picture(request, uploads.pictures(), foreign=True, frame=request.path_params.get("frame", 1))


async def uploaded_frames(request: Request) -> Response:
    return await _serve_picture(request, uploads.pictures(), foreign=True, frame=ALL)


async def apply_label(request: Request) -> Response:
    """Body: operation, dataset_id, seen {image_id: seq}, and label (or null) or flag; answer: seqs, refused, label, notice."""
    user = signing.user(request)
    data = await bodies.read(request, MAX_JSON, "Too many images in one go.")
    try:
        body = json.loads(data)
        json.dumps(body, ensure_ascii=False).encode()  # half a character is refused here, not by the database
        seen = {str(i): int(seq) for i, seq in body["seen"].items()}
        flag = bool(body["flag"]) if "flag" in body else None
        name = None if flag is not None or body["label"] is None else str(body["label"])
        dataset_id, operation = int(body["dataset_id"]), str(body["operation"])[:64]
        if any(abs(number) > MAX_INT for number in (dataset_id, *seen.values())):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise HTTPException(400, "The request is not in the expected form.") from None
    write = partial(labels.apply, label=name) if flag is None else partial(labels.flag, flagged=flag)
    done = await anyio.to_thread.run_sync(partial(write, dataset_id, seen, by=user, operation=operation))
    refused = {i: asdict(one) for i, one in done.refused.items()}
    refused |= {i: {"id": i, "label": None, "seq": 0, "by": "", "at": "", "flagged": False, "gone": True} for i in done.missing}
    return JSONResponse({"seqs": done.seqs, "refused": refused, "label": done.label, "notice": done.notice})


async def changes(request: Request) -> Response:
    """What anybody labelled or flagged after a seq; after=-1 only asks for the newest seq. Renews or gives back what was dealt out to a session."""
    signing.user(request)
    query = request.query_params
    try:
        dataset_id, after = int(query["dataset"][:10]), int(query.get("after", "-1")[:19])
        if abs(dataset_id) > MAX_INT or abs(after) > MAX_INT:
            raise ValueError
    except (KeyError, ValueError):
        raise HTTPException(400, "The request is not in the expected form.") from None
    if (session := query.get("session", "")[:64]) and roles.current().may("label", dataset_id):
        for wanted, act in (("renew", claims.renew), ("release", claims.release)):
            if query.get(wanted):
                await anyio.to_thread.run_sync(act, dataset_id, session)
    newest, found = await anyio.to_thread.run_sync(labels.changes, dataset_id, after)
    last = found[-1].seq if found else newest
    answer = {"seq": last, "changes": [asdict(one) for one in found], "more": last < newest}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def map_points(request: Request) -> Response:
    """The embedding map: a place in 0..4095 for each image, and what it carries, as indexes into lists of words.

    ?run= asks for that run's answers to its validation images in place of the last lesson's, and whether they are right.
    """
    signing.user(request)
    run_id = request.query_params.get("run")

    def points() -> dict[str, Any]:
        dataset_id = _dataset(request)
        found = embed.latest(dataset_id)
        if found is None:
            raise NotFound("There is no map of this dataset yet.", "Make it on the Label page.")
        there, carried = embed.still_here(dataset_id, found), store.carried(dataset_id)
        ids = found.ids[there].tolist()
        rows = evaluate.evaluate(run_id, "validation").rows if run_id else teach.answers(dataset_id)
        predicted = {} if rows is None else dict(zip(rows["image_id"], rows["predicted"], strict=True))
        wrong = dict(zip(rows["image_id"], rows["true"] != rows["predicted"], strict=True)) if run_id and rows is not None else {}
        here = [carried.get(i) for i in ids]
        labels = sorted({one.label for one in here if one and one.label is not None} | set(predicted.values()))
        index: dict[str | None, int] = {name: n for n, name in enumerate(labels)}
        xy = (found.xy[there] * 4095).round().astype(int)
        return {
            "ids": ids,
            "x": xy[:, 0].tolist(),
            "y": xy[:, 1].tolist(),
            "labels": labels,
            "label": [index.get(one.label, -1) if one else -1 for one in here],
            "predicted": [index.get(predicted.get(i), -1) for i in ids],
            "splits": list(SPLITS),
            "split": [SPLITS.index(one.split) if one else -1 for one in here],
            "answers": ["right", "wrong"],
            "answer": [int(wrong.get(i, -1)) for i in ids],
        }

    return JSONResponse(await anyio.to_thread.run_sync(points), headers={"Cache-Control": "no-store"})


async def map_thumb(request: Request) -> Response:
    signing.user(request)
    image = await anyio.to_thread.run_sync(store.get_image, _dataset(request), request.path_params["image"])
    return JSONResponse({"url": signing.thumb_url(image), "name": image.source, "label": image.label})


async def erase(request: Request) -> Response:
    """Body: the mask as core.ml.erase reads it, or nothing; the address names the run and the picture, ?fill= what is put in its place."""
    signing.user(request)
    signing.check(request)
    mask = await bodies.read(request, MAX_MASK, "The mask is larger than any picture that a network sees.")
    await anyio.to_thread.run_sync(runs.allow, "ask", request.path_params["run"])
    folder, file = runs.trained(request.path_params["run"]), settings().home / request.path_params["file"]
    ask = partial(launch.ask, remote.erase.erase, str(folder), str(file), mask, request.query_params.get("fill", ""))
    found = await anyio.to_thread.run_sync(ask)
    picture = base64.b64encode(found["picture"]).decode()
    return JSONResponse({**found, "picture": f"data:image/png;base64,{picture}"}, headers={"Cache-Control": "no-store"})


async def run_events(request: Request) -> Response:
    """What a run's events after a byte offset add to its curves, and how it stands; ?answers= with those to the validation images."""
    signing.user(request)
    after = request.query_params.get("after", "0")
    start = int(after[:12]) if after.isdecimal() else 0
    answers = bool(request.query_params.get("answers"))
    answer = await anyio.to_thread.run_sync(watch.follow, request.path_params["run"], start, MOST_EVENTS, answers)
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def upload(request: Request) -> Response:
    signing.user(request)
    try:
        size = await uploads.receive(request.path_params["batch"], request.path_params["name"], request.stream())
    except ClientDisconnect:
        raise HTTPException(499, "The upload was cancelled.") from None
    return JSONResponse({"size": size})


async def download(request: Request) -> Response:
    signing.check(request)
    path, name = await anyio.to_thread.run_sync(export.download, request.path_params["id"], request.path_params["name"])
    return FileResponse(path, media_type="application/zip", filename=name, headers={"Cache-Control": "private, no-store"})


async def download_run(request: Request) -> Response:
    signing.check(request)
    path, name = await anyio.to_thread.run_sync(archive.download, request.path_params["id"], request.path_params["name"])
    return FileResponse(path, media_type="application/zip", filename=name, headers={"Cache-Control": "private, no-store"})


async def plotly_js(_request: Request) -> Response:
    path = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": f"public, max-age={signing.DAY}"})


async def asset(request: Request) -> Response:
    """What scripts of the pages fetch by themselves; asked for anew with each page, so that an update reaches every browser."""
    name = "{folder}/{name}".format(**request.path_params)
    if name not in SERVED:
        raise HTTPException(404, "There is no such file.")
    path = ASSETS / name
    media_type = "text/css" if name.endswith(".css") else "text/javascript"
    found = FileResponse(path, media_type=media_type, headers={"Cache-Control": "no-cache"}, stat_result=path.stat())
    return NotModifiedResponse(found.headers) if request.headers.get("if-none-match") == found.headers["etag"] else found


async def terms(_request: Request) -> Response:
    return JSONResponse(glossary.as_groups(), headers={"Cache-Control": "no-cache"})


async def app_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    known = ((NotFound, 404), (Conflict, 409), (Forbidden, 403), (Unwritable, 507), (Unavailable, 503), (WorkerFailed, 503))
    status = next((code for kind, code in known if isinstance(error, kind)), 422)
    return gate.error(status, error.message, error.hint)


async def os_error(request: Request, error: Exception) -> Response:
    """A full disk or missing rights in a sentence, so that a browser keeps what it has and sends it again."""
    assert isinstance(error, OSError)
    if not space.refused(error):
        raise error
    return await app_error(request, space.refusal(error))


async def http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    nowhere = error.status_code == 404 and error.detail == "Not Found"  # the router's own words
    return gate.error(error.status_code, "There is nothing at this address." if nowhere else error.detail)


ROUTES = [
    Route("/thumb/{dataset:int}/{offset:int}-{size:int}", thumb),
    Route("/picture/{shard}/{name}", picture),
    *(
        Route(f"{before}/uploaded/{{name}}{after}", endpoint)
        for before in ("", signing.UNSTORED)
        for after, endpoint in (("", uploaded), ("/frames", uploaded_frames), ("/{frame:int}", uploaded))
    ),
    Route("/api/label", apply_label, methods=["POST"]),
    Route("/api/changes", changes),
    Route("/api/map/{dataset:int}", map_points),
    Route("/api/map/{dataset:int}/thumb/{image}", map_thumb),
    Route("/api/erase/{run}/{file:path}", erase, methods=["POST"]),
    Route("/api/runs/{run}/events", run_events),
    Route("/api/upload/{batch}/{name}", upload, methods=["PUT"]),
    Route("/export/{id}/{name}", download),
    Route("/archive/{id}/{name}", download_run),
    Route("/vendor/plotly.min.js", plotly_js),
    Route("/assets/{folder}/{name}", asset),
    Route("/api/terms", terms),
    *review.ROUTES,
]
