"""The server's door: `streamlit run app.py`."""

import asyncio
import gc
import importlib
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount

from core import logs, space
from core.api import gate, operations, routes, sign_in, webhooks
from core.api.v1.app import app as v1
from core.data import leftovers
from core.errors import AppError
from core.runs import launch
from core.settings import settings


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    if settings().log == "json":
        logs.as_json()
    operations.send_at_once()
    for module in ("pandas", "pyarrow", "PIL.Image", "plotly.graph_objects"):
        importlib.import_module(module)  # now, and not at somebody's first click

    try:
        leftovers.remove()
    except OSError as e:  # pages say the same to whoever wants to store something
        logging.getLogger("loupe").error("%s", space.refusal(e))
    launch.warm()
    webhooks.start()
    gc.collect()
    gc.freeze()  # Streamlit collects after every script run: 75 ms each time without this
    tasks = [asyncio.create_task(work) for work in (operations.heads(), operations.go_on())]
    yield {}
    webhooks.stop()
    for task in tasks:
        task.cancel()
    launch.close()


try:
    gate.check_address(st.get_option("server.address"))
except AppError as e:
    sys.exit(str(e))  # a sentence for whoever starts it, and no traceback
app = st.App(
    "pages/main.py",
    lifespan=lifespan,
    routes=[Mount("/api/v1", v1), *sign_in.ROUTES, *routes.ROUTES, *operations.ROUTES],
    middleware=[Middleware(operations.Meter), Middleware(gate.Gate)],
    exception_handlers={AppError: routes.app_error, OSError: routes.os_error, HTTPException: routes.http_error},
)
