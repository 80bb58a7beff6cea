"""The bundled model and problem sets: honest answers, no overlap, remade byte for byte, and the promised behaviour."""

from __future__ import annotations

import ast
import json
import operator
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ttrl_engine.bundled import MODELS, PROBLEM_SETS, model_path, problem_set_path
from ttrl_engine.bundled.generate import (
    ANSWER_PREFIX,
    CAREFUL,
    LARGEST_RESULT,
    SMALLEST_RESULT,
    Habits,
    make_hard_problem,
    make_problem,
    run_steps,
    solve,
    solve_sloppily,
    steps_of,
)
from ttrl_engine.bundled.make import card
from ttrl_engine.bundled.measure import Examiner, Figures
from ttrl_engine.bundled.sets import draw_sets, write_sets
from ttrl_engine.bundled.training import Phase, batches, build_model, train, training_problem
from ttrl_engine.errors import DataError, ModelError

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def value_of(expression: str) -> int:
    """Python's own reading of an expression, which shares no code with the generator's."""

    def walk(node: ast.expr) -> int:
        if isinstance(node, ast.BinOp):
            result: int = OPERATORS[type(node.op)](walk(node.left), walk(node.right))
            return result
        if isinstance(node, ast.UnaryOp):
            assert isinstance(node.op, ast.USub)
            return -walk(node.operand)
        assert isinstance(node, ast.Constant)
        assert isinstance(node.value, int)
        return node.value

    return walk(ast.parse(expression.replace("×", "*"), mode="eval").body)


def rows_of(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in problem_set_path(name).read_text(encoding="utf-8").splitlines()]


def numbers_in(text: str) -> list[str]:
    return sorted(re.findall(r"\d+", text))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_path("abacus-1m"))
    return loaded


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner(model_path("abacus-1m"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # Two threads that wait for each other on a busy machine take many times as long as one.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_sets_have_their_size_and_share_no_problem() -> None:
    assert [len(rows_of(name)) for name in PROBLEM_SETS] == [128, 100, 60]
    problems = [row["problem"] for name in PROBLEM_SETS for row in rows_of(name)]
    expressions = [problem.expression for problems in draw_sets(0).values() for problem in problems]
    assert len(set(problems)) == len(set(expressions)) == 288


@pytest.mark.parametrize("name", PROBLEM_SETS)
def test_every_reference_is_what_the_arithmetic_gives(name: str) -> None:
    for row, problem in zip(rows_of(name), draw_sets(0)[name], strict=True):
        assert row["problem"] == problem.text
        assert int(row["answer"]) == value_of(problem.expression)
        assert numbers_in(problem.text) == numbers_in(problem.expression)


def test_a_sum_reads_as_its_own_expression() -> None:
    rows = [row for name in PROBLEM_SETS for row in rows_of(name)]
    sums = [(row, found[0]) for row in rows if (found := re.findall(r"\d+(?: [-+×] \d+)+", row["problem"]))]
    assert len(sums) > 100
    assert all(value_of(found) == int(row["answer"]) for row, found in sums)


def test_problem_sets_are_remade_byte_for_byte(tmp_path: Path) -> None:
    write_sets(tmp_path, seed=0)
    for name in PROBLEM_SETS:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == problem_set_path(name).read_bytes()


def test_no_problem_of_a_set_can_be_trained_on() -> None:
    assert all(problem.reserved for problems in draw_sets(0).values() for problem in problems)
    rng = random.Random(0)
    assert not any(training_problem(rng, sums_only=False).reserved for _ in range(2000))


def test_the_generator_repeats_itself_and_varies_with_the_seed() -> None:
    def story(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [solve_sloppily(make_problem(rng), Habits(0.4, 0.1), rng) for _ in range(50)]

    assert story(1) == story(1) != story(2)


def test_a_careful_solution_is_true_line_by_line_and_ends_with_the_answer() -> None:
    rng = random.Random(3)
    for make in (make_problem, make_hard_problem):
        for _ in range(300):
            problem = make(rng)
            *lines, last = solve(problem).splitlines()
            for line in lines:
                assert len({value_of(side) for side in line.split(" = ")}) == 1, line
            assert last == f"{ANSWER_PREFIX}{value_of(problem.expression)}}}."


def test_problems_of_the_models_own_kind_stay_small() -> None:
    rng = random.Random(4)
    for _ in range(500):
        steps = steps_of(make_problem(rng).expression)
        assert len(steps) in (2, 3)
        assert all(SMALLEST_RESULT <= result <= LARGEST_RESULT for result in run_steps(steps))


def test_hard_problems_take_five_steps_or_more() -> None:
    rng = random.Random(5)
    assert all(len(steps_of(make_hard_problem(rng).expression)) >= 5 for _ in range(100))


def test_later_lines_build_on_a_guess() -> None:
    rng = random.Random(6)
    for _ in range(300):
        *lines, last = solve_sloppily(make_problem(rng), Habits(1.0, 0.0), rng).splitlines()
        guesses = [(value_of(exact), int(guess)) for exact, guess in (line.split(" ≈ ") for line in lines)]
        assert all(exact != guess for exact, guess in guesses if exact >= 1)
        assert last == f"{ANSWER_PREFIX}{guesses[-1][1]}}}."


def test_a_phase_of_training_has_exactly_its_steps(tokenizer: PreTrainedTokenizerBase) -> None:
    phase = Phase(steps=18, batch_size=2, habits=CAREFUL, rate=1e-3)
    drawn = list(batches(tokenizer, phase, seed=0))  # type: ignore[arg-type]  # AutoTokenizer's type is wider
    assert len(drawn) == 18
    assert all(batch.tokens.shape == batch.targets.shape and len(batch.tokens) == 2 for batch in drawn)


def test_the_same_seed_trains_the_same_weights(tokenizer: PreTrainedTokenizerBase) -> None:
    assert isinstance(tokenizer, PreTrainedTokenizerFast)

    def trained(seed: int) -> tuple[torch.Tensor, list[float]]:
        torch.manual_seed(0)
        model = build_model(tokenizer)
        losses: list[float] = []
        phase = Phase(steps=6, batch_size=4, habits=CAREFUL, rate=3e-3, matrix_rate=0.02, warmup_steps=1)
        train(model, tokenizer, phase, seed, lambda _, loss: losses.append(loss))
        return model.lm_head.weight.detach(), losses

    weights, losses = trained(1)
    assert torch.equal(weights, trained(1)[0])
    assert not torch.equal(weights, trained(2)[0])
    assert losses[-1] < losses[0]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="abacus-1m"):
        model_path("gpt-5")
    with pytest.raises(DataError, match="sums, sums-benchmark, sums-hard"):
        problem_set_path("aime")


def test_the_catalogue_loads_without_torch() -> None:
    code = "import sys, ttrl_engine.bundled; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_name_in_the_catalogue_exists() -> None:
    assert all((model_path(name) / "model.safetensors").is_file() for name in MODELS)
    assert all(problem_set_path(name).is_file() for name in PROBLEM_SETS)


def test_the_chat_template_frames_a_question(tokenizer: PreTrainedTokenizerBase) -> None:
    message = {"role": "user", "content": "What is 37 + 45?"}
    ids = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
    asked = "<|question|>What is 37 + 45?<|answer|>"
    assert ids == tokenizer(asked)["input_ids"]
    assert tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False) == asked
    with_system = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, message], tokenize=False)
    assert with_system == "<|question|>Be brief.\nWhat is 37 + 45?"
    told = tokenizer.apply_chat_template([message, {"role": "assistant", "content": "82"}], tokenize=False)
    assert told == asked + "82<|end|>"


