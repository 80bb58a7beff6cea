"""The benchmark's models and problems must have the lengths and answers that its figures are about."""

from __future__ import annotations

import random
import statistics

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import toy

TINY = toy.Shape(32, 64, 2, 2, 1, 200, trained=False)


def test_problems_differ_and_their_prompts_have_equal_length():
    problems = toy.make_problems(0)
    tokenizer = toy.make_tokenizer(64)
    assert len({problem["prompt"] for problem in problems}) == toy.NUM_PROBLEMS
    assert {len(tokenizer(problem["prompt"])["input_ids"]) for problem in problems} == {13}
    assert toy.make_problems(0) == problems != toy.make_problems(1)


def test_ended_answers_have_the_mean_and_the_limit_they_are_named_for():
    tokenizer, rng = toy.make_tokenizer(64), random.Random(0)
    lengths = [
        len(tokenizer(toy.write_answer("7", toy.MEAN_LENGTH - toy.CLOSING, None, rng))["input_ids"])
        for _ in range(4_000)
    ]
    assert statistics.fmean(lengths) == pytest.approx(toy.MEAN_LENGTH, abs=1.0)
    assert max(lengths) == toy.MAX_LENGTH


def test_fixed_answers_all_have_one_length_and_a_box_within_it():
    tokenizer, rng = toy.make_tokenizer(64), random.Random(0)
    answers = [toy.write_answer("7", 8, toy.FIXED_LENGTH, rng) for _ in range(500)]
    assert {len(tokenizer(answer)["input_ids"]) for answer in answers} == {toy.FIXED_LENGTH}
    assert all("}" in answer and toy.END not in answer for answer in answers)


def test_text_survives_the_tokenizer():
    tokenizer = toy.make_tokenizer(64)
    text = "abc\\boxed{7}"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_random_weights_end_at_the_asked_rate(tmp_path):
    toy.save_model(tmp_path, TINY, ends=True, seed=0, device=torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        logits = model(input_ids=torch.randint(50, 200, (8, 40))).logits
    rate = float(logits.softmax(-1)[..., tokenizer.eos_token_id].mean())
    assert rate == pytest.approx(1 / toy.MEAN_LENGTH, rel=0.3)
