"""The command line: what each command prints, where, and how it ends."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from app.cli.commands import cli
from app.cli.doctor import Finding, examine
from app.cli.progress import TerminalProgress, evaluation_line, step_line
from app.cli.run import as_json_line, claimed, load_problems, parse_change, resolve_config, write_config
from app.cli.up import answers, free_port, settings_from, url_of, user_data_dir
from ttrl_engine.config import PRESETS, AnswerConfig, RunConfig, parse_config
from ttrl_engine.errors import ConfigError, RunError
from ttrl_engine.events import (
    AlarmRaised,
    CheckpointSaved,
    Ending,
    EvaluationFinished,
    Noted,
    Phase,
    ProblemScore,
    Progressed,
    RunFinished,
    RunStarted,
    Split,
    StepFinished,
)
from ttrl_engine.problems import Problem, ProblemSet

ROOT = Path(__file__).resolve().parents[2]
TINY_RUN = (
    "vote.num_votes=4", "vote.num_trained=4", "vote.max_new_tokens=8", "train.problems_per_step=2",
    "train.max_steps=3", "data.max_problems=8", "data.benchmarks=[]", "evaluate.every_steps=0",
    "evaluate.num_samples=2", "evaluate.max_problems=2", "checkpoint.every_steps=1", "safeguards.action=note",
    "hardware.threads=1",
)  # fmt: skip

SUMS = ProblemSet("sums", "number", (Problem("a", "1+1?"), Problem("b", "1+2?")), {})


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TTRL_STUDIO_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def evaluation() -> EvaluationFinished:
    return EvaluationFinished(
        step=10, split=Split.HELD_OUT, problem_set="sums", num_samples=8, avg=0.5, avg_low=0.4, avg_high=0.6, maj=0.7,
        maj_low=0.6, maj_high=0.8, pass_k=0.9, gain=0.2, gain_low=0.1, gain_high=0.3, mean_length=20.0, truncated=0.0,
        scores=(ProblemScore("1", 8, 4, "3", True),), from_cache=False,
    )  # fmt: skip


def run_command(*arguments: str, folder: Path) -> list[str]:
    changes = [part for change in TINY_RUN for part in ("--set", change)]
    return [sys.executable, "-m", "app.cli", "run", *arguments, *changes, "--out", str(folder)]


# config


def test_config_prints_what_run_reads_back():
    printed = CliRunner().invoke(cli, ["config", "--preset", "quick-look"])
    assert printed.exit_code == 0
    assert parse_config(yaml.safe_load(printed.stdout)) == PRESETS["quick-look"].config()


def test_changes_are_laid_over_a_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RunConfig().to_yaml())
    config = resolve_config(path, None, ["vote.num_votes=16", "vote.num_trained=8", "train.learning_rate=1e-3"])
    assert (config.vote.num_votes, config.vote.num_trained, config.train.learning_rate) == (16, 8, 1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["vote.num_vote=3"], "no setting named"),
        (["vote.num_votes"], "key=value"),
        (["vote.num_votes=banana"], "num_votes"),
        (["vote.num_votes=8"], "only 8 are sampled"),
    ],
)
def test_a_change_that_cannot_be_says_why(changes, message):
    with pytest.raises(ConfigError, match=message):
        resolve_config(None, None, changes)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="quick-look"):
        resolve_config(None, "slow-look", [])


def test_values_are_read_as_yaml():
    assert parse_change("a.b=null") == ("a.b", None)
    assert parse_change("a=[x, y]") == ("a", ["x", "y"])
    assert parse_change("a=b=c") == ("a", "b=c")


def test_an_error_is_one_sentence_on_stderr(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "app.cli", "run", str(tmp_path / "none.yaml")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Cannot read the config" in result.stderr
    assert "Traceback" not in result.stderr


# run


def test_a_folder_takes_one_run_at_a_time(tmp_path):
    with claimed(tmp_path), pytest.raises(RunError, match="A run is at work"), claimed(tmp_path):
        pass


def test_a_folder_keeps_to_its_config(tmp_path):
    write_config(RunConfig(), SUMS, tmp_path)
    write_config(RunConfig(name="another name decides nothing"), SUMS, tmp_path)
    with pytest.raises(ConfigError, match="another config"):
        write_config(RunConfig(seed=1), SUMS, tmp_path)


def test_a_run_goes_on_with_the_answers_it_began_with(tmp_path):
    begun = write_config(RunConfig(), SUMS, tmp_path)
    assert begun.answers.kind == "number"
    ruled = replace(SUMS, rule=AnswerConfig(kind="text", unit="cm"))
    assert write_config(RunConfig(), ruled, tmp_path) == begun
    with pytest.raises(ConfigError, match="another config"):
        write_config(RunConfig(answers=AnswerConfig(kind="text")), ruled, tmp_path)


def test_problems_may_come_from_the_pages(tmp_path):
    from worker.store import open_store

    bundled = load_problems("bundled:sums", tmp_path)
    set_id = open_store(tmp_path).add_problem_set(bundled, "bundled:sums")
    assert load_problems(f"set:{set_id}", tmp_path).content_hash == bundled.content_hash


def test_json_lines_are_strict():
    line = as_json_line(StepFinished(1, 2, {"loss": math.nan, "entropy": 0.5}, {"sampling": math.inf}))
    assert json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) == {
        "kind": "step_finished", "step": 1, "total_steps": 2, "metrics": {"loss": None, "entropy": 0.5},
        "seconds": {"sampling": None},
    }  # fmt: skip


def test_what_is_unknown_is_said_so():
    line = step_line(StepFinished(3, 60, {"consensus": 0.5, "reward_mean": 0.5}, {"sampling": 1.0, "updating": 0.5}))
    assert "consensus 0.50" in line
    assert "label accuracy unknown" in line
    assert "1.5 s" in line


def test_an_evaluation_names_split_n_and_interval(evaluation):
    line = evaluation_line(evaluation)
    for part in ("held out", "n = 1", "50.0% [40.0%, 60.0%]", "maj 70.0%", "+20.0% [+10.0%, +30.0%]"):
        assert part in line


def test_the_terminal_shows_every_kind_of_event(evaluation):
    console = Console(record=True, width=200, file=io.StringIO())
    events = [
        Progressed(0, Phase.LOADING, 0, 1),
        RunStarted("bundled:abacus-1m", 10, 5, "cpu", "torch", 2, 96, 32, 1, 60),
        StepFinished(1, 60, {"consensus": 0.5}, {"sampling": 1.0}),
        evaluation,
        CheckpointSaved(5, "somewhere"),
        AlarmRaised(6, "entropy_floor", "Entropy fell to [nothing].", 0.1, 0.2, "pause"),
        Noted(6, "warning", "The batch was halved."),
        RunFinished(Ending.ALARM, 6, "policy"),
    ]
    with TerminalProgress(console) as progress:
        for event in events:
            progress.emit(event)
    text = console.export_text()
    for part in ("96 problems to adapt on, 32 held out", "step    1/60", "saved a checkpoint at step 5", "[nothing]",
                 "The batch was halved.", "alarm after step 6"):  # fmt: skip
        assert part in text


def test_run_prints_the_events_as_json_lines(tmp_path):
    result = subprocess.run(run_command("--json", folder=tmp_path / "run"), cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [event["kind"] for event in events if event["kind"] != "progressed"]
    assert kinds[0] == "run_started"
    assert kinds.count("step_finished") == 3
    assert "evaluation_finished" in kinds
    assert events[-1] == {
        "kind": "run_finished",
        "ending": "completed",
        "step": 3,
        "policy_path": events[-1]["policy_path"],
    }
    assert Path(events[-1]["policy_path"]).is_dir()
    assert parse_config(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())).vote.num_votes == 4


def test_an_interrupted_run_goes_on_with_the_same_command(tmp_path):
    command = [*run_command("--json", folder=tmp_path / "run"), "--set", "train.max_steps=6"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["kind"] == "step_finished":
                process.send_signal(signal.SIGINT)
                break
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait() == 130
    assert rest[-1]["ending"] == "stopped"
    reached = rest[-1]["step"]
    assert 1 <= reached < 6
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    steps = [event["step"] for event in map(json.loads, again.stdout.splitlines()) if event["kind"] == "step_finished"]
    assert steps == list(range(reached + 1, 7))


# up


def test_options_come_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TTRL_STUDIO_DATA_DIR", str(tmp_path / "environment"))
    monkeypatch.setenv("TTRL_STUDIO_PORT", "0")
    assert settings_from(None, None, None).data_dir == tmp_path / "environment"
    assert settings_from(tmp_path / "option", None, None).data_dir == tmp_path / "option"
    assert settings_from(None, None, None).port > 0


def test_a_user_has_a_data_folder_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_data_dir() == tmp_path / "ttrl-studio"
    assert settings_from(None, None, 0).data_dir == tmp_path / "ttrl-studio"
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    assert user_data_dir() == Path.home() / ".local" / "share" / "ttrl-studio"


def test_a_port_in_use_is_refused_or_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="--port"):
            free_port("127.0.0.1", port, 1)
        assert free_port("127.0.0.1", port, 20) > port
    with pytest.raises(ConfigError, match="no network address"):
        free_port("no-such-host.invalid", 0, 1)


def test_the_bound_host_may_be_asked_for():
    settings = settings_from(None, "127.0.0.2", 0, ("studio.example",))
    assert {"127.0.0.1", "127.0.0.2", "studio.example"} <= set(settings.allowed_hosts)
    assert "0.0.0.0" not in settings_from(None, "0.0.0.0", 0).allowed_hosts
    assert url_of(settings_from(None, "0.0.0.0", 0)).startswith("http://127.0.0.1:")


def test_nothing_answers_where_nothing_listens():
    assert not answers(f"http://127.0.0.1:{free_port('127.0.0.1', 0, 1)}")


def test_up_answers_restarts_and_stops(tmp_path):
    """The real thing: both processes, a killed web process, and a clean end."""
    port = free_port("127.0.0.1", 0, 1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app.cli", "demo", "--port", str(port), "--data-dir", str(tmp_path)]
    said = tmp_path / "said.txt"
    with said.open("w") as stderr, subprocess.Popen(command, cwd=ROOT, stderr=stderr) as process:
        try:
            wait_until_ready(url)
            deadline = time.monotonic() + 60
            while "press Start" not in said.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert (tmp_path / "app.db").exists()
            web = child_running(process.pid, "-m app")
            assert web is not None
            os.kill(web, signal.SIGKILL)
            deadline = time.monotonic() + 60
            while child_running(process.pid, "-m app", required=False) in (None, web):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            wait_until_ready(url)
            assert child_running(process.pid, "-m worker")
        finally:
            process.terminate()
            process.wait(60)
    assert process.returncode == 0, said.read_text()
    assert "The web process ended by signal SIGKILL" in said.read_text()
    assert "did not stop in time" not in said.read_text()


def wait_until_ready(url: str, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not answers(url):
        assert time.monotonic() < deadline, "/healthz did not answer in time"
        time.sleep(0.2)
    with urllib.request.urlopen(f"{url}/healthz", timeout=5) as reply:
        assert json.load(reply)["ok"] is True


def child_running(parent: int, part: str, required: bool = True) -> int | None:
    import psutil

    for child in psutil.Process(parent).children():
        try:
            if f"{part} " in f"{' '.join(child.cmdline())} ":
                return int(child.pid)
        except psutil.NoSuchProcess:
            continue
    assert not required, f"no child runs {part}"
    return None


# doctor


def test_doctor_examines_a_folder_that_does_not_exist_yet(tmp_path):
    findings = examine(tmp_path / "not" / "yet")
    names = {finding.name for finding in findings}
    assert {"Python", "torch", "gradio", "SQLite", "Data folder", "bundled:abacus-1m"} <= names
    assert not (tmp_path / "not").exists()
    assert not [finding for finding in findings if "could not be examined" in finding.detail]


def test_doctor_prints_json_and_fails_only_for_what_is_essential(tmp_path):
    result = CliRunner().invoke(cli, ["doctor", "--json", "--data-dir", str(tmp_path)])
    findings = json.loads(result.stdout)
    missing = [finding["name"] for finding in findings if finding["status"] == "missing"]
    assert result.exit_code == (1 if missing else 0)
    assert {finding["status"] for finding in findings} <= {"ok", "warning", "missing"}


def test_doctor_survives_a_look_that_fails(tmp_path, monkeypatch):
    def broken() -> list[Finding]:
        raise OSError("no such device")

    monkeypatch.setattr("app.cli.doctor._machine", broken)
    findings = {finding.name: finding for finding in examine(tmp_path)}
    assert findings["Machine"].status == "missing"
    assert "no such device" in findings["Machine"].detail
    assert "Hub cache" in findings
