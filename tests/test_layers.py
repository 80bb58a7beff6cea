"""Imports point down: app -> worker -> ttrl_engine; what the pages read loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"ttrl_engine": set[str](), "worker": {"ttrl_engine"}, "app": {"worker", "ttrl_engine"}}
MUST_NOT_IMPORT = {
    "ttrl_engine": {"gradio", "fastapi", "huey", "sqlite3", "sqlite_utils"},
    "worker": {"gradio", "fastapi", "uvicorn"},
    "app": {"huey"},
}
# A cache that may be deleted at any time, and no store: readings of answers that several processes share.
MAY_STILL_IMPORT = {"ttrl_engine/equivalence/cache.py": {"sqlite3"}}
WITHOUT_TORCH = (
    "ttrl_engine.config",
    "ttrl_engine.errors",
    "ttrl_engine.events",
    "ttrl_engine.metrics",
    "ttrl_engine.models",
    "ttrl_engine.problems",
    "ttrl_engine.sampler",
    "ttrl_engine.stats",
    "ttrl_engine.tasks",
    "ttrl_engine.upload",
    "ttrl_engine.vote",
    "worker.health",
    "worker.jobs",
    "worker.settings",
    "worker.store",
    "app.cli",
    "app.cli.doctor",
    "app.cli.run",
    "app.cli.up",
    "app.docs",
    "app.server",
)
HEAVY = ("torch", "transformers", "peft", "vllm")


def modules() -> list[Path]:
    return [path for layer in MAY_IMPORT for path in sorted((ROOT / layer).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """The top-level names a file imports anywhere: inside functions too, and only for type checking too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and node.args and "import" in ast.unparse(node.func).lower():
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value.partition(".")[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    layer = path.relative_to(ROOT).parts[0]
    names = set(imported(path))
    upward = (names & set(MAY_IMPORT)) - MAY_IMPORT[layer] - {layer}
    assert not upward, f"{layer} may not import {sorted(upward)}"
    strangers = (names & MUST_NOT_IMPORT[layer]) - MAY_STILL_IMPORT.get(path.relative_to(ROOT).as_posix(), set())
    assert not strangers, f"{layer} may not import {sorted(strangers)}"
    assert not names & {"tests", "benchmarks"}


def loaded_after(statement: str) -> set[str]:
    """Top-level modules of a fresh process after one statement."""
    code = f"{statement}\nimport sys\nprint(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_what_the_pages_read_loads_no_torch(module):
    heavy = loaded_after(f"import {module}") & set(HEAVY)
    assert not heavy, f"import {module} loads {sorted(heavy)}"


def test_the_worker_loads_no_gradio():
    names = " ".join(
        f"import {'.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')};"
        for path in sorted((ROOT / "worker").rglob("*.py"))
        if path.name != "__main__.py"
    )
    assert "gradio" not in loaded_after(names)


def test_the_engine_loads_no_store_and_no_queue():
    assert not loaded_after("import ttrl_engine.trainer") & {"huey", "sqlite_utils", "gradio", "fastapi"}
