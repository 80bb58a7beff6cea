"""The terminal's picture of a run: two bars that move, and a line for everything worth keeping."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ttrl_engine.events import (
    AlarmRaised,
    CheckpointSaved,
    EvaluationFinished,
    Event,
    HeldOutPolled,
    Noted,
    Progressed,
    RunFinished,
    RunStarted,
    StepFinished,
)

SPLIT_NAMES = {"adapt": "adapt (trained on, unlabeled)", "held_out": "held out (never trained on)"}


class TerminalProgress:
    """Takes the events of one run. Use as a context manager; `emit` is the sink."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._steps = self._bars.add_task("steps", total=None)
        self._phase = self._bars.add_task("loading", total=None)

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def emit(self, event: Event) -> None:
        """Move a bar or print a line."""
        match event:
            case RunStarted():
                self._bars.update(self._steps, total=event.total_steps, completed=event.first_step - 1)
                self._say(_started(event))
            case Progressed():
                description = f"{event.phase.value} (step {event.step})"
                self._bars.update(self._phase, description=description, completed=event.done, total=event.total)
            case StepFinished():
                self._bars.update(self._steps, completed=event.step, total=event.total_steps)
                self._say(step_line(event))
            case EvaluationFinished():
                self._say(f"[bold]{escape(evaluation_line(event))}[/bold]")
            case HeldOutPolled():
                self._say(f"[dim]{escape(poll_line(event))}[/dim]")
            case CheckpointSaved():
                self._say(f"[dim]saved a checkpoint at step {event.step}[/dim]")
            case AlarmRaised():
                self._say(f"[bold red]alarm at step {event.step}:[/bold red] {escape(event.message)} ({event.action})")
            case Noted():
                self._say(f"[yellow]{escape(event.message)}[/yellow]")
            case RunFinished():
                self._bars.update(self._phase, visible=False)
                where = f"; the policy is in {event.policy_path}" if event.policy_path else ""
                self._say(f"[bold]{event.ending.value} after step {event.step}[/bold]{escape(where)}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _started(event: RunStarted) -> str:
    weights = f"{event.num_trainable:,} of {event.num_parameters:,} weights learn"
    problems = f"{event.num_adapt} problems to adapt on, {event.num_held_out} held out"
    where = f"{event.device} ({event.threads} threads, {event.sampler} sampler)"
    return f"{escape(event.model)} on {escape(where)}: {weights}; {problems}"


def step_line(event: StepFinished) -> str:
    """One line per step. What needs reference answers says `unknown` where there are none."""
    shown = [("consensus", "consensus"), ("label accuracy", "label_accuracy"), ("reward", "reward_mean")]
    parts = [f"{title} {_share(event.metrics.get(name))}" for title, name in shown]
    entropy = event.metrics.get("entropy")
    if entropy is not None:
        parts.append(f"entropy {entropy:.3f}")
    seconds = sum(event.seconds.values())
    return f"step {event.step:>4}/{event.total_steps}  {'  '.join(parts)}  {seconds:.1f} s"


def evaluation_line(event: EvaluationFinished) -> str:
    """Split, n, rate and interval; the gain over the base model where there is one."""
    name = SPLIT_NAMES.get(event.split.value, event.problem_set)
    line = (
        f"step {event.step}: {name}, n = {len(event.scores)} problems x {event.num_samples}: "
        f"pass@1 {event.avg:.1%} [{event.avg_low:.1%}, {event.avg_high:.1%}], maj {event.maj:.1%}"
    )
    if event.gain is None or event.gain_low is None or event.gain_high is None:
        return line
    return f"{line}, gain {event.gain:+.1%} [{event.gain_low:+.1%}, {event.gain_high:+.1%}]"


def poll_line(event: HeldOutPolled) -> str:
    """How far held-out problems agree, which needs no references."""
    parts = [
        f"consensus {_share(event.metrics.get('held_out_consensus'))}",
        f"variety of labels {_share(event.metrics.get('held_out_label_variety'))}",
    ]
    asked = f"n = {event.num_problems} problems x {event.num_samples}"
    return f"step {event.step}: held-out problems among themselves, {asked}: {', '.join(parts)}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
