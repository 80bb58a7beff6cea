"""One value of a file as text, faithfully: numbers keep their digits, nested values become JSON."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_MAX_NESTING: Final = 2
_MAX_JSON_DEPTH: Final = 50


class Digits(str):
    """A JSON number as it was written, so that 0.10 stays 0.10 and no digit of a long one is lost."""


def cell_text(value: Any) -> str:  # Any: whatever a JSON, Parquet or XLSX cell can hold
    """A value as text: None is "", a whole float has no ".0", a list or mapping is JSON, a chat its last user turn."""
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        question = _user_turn(value)
        return question if question is not None else _as_json(value)
    if isinstance(value, Mapping):
        return _as_json(value)
    return str(value)


def flatten(row: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """The cells of an object; those of objects within it under dotted names: `reward_model.ground_truth`."""
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and depth < _MAX_NESTING:
            yield from flatten(value, f"{name}.", depth + 1)
        else:
            yield name, cell_text(value)


def _user_turn(value: list[Any] | tuple[Any, ...]) -> str | None:
    if not value or not all(isinstance(turn, Mapping) and "role" in turn and "content" in turn for turn in value):
        return None
    turns = [cell_text(turn["content"]) for turn in value if turn["role"] == "user"]
    return turns[-1] if turns else ""


def _as_json(value: Any, depth: int = 0) -> str:
    if isinstance(value, Digits):
        return str(value)
    if depth > _MAX_JSON_DEPTH:
        return '"…"'
    if isinstance(value, Mapping):
        names = (json.dumps(str(key), ensure_ascii=False) for key in value)
        cells = (_as_json(each, depth + 1) for each in value.values())
        return "{" + ", ".join(f"{name}: {cell}" for name, cell in zip(names, cells, strict=True)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_as_json(each, depth + 1) for each in value) + "]"
    if value is None or isinstance(value, bool | int | str):
        return json.dumps(value, ensure_ascii=False)
    return cell_text(value) if isinstance(value, float) else json.dumps(cell_text(value), ensure_ascii=False)
