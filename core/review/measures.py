"""How right, how fast and how much of one mind people and network are: gathers the decisions that the statistics count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from core import roles
from core.data import decisions, events, policies
from core.data.events import Names
from core.data.queue import FINAL, Decision, Submission
from core.metrics import Share
from core.review import policy, quality
from core.review.agreement import Agreement, Figure, agreement
from core.review.quality import Confusion, Hint, Pace

NONE = "none of these"  # a class of its own
NETWORK = "The network"
EVERYBODY = "Everybody"
PRACTICE = "practice"  # the note of an answer that was given to learn: it measures nobody
Arm = Literal["shown", "blind"]


@dataclass(frozen=True)
class Judged:
    """An answer beside the final one, which is known or which somebody else gave, too."""

    submission_id: int
    given: str
    final: str
    predicted: str
    known: bool  # the final answer was known before
    arm: Arm | None  # whether the network's answer was shown or hidden, where that was drawn at random

    @property
    def right(self) -> bool:
        return self.given == self.final


@dataclass(frozen=True)
class Outcome:
    """What became of an item that somebody escalated, or that was appealed."""

    submission_id: int
    said: str | None  # what the person had answered; None of an escalation
    final: str | None  # None while it waits
    note: str

    @property
    def upheld(self) -> bool:
        return self.said == self.final


@dataclass(frozen=True, eq=False)
class Figures:
    """Of one person, or of the network."""

    who: str
    decided: tuple[int, ...]  # items, newest first
    judged: tuple[Judged, ...]
    confusion: Confusion
    known: Share  # right, of those whose answer was known
    blind: Share  # right, of those of unknown answer that were decided without the network's; of the network: its own answers to these
    pace: Pace | None
    agreement: Agreement  # with the others, on items drawn at random for a second opinion
    twice: Mapping[int, frozenset[str]]  # those items, with what was answered
    hint: Hint
    escalated: tuple[Outcome, ...] = ()
    appealed: tuple[Outcome, ...] = ()


@dataclass(frozen=True, eq=False)
class Team:
    people: tuple[Figures, ...]  # in alphabetical order
    network: Figures
    everybody: Figures  # the people taken together
    nameless: int = 0  # decisions of those who gave no name: counted for nobody


@dataclass(frozen=True, eq=False)
class _Item:
    """One item with the decisions on it that stand, oldest first."""

    submission: Submission
    decisions: tuple[Decision, ...]
    final: str | None  # None while nobody has decided it finally
    nameless: int = 0  # decisions left out: several people, or one of those named, may stand behind them

    def answers(self) -> list[Decision]:
        return [one for one in self.decisions if one.verdict in FINAL]


def answer(verdict: str | None, label: str | None) -> str | None:
    """The class, or that there is none; None of no answer."""
    return NONE if verdict == "rejected" else label


@roles.needs("decide")
def yours(dataset_id: int, by: str, since: str | None = None) -> Figures:
    """One person's own figures; those of somebody else are for a lead."""
    if roles.allow("decide", dataset_id).name != by:
        roles.allow("lead", dataset_id)
    found, words = _items(decisions.standing(dataset_id, since, by), dataset_id)
    return _figures(by, found, words, _Draws())


@roles.needs("lead")
def team(dataset_id: int, since: str | None = None) -> Team:
    """Everybody's figures and the network's, for a lead. since: UTC, ISO 8601."""
    roles.allow("lead", dataset_id)
    found, words = _items(decisions.standing(dataset_id, since), dataset_id)
    draws, names = _Draws(), _names(found)
    people = tuple(_figures(name, found, words, draws) for name in names)
    return Team(people, _network(found, words), _everybody(found, words, people), sum(item.nameless for item in found))


@roles.needs("lead")
def agreements(dataset_id: int) -> dict[str, Figure]:
    """How often each person and the other said the same, where a second opinion was drawn; read from those items alone."""
    found, words = _items(decisions.standing(dataset_id, second=True), dataset_id)
    return {name: _agreement(name, found, words).raw for name in _names(found)}


def _names(found: Sequence[_Item]) -> list[str]:
    return sorted({one.by for item in found for one in item.decisions if one.verdict != "appealed"}, key=str.casefold)


