"""The commands of `ttrl-studio`. Each reads its options, calls one function, and turns errors into a sentence."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from ttrl_engine.config import PRESETS, RunConfig, TaskKind
from ttrl_engine.errors import DataError, StudioError

STATUS_MARKS = {"ok": "[green]ok  [/green]", "warning": "[yellow]note[/yellow]", "missing": "[red]miss[/red]"}
GONE_WRONG = 1
# As a shell reports a program that the closing of its pipe ended.
READER_GONE = 141

cli = typer.Typer(
    name="ttrl-studio",
    help="Make an open language model better at problems that have no answers, and see whether it worked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of everything stored [env: TTRL_STUDIO_DATA_DIR].", file_okay=False),
]
Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on [env: TTRL_STUDIO_HOST]; 127.0.0.1 unless set.")
]
Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="Port to listen on [env: TTRL_STUDIO_PORT]; 0 takes a free one."),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option("--allow-host", help="Another host name that browsers may use to get here; may be repeated."),
]
NoWorker = Annotated[bool, typer.Option("--no-worker", help="Only the pages; jobs wait until a worker runs.")]
PresetName = Annotated[str | None, typer.Option("--preset", help=f"One of: {', '.join(PRESETS)}.")]


def main() -> None:
    """Run the command line; a StudioError becomes one sentence on stderr and exit status 1."""
    try:
        cli()
    except StudioError as failure:
        _errors().print(f"[bold red]{escape(str(failure))}[/bold red]", highlight=False, soft_wrap=True)
        raise SystemExit(GONE_WRONG) from None


@cli.command()
def up(
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    allow_host: AllowHost = None,
    no_worker: NoWorker = False,
) -> None:
    """Start the pages and the worker, restart what dies, stop both cleanly on Ctrl-C or TERM."""
    from app.cli.up import serve, settings_from

    settings = settings_from(data_dir, host, port, tuple(allow_host or ()))
    console = _errors()

    def on_ready(url: str) -> None:
        console.print(f"TTRL Studio is ready at [bold link={url}]{url}[/bold link]", highlight=False)
        console.print(f"Everything is stored in {escape(str(settings.data_dir))}. Ctrl-C stops it.", highlight=False)

    serve(settings, not no_worker, _reporter(console), on_ready)


@cli.command()
def demo(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Start everything with the bundled problem sets in place, and say what to press."""
    from app.cli.up import add_bundled_sets, serve, settings_from

    settings = settings_from(data_dir, host, port)
    add_bundled_sets(settings)
    console = _errors()
    console.print("Starting TTRL Studio. The first start takes a few seconds.")

    def on_ready(url: str) -> None:
        lines = (
            "",
            f"  Open [bold link={url}/new]{url}/new[/bold link] and press Start.",
            "  The proposed run takes the bundled model and 128 unlabeled problems; no GPU, no download.",
            "  You may close the page while it runs; a run that is interrupted goes on at the next start.",
            f"  Everything is stored in {escape(str(settings.data_dir))}. Ctrl-C stops TTRL Studio.",
            "",
        )
        for line in lines:
            console.print(line, highlight=False, soft_wrap=True)

    serve(settings, True, _reporter(console), on_ready)


@cli.command()
def run(
    config_file: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A YAML file; `ttrl-studio config` prints one.")
    ] = None,
    preset: PresetName = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, such as vote.num_votes=32; repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; one below the data folder unless set.", file_okay=False),
    ] = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events as JSON lines instead of bars.")] = False,
) -> None:
    """Run without a browser. Ctrl-C saves a checkpoint; the same command goes on from there."""
    from app.cli.run import (
        EXIT_CODES,
        json_emitter,
        resolve_config,
        run_in_processes,
        run_in_terminal,
        run_silently,
    )
    from ttrl_engine.launch import is_first, is_rank

    config = resolve_config(config_file, preset, changes or [])
    home = _data_dir(data_dir)
    folder = out or home / "terminal-runs" / config.digest()
    if config.hardware.gpus > 1 and not is_rank():
        raise typer.Exit(run_in_processes(config, folder, home))
    if not is_first():
        run_silently(config, folder, home)
        return
    if as_json:
        finished = run_in_terminal(config, folder, home, json_emitter(sys.stdout))
    else:
        from app.cli.progress import TerminalProgress

        console = Console()
        console.print(f"The run keeps its files in {escape(str(folder))}", highlight=False, soft_wrap=True)
        with TerminalProgress(console) as progress:
            finished = run_in_terminal(config, folder, home, progress.emit)
    raise typer.Exit(EXIT_CODES[finished.ending])


@cli.command()
def preflight(
    config_file: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A YAML file; `ttrl-studio config` prints one.")
    ] = None,
    preset: PresetName = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, such as vote.num_votes=32; repeatable."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was seen as one JSON object.")] = False,
) -> None:
    """Say whether a run can be expected to help, from the votes on a few problems; nothing is kept."""
    from rich.progress import Progress

    from app.cli.preflight import check_run
    from app.cli.run import resolve_config

    config = resolve_config(config_file, preset, changes or [])
    with Progress(console=_errors(), transient=True) as bars:
        task = bars.add_task("Answers", total=None)
        report = check_run(
            config, _data_dir(data_dir), lambda done, total: bars.update(task, completed=done, total=total)
        )
    sys.stdout.write(json.dumps(report.as_dict()) + "\n" if as_json else "\n".join(report.lines()) + "\n")