def test_words_and_digits_are_one_token_each(tokenizer: PreTrainedTokenizerBase) -> None:
    # Fails where AutoTokenizer puts another class, with other rules for splitting, around our vocabulary.
    assert [tokenizer.decode([i]) for i in tokenizer("What is 37 + 45?")["input_ids"]] == [
        "What ", "is ", "3", "7", " + ", "4", "5", "?",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["naïve 東京 🙂\t\n  \\frac{1}{2}", "", "  two  spaces  ", "1234567890 dollars"])
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_model_is_small_and_loads_as_float32() -> None:
    model = AutoModelForCausalLM.from_pretrained(model_path("abacus-1m"))
    assert model.dtype == torch.float32
    assert 1_000_000 < model.num_parameters() < 1_500_000
    assert (model_path("abacus-1m") / "model.safetensors").stat().st_size < 6_000_000


def test_single_answers_are_mostly_wrong_and_the_majority_mostly_right(examiner: Examiner) -> None:
    problems = draw_sets(0)["sums"][:24]
    scored = examiner.ask(problems, num_samples=8, temperature=0.6, top_p=0.95, seed=0)
    assert 0.2 < scored.right < 0.5
    voted = examiner.ask(problems, num_samples=32, temperature=1.0, top_p=1.0, seed=0)
    assert voted.right < 0.4 < 0.7 < voted.maj
    assert max(scored.unparsed, voted.unparsed) < 0.03
    assert voted.mean_tokens < 60


def test_hard_problems_are_out_of_its_depth(examiner: Examiner) -> None:
    figures = examiner.ask(draw_sets(0)["sums-hard"][:16], num_samples=8, temperature=0.6, top_p=0.95, seed=0)
    assert figures.right < 0.05
    assert figures.maj < 0.2


def test_the_card_is_filled_in() -> None:
    figures = Figures(right=0.331, maj=0.9, unparsed=0.001, mean_tokens=34.5)
    text = card({"sums": (128, figures, figures)}, parameters=1_234_567, seed=0)
    assert "$" not in text
    assert "1,234,567 parameters" in text
    assert "| sums | 128 | 33.1% | 90.0% |" in text
    assert "| sums-hard | 60 |" in (model_path("abacus-1m") / "README.md").read_text(encoding="utf-8")
