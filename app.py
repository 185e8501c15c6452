"""The server's door: `streamlit run app.py`."""

import gc
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from core.api import gate, routes, sign_in
from core.data import leftovers
from core.errors import AppError
from core.runs import launch


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    for module in ("pandas", "pyarrow", "PIL.Image", "plotly.graph_objects"):
        importlib.import_module(module)  # now, and not at somebody's first click

    leftovers.remove()
    launch.warm()
    gc.collect()
    gc.freeze()  # Streamlit collects after every script run: 75 ms each time without this
    yield {}
    launch.close()


try:
    gate.check_address(st.get_option("server.address"))
except AppError as e:
    sys.exit(str(e))  # a sentence for whoever starts it, and no traceback
app = st.App(
    "pages/main.py",
    lifespan=lifespan,
    routes=[*sign_in.ROUTES, *routes.ROUTES],
    middleware=[Middleware(gate.Gate)],
    exception_handlers={AppError: routes.app_error, HTTPException: routes.http_error},
)
