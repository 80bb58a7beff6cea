"""The charts of a run: from rows of the store to what the browser draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from app.charts import NO_REFERENCES, Baseline, Chart, Mark, Series
from app.evaluations import SplitSeries, split_series
from app.format import interval, percent, points
from app.pages.run_spot_view import spot_url
from app.pages.run_thresholds import with_thresholds
from worker.rows import AlarmRow, CheckpointRow, EvaluationRow, NoteRow, RunRow, SeriesPoint
from worker.store.spot_checks import SPOT_CHECK_SIZE

BUCKET_BAND = "the least and greatest value of the steps drawn as one"
NO_LABELS_KNOWN = f"Unknown: no reference answers. Check {SPOT_CHECK_SIZE} labels to unlock."
INTERVAL_BAND = "the 95 % interval over problems"
_RESUMED = "Resumed "  # how the engine's note of a resume begins

METRICS: tuple[str, ...] = (
    "consensus",
    "margin",
    "label_accuracy",
    "reward_accuracy",
    "truth_share",
    "reward_mean",
    "num_classes",
    "entropy",
    "length_mean",
    "length_max",
    "truncated_share",
    "unparsed_share",
    "abstained_share",
    "flip_share",
    "top_label_share",
    "held_out_consensus",
    "held_out_label_variety",
    "held_out_answer_entropy",
    "answer_entropy",
    "pass_any",
    "trained_reward_mean",
    "trained_reward_accuracy",
    "trained_truth_share",
    "trained_pass_any",
    "gpu.busy",
    "gpu.memory",
    "unanimous_share",
    "zero_advantage_share",
    "kl_step",
    "kl_base",
    "grad_norm",
    "loss",
    "learning_rate",
    "clip_share",
    "sampler_mismatch",
    "rollouts_per_s",
    "seconds.sampling",
    "seconds.voting",
    "seconds.updating",
    "seconds.evaluating",
    "seconds.saving",
)

All = Mapping[str, Sequence[SeriesPoint]]


def learning_charts(run: RunRow, data: All, evaluations: Sequence[EvaluationRow], marks: Sequence[Mark]) -> list[Chart]:
    """What tells whether the run learns the right thing. `marks` come from `event_marks`."""
    splits = split_series(evaluations)
    own = [each for each in splits if each.split != "benchmark"]
    benchmarks = [each for each in splits if each.split == "benchmark"]
    unknown = "" if run.set_num_references else NO_REFERENCES
    draw = partial(chart, run, x_max=run.total_steps, marks=marks)
    charts = [
        draw(
            "consensus",
            "Consensus",
            "share",
            [line(data, "consensus", "Consensus", 1), line(data, "margin", "Margin to the second answer", 6)],
        ),
        draw(
            "labels",
            "Pseudo-label and reward accuracy",
            "share",
            [
                line(data, "label_accuracy", "Pseudo-label accuracy", 3),
                line(data, "reward_accuracy", "Reward accuracy", 2),
            ],
            missing=NO_LABELS_KNOWN if unknown else "",
            missing_url=spot_url(run.id) if unknown else "",
        ),
        accuracy_chart(run, "accuracy", "pass@1 on this problem set", own, marks, unknown),
    ]
    if benchmarks or run.config.data.benchmarks:
        charts.append(accuracy_chart(run, "benchmarks", "pass@1 on benchmarks", benchmarks, marks, ""))
    # A share as long as no answer can earn less than nothing.
    reward_unit = "1" if run.config.vote.negative_share > 0.0 else "share"
    charts += [
        draw("reward", "Mean reward", reward_unit, [line(data, "reward_mean", "Mean reward", 1)]),
        draw("classes", "Distinct answers per problem", "count", [line(data, "num_classes", "Distinct answers", 4)]),
        draw(
            "variety",
            "Variety of answers",
            "share",
            [line(data, "answer_entropy", "Variety of a problem's answers", 4)],
        ),
        draw("entropy", "Entropy per token", "nats", [line(data, "entropy", "Entropy", 7)]),
        draw(
            "length",
            "Answer length",
            "tokens",
            [line(data, "length_mean", "Mean length", 2), line(data, "length_max", "Longest", 8)],
        ),
        draw(
            "votes-lost",
            "Votes that do not count",
            "share",
            [
                line(data, "truncated_share", "Cut off", 2),
                line(data, "unparsed_share", "Unreadable", 5),
                line(data, "abstained_share", "No label elected", 8),
            ],
        ),
    ]
    return with_thresholds(charts, run.config.safeguards, data)


def detail_charts(run: RunRow, data: All, marks: Sequence[Mark]) -> list[Chart]:
    """What explains the first: stability of labels, the update, the time."""
    draw = partial(chart, run, x_max=run.total_steps, marks=marks)
    labels = [
        line(data, "flip_share", "Labels that changed", 4),
        line(data, "top_label_share", "Most common label", 5),
        line(data, "unanimous_share", "Unanimous votes", 3),
        line(data, "zero_advantage_share", "Nothing to learn", 8),
    ]
    shift = [
        line(data, "kl_step", "Shift in one step", 1),
        *([line(data, "kl_base", "Distance to the base model", 2)] if data.get("kl_base") else []),
    ]
    held_out = [
        line(data, "held_out_consensus", "Consensus", 1),
        line(data, "held_out_label_variety", "Variety of labels across problems", 5),
        line(data, "held_out_answer_entropy", "Variety of answers within a problem", 4),
    ]
    trained = [
        line(data, "trained_reward_mean", "Mean reward", 1),
        line(data, "trained_reward_accuracy", "Reward accuracy", 2),
        line(data, "trained_truth_share", "Right answers", 3),
    ]
    any_right = [
        line(data, "pass_any", "Among all votes", 3),
        line(data, "trained_pass_any", "Among the trained", 2),
    ]
    unknown = "" if run.set_num_references else NO_REFERENCES
    found = [
        draw(
            "trained",
            "Answers that enter the update",
            "1" if run.config.vote.negative_share > 0.0 else "share",
            trained,
        ),
        draw("any-right", "Problems with a right answer among the votes", "share", any_right, missing=unknown),
        draw("labels-stable", "Stability of the labels", "share", labels),
        draw("held-out-votes", "Held-out problems, without references", "share", held_out),
        draw("shift", "Shift of the policy per token", "nats", shift),
        draw("gradient", "Gradient norm before clipping", "1", [line(data, "grad_norm", "Gradient norm", 7)]),
        draw("loss", "Loss", "1", [line(data, "loss", "Loss", 8)]),
        draw("rate", "Learning rate", "1", [line(data, "learning_rate", "Learning rate", 6)]),
        draw("speed", "Votes sampled per second", "count", [line(data, "rollouts_per_s", "Votes per second", 3)]),
        time_chart(run, data),
        *gpu_charts(run, data, marks),
    ]
    return with_thresholds(found, run.config.safeguards, data)


def gpu_charts(run: RunRow, data: All, marks: Sequence[Mark]) -> list[Chart]:
    """How busy and how full the GPUs were; none where no GPU was read."""
    series = [
        line(data, name, title, color)
        for name, title, color in (("gpu.busy", "Busy", 3), ("gpu.memory", "Memory in use, greatest", 2))
        if data.get(name)
    ]
    return [chart(run, "gpu", "GPU", "share", series, x_max=run.total_steps, marks=marks)] if series else []


def chart(
    run: RunRow,
    name: str,
    title: str,
    unit: str,
    series: Sequence[Series],
    *,
    x_max: int | None,
    marks: Sequence[Mark],
    missing: str = "",
    missing_url: str = "",
) -> Chart:
    """One chart over the steps, its file named after the run."""
    end = x_max if run.job.is_active else None
    file = f"run-{run.id}-{name}"
    return Chart(name, title, series, unit, marks=marks, missing=missing, missing_url=missing_url, x_max=end, file=file)


def line(data: All, name: str, title: str, color: int) -> Series:
    """One metric; the band shows what the bucket's mean hides, and is left out where every step has its own point."""
    points_ = data.get(name, ())
    if all(low == high for _, _, low, high in points_):
        return Series(title, [(step, mean) for step, mean, _, _ in points_], color)
    return Series(title, list(points_), color, band=BUCKET_BAND)


