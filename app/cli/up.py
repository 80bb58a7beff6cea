"""`ttrl-studio up` and `demo`: the web process and the worker under one supervisor."""

from __future__ import annotations

import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from app.supervise import Report, Service, Supervisor
from ttrl_engine.bundled import PROBLEM_SETS
from ttrl_engine.errors import ConfigError
from ttrl_engine.problems import BUNDLED_PREFIX, load_problem_set
from worker.settings import Settings
from worker.store import open_store

# The worker needs its own grace for a running job; the supervisor's must outlast it.
EXTRA_GRACE_S = 10.0
NUM_PORTS_TRIED = 20


def user_data_dir() -> Path:
    """Where a user's data goes when nobody said otherwise: below $XDG_DATA_HOME, or ~/.local/share."""
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share"
    return home / "ttrl-studio"


def settings_from(
    data_dir: Path | None, host: str | None, port: int | None, allowed_hosts: tuple[str, ...] = ()
) -> Settings:
    """The settings of this start: options first, then TTRL_STUDIO_… variables, then defaults.

    A port that nobody asked for moves up to the next free one; a port that was asked for must be free.
    Raises ConfigError if it is not.
    """
    given = Settings()
    asked = set(given.model_fields_set)
    changes: dict[str, object] = {}
    if data_dir is not None:
        changes["data_dir"] = data_dir
    elif "data_dir" not in asked:
        changes["data_dir"] = user_data_dir()
    if host is not None:
        changes["host"] = host
    final_host = host or given.host
    # Whoever binds an address means to be reached under it. A wildcard names no host; those are listed by hand.
    reachable = () if final_host in ("0.0.0.0", "::") else (final_host,)  # noqa: S104 -- compared, not bound
    changes["allowed_hosts"] = tuple(dict.fromkeys((*given.allowed_hosts, *reachable, *allowed_hosts)))
    wanted = given.port if port is None else port
    exact = port is not None or "port" in asked
    changes["port"] = free_port(final_host, wanted, 1 if exact else NUM_PORTS_TRIED)
    return Settings(**changes)  # type: ignore[arg-type]  # validated by pydantic, field by field


def free_port(host: str, wanted: int, num_tried: int) -> int:
    """The first port from `wanted` on that can be bound; 0 lets the system choose. Raises ConfigError if none can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(wanted, min(wanted + (num_tried if wanted else 1), 65536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except socket.gaierror:
                raise ConfigError(f"There is no network address {host!r} on this machine.") from None
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError(f"Port {wanted} of {host} is in use or not allowed. Choose another with --port, or 0 for any.")


def services(settings: Settings, with_worker: bool) -> list[Service]:
    """The processes of one installation, told everything by environment variables."""
    scratch = settings.data_dir / "scratch"
    scratch.mkdir(mode=0o700, exist_ok=True)
    environment = {
        "TTRL_STUDIO_DATA_DIR": str(settings.data_dir),
        "TTRL_STUDIO_HOST": settings.host,
        "TTRL_STUDIO_PORT": str(settings.port),
        "TTRL_STUDIO_ALLOWED_HOSTS": ",".join(settings.allowed_hosts),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(scratch),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }
    web = Service("web", (sys.executable, "-m", "app"), environment)
    worker = Service("worker", (sys.executable, "-m", "worker", "--data-dir", str(settings.data_dir)), environment)
    return [web, worker] if with_worker else [web]


def url_of(settings: Settings) -> str:
    """The address to open in a browser on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 -- compared, not bound
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{settings.port}"


def answers(url: str) -> bool:
    """Whether the web process says that it is ready."""
    # A proxy set for the outside world has no business between us and our own web process.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/healthz", timeout=1.0) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def serve(settings: Settings, with_worker: bool, report: Report, on_ready: Callable[[str], None]) -> None:
    """Run until TERM, INT or HUP. `on_ready` gets the address once, when /healthz first answers."""
    # Schema changes happen here, once, before two processes open the database.
    open_store(settings.data_dir)
    supervisor = Supervisor(services(settings, with_worker), settings.grace_s + EXTRA_GRACE_S, report)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, supervisor.request_stop)
    url, ready = url_of(settings), False

    def tell_when_ready() -> None:
        nonlocal ready
        if not ready and answers(url):
            ready = True
            on_ready(url)

    supervisor.run(tell_when_ready)


def add_bundled_sets(settings: Settings) -> None:
    """Put the bundled problem sets where the pages list them. One that is there, archived or not, stays as it is."""
    store = open_store(settings.data_dir)
    for name in PROBLEM_SETS:
        source = f"{BUNDLED_PREFIX}{name}"
        problem_set = load_problem_set(source)
        if store.problem_set(problem_set.content_hash) is None:
            store.add_problem_set(problem_set, source=source)
