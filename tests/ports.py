"""A port of this machine on which nobody listens."""

from __future__ import annotations

import functools
import socket


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@functools.cache
def _first_port() -> int:
    return free_port()


def usual_port() -> int:
    """The same one each time, unless somebody has it now: Chromium keeps by its address what it has compiled of Streamlit's scripts."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server asks for it, whose predecessor's connections linger
        try:
            s.bind(("127.0.0.1", _first_port()))
        except OSError:
            return free_port()
    return _first_port()
