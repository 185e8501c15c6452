"""What the tests compare between the code that made the fixture and today's.

Called by both: with its modules by the code of then, with today's functions under the names of then by test_migrations.py.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any


def values(
    dataset: Any,
    label: Any,
    store: Any,
    train: Any,
    evaluate: Any,
    review: Any,
    export: Any,
) -> dict[str, Any]:
    """Everything a person sees of the dataset “squares”, as JSON."""
    (found,) = dataset.datasets()
    images = store.all_images(found.id)
    acts, _ = label.acts(found.id, label.Which(), 1, 100)
    (run,) = train.list_runs(found.id)
    (job,) = export.settings().exports.iterdir()
    done = export.export_state(job.name)
    return {
        "dataset": asdict(found),
        "classes": [asdict(c) for c in label.classes(found.id)],
        "restorable": label.restorable(found.id),
        "images": [asdict(i) for i in images],
        "history": {i.id: [asdict(e) for e in label.history(found.id, i.id)] for i in images},
        "acts": [asdict(a) for a in acts],
        "would be undone": [asdict(label.count_undo(found.id, label.which(a))) for a in acts],
        "flagged": [[name, n] for name, n in label.flagged(found.id).items()],
        "predictions": [list(row) for row in store.imported_predictions(found.id)],
        "run": {"id": run.run.id, "name": run.run.name, "status": run.status, "epochs": run.epochs, "best epoch": run.best_epoch},
        "evaluation": evaluate.as_json(evaluate.evaluate(run.run.id, "validation")),
        "waiting": [asdict(s) for s in review.queue(found.id)],
        "decided": [asdict(s) for s in review.decided(found.id)],
        "export": {"status": done.status, "report": asdict(done.report), "file": export.download(done.id, f"{done.kind}.zip")[1]},
    }
