"""Settings from LOUPE_* environment variables, read once per process."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from core.errors import AppError

WAYS = ("accounts", "oidc", "header")  # to sign in


@dataclass(frozen=True)
class Oidc:
    """The provider of OpenID Connect."""

    issuer: str  # LOUPE_OIDC_ISSUER: its address, under which /.well-known/openid-configuration lies
    client_id: str  # LOUPE_OIDC_CLIENT_ID
    client_secret: str  # LOUPE_OIDC_CLIENT_SECRET
    name_claim: str  # LOUPE_OIDC_NAME_CLAIM: what people are called here
    role_claim: str  # LOUPE_OIDC_ROLE_CLAIM: a role, or a list with one; none: an admin gives roles


@dataclass(frozen=True)
class Settings:
    home: Path  # LOUPE_HOME: everything Loupe stores; default data/ beside app.py
    roots: tuple[Path, ...]  # LOUPE_ROOTS: folders the browser may import from, separated by os.pathsep
    database_url: str  # LOUPE_DATABASE_URL: default SQLite in home
    max_upload_mb: int  # LOUPE_MAX_UPLOAD_MB: one upload of a zip or image
    upload_quota_mb: int  # LOUPE_UPLOAD_QUOTA_MB: what one person has uploaded that waits for its import
    max_megapixels: int  # LOUPE_MAX_MEGAPIXELS: one image
    least_free_mb: int  # LOUPE_LEAST_FREE_MB: with less on the disk of home, no upload and no import is begun
    cache_gb: int  # LOUPE_CACHE_GB: decoded pixels and features of frozen networks; those used last are kept
    storage: str  # LOUPE_STORAGE: object storage for originals, thumbnails, runs and zips, of which home is the cache; "" none
    storage_cache_gb: int  # LOUPE_STORAGE_CACHE_GB: of what storage has; what was used last is kept
    allowed_hosts: tuple[str, ...]  # LOUPE_ALLOWED_HOSTS: host names the server answers to, comma-separated
    user: str  # LOUPE_USER: the name written beside labels until someone types another
    user_given: bool  # whether LOUPE_USER is set; else a page asks for the name, once per browser
    host: str  # LOUPE_HOST_NAME: what this machine is called beside what it has in hand; default: its own name
    host_given: bool  # whether LOUPE_HOST_NAME is set
    cpu_devices: int  # LOUPE_CPU_DEVICES: how many runs the CPU trains at a time, each with its share of the threads
    ray_address: str  # LOUPE_RAY_ADDRESS: the dashboard of the Ray cluster that runs are given to; "" they train on this machine
    ray_cpus: int  # LOUPE_RAY_CPUS: what a run asks of the cluster for each of its devices
    ray_token: str  # LOUPE_RAY_TOKEN, or the file named by LOUPE_RAY_TOKEN_FILE: where the cluster asks for one
    log: str  # LOUPE_LOG: "json" for logs as JSON lines
    audit_heads: Path  # LOUPE_AUDIT_HEADS: where the audit's head is written daily; default audit/ in home
    sign_in: tuple[str, ...] = ()  # LOUPE_SIGN_IN: ways to sign in, comma-separated; none: one local person
    session_days: int = 7  # LOUPE_SESSION_DAYS: how long a session lasts
    role_of_new: str = ""  # LOUPE_ROLE_OF_NEW: of people who come by oidc or header for the first time; none: an admin gives one
    proxies: tuple[str, ...] = ()  # LOUPE_PROXIES: addresses whose header is believed
    header: str = ""  # LOUPE_SIGN_IN_HEADER: in which such a proxy names the person
    oidc: Oidc | None = None
    url: str = ""  # LOUPE_URL: where people reach Loupe; default: as the browser says
    webhooks: Mapping[str, str] = field(default_factory=dict)  # LOUPE_WEBHOOKS: where decisions and ended runs are told, name=address
    webhook_secret: str = ""  # LOUPE_WEBHOOK_SECRET, or the file named by LOUPE_WEBHOOK_SECRET_FILE: signs what is told

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
    def answers(self) -> Path:
        return self.home / "answers"

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
    _own(home)
    roots = [Path(p).resolve() for p in env.get("LOUPE_ROOTS", "").split(os.pathsep) if p]
    hosts = env.get("LOUPE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
    return Settings(
        home=home,
        roots=(home / "inbox", *roots),
        database_url=env.get("LOUPE_DATABASE_URL") or f"sqlite:///{home / 'loupe.db'}",
        max_upload_mb=_whole("LOUPE_MAX_UPLOAD_MB", "4096", "megabytes"),
        upload_quota_mb=_whole("LOUPE_UPLOAD_QUOTA_MB", "20480", "megabytes"),
        max_megapixels=_whole("LOUPE_MAX_MEGAPIXELS", "100", "millions of pixels"),
        least_free_mb=_whole("LOUPE_LEAST_FREE_MB", "500", "megabytes"),
        cache_gb=_whole("LOUPE_CACHE_GB", "100", "gigabytes"),
        storage=_storage(),
        storage_cache_gb=_whole("LOUPE_STORAGE_CACHE_GB", "100", "gigabytes"),
        allowed_hosts=tuple(h.strip().lower() for h in hosts.split(",") if h.strip()),
        user=env.get("LOUPE_USER") or _login_name(),
        user_given=bool(env.get("LOUPE_USER")),
        host=_host(),
        host_given=bool(env.get("LOUPE_HOST_NAME")),
        **_sign_in(),
        cpu_devices=max(1, _whole("LOUPE_CPU_DEVICES", "1", "runs")),
        ray_address=_ray_address(),
        ray_cpus=_whole("LOUPE_RAY_CPUS", "2", "CPUs"),
        ray_token=_secret("LOUPE_RAY_TOKEN") if {"LOUPE_RAY_TOKEN", "LOUPE_RAY_TOKEN_FILE"} & env.keys() else "",
        log=_log(),
        audit_heads=Path(env.get("LOUPE_AUDIT_HEADS") or home / "audit").resolve(),
        webhooks=(hooks := _webhooks(env.get("LOUPE_WEBHOOKS", ""))),
        webhook_secret=_secret("LOUPE_WEBHOOK_SECRET") if hooks else "",
    )


def _own(home: Path) -> None:
    """Makes the folder, and keeps other accounts of this machine out of one that was made for it."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        hint = "Set it to a folder that the account of Loupe may write to."
        raise AppError(f"LOUPE_HOME is {home}, which cannot be made ({e.strerror}).", hint) from None
    with suppress(OSError):  # another account's
        if home.stat().st_mode & 0o077 and not any(home.iterdir()):  # of one that is in use, python -m core check says so
            home.chmod(0o700)


