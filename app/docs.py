"""Writes the parts of README.md that are drawn from the code: `python -m app.docs`, or `--check` to only compare.

A generated part stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. The text around it is written by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ttrl_engine.config import PRESETS, RunConfig
from ttrl_engine.errors import DataError
from ttrl_engine.metrics import METRICS
from worker.settings import Settings

README = Path(__file__).resolve().parent.parent / "README.md"
UNIT_NAMES = {"share": "0 to 1", "1": "", "s": "seconds"}


def config_table() -> str:
    """Every setting of a run: name, default, bounds, meaning."""
    rows = ["| setting | default | allowed | what it does |", "|---|---|---|---|"]
    for name, field in leaves(RunConfig):
        meaning = f"**{field.title}.** {field.description}"
        rows.append(f"| `{name}` | {_default(field)} | {allowed(field)} | {_cell(meaning)} |")
    return "\n".join(rows)


def preset_table() -> str:
    """Every preset: its name on the command line and what it is for."""
    rows = ["| preset | | changes |", "|---|---|---|"]
    for key, preset in PRESETS.items():
        changes = ", ".join(f"`{name}={_plain(value)}`" for name, value in preset.changes.items())
        rows.append(f"| `{key}` | **{preset.name}.** {_cell(preset.summary)} | {_cell(changes)} |")
    return "\n".join(rows)


def metric_table() -> str:
    """Every charted metric: its name, unit and meaning."""
    rows = ["| metric | unit | what it says |", "|---|---|---|"]
    for name, metric in METRICS.items():
        needs = " *Unknown without reference answers.*" if metric.needs_references else ""
        unit = UNIT_NAMES.get(metric.unit, metric.unit)
        rows.append(f"| `{name}` | {unit} | {_cell(f'**{metric.title}.** {metric.description}{needs}')} |")
    return "\n".join(rows)


def settings_table() -> str:
    """Every environment variable of an installation."""
    rows = ["| variable | default | what it decides |", "|---|---|---|"]
    prefix = Settings.model_config.get("env_prefix", "")
    for name, field in Settings.model_fields.items():
        default = _default(field).replace("`()`", "none")
        rows.append(f"| `{prefix}{name.upper()}` | {default} | {_cell(field.description or '')} |")
    return "\n".join(rows)


PARTS: dict[str, Callable[[], str]] = {
    "config": config_table,
    "presets": preset_table,
    "metrics": metric_table,
    "settings": settings_table,
}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a config with their dotted names, sections opened."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def allowed(field: FieldInfo) -> str:
    """The choices or bounds of a field in words, "" where its type says all."""
    kinds = list(_alternatives(field.annotation))
    choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    # The bounds of a shared alias such as Share stand on the alias, also where None is allowed beside it.
    notes = [*field.metadata, *(note for kind in kinds for note in getattr(kind, "__metadata__", ()))]
    notes += [part for note in notes if isinstance(note, FieldInfo) for part in note.metadata]
    words = []
    for note in notes:
        match note:
            case Ge(ge=bound):
                words.append(f"from {_plain(bound)}")
            case Gt(gt=bound):
                words.append(f"above {_plain(bound)}")
            case Le(le=bound):
                words.append(f"to {_plain(bound)}")
            case Lt(lt=bound):
                words.append(f"below {_plain(bound)}")
    if bool in kinds:
        return "`true`, `false`"
    return " ".join(words)


def render(text: str) -> str:
    """README text with every generated part written anew. Raises DataError if a marker is missing."""
    for name, draw in PARTS.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
            raise DataError(f"README.md needs the markers {begin} and {end}, once and in this order.")
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n{draw()}\n{end}{tail}"
    return text


def main() -> int:
    """0 when README.md is, or now is, up to date."""
    parser = argparse.ArgumentParser(prog="python -m app.docs", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit status 1 if README.md is out of date"
    )
    options = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = render(before)
    if options.check and after != before:
        sys.stderr.write("README.md is out of date. Run: make docs\n")
        return 1
    if after != before:
        README.write_text(after, encoding="utf-8")
    return 0


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types of a union without None; `Annotated` ones are kept whole, for their bounds."""
    parts = get_args(annotation)
    if parts and get_origin(annotation) not in (Literal, Annotated, tuple):
        for part in parts:
            yield from _alternatives(part)
    elif annotation is not NoneType:
        yield annotation


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value is PydanticUndefined:
        return "unset"
    if value in ("", ()):
        return "empty"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e")
    if isinstance(value, tuple | list):
        return ",".join(str(item) for item in value)
    return "null" if value is None else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    raise SystemExit(main())
