"""What a run leaves: its frozen config, its history, its files."""

from __future__ import annotations

import json
from collections.abc import Sequence

from app import components as ui
from app.format import compact, count, moment
from app.icons import icon
from ttrl_engine.config import RunConfig
from worker.rows import CheckpointRow, HistoryRow, NoteRow, RunRow


def changed_settings(config: RunConfig) -> list[tuple[str, str]]:
    """Settings that differ from the defaults, by dotted name, the name of the run left out."""
    return [
        (name, value) for name, value, default in flat_pairs(config, RunConfig()) if value != default and name != "name"
    ]


def flat_pairs(config: RunConfig, other: RunConfig) -> list[tuple[str, str, str]]:
    """(dotted name, value, value in the other) of every setting."""
    others = _flat(other)
    return [(name, value, others[name]) for name, value in _flat(config).items()]


def _flat(config: RunConfig) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in config.model_dump(mode="json").items():
        parts = {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
        found |= {
            key: json.dumps(inner, ensure_ascii=False) if not isinstance(inner, str) else inner
            for key, inner in parts.items()
        }
    return found


def config_view(run: RunRow) -> str:
    """The frozen config: what was changed, the YAML, and how to repeat it without a browser."""
    changed = changed_settings(run.config)
    chips = ui.chips(changed) if changed else '<p class="tt-muted">Nothing differs from the defaults.</p>'
    command = f"ttrl-studio run run-{run.id}.yaml"
    facts = ui.facts(
        [
            ("Digest of the config", run.config_digest),
            ("Content hash of the problems", run.data_hash),
            *sorted(run.versions.items()),
        ]
    )
    download = ui.link_button(
        "YAML", f"/download/runs/{run.id}/config.yaml", icon_name="download", look="quiet", download=True
    )
    return (
        ui.card(chips, "Changed from the defaults")
        + ui.card(ui.copyable(run.config.to_yaml(), name="yaml"), "Complete config", download)
        + ui.card(
            f'<p class="tt-muted">Save the YAML, then:</p>{ui.copyable(command, name="command")}',
            "The same run without a browser",
        )
        + ui.card(facts, "What it was computed with")
    )


def history_view(history: Sequence[HistoryRow], notes: Sequence[NoteRow], now: float) -> str:
    """Every state the job went through, and what the engine noted."""
    rows = [
        ui.row(
            [
                ui.escape(moment(each.at, now)),
                ui.state_pill(each.to_state, past=each is not history[-1]),
                ui.escape(each.reason),
            ],
            key=f"h{each.id}",
            wrap=(2,),
        )
        for each in history
    ]
    parts = [ui.card(ui.table(("When", "State", "Why"), rows, "States of the job"), "States", flush=True)]
    if notes:
        looks = {"warning": ("Warning", "warn", "warning"), "error": ("Error", "bad", "error")}
        lines = [
            ui.row(
                [
                    ui.escape(moment(each.at, now)),
                    str(each.step),
                    ui.pill(*looks.get(each.level, ("Note", "idle", "info"))),
                    ui.escape(each.message),
                ],
                key=f"n{each.id}",
                wrap=(3,),
                right=(1,),
            )
            for each in notes
        ]
        parts.append(
            ui.card(
                ui.table(("When", "Step", "Kind", "Note"), lines, "Notes of the engine", right=(1,)),
                "Notes",
                flush=True,
            )
        )
    return "".join(parts)


def files_view(run: RunRow, checkpoints: Sequence[CheckpointRow], on_disk: set[int], now: float) -> str:
    """What can be downloaded, and which checkpoints there are."""
    base = f"/download/runs/{run.id}"
    what = "LoRA adapter" if run.config.model.method == "lora" else "Trained weights"
    downloads = [
        ("Evidence report, opens by itself (HTML)", f"{base}/report.html", True),
        ("Evidence report (PDF)", f"{base}/report.pdf", True),
        (f"{what} (ZIP of safetensors)", f"{base}/adapter.zip", bool(run.policy_path)),
        ("Metrics, one line per step (CSV)", f"{base}/metrics.csv", True),
        ("Evaluations with intervals (CSV)", f"{base}/evaluations.csv", True),
        *(
            (f"{title}, one row each ({words})", f"{base}/table/{table}.{ending}", True)
            for table, title in (("metrics", "Metrics"), ("elections", "Votes"), ("scores", "Scores of problems"))
            for ending, words in (("csv", "CSV"), ("parquet", "Parquet"))
        ),
        ("Model card (Markdown)", f"{base}/card.md", True),
        ("Config (YAML)", f"{base}/config.yaml", True),
        ("Log (text)", f"{base}/log.txt", run.job.started_at is not None),
        ("Figure (PNG)", f"{base}/figure.png", run.step > 0),
        ("Figure (SVG)", f"{base}/figure.svg", run.step > 0),
        ("Figure (PDF)", f"{base}/figure.pdf", run.step > 0),
    ]
    rows = [
        ui.row(
            [
                ui.escape(name),
                f'<a href="{url}" download>{icon("download")} Download<span class="tt-sr"> {ui.escape(name)}</span></a>'
                if there
                else '<span class="tt-muted">not yet</span>',
            ],
            right=(1,),
        )
        for name, url, there in downloads
    ]
    parts = [ui.card(ui.table(("File", ""), rows, "Downloads", right=(1,)), "Downloads", flush=True)]
    saved = [
        ui.row(
            [
                f"Step {each.step:,}",
                ui.escape(moment(each.at, now)),
                "on disk" if each.step in on_disk else '<span class="tt-muted">removed to save space</span>',
            ],
            key=each.step,
        )
        for each in reversed(checkpoints)
    ]
    if saved:
        parts.append(ui.card(ui.table(("Checkpoint", "Saved", ""), saved, "Checkpoints"), "Checkpoints", flush=True))
    facts = [
        ("Parameters", compact(run.num_parameters)),
        ("Of these learn", compact(run.num_trainable)),
        ("Adapt problems", count(run.num_adapt)),
        ("Held-out problems", count(run.num_held_out)),
        ("CPU threads", count(run.threads)),
        ("Resumes", str(run.job.resumes)),
    ]
    parts.append(ui.card(ui.facts(facts), "Numbers"))
    return "".join(parts)
