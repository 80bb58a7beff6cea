"""The worker's surroundings: what it imports, its lock, its settings, the machine's health, files of a run."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ttrl_engine.errors import StudioError
from worker import health
from worker.lock import WorkerLock
from worker.reserve import Reserve
from worker.settings import Settings
from worker.store import Store

_ROOT = Path(__file__).parents[2]


def test_the_worker_loads_neither_the_pages_nor_torch():
    code = (
        "import sys, worker.__main__, worker.child, worker.jobs;"
        "print(*{'gradio', 'fastapi', 'torch', 'transformers'} & set(sys.modules))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT)
    assert seen.stdout.split() == []


def test_a_folder_has_one_worker(tmp_path: Path):
    with WorkerLock(tmp_path), pytest.raises(StudioError, match="Another worker"), WorkerLock(tmp_path):
        pass
    with WorkerLock(tmp_path):
        pass


def test_settings_come_from_the_environment(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("TTRL_STUDIO_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TTRL_STUDIO_MODEL_ROOTS", f"{tmp_path}/a:{tmp_path}/b")
    monkeypatch.setenv("TTRL_STUDIO_ALLOWED_HOSTS", "one.example, two.example")
    settings = Settings()
    assert settings.data_dir == tmp_path
    assert settings.model_roots == (tmp_path / "a", tmp_path / "b")
    assert settings.allowed_hosts == ("one.example", "two.example")
    assert (settings.host, settings.trust_remote_code) == ("127.0.0.1", False)


@pytest.mark.parametrize(
    ("version", "is_sound"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
    ],
)
def test_an_sqlite_with_the_fault_is_named(version, is_sound):
    assert (health.sqlite_warning(version) is None) == is_sound


def test_the_machine_is_looked_over(settings: Settings):
    found = {check.name: check for check in health.checks(settings)}
    assert found["Data folder"].status == "ok"
    assert all(check.message for check in found.values())
    assert health.disk(settings.data_dir / "not" / "there").total_bytes > 0
    assert "sqlite" in health.versions()


def test_a_full_disk_is_seen(settings: Settings):
    found = health.checks(settings.model_copy(update={"min_free_bytes": 2**60}))
    assert [check.name for check in found if check.status == "fail"] == ["Disk"]


def test_gpus_that_are_hidden_are_not_used(monkeypatch, settings: Settings):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert health.gpu_slots(settings) == (None,)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert health.gpu_slots(settings) == ("1", "3")
    assert health.gpu_slots(settings.model_copy(update={"slots": 3})) == ("1", "3", "1")


def test_the_reserve_is_real_and_given_back(tmp_path: Path):
    reserve = Reserve(tmp_path)
    reserve.keep()
    reserve.keep()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 8 * 2**20
    reserve.release()
    reserve.release()
    assert not (tmp_path / "reserve").exists()


def test_the_end_of_a_log_is_plain_text(store: Store):
    folder = store.run_folder(1)
    folder.mkdir()
    (folder / "log.txt").write_bytes(b"first\n\x1b[31mred\x1b[0m \xff\n 10%\r 50%\r100%\n")
    assert store.log_tail(1, lines=2) == "red \ufffd\n100%"
    assert store.log_tail(2) == ""


def test_rollouts_are_read_as_far_as_they_go(store: Store):
    folder = store.run_folder(1) / "rollouts"
    folder.mkdir(parents=True)
    lines = "".join(json.dumps({"problem_id": f"p{i % 2}", "index": i, "text": "x" * 999}) + "\n" for i in range(10))
    packed = gzip.compress(lines.encode())
    (folder / "step-000001.jsonl.gz").write_bytes(packed)
    (folder / "step-000002.jsonl.gz").write_bytes(packed[: len(packed) - 12])
    assert [row["index"] for row in store.rollouts(1, 1, "p1")] == [1, 3, 5, 7, 9]
    assert len(store.rollouts(1, 2)) <= 10
    assert store.rollouts(1, 3) == []
    assert store.rollout_steps(1) == [1, 2]


def test_a_preference_is_kept(store: Store):
    assert store.preference("preset", "quick-look") == "quick-look"
    store.keep_preference("preset", {"name": "balanced"})
    assert store.preference("preset") == {"name": "balanced"}
