"""Who may do what: the table walked on every function of core that does it, and the functions that must stand in it."""

from __future__ import annotations

import importlib
import inspect
import runpy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core import roles
from core.catalog import params
from core.data import imports, places, policies, queue, removal, sources, store, tokens
from core.errors import AppError, Conflict, Forbidden, NotFound
from core.people import accounts
from core.review import bands, batch, known, policy, review, why
from core.roles import MAY, ROLES, Person
from core.runs import runs
from core.settings import settings
from core.share import archive, export
from core.train import finder, train
from core.types import Dataset, Snapshot
from tests import reviewing
from tests.conftest import ROOT

STORIES = sorted({path.parent.name for path in (ROOT / "core").glob("*/commands.py")} - {"api"})  # the door: it calls the stories
MODULES = [
    importlib.import_module(f"core.{path.parent.name}.{path.stem}")
    for folder in STORIES
    for path in sorted((ROOT / "core" / folder).glob("[a-z]*.py"))
    if path.stem != "preprocess"
]
# Asked about a dataset or a run, and why they ask nobody: what they tell is told by another function that does, or belongs to all.
FREE = {
    "core.data.alike.compared": "ids, for the drawing of a test split",
    "core.data.alike.groups": "ids by group, for core.ml too",
    "core.data.depth.add": "of an import",
    "core.data.depth.each": "for core.ml too",
    "core.data.depth.of": "for core.ml too",
    "core.data.schema.by_id": "conditions of a query",
    "core.label.embed.home": "a path",
    "core.train.train.list_runs": "leaves out what may not be seen",
}


# What such a function is asked about where it is neither a dataset nor a run: it finds out for itself of which dataset that is.
KEYS = ("job_id", "export_id", "import_id", "find_id", "submission_id", "policy_id", "rule_id", "ids", "some")

OF_REVIEW = (
    "core.data.queue",
    "core.data.basket",
    "core.data.policies",
    "core.data.decisions",
    "core.data.routed",
)  # core.review alone calls them, and asks


def functions(about: tuple[str, ...] = ("dataset_id", "run_id")) -> Iterator[tuple[str, Callable[..., Any], str]]:
    """Name, function and first parameter of every public function of a story about a dataset or a run."""
    for module in MODULES:
        for name, one in sorted(vars(module).items()):
            if name.startswith("_") or not inspect.isfunction(inspect.unwrap(one)) or inspect.unwrap(one).__module__ != module.__name__:
                continue
            first = next(iter(inspect.signature(inspect.unwrap(one)).parameters), "")
            if first in about and module.__name__ not in OF_REVIEW:
                yield f"{module.__name__}.{name}", one, first


FOUND = list(functions())
HELD = [(name, one, first) for name, one, first in FOUND if hasattr(one, "verb")]


def somebody(role: roles.Role | None, **datasets: roles.Role | None) -> Person:
    return Person("Vic", role, {int(key.removeprefix("d")): value for key, value in datasets.items()})


@pytest.fixture
def run(small: Dataset) -> str:
    made = runs.new("ConvNet 1", small, params.run_config({}), Snapshot("s", small.classes, ()), "tester")
    runs.create(settings().runs / made.id, made, Snapshot("s", small.classes, ()))
    return made.id


