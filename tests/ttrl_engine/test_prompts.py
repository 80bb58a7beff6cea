from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ttrl_engine.config import DataConfig
from ttrl_engine.errors import DataError
from ttrl_engine.problems import Problem
from ttrl_engine.prompts import PromptFormat, stop_ids
from ttrl_engine.tasks import get_task


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(tiny_model))
    return loaded


def read(
    tokenizer: PreTrainedTokenizerBase, problem: Problem, kind: str = "math", source: str = "x/y", **data: str
) -> str:
    prompts = PromptFormat(tokenizer, get_task(kind), DataConfig.model_validate(data), source)
    return str(tokenizer.decode(list(prompts.ids(problem))))


def test_the_chat_template_is_used_where_there_is_one(tokenizer: PreTrainedTokenizerBase) -> None:
    problem = Problem("1", "What is 2+3?")
    assert read(tokenizer, problem, source="bundled:abacus-1m") == "Q: What is 2+3?\nA:"
    assert read(tokenizer, problem, prompt="plain", prompt_suffix="") == "What is 2+3?"


def test_the_instruction_follows_the_kind_unless_it_is_set(tokenizer: PreTrainedTokenizerBase) -> None:
    problem = Problem("1", "What is 2+3?")
    assert "\\boxed{}" in read(tokenizer, problem)
    assert read(tokenizer, problem, prompt_suffix="\nBe brief.") == "Q: What is 2+3?\nBe brief.\nA:"


def test_options_are_lettered(tokenizer: PreTrainedTokenizerBase) -> None:
    problem = Problem("1", "Which?", ("red", "blue"))
    assert "Which?\nA. red\nB. blue" in read(tokenizer, problem, kind="choice")


def test_a_missing_chat_template_is_an_error_only_where_it_is_asked_for(tiny_model: Path) -> None:
    bare: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(tiny_model))
    bare.chat_template = None
    assert read(bare, Problem("1", "2+3"), prompt_suffix="") == "2+3"
    with pytest.raises(DataError, match="no chat template"):
        read(bare, Problem("1", "2+3"), prompt="chat")


def test_every_end_token_counts(tokenizer: PreTrainedTokenizerBase) -> None:
    assert stop_ids(tokenizer, None) == (1,)
    assert stop_ids(tokenizer, [7, 1]) == (1, 7)
    assert stop_ids(tokenizer, 9) == (1, 9)