def accuracy_chart(
    run: RunRow, name: str, title: str, splits: Sequence[SplitSeries], marks: Sequence[Mark], missing: str
) -> Chart:
    """pass@1 with intervals; dashed: what the base model reaches alone and by vote."""
    colors = (3, 1, 2, 4, 7, 5, 6, 8)
    series = []
    for split, color in zip(splits, colors, strict=False):
        points_ = [(row.step, row.avg, row.avg_low, row.avg_high) for row in split.rows]
        series.append(
            Series(
                f"{split.title} (n = {split.num_problems})",
                points_,
                color,
                band=INTERVAL_BAND,
                whiskers=len(points_) <= 16,
            )
        )
    baselines = _base_lines(splits, colors)
    return Chart(
        name,
        title,
        series,
        "share",
        baselines=baselines,
        marks=marks,
        missing=missing,
        smooth=False,
        text=accuracy_sentence(splits) or "",
        x_max=run.total_steps if run.job.is_active else max(run.step, 1),
        file=f"run-{run.id}-{name}",
    )


def _base_lines(splits: Sequence[SplitSeries], colors: Sequence[int]) -> list[Baseline]:
    """The lines to beat: base pass@1 (dotted) and base vote (dashed) of the trained problems and each benchmark."""
    found = []
    for split, color in zip(splits, colors, strict=False):
        base = split.base
        if base is None or split.split == "held_out":
            continue
        own = split.split == "adapt"
        name = "adapt" if own else split.problem_set.removeprefix("bundled:")
        if base.avg is not None:
            found.append(Baseline(f"Base pass@1, {name}", base.avg, 8 if own else color, dotted=True))
        if base.maj is not None:
            found.append(Baseline(f"Base vote maj@{base.num_samples}, {name}", base.maj, 4 if own else color))
    return found


