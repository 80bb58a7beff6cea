"""Reading in child processes: what they may do, what happens to those that hang or die, and that none is left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ttrl_engine.equivalence import Reading, SymbolPool
from ttrl_engine.equivalence import reader as reader_module

# Within the guard's budget, and far beyond any patience.
ENDLESS = r"\int_0^1\sin(x^{x})\cos(e^{x^{7}})\sqrt{\tan(x)}dx"


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z" if Path("/proc").exists() else True


def gone_within(pids, seconds):
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.fixture
def stuck(tmp_path, monkeypatch):
    """A pool whose children never answer the text `hang`, and die of the text `die`."""
    body = (
        "import json, os, sys, time\n"
        'print(json.dumps({"ready": True}), flush=True)\n'
        "for line in sys.stdin:\n"
        "    text = json.loads(line)\n"
        "    if text == 'hang': time.sleep(600)\n"
        "    if text == 'die': os._exit(1)\n"
        "    if text == 'babble': print('[' * 100000, flush=True); continue\n"
        "    if text == 'memory': print(json.dumps({'failed': 'memory'}), flush=True); continue\n"
        "    print(json.dumps({'key': text + ' ' + str(os.getpid())}), flush=True)\n"
    )
    monkeypatch.setattr(reader_module, "_START", body)
    pool = SymbolPool(workers=1, time_limit_s=0.3, cache_path=tmp_path / "cache.sqlite3")
    yield pool
    pool.close()


def test_importing_the_package_loads_no_sympy_no_torch_and_starts_nothing():
    code = "import sys, ttrl_engine.equivalence; print(sorted({'sympy', 'torch', 'mpmath'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    pool = SymbolPool()
    assert pool.pids == []
    pool.close()


def test_equal_values_have_one_key_whoever_reads_them(pool):
    texts = [r"\log_2 4", r"\binom21", r"\sum_{k=1}^{2}1", r"\gcd(4,6)", r"|-2|", "2"]
    assert {reading.key for reading in pool.read(texts).values()} == {"2"}


def test_a_child_that_hangs_is_replaced_and_only_its_text_is_lost(stuck):
    readings = stuck.read(["a", "hang", "b"])
    assert readings["hang"] == Reading(None, "takes more than 0.3 s to read")
    assert readings["a"].key is not None
    assert readings["b"].key is not None
    assert readings["a"].key.split()[1] != readings["b"].key.split()[1]


def test_a_child_that_dies_is_replaced_and_only_its_text_is_lost(stuck):
    readings = stuck.read(["a", "die", "b", "babble", "c", "memory", "d"])
    assert [text for text, each in readings.items() if each.key is None] == ["die", "babble", "memory"]
    assert readings["die"].reason == "the process that read it stopped"
    assert readings["memory"].reason == "takes more memory to read than allowed"


def test_a_text_that_hangs_is_remembered_and_one_whose_child_died_is_tried_again(stuck):
    stuck.read(["hang", "die"])
    started = time.monotonic()
    assert stuck.read(["hang"])["hang"].key is None
    assert time.monotonic() - started < 0.2
    assert "die" not in stuck._remembered


def test_a_child_killed_from_outside_is_replaced(pool):
    pool.read([r"\log_2 4"])
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    readings = pool.read([r"\log_2 8", r"\log_2 16"])
    assert readings[r"\log_2 8"].reason == "the process that read it stopped"
    assert readings[r"\log_2 16"].key == "4"
    assert pool.read([r"\log_2 8"])[r"\log_2 8"].key == "3"


def test_a_pool_without_processes_says_so_and_waits_only_once(monkeypatch):
    monkeypatch.setattr(reader_module, "_START", "raise SystemExit(1)")
    pool = SymbolPool(workers=1)
    reasons = {reading.reason for reading in pool.read([f"\\log_2 {n}" for n in range(3, 30)]).values()}
    pool.close()
    assert reasons == {"the process that reads expressions could not be started"}


def test_no_child_outlives_close():
    pool = SymbolPool(workers=2)
    pool.read([f"\\log_2 {n}" for n in range(3, 40)])
    pids = pool.pids
    pool.close()
    assert pids
    assert gone_within(pids, 2)
    assert pool.read([r"\log_2 99"])[r"\log_2 99"].key is None
    assert pool.pids == []


@pytest.mark.parametrize("busy", [False, True])
def test_no_child_outlives_a_parent_that_is_killed(busy):
    code = (
        "import threading, time\nfrom ttrl_engine.equivalence import SymbolPool\n"
        "pool = SymbolPool(workers=1, time_limit_s=2)\npool.read(['\\\\log_2 4'])\nprint(*pool.pids, flush=True)\n"
        + (f"pool._readers[0]._process.stdin.write(b'{_json(ENDLESS)}\\n')\n" if busy else "")
        + "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    time.sleep(0.3 if busy else 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert pids
    assert gone_within(pids, 10)


def _json(text):
    return '"' + text.replace("\\", "\\\\\\\\") + '"'


def test_threads_share_a_pool_and_get_the_same_readings(pool):
    texts = [rf"\log_2 {n}" for n in range(3, 33)]
    results: list[dict[str, Reading]] = []
    threads = [threading.Thread(target=lambda: results.append(pool.read(texts))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(result == results[0] and list(result) for result in results)


def test_a_child_has_limits_no_secrets_and_an_empty_folder(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    pool = SymbolPool(workers=1, memory_bytes=1 << 30)
    pool.read([r"\log_2 4"])
    process = Path(f"/proc/{pool.pids[0]}")
    if not process.exists():
        pytest.skip("needs /proc")
    environment = (process / "environ").read_bytes()
    limits = (process / "limits").read_text().splitlines()
    folder = (process / "cwd").resolve()
    contents = list(folder.iterdir())
    session = (process / "stat").read_text().split(") ")[1].split()[3]
    pool.close()
    assert environment == b"LC_ALL=C.UTF-8\0"
    limit = {line[:25].strip(): line[26:].split()[0] for line in limits}
    assert limit["Max address space"] == str(1 << 30)
    assert limit["Max file size"] == "0"
    assert limit["Max processes"] == "0"
    assert limit["Max core file size"] == "0"
    assert int(limit["Max open files"]) <= 64
    assert int(limit["Max cpu time"]) <= 3600
    assert contents == []
    assert session != str(os.getsid(0))
    assert not folder.exists()
