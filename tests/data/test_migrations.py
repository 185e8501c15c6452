"""Data of older Loupes: the database is brought to today's tables, and everything in it reads as it did."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.script import ScriptDirectory

from core.data import check, classes, labels, schema, store
from core.errors import AppError
from core.evaluate import evaluate
from core.ml import infer
from core.review import review
from core.runs import runs
from core.settings import settings
from core.share import export
from core.train import train
from tests import reviewing
from tests.conftest import ROOT, forget
from tests.data.compared import context
from tests.data.old import values

OLD = Path(__file__).parent / "old"
NEWEST = max(path.stem for path in (schema.MIGRATIONS / "versions").glob("v*.py"))


@pytest.fixture
def home(home: Path) -> Path:
    """A LOUPE_HOME without a database."""
    (home / "loupe.db").unlink()
    return home


def of_010(home: Path) -> Path:
    """A database of Loupe 0.1.0."""
    home.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(home / "loupe.db")
    connection.executescript((OLD / "0.1.0.sql").read_text(encoding="utf-8"))
    connection.close()
    return home / "loupe.db"


def of_main(home: Path) -> Path:
    """A whole data folder of the last Loupe without migrations."""
    with zipfile.ZipFile(OLD / "main.zip") as packed:
        packed.extractall(home)
    return home / "loupe.db"


def empty(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return home / "loupe.db"


def dump(path: Path) -> list[str]:
    """Everything in the database, as SQL, without Alembic's own table."""
    connection = sqlite3.connect(path)
    lines = [line for line in connection.iterdump() if "alembic_version" not in line]
    connection.close()
    return lines


