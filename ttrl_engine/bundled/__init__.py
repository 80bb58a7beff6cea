"""What comes in the box: a tiny model and three problem sets, so that a first run needs no download and no labels."""

from __future__ import annotations

from pathlib import Path

from ttrl_engine.errors import DataError, ModelError

_HERE = Path(__file__).resolve().parent

MODELS: dict[str, str] = {
    "abacus-1m": "1.2 million parameters. Knows two- and three-step arithmetic, but guesses as often as it works out.",
}
PROBLEM_SETS: dict[str, str] = {
    "sums": "128 short arithmetic problems, half of them little stories. The unlabeled set to learn from.",
    "sums-benchmark": "100 problems of the same kind, never trained on. Shows whether a gain carries over.",
    "sums-hard": "60 problems with five or six steps and large numbers, out of the bundled model's depth.",
}


def model_path(name: str) -> Path:
    """The folder of a bundled model. Raises ModelError that lists the known names."""
    if name not in MODELS:
        raise ModelError(f"There is no bundled model {name!r}. Bundled models: {', '.join(MODELS)}.")
    return _HERE / name


def problem_set_path(name: str) -> Path:
    """The JSONL file of a bundled problem set. Raises DataError that lists the known names."""
    if name not in PROBLEM_SETS:
        raise DataError(f"There is no bundled problem set {name!r}. Bundled sets: {', '.join(PROBLEM_SETS)}.")
    return _HERE / "problems" / f"{name}.jsonl"
