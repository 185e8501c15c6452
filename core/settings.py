"""Settings from LOUPE_* environment variables, read once per process."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    webhooks: Mapping[str, str] = field(default_factory=dict)  # LOUPE_WEBHOOKS: where decisions and ended runs are told, name=address
    webhook_secret: str = ""  # LOUPE_WEBHOOK_SECRET, or the file named by LOUPE_WEBHOOK_SECRET_FILE: signs what is told
    user_given: bool = False  # whether LOUPE_USER is set; else a page asks for the name, once per browser

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
        webhooks=(hooks := _webhooks(env.get("LOUPE_WEBHOOKS", ""))),
        webhook_secret=_secret("LOUPE_WEBHOOK_SECRET") if hooks else "",
    )


def _webhooks(text: str) -> dict[str, str]:
    found = {}
    for pair in filter(None, (one.strip() for one in text.split(","))):
        name, _, address = pair.partition("=")
        if not re.fullmatch("[a-z0-9-]{1,40}", name) or not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", address) or name in found:
            raise AppError(
                f"LOUPE_WEBHOOKS holds “{pair.partition('?')[0]}”.",
                "Write a name and an address for each, such as shop=https://shop.example/loupe, separated by commas.",
            )
        found[name] = address
    return found


def _secret(name: str) -> str:
    """From the variable, or from the file that the variable with _FILE names."""
    text, path = os.environ.get(name, ""), os.environ.get(f"{name}_FILE")
    if path:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise AppError(f"{name}_FILE names “{path}”, which cannot be read.", "Name a file of text that Loupe may read.") from None
    if len(text.strip()) < 24:
        raise AppError(f"{name} is missing or shorter than 24 characters.", f"Set it, or {name}_FILE, to a long random text.")
    return text.strip()


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