def accuracy_sentence(splits: Sequence[SplitSeries]) -> str:
    """Each split in words: from base to newest, with the gain's interval."""
    parts = []
    for split in splits:
        row = split.newest
        if row.step and row.gain is not None and split.base is not None:
            gain = f"{points(row.gain)} {interval(row.gain_low, row.gain_high, signed=True)}".rstrip()
            parts.append(
                f"{split.title}: {percent(split.base.avg)} at the base to {percent(row.avg)} at step "
                f"{row.step} ({gain})"
            )
        else:
            parts.append(f"{split.title}: base {percent(row.avg)}")
    return "; ".join(parts) + "." if parts else ""


def time_chart(run: RunRow, data: All) -> Chart:
    """Seconds of each step, stacked by phase."""
    phases = (
        ("sampling", "Sampling", 1),
        ("voting", "Voting", 4),
        ("updating", "Updating", 2),
        ("evaluating", "Evaluating", 3),
        ("saving", "Saving", 8),
    )
    series = [
        Series(title, [(step, mean) for step, mean, _, _ in data[f"seconds.{name}"]], color)
        for name, title, color in phases
        if data.get(f"seconds.{name}")
    ]
    return Chart("time", "Time per step", series, "s", kind="stack", smooth=False, file=f"run-{run.id}-time")


def event_marks(
    alarms: Sequence[AlarmRow], notes: Sequence[NoteRow], checkpoints: Sequence[CheckpointRow]
) -> list[Mark]:
    """Checkpoints, resumes, warnings and alarms where they happened; of many the newest."""
    found = [Mark(each.step, "Checkpoint saved", "checkpoint") for each in checkpoints][-60:]
    told = [note for note in notes if note.step > 0 and (note.level != "info" or note.message.startswith(_RESUMED))]
    found += [
        Mark(note.step, note.message, "resume" if note.message.startswith(_RESUMED) else "event") for note in told
    ][-40:]
    return found + [Mark(alarm.step, f"Alarm: {alarm.message}", "alarm") for alarm in alarms][-40:]
