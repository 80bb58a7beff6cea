"""One child process as its parent sees it: started when first asked, killed when it does not answer."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import ttrl_engine
from ttrl_engine.equivalence.reading import Reading

START_LIMIT_S: Final = 60.0
# sympy keeps what it has seen; a fresh process now and then keeps it small.
MAX_TEXTS: Final = 5000
MAX_LINE_BYTES: Final = 65_536
# The child counts the seconds that it computes and ends itself; by the clock a busy machine may need many times that.
PATIENCE: Final = 10
STOPPED: Final = "the process that read it stopped"
OUT_OF_MEMORY: Final = "takes more memory to read than allowed"
NOT_STARTED: Final = "the process that reads expressions could not be started"

_ROOT: Final = str(Path(ttrl_engine.__file__).resolve().parents[1])
_START: Final = "import sys; sys.path.insert(0, sys.argv[1]); from ttrl_engine.equivalence.child import main; main()"


class NotStartedError(Exception):
    """The process did not come up."""


class Reader:
    """Not for several threads at once, except `close`."""

    def __init__(self, folder: Path, time_limit_s: float, memory_bytes: int) -> None:
        self._folder = folder
        self._time_limit_s = time_limit_s
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._num_texts = 0
        self._closed = False
        self._unread = b""  # what came after the last line

    @property
    def pid(self) -> int | None:
        """The process that runs now, if one does."""
        return None if self._process is None else self._process.pid

    def too_slow(self) -> str:
        """The reason of a text that takes too long."""
        return f"takes more than {self._time_limit_s:g} s to read"

    def ask(self, text: str) -> Reading:
        """The reading of one text. Raises NotStartedError where no process can be had."""
        if self._num_texts >= MAX_TEXTS:
            self.kill()
        process = self._process or self._started()
        self._num_texts += 1
        try:
            line = self._exchange(process, json.dumps(text).encode() + b"\n")
        except TimeoutError:
            self.kill()
            return Reading(None, self.too_slow())
        except (OSError, ValueError):  # it died, or `close` took its pipes away
            line = b""
        try:
            reply = json.loads(line)
            return Reading(str(reply["key"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            ending = self.kill()
            if ending == -signal.SIGPROF:
                return Reading(None, self.too_slow())
            return Reading(None, OUT_OF_MEMORY if b'"failed"' in line else STOPPED)

    def close(self) -> None:
        """Kill the process for good: no other one starts."""
        self._closed = True
        self.kill()

    def kill(self) -> int | None:
        """End the process at once and wait for it; how it ended (`Popen.returncode`), if there was one."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise NotStartedError
        self._unread = b""
        command = [sys.executable, "-I", "-c", _START, _ROOT, str(self._memory_bytes), str(self._time_limit_s)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._folder,
                env={"LC_ALL": "C.UTF-8"},
                start_new_session=True,
                bufsize=0,
            )
            line = self._line(self._process, START_LIMIT_S)
        except OSError as error:  # a timeout is one, too
            self.kill()
            raise NotStartedError from error
        if b'"ready"' not in line or self._closed:
            self.kill()
            raise NotStartedError
        self._num_texts = 0
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes) -> bytes:
        assert process.stdin is not None
        process.stdin.write(request)
        line = self._line(process, PATIENCE * self._time_limit_s)
        if b'"loading"' in line:  # sympy, for the first text that needs it
            self._line(process, START_LIMIT_S)
            line = self._line(process, PATIENCE * self._time_limit_s)
        return line

    def _line(self, process: subprocess.Popen[bytes], limit_s: float) -> bytes:
        """The next line of output, empty where there is none to come. Raises TimeoutError."""
        assert process.stdout is not None
        until = time.monotonic() + limit_s
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._unread:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            part = process.stdout.read(65_536)
            self._unread += part
            if not part or len(self._unread) > MAX_LINE_BYTES:
                return b""
        line, _, self._unread = self._unread.partition(b"\n")
        return line
