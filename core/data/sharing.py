"""Whether this server may work beside others: one version, one folder, one database, locks and clocks that agree."""

from __future__ import annotations

import threading
import time

from core import processes, servers
from core.data import database, leases, schema
from core.errors import Conflict
from core.settings import settings

OF_SERVER = "server "  # before its name: a lease that lasts as long as the server
ROW, LEFT = 10.0, 60.0  # seconds between two renewals of it, and after the last one until it has run out
PATIENCE = 5.0  # seconds in which a server that has just begun has its lease
_turn = threading.Lock()  # a lease must not be renewed once it was given back


def join() -> None:
    """Shows that this server is there; Conflict where others are that it cannot work beside, and then it has left again.

    Any other AppError is of a database that cannot be used: the server is there all the same, and has not looked at the others.
    OSError is of a folder that cannot be written to, and then it is not there.
    """
    url, over = database.address(settings().database_url), servers.join()
    try:
        servers.refuse_other_code()
        if url.drivername == "sqlite":
            schema.refuse_other_machines(url)
        else:
            servers.now_and_then(ROW, lambda: _renew(over), over)
            _renew(over)
            look()
    except Conflict:
        servers.leave()
        raise


def _renew(over: threading.Event) -> None:
    with _turn:
        if not over.is_set():
            leases.take(f"{OF_SERVER}{servers.name()}", LEFT)


def leave() -> None:
    """So that others take over at once what this server did alone; takes as long as a database that does not answer."""
    servers.end()
    try:
        with _turn:
            leases.release()  # before its file is gone: one without the other looks like another folder
    finally:
        servers.leave()


def look() -> None:
    """Conflict where the servers of other machines have another folder, another database, locks that do not hold here, or another time."""
    home, here = settings().home, f"{processes.mark()}-"
    for name in (one.removeprefix(OF_SERVER) for one in leases.held(OF_SERVER)):
        if not name.startswith(here) and not (servers.folder() / name).exists():
            raise Conflict(
                f"Another server is at work on this database, and it is not to be seen in {home}: that is another folder than its own.",
                "Mount the folder that the servers share, and set LOUPE_HOME to it.",
            )
    others = servers.others()
    for one in others:
        if not _comes(one):
            raise Conflict(
                f"The server {one.host} is at work on {home}, and not on this database.",
                "Give all servers the same LOUPE_DATABASE_URL, or end that one first.",
            )
        if not _keeps_lock(one):
            raise Conflict(
                f"The server {one.host} holds a lock in {home} that does not hold on this machine.",
                "Mount the folder so that locks hold between machines: NFS from version 4 on, without nolock and local_lock.",
            )
    if others and (apart := abs(time.time() - _clock())) > servers.MOST_APART:
        raise Conflict(
            f"The clock of this machine and that of the database are {apart:.0f} s apart.",
            "Let both follow a time server: what a server has in hand, it has until a certain second.",
        )


def _clock() -> float:
    with schema.reading() as c:
        return leases.clock(c)


def _comes(one: servers.Server) -> bool:
    """Whether the server has a lease in this database, or ends."""
    until = time.monotonic() + PATIENCE
    while f"{OF_SERVER}{one.name}" not in leases.held(OF_SERVER):
        if not servers.is_there(one.name):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _keeps_lock(one: servers.Server) -> bool:
    """Whether its lock holds here; of a server that was killed a moment ago only time tells."""
    while servers.is_there(one.name):
        if servers.holds(one):
            return True
        before = servers.beat(one)
        time.sleep(2 * processes.BEAT)
        if servers.beat(one) != before:
            return False
    return True
