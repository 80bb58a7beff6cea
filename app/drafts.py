"""Uploads that are not yet a problem set. They lie in the data folder under a name of ours, so a reload finds them.

A draft is a folder uploads/TOKEN with the bytes as they came (`raw`) and what the user chose so far (`draft.json`).
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ttrl_engine.config import AnswerConfig
from ttrl_engine.upload import ColumnMapping, Draft, Table, guess_mapping, read_table, validate

_TOKEN = re.compile(r"[0-9a-f]{32}")
_KEEP_S = 7 * 86400.0
_TABLES_IN_MEMORY = 4


@dataclass(frozen=True)
class DraftChoices:
    """What the user said about a draft. `mapping` None means: as guessed; `encoding` None, and answers without a
    kind, mean: as detected."""

    filename: str
    name: str
    mapping: ColumnMapping | None = None
    answers: AnswerConfig = field(default_factory=AnswerConfig)
    encoding: str | None = None


class DraftShelf:
    """All drafts of one data folder; the tables last looked at are kept in memory."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._tables: OrderedDict[str, Table] = OrderedDict()
        self._drafts: dict[str, tuple[ColumnMapping, AnswerConfig, Draft]] = {}
        self._lock = threading.Lock()

    def add(self, data: Path | bytes, filename: str) -> str:
        """Keep an upload and return its token. `filename` is only ever shown, never used as a path."""
        self._sweep()
        token = secrets.token_hex(16)
        place = self.folder / token
        place.mkdir(mode=0o700, parents=True)
        if isinstance(data, bytes):
            (place / "raw").write_bytes(data)
        else:
            shutil.copyfile(data, place / "raw")
        shown = shown_name(filename)
        self.choose(token, DraftChoices(filename=shown, name=Path(shown).stem[:120] or "Problem set"))
        return token

    def has(self, token: str) -> bool:
        """Whether there is such a draft. Text that is no token of ours is never looked up on disk."""
        return bool(_TOKEN.fullmatch(token)) and (self.folder / token / "draft.json").is_file()

    def choices(self, token: str) -> DraftChoices:
        """What was chosen so far."""
        kept = json.loads((self.folder / token / "draft.json").read_text(encoding="utf-8"))
        mapping, answers = kept.pop("mapping"), AnswerConfig.model_validate(kept.pop("answers", {}))
        # Drafts of the first release named the kind alone.
        answers = answers.over(AnswerConfig(kind=kept.pop("kind", None)))
        return DraftChoices(**kept, mapping=ColumnMapping(**mapping) if mapping else None, answers=answers)

    def choose(self, token: str, choices: DraftChoices) -> None:
        """Keep what was chosen. Another encoding reads the file anew."""
        place = self.folder / token / "draft.json"
        if place.is_file() and self.choices(token).encoding != choices.encoding:
            self._forget(token)
        kept = {**asdict(choices), "answers": choices.answers.model_dump(mode="json", exclude_defaults=True)}
        place.write_text(json.dumps(kept), encoding="utf-8")

    def table(self, token: str) -> Table:
        """The draft's rows. Raises DataError with what is wrong with the file."""
        with self._lock:
            if token in self._tables:
                self._tables.move_to_end(token)
                return self._tables[token]
        choices = self.choices(token)
        raw = self.folder / token / "raw"
        table = read_table(raw, choices.filename, max_bytes=self.max_bytes, encoding=choices.encoding)
        with self._lock:
            self._tables[token] = table
            while len(self._tables) > _TABLES_IN_MEMORY:
                oldest, _ = self._tables.popitem(last=False)
                self._drafts.pop(oldest, None)
        return table

    def draft(self, token: str, choices: DraftChoices) -> tuple[Table, ColumnMapping, Draft]:
        """The table under a choice of columns, checked row by row; checked again only where that choice changed."""
        table = self.table(token)
        mapping = choices.mapping or guess_mapping(table)
        with self._lock:
            known = self._drafts.get(token)
        if known is None or known[:2] != (mapping, choices.answers):
            draft = validate(table, mapping, choices.answers, choices.name or "Problem set")
            known = (mapping, choices.answers, draft)
            with self._lock:
                self._drafts[token] = known
        draft = known[2]
        if draft.problem_set is not None:
            draft = replace(draft, problem_set=replace(draft.problem_set, name=choices.name or "Problem set"))
        return table, mapping, draft

    def drop(self, token: str) -> None:
        """Forget a draft and its file."""
        if self.has(token):
            self._forget(token)
            shutil.rmtree(self.folder / token, ignore_errors=True)

    def _forget(self, token: str) -> None:
        with self._lock:
            self._tables.pop(token, None)
            self._drafts.pop(token, None)

    def _sweep(self) -> None:
        if not self.folder.is_dir():
            return
        for place in self.folder.iterdir():
            if _TOKEN.fullmatch(place.name) and time.time() - place.stat().st_mtime > _KEEP_S:
                shutil.rmtree(place, ignore_errors=True)


def shown_name(filename: str) -> str:
    """The last part of an uploaded file's name without control characters, at most 200 characters."""
    last = re.split(r"[\\/]", filename)[-1]
    return "".join(c for c in last if c.isprintable())[:200].strip() or "upload"
