"""Each safeguard on a policy that collapses in its way: the words are scripted, what is made of them is real."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.ttrl_engine.scripted_policy import NUM_PROBLEMS, Draw, Said, Script, play, scripted_config
from ttrl_engine.checkpoint import list_checkpoints, load_state
from ttrl_engine.errors import RunError
from ttrl_engine.events import CheckpointSaved, Ending, HeldOutPolled, Noted, RunFinished
from ttrl_engine.problems import Problem, ProblemSet
from ttrl_engine.sampler import StopRequested
from ttrl_engine.trainer import roll_back

BREAKS_AT = 5
SAVING = {"checkpoint.every_steps": 1}


def answer(number: int, working: str = "so it is ") -> str:
    return f"{working}\\boxed{{{number}}}"


def usual(draw: Draw) -> int:
    """Three of four rollouts agree on an answer of the problem's own."""
    return draw.problem + (200 if draw.index < 3 else 300)


def doubtful(draw: Draw) -> int:
    """Two of four agree, the others do not."""
    return draw.problem + (200, 200, 300, 400)[draw.index]


def healthy(draw: Draw) -> Said:
    return Said(answer(usual(draw)))


def learns_well(draw: Draw) -> Said:
    """Ever more agreement, on what it trains on and on what it does not; some labels change on the way."""
    mistaken = draw.problem % 4 == 0 and draw.step < 4
    sure = draw.step >= BREAKS_AT
    return Said(
        answer((500 if mistaken else 0) + (draw.problem + 200 if sure else doubtful(draw))), 0.1 if sure else 0.5
    )


def answers_all_alike(draw: Draw) -> Said:
    return Said(answer(7 if draw.step >= BREAKS_AT and draw.index < 3 else usual(draw)))


def forgets_the_box(draw: Draw) -> Said:
    lost = draw.step >= BREAKS_AT and draw.index % 2 == 0
    return Said("so it is what it is") if lost else healthy(draw)


def never_stops(draw: Draw) -> Said:
    rambles = draw.step >= BREAKS_AT and draw.index % 2 == 0
    return Said(answer(usual(draw)) + " or so " * 10, is_cut=True) if rambles else healthy(draw)


def hardens(draw: Draw) -> Said:
    return Said(answer(usual(draw)), 0.005 if draw.step >= BREAKS_AT else 0.5)


def dissolves(draw: Draw) -> Said:
    return Said(answer(usual(draw)), 2.0 if draw.step >= BREAKS_AT else 0.5)


def stops_working_it_out(draw: Draw) -> Said:
    return Said(answer(usual(draw), "" if draw.step >= BREAKS_AT else "let us see: " * 10))


def learns_by_heart(draw: Draw) -> Said:
    """Sure of the labels it trains on, as doubtful as ever about everything else."""
    return Said(answer(draw.problem + 200 if draw.step >= BREAKS_AT and not draw.is_exam else doubtful(draw)))


def carries_over_one_answer(draw: Draw) -> Said:
    """Sure of each label it trains on, and of one and the same answer to everything else."""
    if draw.step < BREAKS_AT:
        return Said(answer(doubtful(draw)))
    return Said(answer(7 if draw.is_exam else draw.problem + 200))


def agrees_and_then_quarrels(draw: Draw) -> Said:
    """Unanimous, hence without a gradient, until half of the rollouts of every problem dissent."""
    quarrels = draw.step >= 7 and draw.index % 2
    return Said(answer(draw.problem + (300 + draw.index if quarrels else 200)), nats=None)


