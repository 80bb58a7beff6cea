"""Files of a run, streamed from where they lie. The address holds the run's number and nothing else a user chose."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

from app.figures import MEDIA_TYPES, run_figure
from app.services import Services
from worker.rows import RunRow

CHUNK_BYTES = 1 << 20

_EVALUATION_COLUMNS = (
    "step",
    "split",
    "problem_set",
    "num_problems",
    "num_samples",
    "avg",
    "avg_low",
    "avg_high",
    "maj",
    "maj_low",
    "maj_high",
    "pass_k",
    "gain",
    "gain_low",
    "gain_high",
    "mean_length",
    "truncated",
    "from_cache",
)


def download_routes(services: Services) -> APIRouter:
    """The routes below /download. FastAPI refuses an id that is no whole number."""
    router = APIRouter(prefix="/download/runs/{run_id}", include_in_schema=False)
    store = services.store

    @router.get("/metrics.csv")
    def metrics_csv(run_id: int) -> Response:
        _run(services, run_id)
        return _attachment(store.metrics_csv(run_id), "text/csv", f"run-{run_id}-metrics.csv")

    @router.get("/evaluations.csv")
    def evaluations_csv(run_id: int) -> Response:
        _run(services, run_id)
        return _attachment(evaluations_table(services, run_id), "text/csv", f"run-{run_id}-evaluations.csv")

    @router.get("/config.yaml")
    def config_yaml(run_id: int) -> Response:
        return _attachment(_run(services, run_id).config.to_yaml(), "application/yaml", f"run-{run_id}.yaml")

    @router.get("/log.txt")
    def log_txt(run_id: int) -> Response:
        _run(services, run_id)
        path = services.run_folder(run_id) / "log.txt"
        if not path.is_file():
            raise HTTPException(404, "This run has not written a log yet.")
        return FileResponse(path, media_type="text/plain; charset=utf-8", filename=f"run-{run_id}-log.txt")

    @router.get("/adapter.zip")
    def adapter_zip(run_id: int) -> Response:
        run = _run(services, run_id)
        files = policy_files(services.run_folder(run_id))
        if not files:
            raise HTTPException(
                404, "This run has no trained weights yet. They are written when the run ends in good order."
            )
        name = f"run-{run_id}-{'adapter' if run.config.model.method == 'lora' else 'weights'}"
        return StreamingResponse(
            zip_stream(files, name),
            media_type="application/zip",
            headers={"content-disposition": f'attachment; filename="{name}.zip"'},
        )

    @router.get("/figure.{ending}")
    def figure(run_id: int, ending: Literal["png", "svg", "pdf"]) -> Response:
        picture = run_figure(store, _run(services, run_id), ending)
        return _attachment(picture, MEDIA_TYPES[ending], f"run-{run_id}.{ending}")

    return router


def _run(services: Services, run_id: int) -> RunRow:
    # SQLite integers end at 63 bits; a larger number is no id of ours.
    run = services.store.run(run_id) if 0 < run_id < 1 << 63 else None
    if run is None:
        raise HTTPException(404, "There is no such run.")
    return run


def _attachment(content: str | bytes, media_type: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    kind = PlainTextResponse if isinstance(content, str) else Response
    return kind(content, media_type=media_type, headers=headers)


def evaluations_table(services: Services, run_id: int) -> str:
    """Every evaluation of the run as CSV; an empty cell is an unknown value."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_EVALUATION_COLUMNS)
    for row in services.store.evaluations(run_id):
        values = (getattr(row, name) for name in _EVALUATION_COLUMNS)
        writer.writerow(["" if value is None else _cell(value) for value in values])
    return text.getvalue()


def _cell(value: object) -> object:
    """A spreadsheet runs text that starts like a formula; the name of a problem set is a user's text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def policy_files(folder: Path) -> list[tuple[str, Path]]:
    """(name inside the archive, path) of the trained weights; links are left out, whatever they point to."""
    root = folder / "policy"
    if not root.is_dir():
        return []
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
    return [(path.relative_to(root).as_posix(), path) for path in found]


class _Sink(io.RawIOBase):
    """Collects what the archive writes until it is taken away: weights of many GB never lie in memory."""

    def __init__(self) -> None:
        self.parts = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # RawIOBase types its buffer more narrowly than it accepts
        self.parts += view
        return view.nbytes

    def take(self) -> bytes:
        taken = bytes(self.parts)
        self.parts.clear()
        return taken


def zip_stream(files: list[tuple[str, Path]], folder_name: str) -> Iterator[bytes]:
    """A ZIP archive of the files below `folder_name`, piece by piece. Stored, not compressed: weights do not shrink."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            entry = zipfile.ZipInfo.from_file(path, f"{folder_name}/{name}")
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    yield sink.take()
    yield sink.take()
