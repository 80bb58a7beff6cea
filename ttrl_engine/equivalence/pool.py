"""Many texts read by a few child processes: from memory, else from the disk cache, else by a child."""

from __future__ import annotations

import atexit
import os
import queue
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from ttrl_engine.equivalence.cache import ReadingCache
from ttrl_engine.equivalence.guard import too_much
from ttrl_engine.equivalence.reader import NOT_STARTED, NotStartedError, Reader
from ttrl_engine.equivalence.reading import Reading, text_key

# Raise this with every change that gives some text another key.
READER_VERSION: Final = 1
DEFAULT_WORKERS: Final = 2
DEFAULT_TIME_LIMIT_S: Final = 3.0
DEFAULT_MEMORY_BYTES: Final = 1 << 30
MAX_REMEMBERED: Final = 65_536
CLOSED: Final = "reading has ended"

# Fewer texts than this are not worth waking a second child for.
_TEXTS_PER_CHILD: Final = 4


class SymbolPool:
    """Implements `Symbols`. Safe for several threads; children start when first needed.

    A text that takes longer than `time_limit_s`, or whose child dies, has a reading without a key, and the others go
    on with a fresh child. Texts that are too slow are remembered; what a killed child left unread is tried again.
    """

    def __init__(
        self,
        workers: int = DEFAULT_WORKERS,
        cache_path: Path | None = None,
        time_limit_s: float = DEFAULT_TIME_LIMIT_S,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        if workers < 1:
            raise ValueError("A pool needs at least one worker.")
        self._folder = tempfile.TemporaryDirectory(prefix="ttrl-reader-")
        self._readers = [Reader(Path(self._folder.name), time_limit_s, memory_bytes) for _ in range(workers)]
        # The reader that was used last is taken first: a single voter keeps to one process.
        self._idle: queue.LifoQueue[Reader] = queue.LifoQueue()
        for reader in self._readers:
            self._idle.put(reader)
        self._cache_path = cache_path
        self._cache: ReadingCache | None = None
        self._remembered: OrderedDict[str, Reading] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The child processes that run now."""
        return [reader.pid for reader in self._readers if reader.pid is not None]

    def read(self, texts: Sequence[str], /) -> dict[str, Reading]:
        """One reading per distinct text."""
        wanted = dict.fromkeys(texts)
        readings = {text: Reading(text_key(text)) for text in wanted if too_much(text) is not None}
        readings |= self._recalled([text for text in wanted if text not in readings])
        missing = [text for text in wanted if text not in readings]
        cache = self._opened_cache() if missing else None
        if missing and cache is not None:
            stored = cache.get(missing)
            self._remember(stored)
            readings |= stored
            missing = [text for text in missing if text not in readings]
        if missing:
            fresh, lasting = self._asked(missing)
            self._remember(lasting)
            if cache is not None:
                cache.put(lasting)
            readings |= fresh
        return readings

    def close(self) -> None:
        """Kill the children. Texts that are read later have no key."""
        with self._lock:
            self._closed = True
        for reader in self._readers:
            reader.close()
        if self._cache is not None:
            self._cache.close()
        self._folder.cleanup()

    def _asked(self, texts: list[str]) -> tuple[dict[str, Reading], dict[str, Reading]]:
        """All readings, and those of them that another child would give again."""
        waiting = deque(texts)
        fresh: dict[str, Reading] = {}
        lasting: dict[str, Reading] = {}

        def work() -> None:
            reader = self._idle.get()
            try:
                while True:
                    try:
                        text = waiting.popleft()
                    except IndexError:
                        return
                    reading = Reading(None, CLOSED) if self._closed else _ask(reader, text)
                    fresh[text] = reading
                    if reading.key is not None or reading.reason == reader.too_slow():
                        lasting[text] = reading
                    elif reading.reason == NOT_STARTED:  # it would be for all others, too, after another long wait
                        fresh.update((each, reading) for each in waiting)
                        waiting.clear()
            finally:
                self._idle.put(reader)

        helpers = min(len(self._readers), 1 + (len(texts) - 1) // _TEXTS_PER_CHILD) - 1
        threads = [threading.Thread(target=work, daemon=True) for _ in range(helpers)]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
        return fresh, lasting

    def _recalled(self, texts: list[str]) -> dict[str, Reading]:
        with self._lock:
            found = {text: self._remembered[text] for text in texts if text in self._remembered}
            for text in found:
                self._remembered.move_to_end(text)
            return found

    def _remember(self, readings: dict[str, Reading]) -> None:
        with self._lock:
            self._remembered.update(readings)
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)

    def _opened_cache(self) -> ReadingCache | None:
        with self._lock:
            if self._cache is None and self._cache_path is not None and not self._closed:
                self._cache = ReadingCache(self._cache_path, _version())
            return self._cache


def _ask(reader: Reader, text: str) -> Reading:
    try:
        return reader.ask(text)
    except NotStartedError:
        return Reading(None, NOT_STARTED)


def _version() -> str:
    libraries = ("math-verify", "latex2sympy2_extended", "sympy", "mpmath")
    return " ".join([f"reader {READER_VERSION}", *(f"{name} {metadata.version(name)}" for name in libraries)])


_shared: SymbolPool | None = None
_shared_cache: Path | None = None
_shared_lock = threading.Lock()


def shared_symbols() -> SymbolPool:
    """The pool of this process, made when first needed and closed when the process ends."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = SymbolPool(cache_path=_shared_cache or _default_cache())
            atexit.register(_shared.close)
        return _shared


def configure_shared(cache_path: Path) -> None:
    """Where the pool of this process keeps its readings. Takes effect before the pool is first used."""
    global _shared_cache
    _shared_cache = cache_path


def _default_cache() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "ttrl-studio" / "answers.sqlite3"
