"""A browser tab without the browser: the requests that an open page makes, at the times at which it makes them.

Recorded from Chromium: the page, then one event per `load` handler of it, their results over one event stream, and from
then on one event and one stream per handler of the page's timer at each of its ticks. A heartbeat stream stays open as
long as the tab. What the server says about the timer (another interval, off) is obeyed as the page does. Scripts and
styles are left out: a browser keeps them.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_CONFIG = "window.gradio_config = "
_API = "/gradio_api"
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Handler:
    """One handler of the page: `data` is what the browser sends as its inputs, which the server keeps itself."""

    number: int
    trigger: int
    data: list[None]
    outputs: list[int]


@dataclass
class Tab:
    """One tab on one page. Use from one thread."""

    origin: str
    path: str
    session: str = field(default_factory=lambda: secrets.token_hex(6))
    interval_s: float | None = None

    def __post_init__(self) -> None:
        self._address = urlsplit(self.origin).netloc
        self._http = http.client.HTTPConnection(self._address, timeout=PATIENCE_S)
        self._pulse: http.client.HTTPConnection | None = None
        query = urlsplit(self.path).query
        self._join = f"{_API}/queue/join" + (f"?{query}" if query else "")
        self._timer = 0

    def open(self) -> float:
        """Fetch the page and run what it runs when opened; returns wall seconds from the request to the last result."""
        start = time.perf_counter()
        page = self._get(self.path).read().decode()
        config, _ = json.JSONDecoder().raw_decode(page[page.index(_CONFIG) + len(_CONFIG) :])
        self._read_config(config)
        if self._pulse is None:
            self._pulse = http.client.HTTPConnection(self._address, timeout=PATIENCE_S)
            self._pulse.request("GET", f"{_API}/heartbeat/{self.session}", headers={"Accept": "text/event-stream"})
        self._run(self._loads)
        return time.perf_counter() - start

    def tick(self) -> float:
        """One tick of the page's timer; returns wall seconds from the first request to the last result."""
        start = time.perf_counter()
        for handler in self._ticks:
            self._run([handler])
        return time.perf_counter() - start

    def close(self) -> None:
        """As when the tab is closed."""
        self._http.close()
        if self._pulse is not None:
            self._pulse.close()

    @property
    def has_timer(self) -> bool:
        """Whether the page refreshes itself."""
        return bool(self._ticks)

    def _read_config(self, config: dict[str, Any]) -> None:
        page = config["page"][config["current_page"]]
        handlers: dict[str, list[Handler]] = {"load": [], "tick": []}
        for each in config["dependencies"]:
            for target, event in each["targets"]:
                if each["id"] in page["dependencies"] and event in handlers:
                    trigger = target if event == "tick" else 0
                    handlers[event].append(Handler(each["id"], trigger, [None] * len(each["inputs"]), each["outputs"]))
        self._loads, self._ticks = handlers["load"], handlers["tick"]
        timers = [c for c in config["components"] if c["type"] == "timer" and c["id"] in page["components"]]
        if timers:
            self._timer = timers[0]["id"]
            self._obey(timers[0]["props"])

    def _obey(self, props: dict[str, Any]) -> None:
        if not props.get("active", True):
            self.interval_s = None
        elif "value" in props:
            self.interval_s = float(props["value"])

    def _run(self, handlers: list[Handler]) -> None:
        waiting = {self._start(handler): handler for handler in handlers}
        if not waiting:
            return
        for message in self._stream():
            event = message.get("event_id")
            if message["msg"] == "process_completed" and event in waiting:
                handler = waiting.pop(event)
                if not message["success"]:
                    raise RuntimeError(f"The server could not refresh {self.path}: {message['output']}")
                for place, value in zip(handler.outputs, message["output"]["data"], strict=True):
                    if place == self._timer and isinstance(value, dict):
                        self._obey(value)
            elif message["msg"] in ("unexpected_error", "server_stopped"):
                raise RuntimeError(f"The server could not refresh {self.path}: {message}")
        if waiting:
            raise RuntimeError(f"The server ended the stream of {self.path} before all results were there.")

    def _start(self, handler: Handler) -> str:
        body = {
            "data": handler.data,
            "event_data": None,
            "fn_index": handler.number,
            "trigger_id": handler.trigger,
            "session_hash": self.session,
        }
        headers = {"Content-Type": "application/json", "Origin": self.origin}
        answer = self._ask("POST", self._join, json.dumps(body), headers)
        said = json.loads(answer.read())
        if answer.status != http.client.OK:
            raise RuntimeError(f"The server refused an event of {self.path}: {answer.status} {said}")
        return str(said["event_id"])

    def _stream(self) -> Iterator[dict[str, Any]]:
        answer = self._get(f"{_API}/queue/data?session_hash={self.session}", {"Accept": "text/event-stream"})
        for line in answer:
            if not line.startswith(b"data:"):
                continue
            message = json.loads(line[5:])
            if message["msg"] == "close_stream":
                break
            yield message
        answer.read()

    def _get(self, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        answer = self._ask("GET", path, None, headers or {})
        if answer.status != http.client.OK:
            raise RuntimeError(f"{path} gave status {answer.status}.")
        return answer

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        try:
            self._http.request(method, path, body, headers)
            return self._http.getresponse()
        except ConnectionError:
            # The server closes a connection that was idle for some seconds; a browser opens another.
            self._http.close()
            self._http.request(method, path, body, headers)
            return self._http.getresponse()
