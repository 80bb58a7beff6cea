"""The Settings page: webhooks, what the operator decided, and how the machine is. The last two are read-only."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from app import components as ui
from app.format import moment, size
from app.pages.run_strips import worker_missing
from app.pages.settings_webhooks import notification_settings
from app.services import Services
from worker import health
from worker.rows import WorkerStatus
from worker.settings import Settings

_LOOKS = {
    "ok": ("good", "check", "Fine"),
    "warn": ("warn", "warning", "Look at it"),
    "fail": ("bad", "error", "Broken"),
}


def build(services: Services) -> None:
    """The page, inside its route."""
    ui.live(
        ui.page_head(
            "Settings",
            (
                "How this installation is set up and whether it is well. Settings come from the environment "
                "or the command line."
            ),
        )
    )
    timer = gr.Timer(5)
    worker = ui.live(ui.skeleton())
    notification_settings(services, timer)
    machine, operator = ui.live(), ui.live()
    token = gr.State("")

    def opened() -> tuple[str, str, str, str]:
        status = services.store.worker_status()
        return (
            _token(status),
            worker_card(status, time.time()),
            machine_cards(services.settings),
            operator_card(services.settings),
        )

    def ticked(seen: str) -> tuple[Any, Any]:
        status = services.store.worker_status()
        return (gr.skip(), gr.skip()) if _token(status) == seen else (_token(status), worker_card(status, time.time()))

    ui.on_load(opened, None, [token, worker, machine, operator])
    ui.tick(timer, ticked, [token], [token, worker])


def _token(status: WorkerStatus) -> str:
    return f"{status.alive}|{status.pid}|{(status.last_seen_at or 0) // 15:.0f}"


def worker_card(status: WorkerStatus, now: float) -> str:
    """Whether something computes, and how much at once."""
    if not status.alive:
        last = (
            f"It was last seen {moment(status.last_seen_at, now)}."
            if status.last_seen_at
            else "It was never seen with this data folder."
        )
        body = f'<p class="tt-muted">{ui.escape(last)}</p>{worker_missing()}'
        return ui.card(body, "Worker")
    facts = [
        ("Seen", ""),
        ("Running since", moment(status.started_at, now)),
        ("Process", str(status.pid)),
        ("Jobs at a time", str(status.slots)),
        ("GPUs", ", ".join(status.gpus) or "none, computes on the CPU"),
    ]
    sign = ui.age(max(0.0, now - (status.last_seen_at or now)), "{} ago", 60, "silent for {}")
    body = ui.facts(facts).replace("<dt>Seen</dt><dd></dd>", f"<dt>Seen</dt><dd>{sign}</dd>", 1)
    return ui.card(body, "Worker", ui.pill("Running", "good", "check"))


def machine_cards(settings: Settings) -> str:
    """Checks, GPUs, disk and versions."""
    rows = []
    for check in health.checks(settings):
        look, icon_name, word = _LOOKS[check.status]
        hint = f'<div class="tt-muted tt-small">{ui.escape(check.hint)}</div>' if check.hint else ""
        rows.append(
            ui.row(
                [f"<b>{ui.escape(check.name)}</b>", ui.pill(word, look, icon_name), ui.escape(check.message) + hint],
                key=check.name,
                wrap=(2,),
            )
        )
    parts = [ui.card(ui.table(("What", "State", "Seen"), rows, "Checks of this machine"), "Health", flush=True)]
    space = health.disk(settings.data_dir)
    used = 1 - space.free_bytes / space.total_bytes if space.total_bytes else None
    disk = ui.progress(
        used, f"<b>{size(space.free_bytes)}</b> free of {size(space.total_bytes)}", "", "idle", "Disk in use"
    )
    parts.append(f'<div class="tt-grid">{ui.card(disk, "Disk of the data folder")}{_gpu_card()}</div>')
    parts.append(ui.card(ui.facts(list(health.versions().items())), "Versions"))
    return "".join(parts)


def _gpu_card() -> str:
    found = health.gpus()
    if not found:
        return ui.card('<p class="tt-muted">No NVIDIA GPU was found. Everything computes on the CPU.</p>', "GPUs")
    parts = []
    for gpu in found:
        busy = f"{gpu.utilisation}\u202f% busy" if gpu.utilisation is not None else "utilisation unknown"
        text = f"<b>{ui.escape(gpu.name)}</b> {size(gpu.memory_used)} of {size(gpu.memory_total)}"
        parts.append(
            ui.progress(
                gpu.memory_used / gpu.memory_total if gpu.memory_total else None,
                text,
                busy,
                "",
                f"Memory of GPU {gpu.index}",
            )
        )
    return ui.card("".join(parts), "GPUs")


def operator_card(settings: Settings) -> str:
    """The operator's settings with the variable that sets each."""
    shown = {
        "data_dir": str(settings.data_dir),
        "host": f"{settings.host}:{settings.port}",
        "allowed_hosts": ", ".join(settings.allowed_hosts),
        "model_roots": ", ".join(map(str, settings.model_roots)) or "none: only bundled and hub models",
        "hub_allowed": "yes" if settings.hub_allowed else "no",
        "trust_remote_code": "yes: code that ships with a model may run" if settings.trust_remote_code else "no",
        "max_upload_bytes": size(settings.max_upload_bytes),
        "slots": str(settings.slots) if settings.slots else "one per GPU, or one on the CPU",
        "grace_s": f"{settings.grace_s:g}\u202fs",
        "time_limit_s": f"{settings.time_limit_s:g}\u202fs" if settings.time_limit_s else "none",
    }
    rows = [
        ui.row(
            [
                ui.escape(Settings.model_fields[name].description or name),
                f"<b>{ui.escape(value)}</b>",
                f"<code>TTRL_STUDIO_{name.upper()}</code>",
            ],
            key=name,
            wrap=(0, 1),
        )
        for name, value in shown.items()
    ]
    return ui.card(
        ui.table(("Setting", "Value", "Set by"), rows, "Settings of the operator"), "Set by the operator", flush=True
    )
