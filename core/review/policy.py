"""A policy: which pictures pass, which a person is asked about and which are blocked, and how much of it is checked again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, TypeVar

import numpy as np

from core import roles
from core.data import classes, decisions, events, policies, queue, store
from core.data.policies import Policy
from core.data.queue import State
from core.errors import Conflict, Invalid, NotFound
from core.review import arms, bands
from core.runs import runs
from core.types import Band, Prediction, Run

LEAST_AUDIT = 0.01  # of what passed and of what was blocked without a person
STATES: Mapping[Band, State] = {"pass": "passed", "ask": "waiting", "block": "blocked"}
PACED = 2000  # of so many decisions, the newest, the pace is taken
T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """What a policy says; shares are of [0, 1]."""

    limits: Mapping[str, bands.Limits]  # the classes to be blocked
    blind: float = 0.10  # decided without the network's answer
    second: float = 0.05  # decided by two people
    known: float = 0.05  # mixed in, their answer known
    audit: float = LEAST_AUDIT  # looked at though they passed or were blocked
    benign: int = 5  # one in so many dealt is what is least risky; 0: none
    overdue_hours: float = 24.0  # what waits longer goes first
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by class, to be chosen with a decision
    promises: Mapping[str, float] = field(default_factory=dict)  # by class the share that may pass, where a threshold was chosen for it
    salt: str = ""  # of the draws

    def __post_init__(self) -> None:
        if not self.limits:
            raise Invalid("No class has thresholds, so everything would pass.", "Choose at least one class that is to be blocked.")
        for name in ("blind", "second", "known", "audit"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise Invalid(f"The share “{name}” is {share:g}.", "It lies between 0 and 1.")
        if self.audit < LEAST_AUDIT:
            raise Invalid(f"The audit is {self.audit:.2%}.", f"At least {LEAST_AUDIT:.0%} of what nobody is asked about is looked at.")
        if self.overdue_hours <= 0 or self.benign < 0:
            raise Invalid("Hours and the mix of harmless pictures are positive numbers.", "Change them.")


def as_json(rules: Rules) -> dict[str, Any]:
    return asdict(rules)


def rules(policy: Policy) -> Rules:
    """As it was written, with the names that classes bore then."""
    given = dict(policy.rules)
    limits = {name: bands.Limits(**one) for name, one in given.pop("limits").items()}
    reasons = {name: tuple(some) for name, some in given.pop("reasons").items()}
    return Rules(limits=limits, reasons=reasons, **given)


def today(policy: Policy) -> Rules:
    """The same with the names that classes bear today: for people."""
    words = events.names(policy.dataset_id)
    return _named(rules(policy), lambda name: words.since(name, policy.at))


def of_run(policy: Policy) -> Rules:
    """The same with the run's own words for its classes, in which it answers whatever they are called since; NotFound without the run."""
    run, words = runs.load(runs.folder(policy.run_id)), events.names(policy.dataset_id)
    own = {words.since(name, run.created_at, policy.at): name for name in run.classes}
    return _named(rules(policy), lambda name: own.get(name, name))


def _named(said: Rules, name: Callable[[str], str]) -> Rules:
    def each(by_class: Mapping[str, T]) -> dict[str, T]:
        return {name(one): value for one, value in by_class.items()}

    return replace(said, limits=each(said.limits), reasons=each(said.reasons), promises=each(said.promises))


@roles.needs("policy")
def write(dataset_id: int, run_id: str, name: str, said: Rules, by: str | None = None) -> Policy:
    """Stores a policy under a name and date; it changes nothing until it is made active. Invalid if run and classes do not fit."""
    person = roles.allow("policy", dataset_id)
    name = name.strip()
    if not 0 < len(name) <= 80:
        raise Invalid("A policy needs a name of up to 80 characters.", "Say what it is for, such as “Stricter on risked”.")
    run = runs.load(runs.folder(run_id))
    if run.dataset_id != dataset_id:
        raise Invalid(f"The run {run.name} belongs to the dataset {run.dataset_name}.", "Choose one of this dataset's runs.")
    own = names(run)
    said = _named(said, lambda word: word if word in own.values() else own.get(word, word))
    if missing := [one for one in said.limits if one not in own.values()]:
        raise Invalid(f"This run has no class “{missing[0]}”.", f"Its classes are: {', '.join(own.values())}.")
    store.get_dataset(dataset_id)
    return policies.write(dataset_id, run_id, name, as_json(replace(said, salt=said.salt or secrets.token_hex(16))), by or person.name)


def names(run: Run) -> dict[str, str]:
    """What a run's classes are called today, by its own words for them."""
    words = events.names(run.dataset_id)
    return {name: words.since(name, run.created_at) for name in run.classes}


def activate(policy_id: int, kind: policies.Kind = "active", by: str | None = None) -> None:
    """From now on pictures are sorted by it (active), or only noted what it would do (shadow), or neither (off)."""
    policy = policies.get(policy_id)
    person = roles.allow("policy", policy.dataset_id)
    if kind != "off":
        runs.folder(policy.run_id)  # NotFound if the run was deleted
    policies.set_kind(policy_id, kind, by or person.name)


