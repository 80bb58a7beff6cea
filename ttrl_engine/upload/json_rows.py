"""JSON and JSON lines: objects, or plain strings, one per problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ttrl_engine.errors import DataError
from ttrl_engine.upload.cells import Digits, cell_text, flatten
from ttrl_engine.upload.table import Budget, IssueLog, Table, unique_columns

_EXAMPLE: Final = 'Use a list of objects such as {"problem": …, "answer": …}.'
_LIST_KEYS: Final = ("problems", "data", "rows", "examples", "items", "questions", "test", "train")


def read_json(text: str, encoding: str, budget: Budget) -> Table:
    """A list of objects or strings; an object that holds such a list; columns as lists; or id -> object."""
    try:
        value = _parse(text)
    except ValueError as failure:
        if isinstance(failure, json.JSONDecodeError) and failure.msg == "Extra data":
            return read_jsonl(text, encoding, budget)
        raise DataError(f"The file is not valid JSON: {_reason(failure)}.") from None
    items = _items(value)
    return _table(items, len(items), "json", encoding, budget, IssueLog())


def read_jsonl(text: str, encoding: str, budget: Budget) -> Table:
    """One object or string per line; a line that is neither is left out and named."""
    log = IssueLog()
    items: list[tuple[int, Any]] = []
    number = 0
    for line_number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        number += 1
        budget.spend_row(())
        try:
            items.append((number, _parse(line)))
        except ValueError as failure:
            why = f"Line {line_number} is not valid JSON ({_reason(failure)}); it is left out."
            log.add(number, "error", why, "not valid JSON; left out")
    if not items:
        raise DataError("No line of the file is valid JSON. JSON lines has one object per line.")
    return _table(items, number, "jsonl", encoding, Budget(budget.max_characters), log)


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Digits, parse_int=Digits, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(_name: str) -> None:
    """NaN and the infinities are no answers: read like null."""


def _reason(failure: ValueError) -> str:
    if isinstance(failure, json.JSONDecodeError):
        return f"{failure.msg.lower()} at line {failure.lineno}, column {failure.colno}"
    return str(failure)


def _items(value: Any) -> list[tuple[int, Any]]:
    if isinstance(value, Mapping):
        value = _list_within(value)
    if not isinstance(value, list):
        raise DataError(f"The JSON holds no list of problems. {_EXAMPLE}")
    if not value:
        raise DataError("The list in the JSON file is empty.")
    return list(enumerate(value, 1))


def _list_within(value: Mapping[str, Any]) -> Any:
    lists = {key: each for key, each in value.items() if isinstance(each, list)}
    if len(lists) == len(value) > 1 and len({len(each) for each in lists.values()}) == 1:
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    for key in _LIST_KEYS:
        if key in lists:
            return lists[key]
    if len(lists) == 1:
        return next(iter(lists.values()))
    if value and all(isinstance(each, Mapping) for each in value.values()):
        return [{"id": key, **each} for key, each in value.items()]
    return None


def _table(
    items: list[tuple[int, Any]], num_rows: int, kind: str, encoding: str, budget: Budget, log: IssueLog
) -> Table:
    found: dict[str, None] = {}
    rows: list[dict[str, str]] = []
    numbers: list[int] = []
    for number, item in items:
        if isinstance(item, Mapping):
            row = dict(flatten(item))
        elif isinstance(item, str) and not isinstance(item, Digits):
            row = {"problem": item}
        else:
            why = f"Row {number} is neither an object nor a text; it is left out."
            log.add(number, "error", why, "neither an object nor a text; left out")
            continue
        budget.spend_row(row.values())
        found.update(dict.fromkeys(row))
        rows.append(row)
        numbers.append(number)
    if not rows:
        raise DataError(f"The file holds no objects and no texts. {_EXAMPLE}")
    names = dict(zip(found, unique_columns(list(found), log), strict=True))
    filled = [{names[key]: cell_text(row.get(key)) for key in found} for row in rows]
    return Table(tuple(names.values()), filled, kind, encoding, log.issues(), numbers, num_rows)
