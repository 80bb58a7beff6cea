"""`ttrl-studio report` and `export`: what a stored run gives away, written to a file."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from app.exports.card import model_card
from app.exports.tables import csv_pieces, parquet
from app.exports.weights import merged_weights, trained_weights, zip_stream
from app.report import gather, report_html, report_pdf
from ttrl_engine.errors import ConfigError, RunError
from worker.folders import DATABASE
from worker.jobs import JobDesk
from worker.rows import RunRow
from worker.store import Store, open_store
from worker.store.tables import TableName

TABLE_NAMES: tuple[TableName, ...] = ("metrics", "elections", "scores")
EXPORTS = ("adapter", "merged", "card", *TABLE_NAMES)
_POLL_S = 0.5


def stored_run(data_dir: Path, run_id: int) -> tuple[Store, RunRow]:
    """The run in a data folder that exists. Raises ConfigError where there is none."""
    if not (data_dir / DATABASE).is_file():
        raise ConfigError(f"There is no data of TTRL Studio in {data_dir}. Name its folder with --data-dir.")
    store = open_store(data_dir)
    run = store.run(run_id) if 0 < run_id < 1 << 63 else None
    if run is None:
        known = ", ".join(str(each.id) for each in store.runs(archived=True, limit=20)) or "none"
        raise ConfigError(f"There is no run {run_id} in {data_dir}. Its runs: {known}.")
    return store, run


def write_report(store: Store, run: RunRow, out: Path) -> None:
    """The evidence report, as HTML or PDF by the ending of `out`. Raises ConfigError for any other ending."""
    evidence = gather(store, run, time.time())
    if out.suffix.lower() == ".pdf":
        _write(out, [report_pdf(evidence)])
    elif out.suffix.lower() in (".html", ".htm"):
        _write(out, [report_html(evidence).encode()])
    else:
        raise ConfigError(f"A report is written as .html or .pdf; {out.name} ends with neither.")


def write_export(store: Store, run: RunRow, what: str, out: Path, say: Callable[[str], None]) -> None:
    """One of EXPORTS. Tables are Parquet where `out` ends so, else CSV. Raises StudioError with the reason."""
    if what == "merged":
        _merge_if_needed(store, run, say)
    if what in ("adapter", "merged"):
        name, files = (trained_weights if what == "adapter" else merged_weights)(store, run, time.time())
        if not files:
            raise RunError(f"Run {run.id} has no trained weights yet. They are written when it ends in good order.")
        _write(out, zip_stream(files, name))
    elif what == "card":
        _write(out, [model_card(gather(store, run, time.time())).encode()])
    elif what in TABLE_NAMES:
        table = next(name for name in TABLE_NAMES if name == what)
        if out.suffix.lower() == ".parquet":
            _write(out, [parquet(store, run.id, table)])
        else:
            _write(out, (piece.encode() for piece in csv_pieces(store, run.id, table)))
    else:
        raise ConfigError(f"{what!r} cannot be exported. What can: {', '.join(EXPORTS)}.")


def _merge_if_needed(store: Store, run: RunRow, say: Callable[[str], None]) -> None:
    """Have the worker merge, and wait. Raises RunError where no worker serves the data folder, or the merge failed."""
    if merged_weights(store, run, 0.0)[1]:
        return
    if not store.worker_status().alive:
        raise RunError("Merging is the worker's job, and none serves this data folder. Start it: ttrl-studio up")
    export_id = JobDesk(store).submit_export(run.id, uuid.uuid4().hex)
    told = ""
    while True:
        export = store.export(export_id)
        assert export is not None
        words = export.phase or export.state.value
        if words != told:
            say(f"Merging: {words}")
            told = words
        if export.job.is_terminal:
            break
        time.sleep(_POLL_S)
    if export.job.error_message:
        raise RunError(f"The merge failed: {export.job.error_message} {export.job.error_hint or ''}".strip())


def _write(out: Path, pieces: Iterable[bytes]) -> None:
    """All pieces or no file: what is half written never bears the final name."""
    partial = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as target:
            for piece in pieces:
                target.write(piece)
        shutil.move(partial, out)
    except OSError as failure:
        raise RunError(f"{out} cannot be written: {failure.strerror}. Choose another place with --out.") from None
    finally:
        partial.unlink(missing_ok=True)