def _sign_in() -> dict[str, Any]:
    ways = _list("LOUPE_SIGN_IN")
    if unknown := [way for way in ways if way not in WAYS]:
        raise AppError(f"LOUPE_SIGN_IN names “{unknown[0]}”.", f"Name one or more of: {', '.join(WAYS)}, separated by commas.")
    needed = {"header": ("LOUPE_PROXIES",), "oidc": ("LOUPE_OIDC_ISSUER", "LOUPE_OIDC_CLIENT_ID", "LOUPE_OIDC_CLIENT_SECRET")}
    for way in ways:
        if missing := [name for name in needed.get(way, ()) if not os.environ.get(name)]:
            raise AppError(f"LOUPE_SIGN_IN names “{way}”, and {' and '.join(missing)} is not set.", "docs/people.md says what it holds.")
    proxies = _list("LOUPE_PROXIES")
    for address in proxies:
        try:
            ip_address(address)
        except ValueError:
            raise AppError(f"LOUPE_PROXIES names “{address}”.", "Give the IP addresses of your proxies, separated by commas.") from None
    get = os.environ.get
    return {
        "sign_in": ways,
        "session_days": _whole("LOUPE_SESSION_DAYS", "7", "days"),
        "url": get("LOUPE_URL", "").rstrip("/"),
        "role_of_new": get("LOUPE_ROLE_OF_NEW", ""),
        "proxies": proxies,
        "header": get("LOUPE_SIGN_IN_HEADER") or "X-Forwarded-User",
        "oidc": Oidc(
            get("LOUPE_OIDC_ISSUER", "").rstrip("/"),
            get("LOUPE_OIDC_CLIENT_ID", ""),
            get("LOUPE_OIDC_CLIENT_SECRET", ""),
            get("LOUPE_OIDC_NAME_CLAIM") or "preferred_username",
            get("LOUPE_OIDC_ROLE_CLAIM", ""),
        )
        if "oidc" in ways
        else None,
    }


def _list(name: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in os.environ.get(name, "").split(",") if one.strip())


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


def _storage() -> str:
    text = os.environ.get("LOUPE_STORAGE", "").strip().rstrip("/")
    if text and not re.fullmatch(r"(s3|gs|abfs)://[^\s/@?#]+(/[^\s@?#]+)?", text):  # what it is may be a secret, and is not told
        raise AppError(
            "LOUPE_STORAGE is no address of object storage.",
            "Write s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or abfs://CONTAINER/FOLDER; credentials come from variables of their own.",
        )
    return text


def _ray_address() -> str:
    text = os.environ.get("LOUPE_RAY_ADDRESS", "").strip().rstrip("/")
    if text and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", text):
        raise AppError(f"LOUPE_RAY_ADDRESS is “{text}”.", "Give the address of the cluster's dashboard, such as http://10.0.0.5:8265.")
    return text


def _host() -> str:
    text = os.environ.get("LOUPE_HOST_NAME") or re.sub("[^A-Za-z0-9._-]", "-", socket.gethostname())[:64].lstrip(".") or "localhost"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", text):
        raise AppError(f"LOUPE_HOST_NAME is “{text}”.", "Give the machine a name of up to 64 letters, digits, dots and hyphens.")
    return text


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
