"""What is imported is declared, what is declared is pinned, and torch stays free to be a CPU or a CUDA build."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = [
    row
    for row in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if row and not row.startswith("#")
]
OURS = {"app", "benchmarks", "tests", "ttrl_engine", "worker"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!\[ ;]", row)[0].lower() for row in requirements}


def imported_packages(folder: str) -> set[str]:
    """Distributions that the files of a folder import, lazily or not."""
    modules: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.partition(".")[0])
    strangers = modules - set(sys.stdlib_module_names) - OURS
    distributions = importlib.metadata.packages_distributions()
    return {distributions.get(module, [module])[0].lower().replace("_", "-") for module in strangers}


@pytest.mark.parametrize("folder", ["ttrl_engine", "worker", "app"])
def test_what_is_imported_is_a_dependency(folder):
    declared = names(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["gpu"])
    assert imported_packages(folder) <= declared


def test_every_dependency_is_pinned():
    asked = names(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]) - {"torch"}
    assert asked <= names(PINS)
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.]+", row) for row in PINS)
    assert sorted(PINS, key=lambda row: row.partition("==")[0]) == PINS


def test_the_pins_are_within_the_ranges():
    from packaging.requirements import Requirement

    pinned = dict(row.split("==") for row in PINS)
    for row in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        requirement = Requirement(row)
        if requirement.name != "torch":
            assert requirement.specifier.contains(pinned[requirement.name]), row


def test_torch_is_pinned_once_and_left_out_of_the_constraints():
    pins = [row for row in PROJECT["dependencies"] if row.startswith("torch")]
    assert len(pins) == 1
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", pins[0])
    assert not [row for row in PINS if re.match(r"(torch|triton|nvidia-(?!ml-py))", row)]
