"""Charts as data."""

import json
import math

from app.charts import NO_REFERENCES, NOTHING_YET, Chart, Series, dump, sparkline
from tests.app.scripted import HOSTILE


def drawn(chart):
    return json.loads(dump([chart]))["charts"][0]


def test_an_unknown_value_is_a_gap_and_never_zero():
    chart = drawn(Chart("c", "C", [Series("s", [(1, 0.5), (2, None), (3, math.nan), (4, math.inf)])]))
    assert [point[1] for point in chart["series"][0]["points"]] == [0.5, None, None, None]


def test_shares_are_drawn_from_0_to_100_percent():
    assert drawn(Chart("c", "C", [], "share"))["y_range"] == [0, 1]
    assert drawn(Chart("c", "C", [], "tokens"))["y_range"] is None


def test_a_chart_without_references_says_why_it_is_empty():
    chart = drawn(Chart("c", "C", [Series("s", [])], "share", missing=NO_REFERENCES))
    assert chart["missing"] == chart["text"] == NO_REFERENCES


def test_a_chart_without_values_says_that_nothing_was_measured():
    assert drawn(Chart("c", "C", [Series("s", [(1, None)])]))["missing"] == NOTHING_YET


def test_every_chart_has_a_sentence_with_its_ends():
    chart = drawn(Chart("c", "C", [Series("Consensus", [(1, 0.338), (60, 0.818)])], "share"))
    assert chart["text"] == "Consensus: from 33.8\u202f% at step 1 to 81.8\u202f% at 60."


def test_names_travel_as_text_and_are_escaped_in_pictures():
    assert drawn(Chart("c", HOSTILE, [Series(HOSTILE, [(1, 1.0)])]))["title"] == HOSTILE
    assert "<script" not in sparkline([0.1, 0.2], HOSTILE)


def test_a_sparkline_of_one_value_is_words():
    assert "no curve yet" in sparkline([0.5, None], "Consensus")
