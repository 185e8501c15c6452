"""What a tab had asked of the slow model worker is stopped once the tab is closed: nobody waits for it, and others may wait behind it."""

from __future__ import annotations

import threading
import time

from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.explain import explain

LOOK = 2.0  # s between two looks
AWAY = 15.0  # s after which a tab is taken for closed: one that lost its connection is back by then

_lock = threading.Lock()
_asked: dict[explain.Asked, tuple[str, float]] = {}  # the session that waits, and when its tab was last there


def follow(asked: explain.Asked) -> None:
    """Stops the question when the tab whose script runs here is gone; a stored answer stays."""
    context = get_script_run_ctx(suppress_warning=True)
    if asked.done or context is None or not runtime.exists():
        return
    with _lock:
        alone = not _asked
        _asked[asked] = context.session_id, time.monotonic()
    if alone:
        threading.Thread(target=_look_on, daemon=True, name="closed tabs").start()


def _look_on() -> None:
    while True:
        time.sleep(LOOK)
        with _lock:
            look(time.monotonic())
            if not _asked:
                return


def look(now: float) -> None:
    for asked, (session, seen) in list(_asked.items()):
        if asked.done:
            del _asked[asked]
        elif runtime.get_instance().is_active_session(session):
            _asked[asked] = session, now
        elif now - seen > AWAY:
            explain.stop(asked)
            del _asked[asked]