def _of_kind(dataset_id: int, kind: policies.Kind) -> Policy | None:
    found = [policy_id for policy_id, k in policies.kinds(dataset_id).items() if k == kind]
    return policies.get(found[-1]) if found else None


@roles.needs("see")
def active(dataset_id: int) -> Policy | None:
    return _of_kind(dataset_id, "active")


@roles.needs("see")
def shadow(dataset_id: int) -> Policy | None:
    return _of_kind(dataset_id, "shadow")


@roles.needs("see")
def named(dataset_id: int, name: str) -> Policy:
    """The active version of the policy of that name; NotFound without such a policy, Conflict where no version of it can be asked."""
    found = active(dataset_id)
    if found is None or found.name != name:
        there = f"“{found.name}” is active." if found else "None is active: a trainer makes one active on Review, Policy."
        if any(one.name == name for one in policies.of(dataset_id)):
            raise Conflict(f"No version of the policy “{name}” is active.", there)
        raise NotFound(f"This dataset has no policy “{name}”.", there)
    if is_gone(found):
        raise Conflict(f"The run of the policy “{name}” was deleted.", "Bring it back, or make a version for another run active.")
    return found


@dataclass(frozen=True)
class Route:
    """Where a predicted picture goes."""

    state: State
    band: Band
    risk: float  # the highest probability of a class to be blocked
    arms: frozenset[arms.Arm]


def route(policy: Policy, said: Rules, answer: Prediction) -> Route:
    """What a policy does with one picture; repeats never draw anew."""
    probabilities = np.array([answer.probabilities])
    band = bands.BANDS[int(bands.bands(probabilities, answer.classes, said.limits)[0])]
    risk = max(answer.probabilities[answer.classes.index(name)] for name in said.limits)
    drawn = arms_of(policy, said, answer.image_id)
    state = STATES[band]
    return Route("audit" if state != "waiting" and "audit" in drawn else state, band, risk, drawn)


def arms_of(policy: Policy, said: Rules, image_id: str) -> frozenset[arms.Arm]:
    return arms.arms(image_id, policy.id, said.salt, {"blind": said.blind, "second": said.second, "audit": said.audit})


@roles.needs("see")
def sorter(dataset_id: int, run_id: str) -> Callable[[Prediction], dict[str, object]]:
    """What the active policy writes into the row of a picture that a run predicted: state, policy_id, risk, band and blind.

    Nothing without a policy, or where another run is asked than the policy's. Where the policy's run was deleted it sorts nothing, and
    what comes waits for a person.
    """
    acting = active(dataset_id)
    if acting is None or (acting.run_id != run_id and not is_gone(acting)):
        return lambda answer: {}
    if acting.run_id != run_id:
        return lambda answer: {"state": "waiting"}
    said = of_run(acting)

    def row(answer: Prediction) -> dict[str, object]:
        routed = route(acting, said, answer)
        blind = "blind" in routed.arms
        return {"state": routed.state, "policy_id": acting.id, "risk": routed.risk, "band": routed.band, "blind": blind}

    return row


@roles.needs("see")
def bands_of(dataset_id: int, run_id: str) -> Callable[[Prediction], Band | None]:
    """What the active policy does with a picture that a run predicted; None without a policy for that run."""
    acting = active(dataset_id)
    if acting is None or acting.run_id != run_id or is_gone(acting):
        return lambda answer: None
    said = of_run(acting)
    return lambda answer: route(acting, said, answer).band


# What has become of it ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Remark:
    """Something that has changed under a policy since it was written."""

    text: str
    todo: str
    stops: bool = False  # it sorts nothing any more


def is_gone(policy: Policy) -> bool:
    """Whether its run was deleted."""
    try:
        runs.folder(policy.run_id)
    except NotFound:
        return True
    return False


def remarks(policy: Policy) -> list[Remark]:
    """What has become of its run and of the classes that it blocks."""
    found = []
    if is_gone(policy):
        text = "Its run was deleted, so it sorts nothing any more: while it is active, what comes waits for a person."
        found.append(Remark(text, "Bring the run back on the Train page, or write a version for another run and make that active.", True))
    then, words = rules(policy), events.names(policy.dataset_id)
    offered = {one.name: one.retired_at is None for one in classes.of(policy.dataset_id)}
    for name in then.limits:
        current = words.since(name, policy.at)
        if current != name:
            found.append(Remark(f"“{name}” is called “{current}” today.", "Nothing is to be done: the policy goes on under the new name."))
        if not offered.get(current, False):
            text = f"The class “{current}” was retired: its run still answers with it and is heard, but no person can choose it any more."
            found.append(Remark(text, "Bring the class back on the Dataset page, or train a run without it and write a version for that."))
    return found


@roles.needs("see")
def pace(dataset_id: int) -> tuple[float, int] | None:
    """The team's median seconds for a decision and of how many decisions that is; None where none was timed."""
    timed = [one.seconds for one, _ in decisions.made(dataset_id, limit=PACED) if one.seconds and one.verdict in queue.FINAL]
    return (median(timed), len(timed)) if timed else None
