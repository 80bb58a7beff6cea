"""Adapters on their way to an inference engine: where they lie, and that nothing of them is left over."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from ttrl_engine import adapter_folder
from ttrl_engine.adapter_folder import PREFIX, AdapterFolder
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.errors import RunError
from ttrl_engine.policy import Policy

MIB = 1 << 20


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    shared.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(adapter_folder, "SHARED_MEMORY", shared)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    return shared, temporary


@pytest.fixture(scope="module")
def adapter(tiny_model: Path) -> object:
    config = ModelConfig(source=str(tiny_model), method="lora", lora_rank=8)
    return Policy.load(config, HardwareConfig(device="cpu"), TrainConfig()).model


def test_shared_memory_too_small_for_the_ranks_is_left_alone(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has 64 MB of it unless told otherwise."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: SimpleNamespace(free=64 * MIB))
    for num_bytes, ranks, place in ((10 * MIB, 1, 0), (10 * MIB, 2, 1), (148 * MIB, 1, 1)):
        folder = AdapterFolder(num_bytes, ranks)
        assert folder.path.parent == places[place]
        folder.close()
        assert not folder.path.exists()


def test_only_the_newest_adapter_takes_room(adapter: object) -> None:
    folder = AdapterFolder(MIB, 1)
    for name in ("v1", "v2"):
        assert (folder.write(adapter, name) / "adapter_model.safetensors").stat().st_size > 1000
    assert [path.name for path in folder.path.iterdir()] == ["v2"]
    folder.close()
    folder.close()


def test_an_adapter_that_cannot_be_written_ends_the_run_with_what_to_do(adapter: object) -> None:
    folder = AdapterFolder(MIB, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(RunError, match=r"could not be written to .*shm.*--shm-size.*resume the run") as told:
            folder.write(adapter, "v1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # What lies behind would be taken for a damaged model, or the data folder's disk for full.
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__
    folder.close()


def test_a_full_place_is_not_told_as_a_full_disk() -> None:
    class Full:
        def save_pretrained(self, _path: str, **_: object) -> None:
            raise OSError(28, "No space left on device")

    folder = AdapterFolder(MIB, 1)
    with pytest.raises(RunError, match="there is no room left") as told:
        folder.write(Full(), "v1")
    assert "No space" not in str(told.value)
    folder.close()


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(places: tuple[Path, Path]) -> None:
    make = (
        "import sys, time; from pathlib import Path; from ttrl_engine import adapter_folder as a;"
        f"a.SHARED_MEMORY = Path({str(places[0])!r}); print(a.AdapterFolder(1, 1).path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", make], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        held = Path(other.stdout.readline().strip())
        AdapterFolder(1, 1).close()
        assert held.name.startswith(PREFIX)
        assert held.is_dir()
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert held.is_dir()
        AdapterFolder(1, 1).close()
        assert not held.exists()
