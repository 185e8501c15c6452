"""Who acts, and what each role may do: one table, asked by the functions of the stories and never by pages alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from typing import Any, Literal, ParamSpec, TypeVar, get_args

from core.errors import Forbidden, NotFound
from core.settings import settings

UNNAMED = "unnamed"  # stands beside what was done by somebody who gave no name

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
    "export": ("take datasets, runs, predictions and reports out", _TRAIN),
    "delete": ("delete datasets, images and runs, and bring them back", _TRAIN),
    "admin": ("give roles and tokens, read the audit, set what is kept", _ADMIN),
}


@dataclass(frozen=True)
class Person:
    """Somebody who acts: a role everywhere, and others in single datasets (None: no access there)."""

    name: str
    role: Role | None
    datasets: Mapping[int, Role | None] = field(default_factory=dict)
    session: str = ""  # what the tokens and addresses that are handed out to it are good for; "" without sign-in

    def may(self, verb: str, dataset_id: int | None = None) -> bool:
        role = self.role if dataset_id is None else self.datasets.get(dataset_id, self.role)
        return role in MAY[verb][1]

    def may_somewhere(self, verb: str) -> bool:
        """Everywhere, or in a dataset at least."""
        return any(role in MAY[verb][1] for role in (self.role, *self.datasets.values()))


_acting: ContextVar[Person | None] = ContextVar("person", default=None)
_found: list[Callable[[bool], Person | None]] = []  # how a server finds out who acts where nobody has said it


def current(fresh: bool = False) -> Person:
    """Who acts in this thread or task; without sign-in that is one local person, who may do everything.

    fresh: with the roles of this moment, for what changes something; else they may be a second old.
    """
    if person := _acting.get():
        return person
    for find in _found:
        if person := find(fresh):
            return person
    return Person(settings().user, "admin")


@contextmanager
def acting(person: Person) -> Iterator[None]:
    token = _acting.set(person)
    try:
        yield
    finally:
        _acting.reset(token)


def found_by(find: Callable[[bool], Person | None]) -> None:
    """Lets a server say who acts in threads that it did not begin itself; asked whether the roles must be of this moment."""
    _found[:] = [find]


def allow(verb: str, dataset_id: int | None = None) -> Person:
    """Who acts, if that person may do it; Forbidden says who may. What somebody may not see does not exist: NotFound."""
    person = current(fresh=verb != "see")
    if not person.may(verb, dataset_id):
        if dataset_id is not None and not person.may("see", dataset_id):
            raise NotFound("This dataset does not exist.", "Choose another one in the sidebar.")
        raise refusal(person, verb)
    return person


def allow_somewhere(verb: str) -> Person:
    """The same for what belongs to no dataset yet: who may do it in one dataset may."""
    person = current(fresh=verb != "see")
    if not person.may_somewhere(verb):
        raise refusal(person, verb)
    return person


def refusal(person: Person, verb: str) -> Forbidden:
    words, roles = MAY[verb]
    return Forbidden(f"{person.name} may not {words}.", f"That is for: {', '.join(roles)}. An admin gives roles.")


P = ParamSpec("P")
R = TypeVar("R")


def needs(verb: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function whose first argument is a dataset's id: only who may do this there gets further."""
    return checked(verb, allow)


def checked(verb: str, check: Callable[[str, Any], object]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """check: gets the verb and the function's first argument, before anything is done."""

    def around(function: Callable[P, R]) -> Callable[P, R]:
        first = next(iter(signature(function).parameters))

        @wraps(function)
        def asked(*args: P.args, **kwargs: P.kwargs) -> R:
            check(verb, args[0] if args else kwargs[first])
            return function(*args, **kwargs)

        asked.verb = verb  # type: ignore[attr-defined]
        return asked

    return around
