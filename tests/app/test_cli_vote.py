"""`ttrl-studio vote`: what goes in, what comes out, and what a bad line does."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.vote import answers_of, parse_line, vote_lines, vote_of
from ttrl_engine.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "app.cli", "vote"]


def held(*lines: Any, kind: str = "number", limit: int = 100_000, **settings: Any) -> tuple[list[Any], list[str]]:
    """The elections over lines (bytes as they are, else as JSON), and what was complained about."""
    raw = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    defaults: dict[str, Any] = {"tie": "abstain", "min_consensus": 0.0, "min_margin": 0.0}
    vote = vote_of(**{name: settings.pop(name, value) for name, value in defaults.items()})
    out = io.StringIO()
    said: list[str] = []
    num_bad = vote_lines(io.BytesIO(raw), out, answers_of(kind=kind, **settings), vote, said.append, limit)
    assert num_bad == len(said)
    return [json.loads(line) for line in out.getvalue().splitlines()], said


def boxed(*answers: str) -> list[str]:
    return [f"So it is \\boxed{{{answer}}}." for answer in answers]


def test_one_election_as_it_is_printed():
    [election], said = held({"id": "p1", "rollouts": [*boxed("1,200", "7", "1200"), "no idea"], "reference": "1200"})
    assert not said
    assert election == {
        "id": "p1",
        "label": "1,200",
        "abstained": False,
        "consensus": 0.5,
        "classes": [
            {"answer": "1,200", "spellings": ["1,200", "1200"], "members": [0, 2]},
            {"answer": "7", "spellings": ["7"], "members": [1]},
        ],
        "unparsed": [{"index": 3, "reason": "no final answer"}],
        "rewards": [1, 0, 1, 0],
        "label_correct": True,
    }


def test_an_abstention_has_no_label_no_reward_and_is_not_right():
    [election], _ = held({"id": 7, "rollouts": boxed("1", "2"), "reference": "1"})
    assert (election["id"], election["label"], election["abstained"], election["rewards"]) == (7, None, True, [0, 0])
    assert election["label_correct"] is False
    [broken], _ = held({"id": 7, "rollouts": boxed("1", "2")}, tie="first_sampled")
    assert (broken["label"], broken["label_correct"]) == ("1", None)
    [weak], _ = held({"id": 7, "rollouts": boxed("1", "1", "2")}, min_consensus=0.7)
    assert weak["abstained"] is True


def test_no_rollouts_are_no_answers():
    [election], said = held({"id": "p", "rollouts": [], "reference": "1"})
    assert (election["abstained"], election["consensus"], election["label_correct"]) == (True, 0.0, None)
    assert not said


@pytest.mark.parametrize(
    ("kind", "rollouts", "settings", "label"),
    [
        ("math", boxed(r"\frac12", "0.5", "2"), {}, r"\frac12"),
        ("number", boxed("12", "12.0", "3"), {}, "12"),
        ("choice", boxed("B", "B", "A"), {}, "B"),
        ("text", boxed("Paris", "paris", "Rome"), {}, "Paris"),
        ("decision", ["The answer is yes.", *boxed("Yes", "no")], {}, None),
        ("decision", boxed("accept", "accept", "reject"), {"labels": ["accept", "reject"]}, "accept"),
        ("pattern", ["id=17", "id=17", "id=4"], {"pattern": r"id=(\d+)"}, "17"),
    ],
)
def test_every_kind_votes(kind: str, rollouts: list[str], settings: dict[str, Any], label: str | None):
    line = {"id": "p", "rollouts": rollouts, "choices": ["one", "two"]} if kind == "choice" else {
        "id": "p", "rollouts": rollouts,
    }  # fmt: skip
    [election], said = held(line, kind=kind, **settings)
    assert not said
    assert election["rewards"] == [1, 1, 0]
    assert len(election["classes"]) == 2
    assert label is None or election["label"] == label


BAD = [
    (b"{", "not JSON"),
    (b"[1]", "not a JSON object"),
    (b'{"rollouts": []}', '"id" must be'),
    (b'{"id": true, "rollouts": []}', '"id" must be'),
    (b'{"id": 1}', '"rollouts" must be'),
    (b'{"id": 1, "rollouts": "text"}', '"rollouts" must be'),
    (b'{"id": 1, "rollouts": [1]}', '"rollouts" must be'),
    (b'{"id": 1, "rollouts": [], "choices": "A"}', '"choices" must be'),
    (b'{"id": 1, "rollouts": [], "reference": 5}', '"reference" must be'),
    (b'{"id": "\xff"}', "not UTF-8"),
    (b"[" * 90_000, "not JSON"),
    (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
    (b'{"id": "' + b"x" * 200_000 + b'"}', "longer than 100,000 bytes"),
]


def test_a_bad_line_is_named_by_its_number_and_the_others_are_held_in_order():
    lines: list[Any] = []
    for place, (bad, _) in enumerate(BAD):
        lines += [{"id": place, "rollouts": boxed("1")}, bad]
    found, said = held(*lines)
    assert [each["id"] for each in found] == list(range(len(BAD)))
    for place, (message, (_, words)) in enumerate(zip(said, BAD, strict=True)):
        assert message.startswith(f"Line {2 * place + 2}: ")
        assert words in message


def test_blank_lines_and_a_byte_order_mark_are_passed_over():
    found, said = held(b'\xef\xbb\xbf{"id": 1, "rollouts": []}', b"", b"  \r", {"id": 2, "rollouts": []})
    assert ([each["id"] for each in found], said) == ([1, 2], [])
    assert held(b"{", b"", b"{")[1][1].startswith("Line 3:")


def test_hostile_text_comes_out_as_plain_ascii_json():
    evil = "\u202e\x1b]0;owned\x07<script>\ud800"
    found, _ = held({"id": evil, "rollouts": [f"\\boxed{{{evil}}}"]}, kind="text")
    assert found[0]["id"] == evil
    out = io.StringIO()
    raw = json.dumps({"id": evil, "rollouts": [f"\\boxed{{{evil}}}"]}).encode()
    vote_lines(io.BytesIO(raw), out, answers_of(kind="text"), vote_of("abstain", 0.0, 0.0), lambda _: None)
    assert out.getvalue().strip().isascii()
    assert "\x1b" not in out.getvalue()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_line_or_a_reason(line: bytes):
    with suppress(DataError):
        assert isinstance(parse_line(line).rollouts, tuple)


def test_settings_that_cannot_be_say_why():
    with pytest.raises(ConfigError, match="min_consensus"):
        vote_of("abstain", 7.0, 0.0)
    with pytest.raises(ConfigError, match="tolerance"):
        answers_of(kind="number", tolerance=-1.0)


# the command itself


def test_each_election_is_printed_before_the_next_line_is_written():
    with subprocess.Popen(
        [*COMMAND, "--kind", "number", "-"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(json.dumps({"id": number, "rollouts": boxed("1")}).encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdin.close()
        assert process.wait(30) == 0


def test_bad_lines_end_in_status_1_and_a_closed_pipe_in_silence(tmp_path: Path):
    file = tmp_path / "lines.jsonl"
    file.write_text('{"id": 1, "rollouts": []}\n{\n{"id": 2, "rollouts": []}\n', encoding="utf-8")
    result = subprocess.run(
        [*COMMAND, "--kind", "number", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [1, 2]
    assert result.stderr.startswith("Line 2: not JSON")
    file.write_text(json.dumps({"id": "x" * 2000, "rollouts": []}) + "\n" + '{"id": 1, "rollouts": []}\n' * 20_000)
    quoted = " ".join([*COMMAND, "--kind", "number", str(file)])
    closed = subprocess.run(
        ["bash", "-c", f"{quoted} | head -c 10; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr) == (141, "")


def test_a_missing_file_and_an_unknown_kind_are_one_sentence(tmp_path: Path):
    missing = subprocess.run(
        [*COMMAND, "--kind", "number", str(tmp_path / "none")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "No such file" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_no_model_library_is_loaded():
    code = (
        "import sys; from app.cli.vote import answers_of, vote_lines; from ttrl_engine.tasks import task_for;"
        "task_for(answers_of(kind='math')); "
        "print([m for m in ('torch', 'transformers', 'gradio', 'sympy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