@pytest.mark.parametrize("script", [healthy, learns_well])
def test_a_healthy_policy_raises_no_alarm(
    script: Script, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert play(script, tmp_path, scripted_config(tiny_model), monkeypatch)[1] == []


@pytest.mark.parametrize(
    ("script", "alarm", "earliest"),
    [
        (answers_all_alike, "one_answer_share", BREAKS_AT),
        (forgets_the_box, "unparsed_rise", BREAKS_AT),
        (never_stops, "truncated_rise", BREAKS_AT),
        (hardens, "entropy_floor", BREAKS_AT),
        (dissolves, "entropy_rise", BREAKS_AT),
        (stops_working_it_out, "length_drop", BREAKS_AT),
        (learns_by_heart, "false_consensus", 6),
        (carries_over_one_answer, "false_consensus", 6),
    ],
)
def test_a_policy_that_collapses_raises_its_own_alarm_and_no_other(
    script: Script, alarm: str, earliest: int, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, alarms = play(script, tmp_path, scripted_config(tiny_model), monkeypatch)
    assert [each.alarm for each in alarms] == [alarm]
    assert earliest <= alarms[0].step <= earliest + 3
    assert alarms[0].message.endswith(".")


def test_a_policy_that_leaps_raises_the_alarm_of_a_jump(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scripted_config(tiny_model, **{"train.learning_rate": 0.05})
    _, alarms = play(agrees_and_then_quarrels, tmp_path, config, monkeypatch)
    assert [(each.alarm, each.step) for each in alarms][:1] == [("kl_jump", 7)]


@pytest.mark.parametrize("threshold", ["one_answer_share", "false_consensus"])
def test_a_threshold_that_is_switched_off_is_silent(
    threshold: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = answers_all_alike if threshold == "one_answer_share" else learns_by_heart
    config = scripted_config(tiny_model, **{f"safeguards.{threshold}": None})
    assert play(script, tmp_path, config, monkeypatch)[1] == []


def test_held_out_problems_are_polled_although_nothing_has_a_reference(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, _ = play(learns_by_heart, tmp_path, scripted_config(tiny_model), monkeypatch)
    polls = [event for event in events if isinstance(event, HeldOutPolled)]
    assert [(poll.step, poll.num_problems) for poll in polls] == [(0, 10), (3, 10), (6, 10), (9, 10)]
    assert all(poll.metrics["held_out_consensus"] == 0.5 for poll in polls)
    assert all(poll.metrics["held_out_num_classes"] == 3 for poll in polls)
    assert all(poll.metrics["held_out_label_variety"] == pytest.approx(1.0) for poll in polls)


def test_a_roll_back_ends_with_the_weights_of_the_last_healthy_checkpoint(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scripted_config(tiny_model, **{**SAVING, "safeguards.action": "roll_back", "train.learning_rate": 1e-3})
    events, [alarm] = play(answers_all_alike, tmp_path, config, monkeypatch)
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert (finished.ending, finished.step) == (Ending.ALARM, alarm.step - 1)
    saved = dict(list_checkpoints(tmp_path))
    assert load_state(saved[alarm.step - 1]).healthy
    assert not load_state(saved[alarm.step]).healthy
    kept, sick = (load_file(saved[step] / "model.safetensors") for step in (alarm.step - 1, alarm.step))
    result = load_file(tmp_path / "policy" / "model.safetensors")
    assert all(result[name].equal(kept[name]) for name in kept)
    assert not all(result[name].equal(sick[name]) for name in sick)
    assert any("Rolled back" in event.message for event in events if isinstance(event, Noted))


def test_a_run_that_goes_on_after_an_alarm_keeps_its_healthy_checkpoint(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, [alarm] = play(answers_all_alike, tmp_path, scripted_config(tiny_model, **SAVING), monkeypatch)
    assert len([event for event in events if isinstance(event, CheckpointSaved)]) == 9
    assert [step for step, _ in list_checkpoints(tmp_path)] == [alarm.step - 1, 8, 9]


OTHERS = ProblemSet("others", "number", (Problem("o", "How much is 190?"),), {"o": "7"})


def stopped_at(script: Script, is_moment: Callable[[Draw], bool]) -> Script:
    """The same, but for a stop the first time that this is asked for."""
    stops = iter([True])

    def says(draw: Draw) -> Said:
        if is_moment(draw) and next(stops, False):
            raise StopRequested
        return healthy(draw) if draw.problem >= NUM_PROBLEMS else script(draw)

    return says


def test_an_alarm_of_the_poll_outlives_a_stop_in_the_same_evaluation(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scripted_config(tiny_model, **SAVING)
    script = stopped_at(learns_by_heart, lambda draw: draw.problem >= NUM_PROBLEMS and draw.step == 6)
    stopped, alarms = play(script, tmp_path, config, monkeypatch, {"others": OTHERS})
    assert (stopped[-1].as_dict()["ending"], stopped[-1].as_dict()["step"]) == (Ending.STOPPED, 6)
    assert alarms == []
    resumed, [alarm] = play(script, tmp_path, config, monkeypatch, {"others": OTHERS})
    assert (alarm.alarm, alarm.step) == ("false_consensus", 6)
    assert not load_state(dict(list_checkpoints(tmp_path))[9]).healthy
    assert resumed[-1].as_dict()["ending"] == Ending.COMPLETED


def test_a_run_stopped_between_alarm_and_roll_back_is_rolled_back_when_resumed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scripted_config(tiny_model, **{**SAVING, "evaluate.every_steps": 1, "safeguards.action": "roll_back"})
    script = stopped_at(answers_all_alike, lambda draw: draw.is_exam and draw.step == BREAKS_AT + 1)
    stopped, [alarm] = play(script, tmp_path, config, monkeypatch)
    assert (alarm.step, stopped[-1].as_dict()["ending"]) == (BREAKS_AT + 1, Ending.STOPPED)
    resumed, again = play(script, tmp_path, config, monkeypatch)
    assert (resumed[-1].as_dict()["ending"], resumed[-1].as_dict()["step"]) == (Ending.ALARM, alarm.step - 1)
    assert again == []


def test_a_roll_back_goes_to_the_chosen_checkpoint_and_never_to_a_sick_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scripted_config(tiny_model, **{**SAVING, "safeguards.action": "pause", "checkpoint.keep": 9})
    _, [alarm] = play(answers_all_alike, tmp_path, config, monkeypatch)
    assert roll_back(tmp_path, lambda _event: None, 1).step == 1
    chosen = dict(list_checkpoints(tmp_path))[1]
    result, kept = (load_file(folder / "model.safetensors") for folder in (tmp_path / "policy", chosen))
    assert all(result[name].equal(kept[name]) for name in kept)
    shutil.rmtree(dict(list_checkpoints(tmp_path))[2])
    for step in (alarm.step, 2, 99):
        with pytest.raises(RunError, match=f"no checkpoint of step {step}"):
            roll_back(tmp_path, lambda _event: None, step)
    result = load_file(tmp_path / "policy" / "model.safetensors")
    assert all(result[name].equal(kept[name]) for name in kept), "a refusal changes nothing"


def test_a_run_that_false_consensus_has_paused_goes_on_when_resumed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scripted_config(tiny_model, **{"safeguards.action": "pause"})
    first, [alarm] = play(learns_by_heart, tmp_path, config, monkeypatch)
    assert (first[-1].as_dict()["ending"], first[-1].as_dict()["step"]) == (Ending.ALARM, alarm.step)
    second, again = play(learns_by_heart, tmp_path, config, monkeypatch)
    assert (second[-1].as_dict()["ending"], again) == (Ending.COMPLETED, [])
