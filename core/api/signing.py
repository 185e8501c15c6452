"""Signed addresses and tokens: what a page hands out, the routes take back."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import time
from functools import lru_cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request

from core import roles
from core.errors import AppError
from core.settings import settings
from core.types import Image

DAY = 24 * 3600


@lru_cache(maxsize=1)
def _secret() -> bytes:
    """Made once per installation, readable by its owner only."""
    path = settings().home / "secret"
    if not path.exists():
        tmp = path.with_name(f".secret.{secrets.token_hex(4)}.tmp")
        with os.fdopen(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            f.write(secrets.token_bytes(32))
            f.flush()
            os.fsync(f.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster: its secret counts
            os.link(tmp, path)
        tmp.unlink()
    key = path.read_bytes()
    if len(key) < 32:  # anybody could sign with an empty one
        raise AppError(f"The file {path} is damaged.", "Delete it and start Loupe again: it makes a new one.")
    return key


def _sign(text: str) -> str:
    return hmac.new(_secret(), text.encode(), hashlib.sha256).hexdigest()[:32]


def _is_signed(text: str, signature: str) -> bool:
    return hmac.compare_digest(_sign(text).encode(), signature.encode(errors="replace"))  # of strings it takes ASCII only


def _expiry(days: int) -> int:
    """A day number, not a second: a URL stays the same, and so cached, all day long."""
    return int(time.time() // DAY) + days


def _of_session(text: str) -> str:
    """What is signed for it: an address or a token is good for the session it was handed out to, and for no other."""
    session = roles.current().session
    return f"{text} {session}" if session else text


def _address(path: str, expiry: object, dataset: str) -> str:
    """What is signed of an address, when it is handed out and when it comes back."""
    return _of_session(f"{path}?{expiry}{dataset and f'&{dataset}'}")


def signed(path: str, dataset_id: int | None = None) -> str:
    """The path with an expiry of one to two days and a signature: an <img> can carry no header.

    dataset_id: whose it is, where the path does not say it; only who may see that dataset gets it, at each request anew.
    """
    expiry, dataset = _expiry(2), "" if dataset_id is None else str(dataset_id)
    return f"{path}?e={expiry}&s={_sign(_address(path, expiry, dataset))}{dataset and f'&d={dataset}'}"


def local() -> str:
    """What a browser holds that has opened this installation, where nobody signs in."""
    return _sign("local")


def token(user: str) -> str:
    """What a page hands to its components: they send it back in X-Loupe-Token."""
    name, expiry = user.encode().hex(), _expiry(7)
    return f"{name}.{expiry}.{_sign(_of_session(f'{name}.{expiry}'))}"


def user(request: Request) -> str:
    name, _, rest = request.headers.get("x-loupe-token", "").partition(".")
    expiry, _, signature = rest.partition(".")
    if not _is_signed(_of_session(f"{name}.{expiry}"), signature) or not expiry.isdigit() or int(expiry) < _expiry(0):
        raise HTTPException(401, "This page has expired. Reload it.")
    return roles.current().name if settings().sign_in else bytes.fromhex(name).decode()


def check(request: Request) -> None:
    expiry = request.query_params.get("e", "")
    given = request.query_params.get("s", "")
    dataset = request.query_params.get("d", "")
    if not _is_signed(_address(request.url.path, expiry, dataset), given) or not expiry.isdigit() or int(expiry) < _expiry(0):
        raise HTTPException(403, "This address has expired. Reload the page.")
    if dataset:
        roles.allow("see", int(dataset))


def thumb_url(image: Image) -> str:
    return signed(f"/thumb/{image.dataset_id}/{image.thumb_offset}-{image.thumb_size}")


def picture_url(image: Image) -> str:
    return signed(f"/picture/{image.path}", image.dataset_id)


def erase_url(run_id: str, file: Path) -> str:
    """Where the run is asked about the picture with a part erased; only whom a page showed both knows the address."""
    return signed(f"/api/erase/{run_id}/{file.relative_to(settings().home)}")


UNSTORED = "/unstored"  # before the address of a picture that a browser must not keep


def upload_url(dataset_id: int, path: Path, frame: int = 1, stored: bool = True) -> str:
    """A picture that somebody brought to a dataset's network; of one that has several frames the one of that number, from 1.

    stored: a browser may keep it.
    """
    return signed(f"{'' if stored else UNSTORED}/uploaded/{path.name}{'' if frame == 1 else f'/{frame}'}", dataset_id)


def frames_url(dataset_id: int, path: Path, stored: bool = True) -> str:
    """All judged frames of such a picture on one contact sheet."""
    return signed(f"{'' if stored else UNSTORED}/uploaded/{path.name}/frames", dataset_id)
