from __future__ import annotations

import pytest

from app.config_form import (
    BASIC,
    PLACED,
    advanced_sections,
    changes,
    draw,
    field,
    form_fields,
    form_values,
    marks_css,
    read_form,
    shown_value,
)
from ttrl_engine.config import PRESETS, AnswerConfig, Merge, RunConfig

NAMES = [setting.name for setting in form_fields()]


@pytest.mark.parametrize("config", [preset.config() for preset in PRESETS.values()], ids=list(PRESETS))
def test_a_form_gives_back_the_config_it_was_filled_with(config: RunConfig):
    assert read_form(dict(zip(NAMES, form_values(config, NAMES), strict=True))).config == config


def test_every_setting_has_its_place_once():
    advanced = [setting.name for settings in advanced_sections().values() for setting in settings]
    assert sorted([*BASIC, *PLACED, *advanced]) == sorted(NAMES)


def test_every_setting_can_be_drawn_with_its_title_and_meaning():
    for setting in form_fields():
        component = draw(setting)
        assert component.label == setting.title
        assert setting.info


def test_bounds_are_told_in_words():
    assert field("vote.num_votes").bounds == "2 to 1,024"
    assert field("train.learning_rate").bounds == "above 0 to 1"
    assert field("vote.min_consensus").bounds == "0 to 1"


def test_a_fault_between_fields_is_shown_at_both_in_the_words_of_the_form():
    errors = read_form({"vote.num_votes": 4, "vote.num_trained": 32}).errors
    assert set(errors) == {"vote.num_votes", "vote.num_trained"}
    assert "num_votes" not in errors["vote.num_votes"]


def test_a_blank_number_is_asked_for_unless_it_may_be_blank():
    assert read_form({"train.learning_rate": None}).errors == {"train.learning_rate": "A value is needed here."}
    unlimited = read_form({"train.max_steps": None}).config
    assert unlimited is not None
    assert unlimited.train.max_steps is None


def test_a_space_as_instruction_adds_nothing_and_a_blank_one_is_automatic():
    silent, automatic = read_form({"data.prompt_suffix": " "}).config, read_form({"data.prompt_suffix": ""}).config
    assert silent is not None
    assert automatic is not None
    assert (silent.data.prompt_suffix, automatic.data.prompt_suffix) == ("", None)


def test_a_persons_word_on_single_answers_goes_along_with_its_problem_set():
    word = AnswerConfig(merges=(Merge(problem_id="p", answers=("1", "one")),))
    start = RunConfig(answers=word)
    values = dict(zip(NAMES, form_values(start, NAMES), strict=True))
    kept = read_form(values, start).config
    assert kept is not None
    assert kept.answers == word
    other = read_form({**values, "data.problems": "set:other"}, start).config
    assert other is not None
    assert other.answers == AnswerConfig()


def test_a_whole_number_may_arrive_as_a_float_and_a_broken_one_is_refused():
    whole = read_form({"vote.num_votes": 48.0}).config
    assert whole is not None
    assert whole.vote.num_votes == 48
    assert "whole number" in read_form({"vote.num_votes": 48.5}).errors["vote.num_votes"]


def test_changes_leave_the_name_out():
    changed = RunConfig().with_changes(name="x", seed=4)
    assert changes(changed, RunConfig()) == {"seed": (0, 4)}


def test_values_are_shown_short():
    assert [shown_value(v) for v in (None, True, 2e-4, 1024, ("a", "b"), ())] == [
        "unset",
        "on",
        "0.0002",
        "1,024",
        "a, b",
        "none",
    ]


def test_an_error_cannot_break_out_of_the_style_sheet():
    css = marks_css({"vote.num_votes": 'x"}</style><script>alert(1)</script>'}, [])
    assert css.count("<") == 2
    assert css.endswith("}</style>")
