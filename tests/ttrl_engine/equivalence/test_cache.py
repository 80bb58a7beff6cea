"""Readings on disk."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

from ttrl_engine.equivalence import Reading, SymbolPool
from ttrl_engine.equivalence import pool as pool_module
from ttrl_engine.equivalence.cache import ReadingCache


def test_a_text_is_read_once_across_restarts(tmp_path):
    path = tmp_path / "deep" / "cache.sqlite3"
    first = SymbolPool(workers=1, cache_path=path)
    readings = first.read([r"\log_2 4", r"\log_2 5"])
    first.close()
    second = SymbolPool(workers=1, cache_path=path)
    assert second.read([r"\log_2 4", r"\log_2 5"]) == readings
    assert second.pids == []
    second.close()


def test_another_version_reads_anew(tmp_path):
    path = tmp_path / "cache.sqlite3"
    old = ReadingCache(path, "1")
    old.put({"a": Reading("x"), "b": Reading(None, "too slow")})
    assert old.get(["a", "b", "c"]) == {"a": Reading("x"), "b": Reading(None, "too slow")}
    old.close()
    assert ReadingCache(path, "2").get(["a", "b"]) == {}
    assert "sympy" in pool_module._version()


def test_only_so_many_are_kept_and_the_oldest_go(tmp_path):
    cache = ReadingCache(tmp_path / "cache.sqlite3", "1", max_rows=10)
    for number in range(30):
        cache.put({str(number): Reading("x")})
    assert sorted(map(int, cache.get([str(number) for number in range(30)]))) == list(range(20, 30))


def test_a_corrupt_file_is_made_anew(tmp_path):
    path = tmp_path / "cache.sqlite3"
    path.write_bytes(b"no database at all " * 1000)
    cache = ReadingCache(path, "1")
    cache.put({"a": Reading("x")})
    assert cache.get(["a"]) == {"a": Reading("x")}


def test_a_file_that_goes_bad_while_it_is_open_costs_no_reading(tmp_path):
    path = tmp_path / "cache.sqlite3"
    cache = ReadingCache(path, "1")
    cache.put({str(number): Reading("x" * 500) for number in range(500)})
    cache.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    cache = ReadingCache(path, "1")
    cache.get([str(number) for number in range(500)])
    cache.put({"a": Reading("y")})
    cache.put({"a": Reading("y")})
    assert cache.get(["a"]) == {"a": Reading("y")}


def test_where_nothing_can_be_stored_nothing_is_and_reading_goes_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    pool = SymbolPool(workers=1, cache_path=tmp_path / "file" / "cache.sqlite3")
    assert pool.read([r"\log_2 4"])[r"\log_2 4"].key == "2"
    pool.close()


def test_several_processes_share_a_file(tmp_path):
    path = tmp_path / "cache.sqlite3"
    code = (
        "import sys\nfrom pathlib import Path\nfrom ttrl_engine.equivalence import Reading\n"
        "from ttrl_engine.equivalence.cache import ReadingCache\n"
        "cache = ReadingCache(Path(sys.argv[1]), '1')\n"
        "for n in range(100): cache.put({f'{sys.argv[2]} {n}': Reading('x')})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(name)]) for name in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    (count,) = sqlite3.connect(path).execute("SELECT count(*) FROM readings").fetchone()
    assert count == 300


def test_a_text_with_a_lone_surrogate_breaks_nothing(tmp_path):
    cache = ReadingCache(tmp_path / "cache.sqlite3", "1")
    cache.put({"\ud800": Reading("x")})
    assert cache.get(["\ud800"]) == {}
