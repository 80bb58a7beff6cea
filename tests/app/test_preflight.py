"""The check before a run: its advice with time and memory, its part of the new-run page, its command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.choices import Choices
from app.cli import preflight as command
from app.cli.commands import cli
from app.config_form import form_fields, form_values
from app.memory_plan import Machine, plan_memory
from app.pages.new_run_preflight import advised_changes, is_watched, preflight_html, progress_token
from app.pages.new_run_review import Review, Start, review, summary_html
from app.plan import make_plan
from app.preflight import advise, whole_run_s
from app.services import Services
from ttrl_engine.bundled import model_path
from ttrl_engine.config import PRESETS, RunConfig
from ttrl_engine.memory import GIB, estimate, read_shape
from ttrl_engine.preflight import Findings, Poll
from worker.settings import Settings
from worker.states import Outcome
from worker.store import Store

NAMES = [setting.name for setting in form_fields()]
QUICK = PRESETS["quick-look"].config()
LEARNABLE = Findings((Poll("p", (8, 4, 2), 16, 2, 0, True),) * 32, 96, 20.0, 0.01, 0.02)
CUT = replace(LEARNABLE, polls=(Poll("p", (4, 2), 16, 10, 8),) * 32)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services.open(Settings(data_dir=tmp_path))


def judged(services: Services, **values: object) -> tuple[Choices, Review]:
    choices = Choices(services)
    filled = dict(zip(NAMES, form_values(QUICK, NAMES), strict=True)) | values
    return choices, review(choices, filled, Start("“Quick look”", QUICK))


def shown(verdict: Review, *, ready: bool = True) -> str:
    config, plan = verdict.reading.config, verdict.plan
    return preflight_html(verdict.check, config, plan, verdict.model, verdict.memory, ready=ready, worker_alive=False)


def asked(services: Services, config: RunConfig = QUICK) -> Store:
    _, verdict = judged(services)
    assert verdict.problem_set is not None
    services.desk.submit_preflight(config, verdict.problem_set.id)
    return services.store


def finished(services: Services, findings: Findings) -> None:
    store = asked(services)
    claim = store.claim_next("me")
    assert claim is not None
    store.record_preflight(claim, 512, 512, findings)
    store.say_outcome(claim, Outcome.COMPLETED)


def test_memory_that_does_not_suffice_turns_go_into_adjust():
    shape = read_shape(model_path("abacus-1m"))
    needed = estimate(shape, QUICK, "cpu").total
    small = plan_memory(shape, QUICK, Machine("cpu", "main memory", int(0.8 * needed), GIB))
    advice = advise(LEARNABLE, QUICK, None, small)
    assert advice.verdict == "adjust"
    assert advice.changes == next(remedy for remedy in small.remedies if remedy.fits).changes
    large = plan_memory(shape, QUICK, Machine("cpu", "main memory", 2 * needed, GIB))
    assert advise(LEARNABLE, QUICK, None, large).verdict == advise(LEARNABLE, QUICK, None, None).verdict == "go"


def test_the_whole_run_is_its_steps_and_its_evaluations():
    alone = make_plan(QUICK, 128)
    scored = make_plan(QUICK, 128, num_labelled_splits=2)
    low, high = whole_run_s(LEARNABLE, QUICK, alone)
    assert low < alone.steps * LEARNABLE.step_s(QUICK) < high
    assert whole_run_s(LEARNABLE, QUICK, scored)[1] > high


def test_the_page_goes_from_an_offer_by_way_of_the_queue_to_the_verdict(services: Services):
    _, before = judged(services)
    assert "Check first" in shown(before)
    assert " disabled" in shown(before, ready=False)
    assert not is_watched(before.check)
    asked(services)
    _, waiting = judged(services)
    assert "no worker is running" in shown(waiting)
    assert is_watched(waiting.check)
    claim = services.store.claim_next("me")
    assert claim is not None
    services.store.record_preflight(claim, 128, 512)
    _, running = judged(services)
    assert "128 of 512 answers" in shown(running)
    assert len({progress_token(each.check) for each in (before, waiting, running)}) == 3


def test_the_verdict_is_shown_with_its_reasons_and_the_time(services: Services):
    finished(services, LEARNABLE)
    choices, verdict = judged(services)
    page = shown(verdict)
    for words in ("Go", "32 of 32 by your reference answers", "not part of the verdict", "32 of 96 problems"):
        assert words in page
    assert "by the check" in summary_html(choices, verdict, Start("“Quick look”", QUICK))
    assert verdict.can_start


def test_advice_never_blocks_and_can_be_taken(services: Services):
    finished(services, CUT)
    _, verdict = judged(services)
    assert verdict.can_start
    page = shown(verdict)
    assert "Adjust first" in page
    assert "Set it" in page
    config = verdict.reading.config
    assert config is not None
    changes = advised_changes(verdict.check, config, verdict.model, verdict.memory)
    assert changes == {"vote.max_new_tokens": 2 * QUICK.vote.max_new_tokens}
    assert "Check first" in shown(judged(services, **changes)[1]), "other settings were not checked"


def test_a_check_that_ended_early_says_so_and_can_be_repeated(services: Services):
    store = asked(services)
    store.request_cancel(store.queue()[0].id)
    _, verdict = judged(services)
    assert "did not finish" in shown(verdict)
    assert "Check again" in shown(verdict)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_says_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: bool):
    def inspect(config: RunConfig, problem_set: Any, on_progress: Any) -> Findings:
        assert (config.vote.num_votes, len(problem_set.problems)) == (48, 128)
        on_progress(512, 512)
        return CUT

    monkeypatch.setattr(command, "inspect", inspect)
    options = ["--json"] if as_json else []
    result = CliRunner().invoke(
        cli,
        ["preflight", "--preset", "quick-look", "--set", "vote.num_votes=48", "--data-dir", str(tmp_path), *options],
    )
    assert result.exit_code == 0, result.output
    if as_json:
        told = json.loads(result.stdout)
        assert told["verdict"] == "adjust"
        assert told["changes"] == {"vote.max_new_tokens": 320}
        assert told["memory"]["fit"] in ("fits", "tight", "too large")
        assert Findings.from_dict(told["findings"]) == CUT
    else:
        assert "Verdict: adjust" in result.stdout
        assert "vote.max_new_tokens=320" in result.stdout
