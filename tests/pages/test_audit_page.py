"""The Audit page: what was done can be read, searched and verified there, by those who may."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import roles
from core.data import labels, schema, store
from core.types import Dataset
from tests.pages.app import opened, words


def test_the_page_says_what_was_done_on_what_by_whom_and_leads_there(home: Path, small: Dataset) -> None:
    image = next(i for i in store.all_images(small.id) if i.label == "red")
    labels.apply(small.id, {image.id: image.label_seq}, "green", "eve_1")
    app = opened("audit", by="eve_1")
    told = words(app).replace("\\", "")  # names are shown as text
    assert "1 entry, 25 a page" in told and "label: red → green" in told and "eve_1" in told
    assert {"Image", "Dataset", "Show"} <= {b.label for b in app.button}
    next(b for b in app.button if b.label == "Show").click().run()
    assert not app.exception and image.id in app.json[0].value
    next(b for b in app.button if b.label == "Verify").click().run()
    assert "All 4 entries are as they were written" in app.success[0].value
    assert "Nothing of this kind" in opened("audit", by="eve_1", kind="flag").info[0].value
    assert "2 entries" in words(opened("audit", image=image.id))


def test_the_page_names_a_changed_entry(home: Path, small: Dataset) -> None:
    with schema.writing() as c:
        c.exec_driver_sql("DROP TRIGGER audit_no_update")
        c.exec_driver_sql("UPDATE audit SET by = 'nobody' WHERE seq = 2")
    app = opened("audit")
    next(b for b in app.button if b.label == "Verify").click().run()
    assert "Entry 2 was changed" in app.error[0].value


def test_who_may_not_read_the_audit_does_not_find_it(home: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "current", lambda: roles.Person("Ada", "trainer"))
    with pytest.raises(ValueError, match="audit"):
        opened("audit")
