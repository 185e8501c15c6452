"""What a browser gets before the app draws: a still picture of the page, the names of the files it will need, and those from memory.

Streamlit's own index.html is an empty page until 60 scripts have run, and reads each of them from the disk at every visit.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from html import escape
from importlib.util import find_spec
from os.path import normpath
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

ASSETS = Path(__file__).resolve().parents[2] / "assets"
STATIC = Path(str(find_spec("streamlit").origin)).parent / "static"  # type: ignore[union-attr]
FILES = frozenset(f"/{path.relative_to(STATIC).as_posix()}" for path in (STATIC / "static").glob("*/*"))
FOREVER = {"Cache-Control": "public, immutable, max-age=31536000"}  # their names carry a hash of what they hold
TEXTS = (".js", ".css", ".html", ".json", ".svg")
# Where the server is: else the browser asks for two files below each part of the address before it opens the WebSocket.
SCRIPT = (
    "window.prerenderReady=false;"
    "window.__streamlit={BACKEND_BASE_URL:location.origin,HOST_CONFIG:{allowedOrigins:[location.origin],useExternalAuthToken:false}};"
) + "".join((ASSETS / "first" / name).read_text(encoding="utf-8") for name in ("history.js", "later.js"))
ALLOWED = f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"  # for the Content-Security-Policy
# What Streamlit fetches one after the other once a page has begun, by the first part of the file's name; and scripts of ours.
EVERYWHERE = ("Selectbox", "BidiComponent", "Html", "ButtonGroup", "Button", "who/who", "terms/terms")
NEEDED = {
    "": ("TextInput", "Multiselect", "DataFrame"),
    "dataset": ("grid/grid", "TextInput", "Pagination"),
    "label": ("grid/grid", "Pagination"),
    "label Map": ("map/map", "Slider"),
    "train": ("NumberInput", "Radio", "Checkbox", "Multiselect", "TextInput", "DataFrame"),
    "evaluate": ("matrix/matrix",),
    "explain": ("maps/maps", "grid/grid", "Multiselect", "Pagination"),
    "predict": ("FileUploader", "Checkbox"),
    "review": ("queue/queue",),
}
LATER = ("evaluate", "PlotlyChart")  # most of its views have charts, and the first to be drawn took a second longer
IMPORTS = 16_000  # characters, within which a script names all that it imports
IMPORTED = re.compile(r"""(?:^|[;\n])import[^;"'`()]*["'`](\.[^"'`]+\.js)["'`]""")


class File(NamedTuple):
    body: bytes
    packed: bool
    media_type: str


class First:
    """Answers for the pages of these names ("" for the first), and for Streamlit's files; all else goes on to the app."""

    def __init__(self, app: ASGIApp, pages: Collection[str]) -> None:
        self.app = app
        self.pages = frozenset(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http" and scope["method"] == "GET" and not scope.get("root_path") and _takes_gzip(scope):
            path = scope["path"]
            if path in FILES:
                answer = _response(_kept[path] if path in _kept else await anyio.to_thread.run_sync(file, path), FOREVER)
            elif path[1:] in self.pages:
                view = parse_qs(scope["query_string"].decode("latin-1")).get("view", [""])[0]
                name = found if (found := f"{path[1:]} {view}") in NEEDED else path[1:]
                answer = _response(await anyio.to_thread.run_sync(index, name), {"Cache-Control": "no-cache"})
        await (answer or self.app)(scope, receive, send)


def _takes_gzip(scope: Scope) -> bool:
    return "gzip" in Headers(scope=scope).get("accept-encoding", "")


def _response(found: File, headers: dict[str, str]) -> Response:
    packed = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"} if found.packed else {}
    return Response(found.body, media_type=found.media_type, headers={**headers, **packed})


_kept: dict[str, File] = {}  # what was asked for so far: 1.5 MB for all pages, 7 MB if somebody asks for every file there is


def file(path: str) -> File:
    """One of FILES, packed once."""
    data, packed = (STATIC / path[1:]).read_bytes(), path.endswith(TEXTS)
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    _kept[path] = found = File(gzip.compress(data, 6) if packed else data, packed, media_type)
    return found


@lru_cache(maxsize=32)
def index(name: str) -> File:
    """For a page, or a view of NEEDED: Streamlit's index.html with the page's picture in it, which goes when the app has drawn; and all that is needed is fetched at once."""
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"<script>.*?</script>", lambda _: f"<script>{SCRIPT}</script>", text, count=1, flags=re.DOTALL)
    needed = preloaded((*EVERYWHERE, *NEEDED.get(name, ())))
    links = "".join(f'<link rel="modulepreload" href="{path}">' for path in needed if path.rpartition("/")[2] not in text)
    icons = "".join(
        f'<link rel="preload" href="/static/media/{path.name}" as="font" type="font/woff2" crossorigin>'
        for path in (STATIC / "static" / "media").glob("MaterialSymbols*.woff2")
    )
    page, script = LATER
    links += "".join(f'<meta name="later" data-page="/{page}" data-script="{path}">' for path in preloaded((script,))[:1])
    css = "".join((ASSETS / name).read_text(encoding="utf-8") for name in ("first/first.css", "common/style.css"))
    picture = (ASSETS / "first" / "first.html").read_text(encoding="utf-8")
    logo = base64.b64encode((ASSETS / "logo.svg").read_bytes()).decode()
    title = (name.partition(" ")[0] or "home").capitalize()
    text = re.sub(r"<title>.*?</title>", f"<title>{title} · Loupe</title>", text)
    for mark, value in {"title": title, "name": name or "home", "logo": f"data:image/svg+xml;base64,{logo}"}.items():
        picture = picture.replace(f"{{{mark}}}", escape(value))
    text = text.replace("</head>", f"{links}{icons}</head>").replace("</body>", f"<style>{css}</style>{picture}</body>")
    return File(gzip.compress(text.encode(), 6), True, "text/html; charset=utf-8")


def preloaded(names: Iterable[str]) -> list[str]:
    """The addresses of these scripts and of all they import; a name that this version of Streamlit does not have is passed over."""
    streamlits = {path.split(".")[0].rpartition("/")[2]: path for path in FILES if path.endswith(".js")}
    waiting = [
        ASSETS / f"{name}.js" if "/" in name else STATIC / streamlits[name][1:] for name in names if "/" in name or name in streamlits
    ]
    found: dict[str, None] = {}
    while waiting:
        path = waiting.pop(0)
        address = f"/{path.relative_to(STATIC if path.is_relative_to(STATIC) else ASSETS.parent).as_posix()}"
        if address not in found:
            found[address] = None
            with path.open(encoding="utf-8") as script:
                beginning = script.read(IMPORTS)
            waiting += [Path(normpath(path.parent / one)) for one in IMPORTED.findall(beginning)]
    return list(found)
