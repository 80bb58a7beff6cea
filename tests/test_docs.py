"""The README cannot rot: what can be drawn from the code is, and what it promises is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from app import docs
from ttrl_engine.config import PRESETS, RunConfig, parse_config
from ttrl_engine.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_generated_parts_are_up_to_date():
    assert docs.render(README) == README, "run: make docs"


def test_the_first_command_comes_early():
    lines = README.splitlines()
    assert next(i for i, line in enumerate(lines, 1) if line.strip() == "make demo") < 30


@pytest.mark.parametrize(
    ("name", "field"), list(docs.leaves(RunConfig)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_setting_says_what_it_does(name, field):
    assert field.title, f"{name} has no title"
    assert field.description, f"{name} has no description"
    assert field.description.endswith("."), f"{name}: a description is a sentence"
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_loads(name):
    config = PRESETS[name].config()
    assert parse_config(config.model_dump(mode="json")) == config
    assert PRESETS[name].summary


def test_every_charted_metric_is_explained():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.description.endswith("."), name
        assert f"| `{name}` |" in README


def test_the_example_of_the_engine_is_ten_lines_that_parse():
    match = re.search(r"<!-- example:begin -->\n```python\n(.*?)```", README, re.DOTALL)
    assert match
    code = match.group(1)
    ast.parse(code)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_every_local_link_leads_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    asked = set(re.findall(r"\bmake (?:[A-Z]+=\S+ )*([a-z-]+)(?=[\s`])", README)) - {"installed"}
    assert asked <= targets | {"on"}, asked - targets
