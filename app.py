"""The server's door: `streamlit run app.py`."""

import asyncio
import gc
import importlib
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio.to_thread
import streamlit as st
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from core import logs, servers, space, storage
from core.api import first, gate, in_memory, operations, routes, sign_in, v1, webhooks
from core.data import imports, leftovers, schema, sharing, sources, store
from core.errors import AppError, Conflict
from core.runs import launch
from core.runs.launch import SAMPLE
from core.settings import settings
from core.terminal import say

LEAVE = 5.0  # seconds that the end of the server waits for the database


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    logs.begin()
    operations.send_at_once()
    try:
        leftovers.remove()  # first, as it may make room
    except OSError as e:  # pages say the same to whoever wants to store something
        logging.getLogger("loupe").error("%s", space.refusal(e))
    fits = may_share(sharing.join)
    launch.warm()
    webhooks.start()
    if SAMPLE in sys.argv:
        bring_sample()
    works = (anyio.to_thread.run_sync(load), operations.daily(), operations.go_on(), operations.store(), *(() if fits else (look_again(),)))
    beside = [asyncio.create_task(work) for work in works]
    yield {}
    webhooks.stop()
    for one in beside:
        one.cancel()
    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    await anyio.to_thread.run_sync(leaving.join, LEAVE)
    launch.close()


def leave() -> None:
    with suppress(Exception):  # else its leases run out
        sharing.leave()


def may_share(look: Callable[[], None]) -> bool:
    """Whether the server may work beside the others that are there; False while database or folder cannot be used, as every page says."""
    try:
        look()
    except Conflict as e:
        say(f"Loupe ends. {e}")
        os._exit(1)  # an exception would be shown as one, and pages would go on
    except AppError as e:
        logging.getLogger("loupe").error("%s", e)
        return False
    except OSError as e:
        logging.getLogger("loupe").error("%s", space.refusal(e))
        return False
    return True


async def look_again() -> None:
    while not await anyio.to_thread.run_sync(may_share, sharing.look if servers.is_here() else sharing.join):
        await asyncio.sleep(30)


def bring_sample() -> None:
    try:
        if not store.list_datasets():
            say("The sample dataset, 1,797 handwritten digits, comes in while you look around …")
            imports.start(sources.named("sample"), "digits", settings().user)
    except AppError as e:
        say(str(e))  # every page says it, too


def refuse_storage() -> None:
    """Raises what only a person can change; a storage that is away may come back."""
    try:
        storage.probe()
    except storage.Refused:
        raise
    except AppError as e:
        say(str(e))


def load() -> None:
    """Once the server answers and before somebody's first click."""
    for module in ("pandas", "pyarrow", "PIL.Image", "plotly.graph_objects"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # Streamlit collects after every script run: 75 ms each time without this


def uploaded() -> Mapping[str, Mapping[str, Any]]:
    """What Streamlit holds in memory, by session and file."""
    held = runtime.get_instance().uploaded_file_mgr if runtime.exists() else None
    return dict(held.file_storage) if isinstance(held, MemoryUploadedFileManager) else {}


PAGES = ["" if path.stem == "home" else path.stem for path in (launch.ROOT / "pages").glob("*.py") if path.stem != "main"]

try:
    gate.check_address(st.get_option("server.address"))
    if SAMPLE in sys.argv:  # somebody reads the terminal; a service goes on, and every page says it until the database is back
        schema.engine()
        refuse_storage()
except AppError as e:
    sys.exit(str(e))  # a sentence for whoever starts it, and no traceback
app = st.App(
    "pages/main.py",
    lifespan=lifespan,
    routes=[Mount("/api/v1", v1.later), *sign_in.ROUTES, *routes.ROUTES, *operations.ROUTES],
    middleware=[
        Middleware(operations.Meter),
        Middleware(gate.Gate),
        Middleware(in_memory.Bound, held=uploaded, largest=st.get_option("server.maxUploadSize") * 1024**2),
        Middleware(first.First, pages=PAGES),
    ],
    exception_handlers={AppError: routes.app_error, OSError: routes.os_error, HTTPException: routes.http_error},
)
