"""What leaves that should not: secrets in logs, and in pictures what their cameras and programs wrote beside the pixels."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

from core import logs
from core.api import signing
from core.api.v1.app import app as v1
from core.data import imports, sources, store, tokens
from core.data.formats.known import FORMATS
from core.people import accounts
from core.review import predict
from core.settings import settings
from core.share import archive, export, report
from core.train import train
from core.types import Prediction
from tests.browser.conftest import Server
from tests.reliability import acts, corpus, homes, tabs, web
from tests.reliability.row import Row

PASSWORD, WRONG = "a very secret sentence", "another secret sentence"
GIVEN = {  # as storage that does not answer, and a cluster, are set
    "LOUPE_STORAGE": "s3://nobody/loupe",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "anybody",
    "AWS_SECRET_ACCESS_KEY": "TheBucketsOwn/Secret+Key",
    "LOUPE_RAY_ADDRESS": "http://127.0.0.1:9",
    "LOUPE_RAY_TOKEN": "TheClustersOwnSecretToken",
}
AWAY = "s3://nobody/loupe cannot be reached now"
MARK = "SecretPlace"  # in all that a picture carries beside its pixels


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing, so that cookies of an answer are seen."""

    def redirect_request(self, *_: object) -> None:
        return None


def ask(server: Server, path: str, fields: dict[str, str] | None = None, **headers: str) -> list[str]:
    """The cookies that an answer sets, whatever its status."""
    body = None if fields is None else urllib.parse.urlencode(fields).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.url + path, body, {"Origin": server.url, "Accept": "text/html", **named})
    try:
        answer = urllib.request.build_opener(Stay).open(request, timeout=30)
    except urllib.error.HTTPError as e:
        answer = e
    answer.read()
    return [one.partition(";")[0] for one in answer.headers.get_all("Set-Cookie") or ()]


