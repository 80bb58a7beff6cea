import json
import shutil
from pathlib import Path

import pytest

from ttrl_engine.errors import ModelError
from ttrl_engine.models import (
    SHORTLIST,
    check_model,
    find_models,
    fingerprint,
    is_hub_name,
    resolve_source,
    suffix_for,
)


@pytest.fixture
def copy_of_tiny(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "models" / "tiny"))


def test_a_good_folder_is_accepted_and_measured(copy_of_tiny: Path) -> None:
    check = check_model(str(copy_of_tiny), [copy_of_tiny.parent], hub_allowed=False)
    assert check.ok
    assert check.architecture == "LlamaForCausalLM"
    assert check.context_tokens == 256
    assert check.num_parameters is not None
    assert check.num_parameters > 10_000


def test_the_bundled_model_can_always_be_used() -> None:
    check = check_model("bundled:abacus-1m", [], hub_allowed=False)
    assert check.ok
    assert check.cached


def test_a_folder_outside_the_allowed_roots_is_refused(copy_of_tiny: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "operator allows" in check_model(str(copy_of_tiny), [elsewhere], False).reason
    (elsewhere / "link").symlink_to(copy_of_tiny)
    assert not check_model(str(elsewhere / "link"), [elsewhere], False).ok
    assert not check_model(str(elsewhere / ".." / "models" / "tiny"), [elsewhere], False).ok


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "can run code"),
        (lambda f: (f / "model.safetensors").unlink(), "missing"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 40), "damaged"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda f: (f / "config.json").write_text('{"architectures": ["BertModel"]}'), "not a causal"),
        (
            lambda f: (f / "config.json").write_text(
                json.dumps({"architectures": ["XForCausalLM"], "auto_map": {"AutoModel": "x.py"}})
            ),
            "own Python code",
        ),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'), "b.safe"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(copy_of_tiny: Path, spoil: object, reason: str) -> None:
    assert callable(spoil)
    spoil(copy_of_tiny)
    check = check_model(str(copy_of_tiny), [copy_of_tiny.parent], hub_allowed=False)
    assert not check.ok
    assert reason in check.reason


def test_an_uncached_hub_model_needs_the_network() -> None:
    check = check_model("somebody/never-cached", [], hub_allowed=False)
    assert not check.ok
    assert "switched off" in check.reason


def test_hub_names_and_folders_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_hub_name("Qwen/Qwen3-0.6B")
    assert not is_hub_name("bundled:abacus-1m")
    assert not is_hub_name("/models/x")
    assert not is_hub_name("../etc/passwd")
    (tmp_path / "Qwen" / "local").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name("Qwen/local")
    with pytest.raises(ModelError, match="no folder"):
        resolve_source("/models/none")


def test_models_below_a_root_are_found(copy_of_tiny: Path) -> None:
    (copy_of_tiny.parent / "notes").mkdir()
    assert find_models(copy_of_tiny.parent.parent) == [copy_of_tiny]
    assert find_models(Path("/does/not/exist")) == []


def test_the_fingerprint_changes_with_the_weights(copy_of_tiny: Path) -> None:
    before = fingerprint(str(copy_of_tiny), None)
    assert fingerprint(str(copy_of_tiny), None) == before
    with (copy_of_tiny / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert fingerprint(str(copy_of_tiny), None) != before


def test_models_that_box_by_themselves_get_no_instruction() -> None:
    assert suffix_for("bundled:abacus-1m", " box it") == ""
    assert suffix_for("Qwen/Qwen2.5-Math-7B", " box it") == ""
    assert suffix_for("Qwen/Qwen3-0.6B", " box it") == " box it"


def test_the_shortlist_is_of_models_that_fit_the_method() -> None:
    assert SHORTLIST[0].source == "bundled:abacus-1m"
    assert all(is_hub_name(entry.source) for entry in SHORTLIST[1:])
