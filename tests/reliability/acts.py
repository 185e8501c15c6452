"""People who label and decide through the server, and what of it is in the database."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Event

import sqlalchemy as sa

from core import roles
from core.api import signing
from core.data import audit, classes, labels, queue, schema, store
from core.people import sessions
from core.types import Image, now

LABELS = ("cat", "dog")


def dataset(images: int, waiting: int = 0) -> int:
    """Rows of images, and of pictures in Review, without their files."""
    made = store.create_dataset("cats").id
    classes.ensure(made, LABELS)
    rows = [Image(f"{i:016x}", made, "jpg", 640, 480, 3, 90_000, "train", f"{i}.jpg", now(), 0, 0) for i in range(images)]
    labels.add_images(made, rows, "generator", "import")
    said = {"dataset_id": made, "run_id": "deleted", "ext": "png", "by": "Lea", "predicted": "cat", "probability": 0.9}
    queue.add([{**said, "image_id": f"{1 << 60 | i:016x}", "name": f"w{i}", "probabilities": {"cat": 0.9}} for i in range(waiting)])
    return made


@dataclass
class Person:
    """Acts one after the other; what was sent and not answered is sent again as the page does, under the same operation."""

    number: int
    port: int
    made: int  # the dataset
    stop: Event
    acts: int = 1 << 30
    pause: float = 0.0  # s between two acts
    session: str = ""  # what the browser holds of who is signed in
    acknowledged: list[str] = field(default_factory=list)  # operations
    taken: list[float] = field(default_factory=list)  # s
    errors: list[str] = field(default_factory=list)
    line: HTTPConnection | None = None
    drops: float = 0.0  # share of answers that their network loses
    unheard: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    @property
    def name(self) -> str:
        return f"person {self.number}"

    def send(self, path: str, body: dict[str, object]) -> dict[str, object] | None:
        """None if it was told to stop before there was an answer."""
        with roles.acting(roles.Person(self.name, None, session=self.session and sessions.key(self.session))):
            headers = {"X-Loupe-Token": signing.token(self.name), "Content-Type": "application/json"}
        headers |= {"Cookie": f"loupe_session_{self.port}={self.session}"} if self.session else {}
        while True:
            try:
                if self.line is None:
                    self.line = HTTPConnection("localhost", self.port, timeout=30)
                self.line.request("POST", path, json.dumps(body), headers)
                if self.chance.random() < self.drops:
                    self.unheard += 1
                    raise ConnectionError
                answer = self.line.getresponse()
                said = answer.read()
                if answer.status == 200:
                    return dict(json.loads(said))
                self.errors.append(f"{answer.status}: {said[:200].decode(errors='replace')}")
            except (OSError, HTTPException, ValueError):
                pass
            if self.line is not None:
                self.line.close()
            self.line = None
            if self.stop.is_set():
                return None
            time.sleep(0.05)

    def label(self, images: list[str]) -> None:
        seen = dict.fromkeys(images, 0)
        for i in range(self.acts):
            if self.stop.is_set():
                return
            image, operation = images[i % len(images)], f"{self.number}-{i}"
            act = {"operation": operation, "dataset_id": self.made, "seen": {image: seen[image]}, "label": LABELS[i // len(images) % 2]}
            began = time.monotonic()
            answer = self.send("/api/label", act)
            if answer is None:
                return
            self.taken.append(time.monotonic() - began)
            seqs = answer["seqs"]
            assert isinstance(seqs, dict)
            if image in seqs:
                self.acknowledged.append(operation)
                seen[image] = seqs[image]
            else:
                self.errors.append(f"refused: {answer['refused']}")
            time.sleep(self.pause)

    def decide(self, items: list[int]) -> None:
        for item in items:
            if self.stop.is_set():
                return
            operation = f"decision {self.number}-{item}"
            said = {"id": item, "verdict": "rejected", "operation": operation, "session": f"s{self.number}", "dataset_id": self.made}
            began = time.monotonic()
            if self.send("/api/review/decide", said) is None:
                return
            self.taken.append(time.monotonic() - began)
            self.acknowledged.append(operation)
            time.sleep(self.pause or 0.02)


def stored() -> Counter[str]:
    """How many rows of labels and decisions there are of each act."""
    with schema.reading() as c:
        found: Counter[str] = Counter()
        for table in (schema.label_events, schema.decisions):
            found.update(c.execute(sa.select(table.c.operation).where(table.c.operation.is_not(None))).scalars())
        return found


def integrity() -> str:
    """What the database and the audit's chain say of themselves; "" if nothing."""
    with schema.reading() as c:
        said = c.execute(sa.text("PRAGMA integrity_check")).scalars().all() if c.dialect.name == "sqlite" else ["ok"]
    chain = audit.verify()
    return "" if said == ["ok"] and not chain.problem else f"{said[:3]} {chain.problem}"