def revisions(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    found = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
    connection.close()
    return found


def recorded(name: str) -> Any:
    return json.loads((OLD / name).read_text(encoding="utf-8"))


def shown(value: Any) -> Any:
    return json.loads(json.dumps(value))


def kept(then: Any, today: Any, where: str = "") -> list[str]:
    """Where today's value is not the recorded one; fields that came later are no difference."""
    if isinstance(then, dict) and isinstance(today, dict):
        return [line for key in then for line in kept(then[key], today.get(key, "missing"), f"{where}/{key}")]
    if isinstance(then, list) and isinstance(today, list) and len(then) == len(today):
        return [line for i, (a, b) in enumerate(zip(then, today, strict=True)) for line in kept(a, b, f"{where}/{i}")]
    if isinstance(then, float) and isinstance(today, float):
        return [] if today == pytest.approx(then) else [f"{where}: {then} became {today}"]
    return [] if then == today else [f"{where}: {then} became {today}"]


def under_the_names_of_then() -> tuple[SimpleNamespace, ...]:
    """Today's functions as the modules that values.py was written for: dataset, label, store, train, evaluate, review, export."""
    dataset = SimpleNamespace(datasets=store.list_datasets)
    label = SimpleNamespace(
        classes=classes.of,
        restorable=classes.restorable,
        history=labels.history,
        acts=labels.acts,
        Which=labels.Which,
        which=labels.which,
        count_undo=labels.count_undo,
        flagged=labels.flagged,
    )
    images = SimpleNamespace(all_images=store.all_images, imported_predictions=store.imported_predictions)
    runs = SimpleNamespace(list_runs=train.list_runs)
    metrics = SimpleNamespace(evaluate=evaluate.evaluate, as_json=evaluate.as_json)
    queue = SimpleNamespace(queue=reviewing.waiting, decided=reviewing.decided)
    exports = SimpleNamespace(settings=settings, export_state=export_of_then, download=export.download)
    return dataset, label, images, runs, metrics, queue, exports


def export_of_then(export_id: str) -> SimpleNamespace:
    state = export.state(export_id)
    return SimpleNamespace(id=state.id, status=state.status, kind=state.job["kind"], report=export.report(state))


# Old data reads as it did


def test_a_data_folder_of_the_last_loupe_without_migrations_reads_as_it_did(home: Path) -> None:
    of_main(home)
    today = values.values(*under_the_names_of_then())
    assert kept(recorded("main.json"), shown(today)) == []


def test_the_finished_export_of_an_older_loupe_is_still_there_to_download(home: Path) -> None:
    of_main(home)
    (job,) = (home / "exports").iterdir()
    path, name = export.download(job.name, "jsonl.zip")
    assert name == "squares-jsonl.zip"
    with zipfile.ZipFile(path) as packed:
        assert packed.testzip() is None and len([n for n in packed.namelist() if n.endswith(".png")]) == 27


def test_what_an_older_loupe_stored_can_be_undone_and_decided_by_today_s(home: Path) -> None:
    of_main(home)
    (found,) = store.list_datasets()
    act = next(a for a in labels.acts(found.id, labels.Which(), 1, 100)[0] if a.operation == "two")
    done = labels.undo(found.id, labels.which(act), "eve", "six")
    assert (done.images, done.stay) == (2, 0)
    assert {store.get_image(found.id, i).label for i in labels.images_of(found.id, act, 10)} == {"red"}
    review.decide(reviewing.waiting(found.id)[0].id, "rejected", None, "eve")
    assert reviewing.waiting(found.id) == [] and len(reviewing.decided(found.id)) == 2


def test_a_database_of_0_1_0_reads_as_it_did_and_can_be_undone(home: Path) -> None:
    of_010(home)
    then = recorded("0.1.0.json")
    (found,) = store.list_datasets()
    images = store.all_images(found.id)
    today = {
        "dataset": asdict(found),
        "images": [asdict(i) for i in images],
        "history": {i.id: [asdict(e) for e in labels.history(found.id, i.id)] for i in images},
        "waiting": [asdict(s) for s in reviewing.waiting(found.id)],
        "decided": [asdict(s) for s in reviewing.decided(found.id)],
    }
    assert kept(then, shown(today)) == []
    assert [(i.given_seq, i.flagged) for i in images] == [(i.label_seq, False) for i in images]  # every event gave a label then
    act = next(a for a in labels.acts(found.id, labels.Which(), 1, 100)[0] if a.operation == "one")
    assert act.standing == 1 and labels.undo(found.id, labels.which(act), "eve", "three").images == 1
    assert store.current_labels(found.id)[labels.images_of(found.id, act, 1)[0]] == "red"


def test_a_data_folder_of_0_1_0_opens_with_its_pictures_its_run_its_export_and_what_waits(home: Path) -> None:
    with zipfile.ZipFile(OLD / "0.1.0.zip") as packed:
        packed.extractall(home)
    home.chmod(0o700)
    then = recorded("0.1.0-folder.json")
    (found,) = store.list_datasets()
    assert kept(then["images"], shown([asdict(one) for one in store.all_images(found.id)])) == []
    (run,) = train.list_runs(found.id)
    assert (run.run.id, run.run.name, list(run.run.classes), run.status) == tuple(then["run"].values())
    validation = evaluate.as_json(evaluate.evaluate(run.run.id, "validation"))
    assert kept({name: then["validation"][name] for name in ("n", "accuracy")}, shown(validation)) == []
    (waits,) = reviewing.waiting(found.id)
    assert kept(then["waiting"], shown([asdict(waits)])) == []
    (answer,) = infer.predict(str(runs.folder(run.run.id)), [str(settings().uploads / "pictures" / then["answer"]["file"])])
    assert answer["probabilities"] == pytest.approx(then["answer"]["probabilities"], abs=1e-5)
    (job,) = (home / "exports").iterdir()
    with zipfile.ZipFile(export.download(job.name, "csv.zip")[0]) as packed:
        assert packed.testzip() is None and len([n for n in packed.namelist() if n.endswith(".png")]) == 20
    assert check.check(mend=True)["left"] == 0


# How a database gets there


def test_a_database_without_a_revision_is_stamped_and_keeps_every_row(home: Path) -> None:
    path = of_main(home)
    rows = [line for line in dump(path) if line.startswith("INSERT")]
    schema.engine().dispose()
    today = dump(path)
    assert len(rows) > 50 and revisions(path) == [NEWEST]
    grown = re.compile('INSERT INTO "?(submissions|images)"? ')  # these got columns
    assert [line for line in rows if line not in today and not grown.match(line)] == []
    assert sum(map(bool, map(grown.match, today))) == sum(map(bool, map(grown.match, rows))) > 20


def test_a_database_that_is_up_to_date_is_opened_without_a_write_and_without_alembic(
    home: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = of_010(home)
    schema.engine().dispose()
    before = path.read_bytes()
    done = python("-c", "import sys; from core.data import schema; schema.engine().dispose(); print('alembic' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
    assert path.read_bytes() == before


def test_a_database_of_a_newer_loupe_is_refused_with_what_to_do_and_nothing_is_written(
    home: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = of_main(home)
    schema.engine().dispose()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = 'v9999_of_tomorrow'")
    connection.execute("ALTER TABLE images ADD COLUMN smell VARCHAR")
    connection.close()
    forget()
    before = path.read_bytes()
    with pytest.raises(AppError, match=r"newer Loupe.*v9999_of_tomorrow.*LOUPE_HOME"):
        store.list_datasets()
    done = python("-m", "core", "teach", "squares")
    assert done.returncode != 0 and "newer Loupe" in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert path.read_bytes() == before


MIGRATE = """
import os, sys, time
import sqlalchemy as sa
from core.data import schema

altered = 0

@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def look(connection, cursor, statement, *rest):
    global altered
    if statement.startswith("ALTER TABLE"):
        altered += 1
        {do}

print("ready", flush=True)
sys.stdin.readline()
with schema.reading() as c:
    print(altered, c.execute(sa.text("SELECT count(*) FROM images WHERE given_seq = label_seq")).scalar(), flush=True)
"""


def migrating(do: str) -> subprocess.Popen[str]:
    """A process that migrates as soon as it is sent a line."""
    code = MIGRATE.format(do=do)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), **pipes)


def test_of_two_processes_that_start_at_once_one_migrates_and_the_other_waits_for_it(home: Path) -> None:
    path = of_010(home)
    both = [migrating("time.sleep(0.15)"), migrating("time.sleep(0.15)")]
    for one in both:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    start = time.monotonic()
    for one in both:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    ended = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], ended
    assert sorted(out.split() for out, _ in ended) == [["0", "6"], ["17", "6"]]  # the columns that 0.1.0 lacked, added once
    assert time.monotonic() - start >= 2, "the one that migrates sleeps this long, so the other must have met it at work"
    assert revisions(path) == [NEWEST]


def test_two_that_open_a_database_of_another_journal_at_once_both_get_it(tmp_path: Path) -> None:
    for turn in range(20):  # without waiting for each other one in five fails
        path = tmp_path / f"{turn}.db"
        with contextlib.closing(sqlite3.connect(path)) as made, made:
            made.execute("CREATE TABLE found (id INTEGER)")
        engines = [schema.connected(sa.make_url(f"sqlite:///{path}")) for _ in range(2)]
        together = threading.Barrier(2)

        def opened(engine: sa.Engine, together: threading.Barrier = together) -> str:
            together.wait()
            with engine.connect() as c:
                return str(c.exec_driver_sql("PRAGMA journal_mode").scalar())

        with ThreadPoolExecutor(2) as pool:
            assert len(set(pool.map(opened, engines))) == 1
        for engine in engines:
            engine.dispose()


def test_a_migration_that_is_killed_half_way_leaves_the_old_database_and_the_next_start_does_it(home: Path) -> None:
    path = of_010(home)
    before = dump(path)
    done = migrating(f"altered == 4 and os.kill(os.getpid(), {int(signal.SIGKILL)})")
    _, said = done.communicate("\n", timeout=60)
    assert done.returncode == -signal.SIGKILL, said
    assert dump(path) == before
    schema.engine().dispose()
    assert revisions(path) == [NEWEST] and dump(path) != before


# The tables in the code and the migrations say the same


@pytest.mark.parametrize("made", [empty, of_010, of_main])
def test_the_migrations_lead_to_the_tables_of_core_data_schema(home: Path, made: Callable[[Path], Path]) -> None:
    made(home)
    with schema.reading() as connection:
        if compare_metadata(context(connection), schema.meta):
            lacking = produce_migrations(context(connection), schema.meta).upgrade_ops
            assert lacking is not None
            pytest.fail(
                "core/data/schema.py says something that no migration brings to a database that is there already. "
                f"Add core/data/migrations/versions/v{int(NEWEST[1:5]) + 1:04}_….py (core/data/migrations/__init__.py says how) with:\n\n"
                + render_python_code(lacking)
            )


@pytest.mark.parametrize("change", ["column", "index", "table", "type", "default", "gone"])
def test_a_change_of_the_tables_without_a_migration_is_noticed(home: Path, change: str) -> None:
    changed = sa.MetaData()
    for table in schema.meta.sorted_tables:
        if (change, table.name) != ("gone", "claims"):
            table.to_metadata(changed)
    images = changed.tables["images"]
    if change == "column":
        images.append_column(sa.Column("smell", sa.String))
    elif change == "index":
        sa.Index("by_size", images.c.size_bytes)
    elif change == "table":
        sa.Table("smells", changed, sa.Column("id", sa.Integer, primary_key=True))
    elif change == "type":
        images.c.width.type = sa.String()
    elif change == "default":
        images.c.given_seq.server_default = sa.DefaultClause("1")
    with schema.reading() as connection:
        assert compare_metadata(context(connection), changed) != []


def test_the_migrations_are_one_line_in_the_order_of_their_names() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    steps = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
    names = sorted(path.stem for path in (schema.MIGRATIONS / "versions").glob("*.py") if path.stem != "__init__")
    assert [step.revision for step in steps] == [Path(step.path).stem for step in steps] == names
    assert [step.down_revision for step in steps] == [None, *names[:-1]]
    assert max(map(len, names)) <= 32, "Alembic's column holds no more: PostgreSQL would refuse it"


def test_the_path_of_the_checkout_may_hold_a_percent_sign(tmp_path: Path, home: Path) -> None:
    checkout = tmp_path / "100%(sure)s"
    shutil.copytree(ROOT / "core", checkout / "core", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from core.data import schema; print(schema.engine().url.database, schema.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, env=dict(os.environ), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and str(checkout) in done.stdout, done.stderr
    assert revisions(home / "loupe.db") == [NEWEST]
