"""Open tabs of a browser without the browser: the WebSocket of a page, over which the server runs the page's script."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from core import roles
from core.data import schema
from core.settings import settings
from core.train import train, watch
from core.types import Run
from tests import forking
from tests.browser import conftest
from tests.browser.conftest import Server
from tests.ports import free_port
from tests.reliability import homes
from tests.squares import imported

PATIENCE = 60.0  # s, for one page


class Tab:
    """A page that is open; the first run of its script is over."""

    def __init__(self, server: Server, page: str, query: str = "") -> None:
        cookie = urllib.request.urlopen(f"{server.url}/healthz").headers["Set-Cookie"].partition(";")[0]
        address = f"ws://localhost:{server.port}/_stcore/stream"
        # Without pings of its own: a tab on a busy machine would be cut off for not answering them.
        more: Any = {"ping_interval": None, "origin": server.url, "subprotocols": ["streamlit"], "additional_headers": {"Cookie": cookie}}
        self._context = connect(address, max_size=None, close_timeout=1, **more)  # what was not read would keep it from closing
        self.socket = self._context.__enter__()
        self.text = b""  # all that the page said
        self.page, self.query, self.set = page, query, dict[str, dict[str, Any]]()
        self.run()

    def run(self, fields: Mapping[str, dict[str, Any]] | None = None, pressed: str = "") -> None:
        """Runs the script with these values in its fields, by their keys; bool_value, int_value … as Streamlit calls them."""
        self.set |= {self._id(key): value for key, value in (fields or {}).items()}
        asked = BackMsg()
        asked.rerun_script.page_name, asked.rerun_script.query_string = self.page, self.query
        for id, value in {**self.set, **({self._id(pressed): {"trigger_value": True}} if pressed else {})}.items():
            asked.rerun_script.widget_states.widgets.add(id=id, **value)
        self.socket.send(asked.SerializeToString())
        said = ForwardMsg()
        while said.WhichOneof("type") != "script_finished":
            data = self.socket.recv(timeout=PATIENCE)
            assert isinstance(data, bytes)
            self.text += data
            said.ParseFromString(data)

    def _id(self, key: str) -> str:
        found = re.search(rb"\$\$ID-[0-9a-f]+-" + re.escape(key.encode()), self.text)
        assert found is not None, f"the page has no field {key}"
        return found[0].decode()

    def close(self) -> None:
        self._context.__exit__(None, None, None)


def trained(each: int = 12, side: int = 12, **values: Any) -> Run:
    """A run on some squares, in this process's data folder."""
    run = train.start(imported(settings().home.parent, each, side).id, {"architecture": "convnet", "epochs": 2, **values}, "tester")
    assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
    return run


@contextmanager
def serving(home: Path, run: Any = "tests.forking.run_app", *args: object) -> Iterator[tuple[Server, psutil.Process]]:
    """The app on this process's data folder. run: who runs it, with its port and these, as another app than the true one."""
    module, _, function = run.rpartition(".")

    def start(port: int, log: Path, env: dict[str, str]) -> forking.Forked:
        code = f"from {module} import {function}; {function}(*{(port, *args)!r})"
        return forking.fork(["-c", code], log, of="app", env=env)

    schema.engine().dispose()
    server = Server(home, free_port())
    with homes.replaced(conftest, "fork_app", start):
        server.start()
    assert server.process is not None
    try:
        yield server, psutil.Process(server.process.pid)
    finally:
        server.stop()


def leaking_app(port: int, kept: int) -> None:
    """The app, which keeps so many bytes of each run of a page and of each answer to who watches a run, and looks at them ever again."""
    held: list[bytes] = []
    found_by, follow = roles.found_by, watch.follow

    def keeping(*args: Any) -> Any:
        held.append(os.urandom(kept))
        return found_by(*args)

    def growing(*args: Any) -> Any:
        held.append(os.urandom(kept))
        return follow(*args) if sum(map(sum, held[::40])) else None

    roles.found_by, watch.follow = keeping, growing  # type: ignore[assignment]
    forking.run_app(port)
