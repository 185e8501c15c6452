"""A policy: which pictures pass, which a person is asked about and which are blocked, and how much of it is checked again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from core import roles
from core.data import policies, store
from core.data.policies import Policy
from core.data.queue import State
from core.errors import Invalid
from core.review import arms, bands
from core.runs import runs
from core.types import Band, Prediction

LEAST_AUDIT = 0.01  # of what passed and of what was blocked without a person
STATES: Mapping[Band, State] = {"pass": "passed", "ask": "waiting", "block": "blocked"}


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
    given = dict(policy.rules)
    limits = {name: bands.Limits(**one) for name, one in given.pop("limits").items()}
    reasons = {name: tuple(some) for name, some in given.pop("reasons").items()}
    return Rules(limits=limits, reasons=reasons, **given)


def write(dataset_id: int, run_id: str, name: str, said: Rules) -> Policy:
    """Stores a policy under a name and date; it changes nothing until it is made active. Invalid if run and classes do not fit."""
    person = roles.allow("policy", dataset_id)
    name = name.strip()
    if not 0 < len(name) <= 80:
        raise Invalid("A policy needs a name of up to 80 characters.", "Say what it is for, such as “Stricter on risked”.")
    known = runs.load(runs.folder(run_id)).classes
    if missing := [one for one in said.limits if one not in known]:
        raise Invalid(f"This run has no class “{missing[0]}”.", f"Its classes are: {', '.join(known)}.")
    store.get_dataset(dataset_id)
    said = Rules(**{**{f: getattr(said, f) for f in said.__dataclass_fields__}, "salt": said.salt or secrets.token_hex(16)})
    return policies.write(dataset_id, run_id, name, as_json(said), person.name)


def activate(policy_id: int, kind: policies.Kind = "active") -> None:
    """From now on pictures are sorted by it (active), or only noted what it would do (shadow), or neither (off)."""
    policy = policies.get(policy_id)
    person = roles.allow("policy", policy.dataset_id)
    runs.folder(policy.run_id)  # NotFound if the run was deleted
    policies.set_kind(policy_id, kind, person.name)


def _of_kind(dataset_id: int, kind: policies.Kind) -> Policy | None:
    found = [policy_id for policy_id, k in policies.kinds(dataset_id).items() if k == kind]
    return policies.get(found[-1]) if found else None


def active(dataset_id: int) -> Policy | None:
    return _of_kind(dataset_id, "active")


def shadow(dataset_id: int) -> Policy | None:
    return _of_kind(dataset_id, "shadow")


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