@cli.command()
def config(preset: PresetName = None) -> None:
    """Print a config as YAML, ready to be changed and given to `ttrl-studio run`."""
    from app.cli.run import preset_config

    sys.stdout.write((RunConfig() if preset is None else preset_config(preset)).to_yaml())


@cli.command()
def vote(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSONL file; - reads standard input.")],
    kind: Annotated[TaskKind, typer.Option("--kind", help="How answers are read and compared.")],
    read: Annotated[
        Literal["boxed", "stated"] | None,
        typer.Option("--read", help="boxed takes the last \\boxed{} only; stated, the default, stated answers too."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", help="One decision of the closed list; repeatable. Yes and no else.")
    ] = None,
    pattern: Annotated[str | None, typer.Option("--pattern", help="Regular expression of the kind pattern.")] = None,
    unit: Annotated[str | None, typer.Option("--unit", help="Of numbers: other units are other answers.")] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", help="Of numbers: relative distance of equal ones.")
    ] = None,
    tie: Annotated[
        Literal["abstain", "first_sampled"], typer.Option("--tie", help="What a tie for first does.")
    ] = "abstain",
    min_consensus: Annotated[
        float, typer.Option("--min-consensus", help="Abstain where the winner has less of all rollouts.")
    ] = 0.0,
    min_margin: Annotated[
        float, typer.Option("--min-margin", help="Abstain where the winner leads by less of all rollouts.")
    ] = 0.0,
) -> None:
    """Hold elections over rollouts, without a model: one JSON object per line in, one per line out.

    In: {"id", "rollouts": [text…], "reference": text or absent, "choices": [text…] or absent}. Out: {"id", "label",
    "abstained", "consensus", "classes", "unparsed", "rewards", "label_correct"}. A bad line is named on standard error
    and left out; then the exit status is 1 at the end.
    """
    from app.cli.vote import answers_of, vote_lines, vote_of

    answers = answers_of(kind=kind, read=read, labels=labels or None, pattern=pattern, unit=unit, tolerance=tolerance)
    rules = vote_of(tie, min_consensus, min_margin)

    def complain(message: str) -> None:
        sys.stderr.write(f"{message}\n")

    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as lines:
            num_bad = vote_lines(lines, sys.stdout, answers, rules, complain)
    except BrokenPipeError:
        # Whoever read the elections has seen enough. Python would complain once more when it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(READER_GONE) from None
    except OSError as failure:
        raise DataError(f"Cannot read {file}: {failure.strerror}. Give the path of a JSONL file, or - .") from None
    if num_bad:
        complain(f"{num_bad:,} {'line was' if num_bad == 1 else 'lines were'} left out.")
        raise typer.Exit(GONE_WRONG)


@cli.command()
def report(
    run_id: Annotated[int, typer.Argument(metavar="RUN", help="The number of the run, as in its address.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write; .html or .pdf.", dir_okay=False)],
    data_dir: DataDir = None,
) -> None:
    """Write the evidence report of a run: one file that opens without this program."""
    from app.cli.share import stored_run, write_report

    store, stored = stored_run(_data_dir(data_dir), run_id)
    write_report(store, stored, out)
    _errors().print(f"Written: {escape(str(out))}", highlight=False, soft_wrap=True)


@cli.command()
def export(
    run_id: Annotated[int, typer.Argument(metavar="RUN", help="The number of the run, as in its address.")],
    what: Annotated[str, typer.Argument(metavar="WHAT", help="adapter, merged, card, metrics, elections or scores.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write; tables as .parquet or .csv.", dir_okay=False)],
    data_dir: DataDir = None,
) -> None:
    """Write the weights, the model card or the measured tables of a run to a file."""
    from app.cli.share import stored_run, write_export

    store, stored = stored_run(_data_dir(data_dir), run_id)
    console = _errors()
    write_export(store, stored, what, out, lambda line: console.print(escape(line), highlight=False))
    console.print(f"Written: {escape(str(out))}", highlight=False, soft_wrap=True)


@cli.command()
def doctor(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    """Say what is installed and what is missing. Exit status 1 if something essential is missing."""
    from app.cli.doctor import examine

    findings = examine(_data_dir(data_dir))
    if as_json:
        sys.stdout.write(json.dumps([finding.as_dict() for finding in findings], indent=2) + "\n")
    else:
        console = Console()
        for finding in findings:
            line = f"{STATUS_MARKS[finding.status]}  [bold]{escape(finding.name)}[/bold]  {escape(finding.detail)}"
            console.print(line, highlight=False, soft_wrap=True)
    raise typer.Exit(GONE_WRONG if any(finding.status == "missing" for finding in findings) else 0)


def _data_dir(given: Path | None) -> Path:
    from app.cli.up import user_data_dir
    from worker.settings import Settings

    if given is not None:
        return given.expanduser().resolve()
    settings = Settings()
    return settings.data_dir if "data_dir" in settings.model_fields_set else user_data_dir()


def _errors() -> Console:
    """Messages go to stderr: stdout belongs to what a command was asked to print."""
    return Console(stderr=True)


def _reporter(console: Console) -> Callable[[str], None]:
    return lambda message: console.print(f"[yellow]{escape(message)}[/yellow]", highlight=False, soft_wrap=True)