def _everybody(found: Sequence[_Item], words: Names, people: Sequence[Figures]) -> Figures:
    judged = tuple(one for person in people for one in person.judged)
    return Figures(
        who=EVERYBODY,
        decided=tuple(dict.fromkeys(number for person in people for number in person.decided)),
        judged=judged,
        confusion=_confusion(judged),
        known=_share(one.right for one in judged if one.known),
        blind=_share(one.right for one in judged if not one.known and one.arm == "blind"),
        pace=None,
        agreement=agreement(_table(found, words, [one.who for one in people])),
        twice=_answers(_twice(found), words),
        hint=_hint(judged),
    )


# The rows -----------------------------------------------------------------------------------------


def _items(rows: Iterable[tuple[Decision, Submission]], dataset_id: int) -> tuple[list[_Item], Names]:
    """What somebody has decided on, the last decided first; classes bear their names of today."""
    words = events.names(dataset_id)
    held: dict[int, tuple[Submission, list[Decision]]] = {}
    for decision, submission in rows:
        held.setdefault(submission.id, (submission, []))[1].append(decision)
    found = []
    for one, some in held.values():
        named = [each for each in some if each.by != roles.UNNAMED]
        found.append(_Item(one, tuple(reversed(named)), _final(one, words), len(some) - len(named)))
    return found, words


def _final(one: Submission, words: Names) -> str | None:
    if one.known is not None:
        return one.known if one.known == NONE else words.since(one.known, one.at)
    if one.state not in ("decided", "appeal"):
        return None
    return _said(one.verdict, one.label, one.decided_at or one.at, words)


def _said(verdict: str | None, label: str | None, at: str, words: Names) -> str | None:
    found = answer(verdict, label)
    return found if found is None or found == NONE else words.since(found, at)


def _given(one: Decision, words: Names) -> str:
    return _said(one.verdict, one.label, one.at, words) or NONE


class _Draws:
    """Who was to decide without the network's answer, as their policies drew it; a policy is read once."""

    def __init__(self) -> None:
        self.read: dict[int, tuple[policies.Policy, policy.Rules]] = {}

    def arm(self, one: Decision, item: Submission) -> Arm | None:
        """None where it was not drawn: without a policy, at another stage, or where somebody hid the answer from themselves."""
        if one.stage != "waiting" or item.policy_id is None:
            return None
        if item.policy_id not in self.read:
            found = policies.get(item.policy_id)
            self.read[item.policy_id] = found, policy.rules(found)
        drawn = "blind" in policy.arms_of(*self.read[item.policy_id], item.image_id)
        return None if drawn == one.hint else "blind" if drawn else "shown"


def _judged(who: str, found: Iterable[_Item], words: Names, draws: _Draws) -> list[Judged]:
    """One's own decision alone is no truth: of what nobody else has answered likewise in the end, nothing is counted."""
    rows = []
    for item in found:
        if item.final is None:
            continue
        known, given = item.submission.known is not None, [(one, _given(one, words)) for one in item.answers()]
        if not known and not any(one.by != who and said == item.final for one, said in given):
            continue
        mine = next(((one, said) for one, said in given if one.by == who and one.note != PRACTICE), None)  # the first, before any appeal
        if mine is None:
            continue
        second = any(one.stage == "second" for one, _ in given)  # drawn at random, so its truth does not depend on what was answered
        predicted = words.since(item.submission.predicted, item.submission.at)
        arm = draws.arm(mine[0], item.submission) if second else None
        rows.append(Judged(item.submission.id, mine[1], item.final, predicted, known, arm))
    return rows


def _twice(found: Iterable[_Item]) -> list[_Item]:
    return [item for item in found if any(one.stage == "second" for one in item.answers())]


def _answers(some: Iterable[_Item], words: Names) -> dict[int, frozenset[str]]:
    """What the two said of each, before a lead or an appeal."""
    return {
        item.submission.id: frozenset(_given(one, words) for one in item.answers() if one.stage in ("waiting", "second")) for item in some
    }


def _table(found: Iterable[_Item], words: Names, names: Sequence[str]) -> list[list[str | None]]:
    """Persons × items of which a second opinion was drawn: the first answers to them, before a lead or an appeal."""
    rows: dict[str, list[str | None]] = {name: [] for name in names}
    for item in _twice(found):
        said = {one.by: _given(one, words) for one in item.answers() if one.stage in ("waiting", "second")}
        for name, row in rows.items():
            row.append(said.get(name))
    return list(rows.values())


