"""Archives of trained weights, put together while they are sent: nothing is copied, nothing lies in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from app.exports.card import model_card
from app.exports.names import adapter_name, merged_name
from app.report import gather
from worker.folders import merged_folder
from worker.rows import RunRow
from worker.store import Store

CHUNK_BYTES = 1 << 20
CARD = "README.md"

Entry: TypeAlias = tuple[str, Path | str]
"""(name inside the archive, the file or its text)."""


def trained_weights(store: Store, run: RunRow, now: float) -> tuple[str, list[Entry]]:
    """Name and files of the adapter, or of all weights; no files where there are none yet."""
    files = folder_files(store.run_folder(run.id) / "policy")
    return adapter_name(run), _with_card(store, run, files, now, merged=False)


def merged_weights(store: Store, run: RunRow, now: float) -> tuple[str, list[Entry]]:
    """Name and files of the merged model; no files where it was not made."""
    files = folder_files(merged_folder(store.data_dir, run.id))
    return merged_name(run), _with_card(store, run, files, now, merged=True)


def folder_files(root: Path) -> list[tuple[str, Path]]:
    """(name, path) of the files below `root`; links are left out, whatever they point to."""
    if not root.is_dir():
        return []
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
    return [(path.relative_to(root).as_posix(), path) for path in found]


def _with_card(store: Store, run: RunRow, files: list[tuple[str, Path]], now: float, *, merged: bool) -> list[Entry]:
    """The card is written when it is asked for: its figures are those of now."""
    if not files:
        return []
    card = model_card(gather(store, run, now), merged=merged)
    return [(CARD, card), *(each for each in files if each[0] != CARD)]


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


def zip_stream(files: list[Entry], folder_name: str) -> Iterator[bytes]:
    """A ZIP archive of the files below `folder_name`, piece by piece. Stored, not compressed: weights do not shrink."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            if isinstance(content, str):
                archive.writestr(f"{folder_name}/{name}", content)
                yield sink.take()
                continue
            entry = zipfile.ZipInfo.from_file(content, f"{folder_name}/{name}")
            with content.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    yield sink.take()
    yield sink.take()
