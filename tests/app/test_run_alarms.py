"""What the Run page offers when a safeguard has fired, and where the thresholds lie on its charts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.charts import Chart, dump
from app.evaluations import rate_words, sample_size
from app.exports.card import model_card
from app.format import percent
from app.pages.new_run import _rate
from app.pages.run import Seen, _act
from app.pages.run_roll_back import chosen_step, healthy_steps, measured
from app.pages.run_strips import ALARMS, strips
from app.pages.run_thresholds import with_thresholds
from app.report.evidence import gather
from app.services import Services
from tests.app.scripted import HOSTILE, Player, Script, problem_set
from ttrl_engine.config import PRESETS, SafeguardConfig
from ttrl_engine.errors import StudioError
from ttrl_engine.events import Ending, RunFinished
from worker.recorder import Recorder
from worker.rows import AlarmRow, RunRow
from worker.settings import Settings
from worker.settlement import Verdict
from worker.states import Intent, JobState
from worker.store import Store, open_store


def alarm(step: int, name: str = "false_consensus") -> AlarmRow:
    return AlarmRow(step, 1, step, name, "They <b>agree</b>.", 0.4, 0.3, "pause", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def halted(store: Store, state: JobState | None, *, references: bool = False) -> RunRow:
    """A run of 8 steps with an alarm at the seventh, in this state; None leaves it running."""
    config = PRESETS["quick-look"].config()
    player = Player(store, Script("Sums", problem_set("s", references=references), 12, 8, alarm_at=7, config=config))
    claim = player.start()
    with Recorder(store, claim, player.run_id) as recorder:
        player.begin(recorder)
        for step in range(1, 9):
            player.step(recorder, step)
    if state is not None:
        store.let_go(claim, lambda _job, _step: Verdict(state, "A safeguard has paused the run."))
    run = store.run(player.run_id)
    assert run is not None
    return run


def test_the_healthy_checkpoints_are_those_from_before_the_first_alarm_newest_first():
    assert healthy_steps([alarm(9), alarm(7)], {2, 4, 6, 7, 8, 10}) == [6, 4, 2]
    assert healthy_steps([alarm(2)], {2, 4}) == []


def test_each_healthy_checkpoint_is_offered_beside_what_was_recorded_there(store: Store):
    run = halted(store, JobState.PAUSED, references=True)
    words = measured(store, run, {2, 5, 99})
    series = {step: mean for step, mean, *_ in store.metric_series(run.id, ["consensus"])["consensus"]}
    assert words == {
        2: f"consensus {percent(series[2])}", 5: f"consensus {percent(series[5])}", 99: "nothing",
    }  # fmt: skip
    html = strips(run, store.alarms(run.id), True, {2, 5, 8}, words)
    assert [f'data-pick="roll_back:{run.job_id}.{step}"' in html for step in (2, 5, 8)] == [True, True, False]
    assert f"Recorded at step 2: {words[2]}." in html
    assert f"Recorded at step 5: {words[5]}." in html


def test_a_score_is_told_with_its_split_its_interval_and_its_number_of_problems(store: Store):
    run = halted(store, JobState.PAUSED, references=True)
    [adapt] = [row for row in store.evaluations(run.id) if row.split == "adapt"]
    told = measured(store, run, {0})[0].replace("\u00a0", " ").split("; ")
    assert told[0] == f"Adapt pass@1 {rate_words(adapt)}, {sample_size(adapt)}"
    assert [text.split(" pass@1 ")[0] for text in told[1:]] == [
        "Held-out", "Benchmark sums-benchmark", "Benchmark sums-hard",
    ]  # fmt: skip


def test_what_was_recorded_is_never_markup(store: Store):
    run = halted(store, JobState.PAUSED)
    html = strips(run, store.alarms(run.id), True, {2, 5}, {2: HOSTILE, 5: HOSTILE})
    assert "<img" not in html
    assert html.count("&lt;img") == 2


def test_a_click_can_only_name_a_checkpoint_that_is_offered():
    assert chosen_step("7.4", 7, [5, 4]) == 4
    for text in ("7", "7.", "7.3", "8.4", "7.x", "7.04", "7.4 ", "7.+4", "7.²", "7.-4", "4", "", f"7.{'9' * 5000}"):
        with pytest.raises(StudioError, match="not on disk any more"):
            chosen_step(text, 7, [5, 4])


def test_a_paused_run_offers_all_three_ways_on_each_with_what_it_does(store: Store):
    run = halted(store, JobState.PAUSED)
    html = strips(run, store.alarms(run.id), True, {5, 8})
    assert f'data-pick="resume:{run.job_id}"' in html
    assert f'data-pick="roll_back:{run.job_id}.5"' in html
    assert "Roll back to step 5" in html
    assert "data-confirm=" in html
    assert f"/new?clone={run.id}&amp;learning_rate=2e-05" in html
    assert html.count("<li>") == html.count("</span></li>") == 3


def test_without_a_healthy_checkpoint_no_way_back_is_offered(store: Store):
    run = halted(store, JobState.PAUSED)
    html = strips(run, store.alarms(run.id), True, {8})
    assert "roll_back" not in html
    assert "resume" in html


@pytest.mark.parametrize("state", [JobState.FINISHED, None])
def test_a_run_that_cannot_be_taken_up_offers_the_clone_alone(store: Store, state: JobState | None):
    run = halted(store, state)
    html = strips(run, store.alarms(run.id), True, {5})
    assert "data-pick" not in html
    assert "learning_rate=" in html
    assert ("Pause the run" in html) == (state is None)
    assert "Pause the run" not in strips(run, store.alarms(run.id), True, {8}), "there is nothing to go back to"


def test_a_run_without_alarms_offers_nothing(store: Store):
    assert strips(halted(store, JobState.PAUSED), [], True, {5}) == ""


def test_every_safeguard_is_explained():
    for name in set(SafeguardConfig.model_fields) - {"action"}:
        assert any(name.startswith(key) for key in ALARMS), name


def test_a_message_of_an_alarm_is_never_markup(store: Store):
    html = strips(halted(store, JobState.PAUSED), [alarm(7)], True, {5})
    assert "They &lt;b&gt;agree" in html
    assert "<b>agree" not in html


def test_the_button_queues_the_way_back_of_this_run_and_no_other(store: Store, tmp_path: Path):
    run = halted(store, JobState.PAUSED)
    services = Services.open(Settings(data_dir=tmp_path))
    for step in (3, 5, 7):
        (services.run_folder(run.id) / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    for wrong in (str(run.job_id), f"{run.job_id + 1}.3", f"{run.job_id}.2", f"{run.job_id}.7"):
        assert "Nothing was done" in _act(services, Seen(run.id), "roll_back", wrong), wrong
        assert store.job(run.job_id).state is JobState.PAUSED
    assert _act(services, Seen(run.id), "roll_back", f"{run.job_id}.3") == ""
    job = store.job(run.job_id)
    assert (job.state, job.intent, job.intent_step) == (JobState.QUEUED, Intent.ROLL_BACK, 3)
    assert _act(services, Seen(run.id), "roll_back", f"{run.job_id}.3") == "", "asked twice is asked once"
    assert "something else" in _act(services, Seen(run.id), "roll_back", f"{run.job_id}.5")
    assert store.job(run.job_id).intent_step == 3


def test_what_was_measured_after_the_step_gone_back_to_is_no_figure_of_the_result(store: Store):
    player = Player(store, Script("Sums", problem_set("s", references=True), 30, 22, alarm_at=21))
    claim = player.start()
    with Recorder(store, claim, player.run_id) as recorder:
        player.begin(recorder)
        for step in range(1, 23):
            player.step(recorder, step)
        recorder.emit(RunFinished(Ending.ALARM, 12, "policy"))
    store.let_go(claim, lambda _job, _step: Verdict(JobState.FINISHED, "Ended at step 12, as a person asked."))
    run = store.run(player.run_id)
    assert run is not None
    at_12 = store.metric_at(run.id, "consensus", [12])[12]
    evidence = gather(store, run, 0.0)
    assert {split.newest.step for split in evidence.splits} == {10}
    assert evidence.consensus is not None
    assert evidence.consensus[1] == at_12 == store.latest_metrics(run.id)["consensus"]
    assert {row.step for row in store.summaries([run.id])[run.id].evaluations} == {10}
    assert "step 20" not in model_card(evidence)
    assert {row.step for row in store.evaluations(run.id)} == {0, 10, 20}, "what was seen stays"


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2e-05", 2e-5), ("1", 1.0), ("0", None), ("-1", None), ("nan", None), ("inf", None), ("", None), ("x", None)],
)
def test_a_rate_out_of_an_address_is_used_only_where_it_is_one(text: str, rate: float | None):
    assert _rate(text) == rate


def test_thresholds_lie_where_the_safeguards_fire():
    def flat(value: float, steps: int = 6) -> list[tuple[int, float, float, float]]:
        return [(step, value, value, value) for step in range(1, steps + 1)]

    data = {
        "consensus": flat(0.4), "truncated_share": flat(0.1), "unparsed_share": flat(0.9), "entropy": flat(0.5),
        "length_mean": flat(100), "top_label_share": flat(0.3), "kl_step": flat(0.01),
    }  # fmt: skip
    names = ("consensus", "votes-lost", "entropy", "length", "labels-stable", "shift", "loss")
    charts = with_thresholds([Chart(name, name, ()) for name in names], SafeguardConfig(), data)
    lines = {chart.id: [round(line.y, 6) for line in chart.baselines] for chart in charts}
    assert lines == {
        "consensus": [0.7], "votes-lost": [0.45], "entropy": [0.01, 1.5], "length": [10.0], "labels-stable": [0.6],
        "shift": [0.1], "loss": [],
    }  # fmt: skip
    assert all(line["limit"] for chart in json.loads(dump(charts))["charts"] for line in chart["baselines"])
    off = SafeguardConfig(**dict.fromkeys(set(SafeguardConfig.model_fields) - {"action"}))
    plain = [Chart(name, name, ()) for name in names]
    young = {name: points[:2] for name, points in data.items() if name != "top_label_share"}
    assert with_thresholds(plain, off, data) == with_thresholds(plain, SafeguardConfig(), young) == plain