def lived(home: Path) -> tuple[dict[str, str], str]:
    """Secrets by what they are, and the log of a server on which people sign in, work, and get things wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUPE_LOG", "json")
        patch.setenv("LOUPE_SIGN_IN", "accounts")
        settings.cache_clear()
        made = acts.dataset(5)
        link, (_, api) = accounts.add("Ann", "admin"), tokens.add("trial", "admin", None)
        token, address = signing.token("Ann"), signing.signed(f"/thumb/{made}/0-5")
        with tabs.serving(home) as (server, _):
            (cookie,) = ask(server, f"/welcome/{link}", {"password": PASSWORD, "again": PASSWORD})
            ask(server, f"/welcome/{link}", {"password": PASSWORD, "again": WRONG})
            ask(server, f"/sign-in?next={quote(address)}", {"name": "Ann", "password": WRONG})
            (other,) = ask(server, "/sign-in", {"name": "Ann", "password": PASSWORD})
            ask(server, f"/nothing?password={quote(PASSWORD)}&token={api}", Cookie=cookie)
            ask(server, "/account/password", {"old": WRONG, "password": PASSWORD, "again": WRONG}, Cookie=cookie)
            for more in ("", "0", "&s=x"):
                ask(server, address + more, Cookie=cookie)
            for path in ("/", "/account", "/api/terms", f"/api/map/{made}", "/api/runs/x/events?after=y"):
                ask(server, path, Cookie=cookie, X_Loupe_Token=token)
            for path in ("/api/label", "/api/review/decide", "/api/nothing"):
                ask(server, path, {"operation": token}, Cookie=other, X_Loupe_Token=token)
            for path in ("/api/v1/datasets", "/api/v1/datasets/99", f"/api/v1/datasets?token={api}", f"/api/v1/{api}"):
                ask(server, path, Authorization=f"Bearer {api}")
                ask(server, path, Authorization=f"Bearer {api[:-1]}", Host="evil.example")
            homes.until(lambda: AWAY in (home / "server.log").read_text(encoding="utf-8"))
    settings.cache_clear()
    cookies = {f"cookie {i}": one.partition("=")[2] for i, one in enumerate((cookie, other))}
    found = {"password": PASSWORD, "wrong password": WRONG, "link": link, "token of the API": api, "token of a page": token, **cookies}
    found |= {"key of the bucket": GIVEN["AWS_SECRET_ACCESS_KEY"], "token of the cluster": GIVEN["LOUPE_RAY_TOKEN"]}
    return found | {"signature": address.rpartition("s=")[2]}, (home / "server.log").read_text(encoding="utf-8")


@contextmanager
def listening() -> Iterator[io.StringIO]:
    """All that this process logs meanwhile, as JSON; the client that asks is none of Loupe."""
    out, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(out), root.level
    handler.setFormatter(logs.JsonLines())
    handler.addFilter(lambda record: not record.name.startswith("http"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield out
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def lines(secrets: dict[str, str]) -> str:
    """Messages as libraries write them, with the secrets in them."""
    with listening() as out:
        log = logging.getLogger("somebody")
        log.warning("GET /thumb/1/0-5?e=9&s=%s HTTP/1.1", secrets["signature"])
        log.warning("headers: {'cookie': 'loupe_session_8501=%s', 'host': 'x'}", secrets["cookie 0"])
        log.warning("Authorization: Bearer %s", secrets["token of the API"])
        log.warning("X-Loupe-Token: %s", secrets["token of a page"])
        log.warning("form: password=%s", json.dumps(secrets["password"]))
        log.warning("signed with %s, asked with %s", secrets["key of the bucket"], secrets["token of the cluster"])
    return out.getvalue()


def said(text: str, secrets: dict[str, str]) -> list[str]:
    forms = {name: {value, quote(value), value.replace(" ", "+")} for name, value in secrets.items()}
    return [name for name, some in forms.items() if any(one in text for one in some)]


def logged(home: Path, row: Row, every: int) -> int:
    """Of so many odd values one is tried; returns how many lines were logged."""
    with homes.moved_in(home / "signing-in"), pytest.MonkeyPatch.context() as patch:
        for name, value in GIVEN.items():
            patch.setenv(name, value)
        settings.cache_clear()
        secrets, text = lived(home / "signing-in")
        row.check(AWAY in text, "the server does not say that storage is away")
        row.check(
            "request" in text and all(one.startswith("{") for one in text.splitlines() if "request" in one), "the server logged nothing"
        )
        for name in secrets:
            row.check(not said(text, {name: secrets[name]}), f"the server's log holds the {name}")
        row.check(not (found := said(lines(secrets), secrets)), f"a log holds {found}")
        with homes.replaced(logs, "clean", lambda text: text):
            row.control_check(not said(lines(secrets), secrets), "a log that nobody cleans")
    with homes.moved_in(home / "odd"), listening() as out:
        made, trial = acts.dataset(20, 5), Row()
        client = web.served()
        web.numbers(trial, client, made, every)
        web.strangers(trial, client)
        web.forged(trial, client)
        mine = {
            "page's token": signing.token("Ann"),
            "cookie": signing.local(),
            "signature": signing.signed("/thumb/1/0-10").rpartition("s=")[2],
        }
        for name in mine:
            row.check(not said(out.getvalue(), {name: mine[name]}), f"the log of {trial.tried:,} requests holds the {name}")
    return len(text.splitlines()) + len(out.getvalue().splitlines())


# Pictures -----------------------------------------------------------------------------------------


def marked(seed: int) -> dict[str, bytes]:
    """A picture in each format, the mark in all that is beside its pixels."""
    one, exif, text = Pillow.fromarray(corpus.pixels(seed)), Pillow.Exif(), PngImagePlugin.PngInfo()
    exif[0x010F] = exif[0x013B] = f"{MARK} {seed}"
    exif.get_ifd(0x8825)[0x001D] = MARK
    text.add_text("Comment", MARK)
    text.add_itxt("XML:com.adobe.xmp", f"<x>{MARK}</x>")
    xmp = f"<x>{MARK}</x>".encode()
    return {
        "jpg": corpus.saved(one, "JPEG", exif=exif, comment=MARK.encode(), xmp=xmp, quality=95) + MARK.encode(),
        "png": corpus.saved(one, "PNG", exif=exif, pnginfo=text) + MARK.encode(),
        "webp": corpus.saved(one, "WEBP", exif=exif, xmp=xmp),
        "tif": corpus.saved(one, "TIFF", tiffinfo={271: MARK, 315: MARK, 700: xmp}),
        "heic": corpus.saved(one, "HEIF", exif=exif, xmp=xmp, quality=95),
        "avif": corpus.saved(one, "AVIF", exif=exif, xmp=xmp, quality=95),
        "gif": corpus.saved(one, "GIF", comment=MARK.encode()),
    }


def holds(data: bytes) -> bool:
    """Whether the mark is in it, or in a file within it."""
    if data[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            return any(holds(found.read(name)) for name in found.namelist()) or MARK.encode() in data
    inside = (base64.b64decode(one) for one in re.findall(rb";base64,([\w+/=]+)", data))
    return MARK.encode() in data or any(MARK.encode() in one for one in inside)


def pictured(home: Path, row: Row) -> int:
    """Every way in which pictures leave; returns how many."""
    folder = home.parent / "marked"
    for seed in range(8):
        for ext, data in marked(seed).items():
            assert MARK.encode() in data, ext
            path = folder / ("cat" if seed % 2 else "dog") / f"{seed}.{ext}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    with homes.moved_in(home / "pictures"):
        imports.import_now("marked", sources.at(folder), "tester")
        found = store.find_dataset("marked")
        assert found is not None
        run = train.start(found.id, {"architecture": "linear", "epochs": 1, "image_size": 28}, "tester")
        assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
        left: dict[str, bytes] = {}
        client, out = web.served(), home.parent / "out.zip"
        _, api = tokens.add("trial", "admin", None)
        for image in store.all_images(found.id):
            places = [signing.picture_url(image), signing.thumb_url(image)]
            places += [
                web.filled(path.replace("{dataset}", str(found.id)), image.id) for path in v1.openapi()["paths"] if "{image}" in path
            ]
            for place in places:
                answer = client.get(
                    f"/api/v1{place}" if place.startswith("/datasets") else place, headers={"Authorization": f"Bearer {api}"}
                )
                if answer.status_code == 200:
                    left[f"{place.partition('?')[0]} of {image.source}"] = answer.content
        for ext, data in marked(9).items():
            (one,) = predict.predict_data(run.id, [(f"mine.{ext}", data)], keep=True)
            assert isinstance(one, Prediction), one
            upload = next(path for path in settings().uploads.rglob(f"{one.image_id}.*"))
            left[f"an uploaded {ext}"] = client.get(signing.upload_url(found.id, upload)).content
        for kind in FORMATS:
            export.export_now(found.id, kind, out)
            left[f"export as {kind}"] = out.read_bytes()
        archive.export_now(run.id, out)
        left["run zip"] = out.read_bytes()
        left["report"] = report.make(run.id, ["validation"], "tester").encode()
        for name, data in left.items():
            row.check(len(data) > 100 and not holds(data), f"{name} holds what the camera wrote")
        export.export_now(found.id, next(iter(FORMATS)), out, originals=True)
        row.control_check(not holds(out.read_bytes()), "an export of the originals")
    return len(left)


def trial(home: Path, every: int) -> Row:
    row = Row(control="a log that nobody cleans, and an export of the originals")
    n, ways = logged(home, row, every), pictured(home, row)
    row.figures = f"{n:,} lines of logs; {ways} answers and files with pictures"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
