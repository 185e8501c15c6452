"""Exports: started, asked for, downloaded."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse, Response

from core import roles
from core.api.v1 import access
from core.api.v1.access import DatasetId
from core.api.v1.once import Key, once
from core.data.formats.known import FORMATS
from core.errors import NotFound
from core.runs import jobs
from core.share import export

router = APIRouter(tags=["Exports"])
ExportId = Annotated[str, Path(alias="export", max_length=40, description="The export's id.")]


class ExportIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: str = Field(description=f"One of: {', '.join(FORMATS)}.", examples=["folders"])
    originals: bool = Field(
        False, description="Files as they came, with all that stands in them, instead of upright ones without metadata."
    )
    run: str | None = Field(default=None, description="A run whose predictions are added, to a format that holds some.")


class ExportOut(BaseModel):
    id: str
    dataset: int
    format: str
    status: jobs.Status
    progress: float = Field(description="0 to 1.")
    message: str
    images: int | None = Field(description="Once it is done: in the zip.")
    bytes: int | None
    skipped: list[str] | None = Field(description="Images whose file is gone or damaged.")

    @classmethod
    def of(cls, one: jobs.State) -> ExportOut:
        report = export.report(one)
        done = (
            {"images": report.images, "bytes": report.bytes, "skipped": [f"{s.name}: {s.reason}" for s in report.skipped]} if report else {}
        )
        empty = {"images": None, "bytes": None, "skipped": None}
        return cls(
            id=one.id,
            dataset=one.job["dataset_id"],
            format=one.job["kind"],
            status=one.status,
            progress=one.share,
            message=f"{one.message} {one.hint}".strip(),
            **(done or empty),
        )


def _export(export_id: str) -> jobs.State:
    """The export, if whoever asks may take its dataset out."""
    missing = NotFound(f"There is no export “{export_id}”.", "Start one: POST /api/v1/datasets/{dataset}/exports.")
    try:
        found = export.state(export_id)
    except (NotFound, FileNotFoundError):  # or removed a moment ago
        raise missing from None
    if not roles.current().may("see", found.job["dataset_id"]):
        raise missing
    roles.allow("export", found.job["dataset_id"])
    return found


@router.post("/datasets/{dataset}/exports", status_code=202, response_model=ExportOut)
def start_export(dataset_id: DatasetId, body: ExportIn, key: Key = None) -> Response:
    """Starts to write the dataset into a zip; ask for it until it is done, then download it within two days."""
    dataset = access.dataset(dataset_id, "export")
    if body.run is not None:
        access.run(body.run)

    def act() -> dict[str, Any]:
        started = export.start(dataset.id, body.format, roles.current().name, body.originals, body.run)
        return ExportOut.of(export.state(started)).model_dump()

    return once(key, ["export", dataset.id, body.model_dump()], act, 202)


@router.get("/exports/{export}")
def get_export(export_id: ExportId) -> ExportOut:
    """How the export stands."""
    return ExportOut.of(_export(export_id))


@router.get("/exports/{export}/zip", response_class=FileResponse, responses={200: {"content": {"application/zip": {}}}})
def get_zip(export_id: ExportId) -> Response:
    """The zip of an export that is done."""
    found = _export(export_id)
    path, name = export.download(found.id, f"{found.job['kind']}.zip")
    return FileResponse(path, media_type="application/zip", filename=name)