def _figures(who: str, found: Sequence[_Item], words: Names, draws: _Draws) -> Figures:
    mine = [item for item in found if any(one.by == who and one.verdict != "appealed" for one in item.decisions)]
    judged = _judged(who, mine, words, draws)
    unknown = [one for one in judged if not one.known and one.arm == "blind"]
    return Figures(
        who=who,
        decided=tuple(item.submission.id for item in mine),
        judged=tuple(judged),
        confusion=_confusion(judged),
        known=_share(one.right for one in judged if one.known),
        blind=_share(one.right for one in unknown),
        pace=quality.pace([one.seconds for item in mine for one in item.answers() if one.by == who and one.seconds is not None]),
        agreement=_agreement(who, mine, words),
        twice=_answers(_both(who, mine), words),
        hint=_hint(judged),
        escalated=tuple(o for item in mine if (o := _escalation(who, item))),
        appealed=tuple(o for item in mine if (o := _appeal(who, item, words))),
    )


def _both(who: str, found: Iterable[_Item]) -> list[_Item]:
    """Those of which a second opinion was drawn, and that this person was one of the two to answer."""
    return [item for item in _twice(found) if any(one.by == who and one.stage in ("waiting", "second") for one in item.answers())]


def _agreement(who: str, found: Iterable[_Item], words: Names) -> Agreement:
    first, others = list[str | None](), list[str | None]()
    for item in _both(who, found):
        said = {one.by == who: _given(one, words) for one in item.answers() if one.stage in ("waiting", "second")}
        first.append(said.get(True))
        others.append(said.get(False))
    return agreement([first, others])


def _escalation(who: str, item: _Item) -> Outcome | None:
    asked = [one for one in item.decisions if one.by == who and one.verdict == "escalated"]
    return Outcome(item.submission.id, None, item.final, asked[-1].note) if asked else None


def _appeal(who: str, item: _Item, words: Names) -> Outcome | None:
    """Of an answer of this person that was appealed afterwards."""
    appeals = [one for one in item.decisions if one.verdict == "appealed"]
    before = [one for one in item.answers() if one.by == who and appeals and one.seq < appeals[-1].seq]
    if not before:
        return None
    final = item.final if item.submission.state == "decided" else None
    return Outcome(item.submission.id, _given(before[-1], words), final, appeals[-1].note)


def _network(found: Sequence[_Item], words: Names) -> Figures:
    """Its answers against the final ones of all that people decided; those made without its answer do not lean to it."""
    rows, blind = [], []
    for item in found:
        if item.final is None:
            continue
        one, given = item.submission, item.answers()
        predicted = words.since(one.predicted, one.at)
        rows.append(Judged(one.id, predicted, item.final, predicted, one.known is not None, None))
        if one.known is None and not item.nameless and given and not given[0].hint:  # the first of all may have been a nameless one
            blind.append(predicted == item.final)
    empty = agreement([])
    return Figures(
        NETWORK, tuple(one.submission_id for one in rows), tuple(rows), _confusion(rows), _share(one.right for one in rows if one.known),
        _share(blind), None, empty, {}, _hint([]),
    )  # fmt: skip


def _confusion(rows: Sequence[Judged]) -> Confusion:
    return quality.confusion([one.given for one in rows], [one.final for one in rows])


def _share(right: Iterable[bool]) -> Share:
    some = list(right)
    return quality.share(sum(some), len(some))


def _hint(rows: Sequence[Judged]) -> Hint:
    drawn = [one for one in rows if one.arm is not None]
    return quality.hint(
        [one.predicted for one in drawn], [one.given for one in drawn], [one.final for one in drawn], [one.arm == "blind" for one in drawn]
    )


def right(rows: Iterable[Judged]) -> Share:
    """Of these answers."""
    return _share(one.right for one in rows)


def swayed(rows: Sequence[Judged], arm: Arm) -> tuple[int, ...]:
    """Items whose wrong answer of the network the person gave, too."""
    return tuple(one.submission_id for one in rows if one.arm == arm and one.predicted != one.final and one.given == one.predicted)
