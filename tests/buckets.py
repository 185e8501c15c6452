"""A real S3 server of this machine (moto's), whose network can be cut, and whose rights can be taken away."""

from __future__ import annotations

import logging
import threading
import urllib.request
from functools import cache
from typing import Any

from core import storage
from tests.ports import free_port

NAME = "pictures"


class Bucket:
    """One bucket of a server in threads of this process."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        class Dispatcher(DomainDispatcherApplication):
            """Which lists moto's folder and tries 500 patterns for each request otherwise: half of its time."""

            get_backend_for_host = cache(DomainDispatcherApplication.get_backend_for_host)

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.port = free_port()
        self._app = Dispatcher(create_backend_app)
        storage._opened.cache_clear()  # a client of the bucket before, which tests keep
        self.mend()
        self.call("PUT", f"/{NAME}")

    @property
    def env(self) -> dict[str, str]:
        return {
            "LOUPE_STORAGE": f"s3://{NAME}/loupe",
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret-of-anybody",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: bytes = b"") -> bytes:
        headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=anybody/20260101/us-east-1/s3/aws4_request, SignedHeaders=, Signature="}
        request = urllib.request.Request(self.address + path, body or None, {**headers, "Content-Type": "text/plain"}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bytes(answer.read())

    def names(self, below: str = "") -> dict[str, int]:
        """The objects of Loupe by their names, and their bytes."""
        found = {name.removeprefix("loupe/"): key.size for name, key in self._objects().items()}
        return {name: size for name, size in found.items() if name.startswith(below)}

    def data(self, name: str) -> bytes:
        """Of an object, also while the network is cut."""
        return bytes(self._objects()[f"loupe/{name}"].value)

    def put(self, name: str, data: bytes) -> None:
        """Behind Loupe's back."""
        self.call("PUT", f"/{NAME}/loupe/{name}", data)

    def _objects(self) -> Any:
        from moto.s3.models import s3_backends

        return next(iter(s3_backends["123456789012"].values())).buckets[NAME].keys

    def empty(self) -> None:
        self.call("POST", "/moto-api/reset")
        self.call("PUT", f"/{NAME}")

    def allow(self, acts: float) -> None:
        """How many requests more are answered before an account that nobody has made is refused."""
        self.call("POST", "/moto-api/reset-auth", str(acts).encode())

    def cut(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def mend(self) -> None:
        from moto.server import MotoRequestHandler
        from werkzeug.serving import make_server

        self._server = make_server("127.0.0.1", self.port, self._app, threaded=True, request_handler=MotoRequestHandler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
