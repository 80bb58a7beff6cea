"""Files of a run, streamed from where they lie. The address holds the run's number and nothing else a user chose."""

from __future__ import annotations

import csv
import io
import time
from typing import Literal

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

from app.exports.card import model_card
from app.exports.tables import csv_pieces, lines_of, parquet, safe_cell
from app.exports.weights import Entry, merged_weights, trained_weights, zip_stream
from app.figures import MEDIA_TYPES, run_figure
from app.report import gather, report_html, report_pdf
from app.services import Services
from worker.rows import RunRow
from worker.store.label_flips import COLUMNS as LABEL_FLIP_COLUMNS
from worker.store.tables import TableName

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
        name, files = trained_weights(store, _run(services, run_id), time.time())
        return _archive(
            name, files, "This run has no trained weights yet. They are written when the run ends in good order."
        )

    @router.get("/merged.zip")
    def merged_zip(run_id: int) -> Response:
        name, files = merged_weights(store, _run(services, run_id), time.time())
        return _archive(name, files, "The merged model of this run was not made yet. Its page has a button for it.")

    @router.get("/card.md")
    def card_md(run_id: int) -> Response:
        card = model_card(gather(store, _run(services, run_id), time.time()))
        return _attachment(card, "text/markdown", f"run-{run_id}-card.md")

    @router.get("/report.html")
    def report_page(run_id: int) -> Response:
        report = report_html(gather(store, _run(services, run_id), time.time()))
        return _attachment(report, "text/html", f"run-{run_id}-report.html")

    @router.get("/report.pdf")
    def report_print(run_id: int) -> Response:
        report = report_pdf(gather(store, _run(services, run_id), time.time()))
        return _attachment(report, "application/pdf", f"run-{run_id}-report.pdf")

    @router.get("/label-changes.csv")
    def label_changes_csv(run_id: int) -> Response:
        _run(services, run_id)
        pieces = lines_of(LABEL_FLIP_COLUMNS, store.label_flip_rows(run_id))
        headers = {"content-disposition": f'attachment; filename="run-{run_id}-label-changes.csv"'}
        return StreamingResponse(pieces, media_type="text/csv", headers=headers)

    @router.get("/table/{table}.csv")
    def table_csv(run_id: int, table: TableName) -> Response:
        _run(services, run_id)
        headers = {"content-disposition": f'attachment; filename="run-{run_id}-{table}.csv"'}
        return StreamingResponse(csv_pieces(store, run_id, table), media_type="text/csv", headers=headers)

    @router.get("/table/{table}.parquet")
    def table_parquet(run_id: int, table: TableName) -> Response:
        _run(services, run_id)
        name = f"run-{run_id}-{table}.parquet"
        return _attachment(parquet(store, run_id, table), "application/vnd.apache.parquet", name)

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


def _archive(name: str, files: list[Entry], missing: str) -> Response:
    if not files:
        raise HTTPException(404, missing)
    headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(zip_stream(files, name), media_type="application/zip", headers=headers)


def evaluations_table(services: Services, run_id: int) -> str:
    """Every evaluation of the run as CSV; an empty cell is an unknown value."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_EVALUATION_COLUMNS)
    for row in services.store.evaluations(run_id):
        values = (getattr(row, name) for name in _EVALUATION_COLUMNS)
        writer.writerow(["" if value is None else safe_cell(value) for value in values])
    return text.getvalue()