def called(one: Callable[..., Any], first: object) -> Any:
    """With nothing in place of what it needs more: whoever is refused is refused before that is looked at."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in inspect.signature(one).parameters.values() if p.default is p.empty and p.kind in kinds]
    return one(first, *[None] * (len(needed) - 1))


def refused(one: Callable[..., Any], first: object, person: Person, how: type[AppError]) -> bool:
    with roles.acting(person):
        try:
            called(one, first)
        except (Forbidden, NotFound) as e:
            return isinstance(e, how)
        except Exception:
            return False
    return False


def test_the_walk_sees_the_functions_it_judges() -> None:
    names = {name for name, *_ in FOUND}
    assert {"core.data.labels.apply", "core.train.train.start", "core.train.train.stop", "core.explain.explain.ask"} <= names
    assert {one.verb for _, one, _ in HELD} >= {"see", "label", "import", "train", "export", "delete", "ask"}  # type: ignore[attr-defined]


def test_every_function_about_a_dataset_says_who_may_call_it() -> None:
    silent = {name for name, one, first in FOUND if first == "dataset_id" and not hasattr(one, "verb")}
    assert silent - FREE.keys() == set(), "give it @roles.needs(verb)"
    assert FREE.keys() - silent == set(), "an exception that is not needed any more"


def test_every_function_that_writes_a_name_beside_what_it_does_asks_for_more_than_seeing() -> None:
    writes = [(name, one) for name, one, _ in FOUND if "by" in inspect.signature(inspect.unwrap(one)).parameters]
    asked = [name for name, one in writes if getattr(one, "verb", "see") == "see"]
    assert asked == ["core.data.history.told"], "it is asked what somebody did"


def test_who_may_not_is_refused_before_anything_is_done(small: Dataset, run: str) -> None:
    let_in: list[tuple[str, str | None]] = []
    for name, one, first in HELD:
        on: object = small.id if first == "dataset_id" else run
        for role in (None, *ROLES):
            if role not in MAY[one.verb][1]:  # type: ignore[attr-defined]
                for person in (somebody(role), Person("Vic", "admin", {small.id: role}), Person("Vic", None, {small.id: role})):
                    let_in += [(name, role)] * (not refused(one, on, person, NotFound if role is None else Forbidden))
    assert let_in == []


KEY = "20260101-000000-abcdef"  # of a job
Act = tuple[str, Callable[..., Any], tuple[Any, ...]]  # verb, function, what it is called with


@pytest.fixture
def keyed(small: Dataset, run: str) -> list[Act]:
    """What is asked for by the key of a job, a picture in Review, a policy or a rule, each there once."""
    job = {"dataset_id": small.id, "dataset_name": small.name, "run_id": run, "by": "Ann", "job": "", "at": "2026-01-01", "runs": [run]}
    job |= {"source": sources.named("sample").as_dict(), "how": "zip", "watch": False, "kind": "originals"}
    for home in (settings().answers, settings().imports, settings().exports, settings().archives):
        (home / KEY).mkdir(parents=True)
        runs.write_json(home / KEY / "job.json", job)
    runs.create(finder._home() / run, runs.load(settings().runs / run), Snapshot("s", small.classes, ()))
    row = {"dataset_id": small.id, "run_id": run, "image_id": "0" * 64, "ext": "png", "name": "a.png", "by": "Ann", "state": "waiting"}
    queue.add([row | {"predicted": "red", "probability": 1.0, "probabilities": {"red": 1.0}, "fingerprint": "", "known": "red"}])
    (item,) = reviewing.waiting(small.id)
    rules = policy.as_json(policy.Rules({"red": bands.Limits(0.2, 0.8)}))
    written = policies.write(small.id, run, "Strict", rules, "Ann").id
    rule = removal.set_rule(small.id, 90, [], False, "Ann").id
    return [
        ("see", batch.refused, (KEY,)),
        ("ask", batch.stop, (KEY,)),
        ("ask", batch.again, (KEY, "Vic")),
        ("see", imports.state, (KEY,)),
        ("import", imports.go_on, (KEY, "Vic")),
        ("import", imports.decline, (KEY,)),
        ("import", imports.stop, (KEY,)),
        *[("export", act, (KEY,)) for act in (export.state, export.stop, archive.state, archive.stop)],
        *[("export", act, (KEY, "a.zip")) for act in (export.download, archive.download)],
        ("see", finder.state, (run,)),
        ("train", finder.stop, (run,)),
        ("decide", review.decide, (item.id, "rejected", None, "Vic")),
        ("decide", review.reopen, (item.id, "Vic")),
        ("decide", why.why, (item.id,)),
        ("lead", review.appeal, (item.id, "Vic", "why")),
        ("lead", review.accept, ([item.id], "Vic")),
        ("lead", review.refuse, ([item.id],)),
        ("decide", known.practise, (item.id, "red", "Vic")),
        ("lead", known.mix_in_decided, ([item], "Vic")),
        ("policy", policy.activate, (written,)),
        ("admin", removal.switch_off, (rule, "Vic")),
    ]


def test_who_may_not_is_refused_what_is_asked_for_by_a_key_of_its_own(small: Dataset, keyed: list[Act]) -> None:
    assert {f"{act.__module__}.{act.__name__}" for _, act, _ in keyed} == {name for name, *_ in functions(KEYS)} - {
        "core.data.schema.parts"
    }, "name each above"
    let_in: list[tuple[str, str | None, object]] = []
    for verb, act, args in keyed:
        for role in (None, *ROLES):
            if role in MAY[verb][1]:
                continue
            with roles.acting(Person("Vic", "admin", {small.id: role})):
                try:
                    let_in.append((act.__name__, role, act(*args)))
                except (Forbidden, NotFound) as e:
                    if not isinstance(e, NotFound if role is None else Forbidden):
                        let_in.append((act.__name__, role, e))
                except Exception as e:
                    let_in.append((act.__name__, role, e))
    assert let_in == []


def test_only_an_admin_makes_reads_and_ends_tokens_and_accounts() -> None:
    acts: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
        (tokens.add, ("shop", "viewer")),
        (tokens.listed, ()),
        (tokens.revoke, ("shop",)),
        (accounts.sign_out, ("Ann",)),
    ]
    acts += [(act, ("Ann",)) for act in (accounts.new_link, accounts.remove, accounts.switch_off, accounts.switch_on)]
    acts += [(accounts.add, ("Ann", "admin")), (accounts.set_role, ("Ann", "admin")), (accounts.clear_dataset_role, ("Ann", 1))]
    for act, args in acts:
        with roles.acting(somebody("trainer", d1="admin")), pytest.raises(Forbidden, match="Vic may not give roles"):
            act(*args)


@pytest.mark.parametrize("role", ROLES)
def test_who_may_gets_past_the_check(small: Dataset, role: roles.Role) -> None:
    asked: list[str] = []
    for verb, (_, may) in MAY.items():
        act = roles.needs(verb)(lambda dataset_id, verb=verb: asked.append(verb))
        for person in (somebody(role), Person("Vic", None, {small.id: role})):
            with roles.acting(person):
                try:
                    act(small.id)
                except Forbidden:
                    assert role not in may
    assert asked == [verb for verb, (_, may) in MAY.items() for _ in range(2) if role in may]


def test_a_run_of_an_unseen_dataset_does_not_exist(small: Dataset, run: str) -> None:
    of_runs = [(name, one) for name, one, first in FOUND if first == "run_id"]
    assert [name for name, one in of_runs if not refused(one, run, Person("Vic", "admin", {small.id: None}), NotFound)] == []


def test_lists_leave_out_what_may_not_be_seen(small: Dataset, run: str) -> None:
    other = store.create_dataset("other")
    with roles.acting(Person("Vic", "trainer", {small.id: None})):
        assert [d.id for d in store.list_datasets()] == [other.id] and store.find_dataset(small.name) is None
        assert train.list_runs() == []
        with pytest.raises(NotFound, match="does not exist"):
            store.get_dataset(small.id)
        with pytest.raises(Conflict, match="is taken"):  # else a job, which may do everything, would add to it
            imports.start(sources.named("sample"), small.name, "Vic")
    with roles.acting(Person("Vic", None, {small.id: "viewer"})):
        assert [d.id for d in store.list_datasets()] == [small.id] and [r.run.id for r in train.list_runs()] == [run]


def test_what_belongs_to_no_dataset_yet_is_for_who_may_do_it_somewhere(home: Any) -> None:
    for act in (places.folders_under_roots, lambda: archive.look(home / "no.zip"), lambda: places.allowed_folder("/")):
        with roles.acting(Person("Vic", "moderator", {1: "labeller"})), pytest.raises(Forbidden):
            act()
    with roles.acting(Person("Vic", None, {1: "trainer"})):
        assert places.folders_under_roots() == []
        with pytest.raises(Forbidden, match="make datasets"):  # a dataset more is for who may everywhere
            store.create_dataset("new")


def test_the_page_of_roles_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "write_roles.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["text"](), "run python docs/write_roles.py"


def test_without_sign_in_one_local_person_may_do_everything(home: Any) -> None:
    assert all(roles.current().may(verb, dataset_id) for verb in MAY for dataset_id in (None, 1))
    assert roles.current().session == ""


def test_a_server_that_knows_who_acts_is_asked_with_fresh_roles_for_what_changes_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "_found", [])
    asked: list[bool] = []

    def find(fresh: bool) -> Person:
        asked.append(fresh)
        return Person("Vic", "labeller")

    roles.found_by(find)
    roles.allow("see", 1)
    roles.allow("label", 1)
    assert asked == [False, True]
    with roles.acting(Person("Tess", "trainer")):
        assert roles.current().name == "Tess"
