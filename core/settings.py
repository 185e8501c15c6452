"""Settings from LOUPE_* environment variables, read once per process."""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from core.errors import AppError


@dataclass(frozen=True)
class Settings:
    home: Path  # LOUPE_HOME: everything Loupe stores; default data/ beside app.py
    roots: tuple[Path, ...]  # LOUPE_ROOTS: folders the browser may import from, separated by os.pathsep
    database_url: str  # LOUPE_DATABASE_URL: default SQLite in home
    max_upload_mb: int  # LOUPE_MAX_UPLOAD_MB: one upload of a zip or image
    max_megapixels: int  # LOUPE_MAX_MEGAPIXELS: one image
    allowed_hosts: tuple[str, ...]  # LOUPE_ALLOWED_HOSTS: host names the server answers to, comma-separated
    user: str  # LOUPE_USER: the name written beside labels until someone types another
    user_given: bool  # whether LOUPE_USER is set; else a page asks for the name, once per browser
    log: str  # LOUPE_LOG: "json" for logs as JSON lines
    audit_heads: Path  # LOUPE_AUDIT_HEADS: where the audit's head is written daily; default audit/ in home

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def thumbs(self) -> Path:
        return self.home / "thumbs"

    @property
    def uploads(self) -> Path:
        return self.home / "uploads"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def imports(self) -> Path:
        return self.home / "imports"

    @property
    def exports(self) -> Path:
        return self.home / "exports"

    @property
    def archives(self) -> Path:
        return self.home / "archives"

    @property
    def embeddings(self) -> Path:
        return self.home / "embeddings"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def downloads(self) -> Path:
        return self.home / "downloads"


@lru_cache(maxsize=1)
def settings() -> Settings:
    env = os.environ
    home = Path(env.get("LOUPE_HOME") or Path(__file__).parent.parent / "data").resolve()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    roots = [Path(p).resolve() for p in env.get("LOUPE_ROOTS", "").split(os.pathsep) if p]
    hosts = env.get("LOUPE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
    return Settings(
        home=home,
        roots=(home / "inbox", *roots),
        database_url=env.get("LOUPE_DATABASE_URL") or f"sqlite:///{home / 'loupe.db'}",
        max_upload_mb=_whole("LOUPE_MAX_UPLOAD_MB", "4096", "megabytes"),
        max_megapixels=_whole("LOUPE_MAX_MEGAPIXELS", "100", "millions of pixels"),
        allowed_hosts=tuple(h.strip().lower() for h in hosts.split(",") if h.strip()),
        user=env.get("LOUPE_USER") or _login_name(),
        user_given=bool(env.get("LOUPE_USER")),
        log=_log(),
        audit_heads=Path(env.get("LOUPE_AUDIT_HEADS") or home / "audit").resolve(),
    )


def _log() -> str:
    text = os.environ.get("LOUPE_LOG", "").strip().lower()
    if text not in ("", "json"):
        raise AppError(f"LOUPE_LOG is “{text}”.", "Set it to json, or leave it out.")
    return text


def _whole(name: str, default: str, of: str) -> int:
    text = os.environ.get(name) or default
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise AppError(f"{name} is “{text}”.", f"Set it to a whole number of {of}, such as {default}, or leave it out.")
    return int(text)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return "me"
