"""The process that reads texts: one JSON value per line in, one object out, until the input ends.

It gives up its rights before it reads the first text: memory, time, files and processes are limited, and an audit hook
refuses what reading a text never needs. It runs as `python -I`, in an empty folder, with an empty environment.

sympy takes a second to load and few texts need it, so it is loaded for the first that does. The hook then lets our own
imports pass; two lines, `loading` and `loaded`, tell the parent that the text's time does not run meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Final, TextIO

from ttrl_engine.equivalence import guard
from ttrl_engine.equivalence.evaluate import NoValueError, key_of
from ttrl_engine.equivalence.grammar import Call, NotAnExpressionError, parse
from ttrl_engine.equivalence.names import is_symbolic
from ttrl_engine.equivalence.reading import split_top, text_key

CPU_LIMIT_S: Final = 3600
OPEN_FILES: Final = 32
OUT_OF_MEMORY: Final = "memory"

_REFUSED: Final = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.remove",
    "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.kill",
    "os.putenv", "os.listdir", "os.scandir", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "webbrowser.",
    "urllib.", "ftplib.", "http.", "smtplib.", "sqlite3.", "code.__new__", "pickle.", "marshal.loads",
)  # fmt: skip
# Read while sympy is loaded, so that whatever it loads or compiles late is there before any text.
_REHEARSAL: Final = (
    "\\sum_{k=1}^{n}k", "\\int_0^1 x^2dx", "\\gcd(4,6)", "\\max(2,\\sqrt{3})", "\\lim_{x\\to 0}\\frac{\\sin x}{x}",
    "\\sum_{n=1}^{\\infty}\\frac{1}{n^2}", "7\\bmod 3", "\\prod_{k=1}^{4}k",
)  # fmt: skip


class Reader:
    """Reads texts, and loads sympy when one needs it."""

    def __init__(self, output: TextIO, time_limit_s: float) -> None:
        self._output = output
        self._time_limit_s = time_limit_s
        self._symbolic: Callable[[str], str] | None = None
        self.loading = False

    def serve(self, lines: TextIO) -> None:
        """Answer line by line until there are no more."""
        for line in lines:
            self._alarm(self._time_limit_s)
            try:
                reply: dict[str, object] = {"key": self.read(json.loads(line))}
            except MemoryError:
                reply = {"failed": OUT_OF_MEMORY}
            self._alarm(0)
            self.answer(reply)

    def answer(self, reply: dict[str, object]) -> None:
        """Send one line."""
        self._output.write(json.dumps(reply) + "\n")
        self._output.flush()

    def read(self, text: str) -> str:
        """The key of an expression, or of an equation `left = right`; what has no value is compared as text."""
        if guard.too_much(text) is not None:
            return text_key(text)
        sides = split_top(text, "=")
        try:
            if len(sides) == 2:
                return key_of(Call("+", (parse(sides[0]), Call("-", (parse(sides[1]),)))), equation=True)
            return key_of(parse(text))
        except (NoValueError, NotAnExpressionError):
            pass
        if len(sides) > 1 or not is_symbolic(text):
            return text_key(text)
        symbolic = self._symbolic or self._loaded()
        try:
            return symbolic(text)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - sympy raises whatever it likes
            return text_key(text)

    def _loaded(self) -> Callable[[str], str]:
        self._alarm(0)
        self.answer({"loading": True})
        self.loading = True
        from ttrl_engine.equivalence import symbolic

        for text in _REHEARSAL:
            with contextlib.suppress(Exception):
                symbolic.key_of(text)
        self.loading = False
        self._symbolic = symbolic.key_of
        self.answer({"loaded": True})
        self._alarm(self._time_limit_s)
        return self._symbolic

    def _alarm(self, seconds: float) -> None:
        """Have this process killed in the middle of whatever it does, unless it is done before.

        Seconds of its own computing, not of the clock: what a text is worth must not depend on how busy the machine is.
        """
        signal.setitimer(signal.ITIMER_PROF, seconds)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """The audit hook. Raises PermissionError for what no text needs."""
        if not self.loading:
            _audit(event, arguments)


def main() -> None:
    """Serve until the input ends. Arguments: the memory limit in bytes and the time limit per text in seconds."""
    memory_bytes, time_limit_s = int(sys.argv[2]), float(sys.argv[3])
    reader = Reader(sys.stdout, time_limit_s)
    sys.stdout = sys.stderr  # whatever a library prints must not look like an answer
    sys.dont_write_bytecode = True
    for text in ("\\sin x+|x|!", "\\log_2 3^{1/3}=4", "\\binom{5}{2}"):
        reader.read(text)
    _limit(memory_bytes)
    sys.addaudithook(reader.audit)
    reader.answer({"ready": True})
    reader.serve(sys.stdin)


def _limit(memory_bytes: int) -> None:
    limits = [
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, CPU_LIMIT_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ]
    for name, limit in limits:
        with contextlib.suppress(ValueError, OSError):  # a system without this limit, or with a lower one
            resource.setrlimit(name, (limit, limit))


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(_REFUSED):
        raise PermissionError(f"{event} is refused")
    if event == "open":
        _, mode, flags = arguments
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & writing):
            raise PermissionError("writing is refused")
    elif event == "compile":
        source, name = arguments
        if source is not None or _is_made_up(name):
            raise PermissionError("compiling is refused")
    elif event == "exec" and _is_made_up(getattr(arguments[0], "co_filename", "<")):
        raise PermissionError("evaluating is refused")


def _is_made_up(name: object) -> bool:
    """Whether code came from a string, not from a file of ours or of a library."""
    return str(name).startswith("<") and not str(name).startswith("<frozen")
