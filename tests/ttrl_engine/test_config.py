import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from ttrl_engine.config import PRESETS, RunConfig, load_config, parse_config
from ttrl_engine.errors import ConfigError


def fields_of(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str | None, str | None]]:
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += fields_of(inner, f"{prefix}{name}.")
        else:
            found.append((prefix + name, field.title, field.description))
    return found


def test_every_setting_has_a_title_and_says_what_it_does() -> None:
    fields = fields_of(RunConfig)
    assert len(fields) > 40
    assert [name for name, title, description in fields if not title or not description] == []


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        RunConfig().seed = 3  # type: ignore[misc]  # the point of the test


def test_yaml_gives_the_same_config_back(tmp_path: Path) -> None:
    config = RunConfig().with_changes(
        **{"vote.num_votes": 48, "data.benchmarks": ("bundled:sums-hard",), "name": "Ünï"}
    )
    (tmp_path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(tmp_path / "run.yaml") == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"vote": {"votes": 3}}, "vote.votes: there is no setting of this name"),
        ({"vote": {"num_votes": 8, "num_trained": 16}}, "Lower num_trained or raise num_votes"),
        ({"train": {"learning_rate": -1}}, "train.learning_rate"),
        ({"vote": {"temperature": float("nan")}}, "vote.temperature"),
        ({"seed": "x", "train": {"epochs": 0}}, "seed"),
        ([1, 2], "a mapping"),
    ],
)
def test_a_wrong_value_is_named(data: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(data)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as failure:
        parse_config({"seed": "x", "train": {"epochs": 0}})
    assert "seed" in str(failure.value)
    assert "train.epochs" in str(failure.value)


def test_a_file_that_is_no_config_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [", encoding="utf-8")
    for path in (tmp_path / "broken.yaml", tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match=path.name):
            load_config(path)


@pytest.mark.parametrize("key", PRESETS)
def test_every_preset_loads(key: str) -> None:
    preset = PRESETS[key]
    config = preset.config()
    for dotted in preset.changes:
        part: object = config
        for name in dotted.split("."):
            part = getattr(part, name)
        assert part == preset.changes[dotted]


@pytest.mark.parametrize(
    ("key", "num_problems", "steps"), [("paper-aime", 30, 320), ("paper-amc", 83, 330), ("paper-math", 500, 160)]
)
def test_the_paper_presets_visit_every_problem_in_each_pass(key: str, num_problems: int, steps: int) -> None:
    # The official code drops the last short batch: 240, 300 and 150 steps. Ours does not.
    config = PRESETS[key].config()
    assert (config.vote.num_votes, config.vote.num_trained, config.train.learning_rate) == (64, 32, 5e-7)
    assert config.train.updates_per_step == config.train.problems_per_step
    assert config.total_steps(num_problems) == steps


def test_an_unknown_name_in_a_change_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"vote\.nope"):
        RunConfig().with_changes(**{"vote.nope": 1})
    with pytest.raises(ConfigError, match=r"nope\.deep\.er"):
        RunConfig().with_changes(**{"nope.deep.er": 1})


def test_the_digest_follows_everything_but_the_name() -> None:
    config = RunConfig()
    assert config.with_changes(name="other").digest() == config.digest()
    assert config.with_changes(seed=1).digest() != config.digest()


def test_reading_the_config_loads_no_torch() -> None:
    code = "import sys, ttrl_engine.config, ttrl_engine.events, ttrl_engine.models; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )
