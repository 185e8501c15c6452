"""Who acts, and what each role may do: one table, asked by the functions of the stories and never by pages alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, get_args

from core.errors import Forbidden
from core.settings import settings

Role = Literal["viewer", "labeller", "moderator", "trainer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

_EVERYBODY: tuple[Role, ...] = ROLES
_LABEL: tuple[Role, ...] = ("labeller", "moderator", "trainer", "admin")
_DECIDE: tuple[Role, ...] = ("moderator", "trainer", "admin")
_TRAIN: tuple[Role, ...] = ("trainer", "admin")
_ADMIN: tuple[Role, ...] = ("admin",)

# What is done, as “may …” is followed by it: who may. docs/roles.md is made from it.
MAY: Mapping[str, tuple[str, tuple[Role, ...]]] = {
    "see": ("see images, labels, runs and what they are worth", _EVERYBODY),
    "ask": ("ask a network about pictures and send the answers to review", _LABEL),
    "label": ("label, flag and take labels back", _LABEL),
    "decide": ("decide on what waits in Review, and take one's own decision back", _DECIDE),
    "lead": ("decide on what was escalated or differs, see everybody's figures, accept decisions into training", _TRAIN),
    "policy": ("write a policy and make it active", _TRAIN),
    "import": ("bring images in, make datasets, name, merge and retire classes, draw a test split", _TRAIN),
    "train": ("start, pause, stop, tag and describe runs", _TRAIN),
    "export": ("take datasets, runs and reports out", _TRAIN),
    "delete": ("delete datasets, images and runs, and bring them back", _TRAIN),
    "admin": ("give roles and tokens, read the audit, set what is kept", _ADMIN),
}


@dataclass(frozen=True)
class Person:
    """Somebody who acts: a role everywhere, and others in single datasets (None: no access there)."""

    name: str
    role: Role | None
    datasets: Mapping[int, Role | None] = field(default_factory=dict)

    def may(self, verb: str, dataset_id: int | None = None) -> bool:
        role = self.role if dataset_id is None else self.datasets.get(dataset_id, self.role)
        return role in MAY[verb][1]


_acting: ContextVar[Person | None] = ContextVar("person", default=None)


def current() -> Person:
    """Who acts in this thread or task; without sign-in that is one local person, who may do everything."""
    return _acting.get() or Person(settings().user, "admin")


@contextmanager
def acting(person: Person) -> Iterator[None]:
    token = _acting.set(person)
    try:
        yield
    finally:
        _acting.reset(token)


def allow(verb: str, dataset_id: int | None = None) -> Person:
    """Who acts, if that person may do it; Forbidden says who may."""
    person = current()
    if not person.may(verb, dataset_id):
        words, roles = MAY[verb]
        raise Forbidden(f"{person.name} may not {words}.", f"That is for: {', '.join(roles)}. An admin gives roles.")
    return person
