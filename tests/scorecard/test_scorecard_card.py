"""Planted against found: verdicts, distances, how many intervals hold, and why others do not."""

import numpy as np
import pytest
from scipy.stats import binomtest

from analysis.reporting.numbers import Formatter
from analysis.scorecard import (
    Words,
    answer_facts,
    distances,
    entries,
    finding,
    for_people,
    join,
    missed,
    tally,
    verdicts,
)


@pytest.fixture
def words():
    return Words(Formatter("en", "CNY"))


@pytest.fixture
def card():
    return join(
        {
            "01_data_cleaning": entries([("dirt", 20, 20, None, None), ("more dirt", 7, 0, None, None)]),
            "02_customer_valuation": entries(
                [("inside", 1.0, 1.2, 0.9, 1.5), ("above", 1.0, 2.0, 1.5, 2.5), ("edge", 1.0, 0.5, 0.0, 1.0)]
            ),
            "05_campaign_evaluation": entries(
                [("no effect", 0.0, 0.1, 0.0, 0.4), ("below", 3.0, 1.0, 0.0, 1.5), ("silent", 0.3, None, None, None)],
                ["", "why_targeted", ""],
            ),
        }
    )


def test_every_row_has_one_verdict(card):
    expected = ["no_interval", "not_found", "yes", "no", "yes", "yes", "no", "not_found"]
    assert card["holds"].tolist() == expected


def test_nought_is_right_where_nought_was_planted():
    assert verdicts(entries([("x", 0, 0, None, None)])).tolist() == ["no_interval"]


def test_a_finding_becomes_a_row_and_its_absence_one_without_numbers():
    rows = entries(
        [finding("a", 1.0, {"value": 2.0, "low": 0.5, "high": 3.0, "unit": "share"}), finding("b", 1.0, None)]
    )
    assert rows.loc[0, ["planted", "found", "low", "high"]].tolist() == [1.0, 2.0, 0.5, 3.0]
    assert rows.loc[1, ["found", "low", "high"]].isna().all()


def test_distances_are_measured_to_the_end_on_the_side_of_the_truth():
    rows = entries([("a", 1.0, 2.0, 1.0, 9.0), ("b", 4.0, 2.0, 0.0, 3.0), ("c", 2.0, 2.0, 2.0, 2.0)])
    assert distances(rows).tolist() == [1.0, -2.0, 0.0]


def test_the_tally_is_clopper_and_pearsons(card):
    told = tally(card)
    assert (told["held"], told["missed"], told["intervals"]) == (3, 2, 5)
    assert (told["not_found"], told["no_interval"]) == (2, 1)
    exact = binomtest(3, 5).proportion_ci(0.95, "exact")
    assert told["low"] == pytest.approx(exact.low)
    assert told["high"] == pytest.approx(exact.high)


def test_a_card_without_intervals_has_no_share():
    told = tally(join({"01_data_cleaning": entries([("dirt", 2, 2, None, None)])}))
    assert told["intervals"] == 0
    assert told["value"] is None


@pytest.mark.parametrize(("held", "missed"), [(0, 4), (4, 0)])
def test_all_or_none_keep_one_end_at_the_border(held, missed):
    rows = [("x", 0.0, 0.0, -1.0, 1.0)] * held + [("x", 5.0, 0.0, -1.0, 1.0)] * missed
    told = tally(join({"a": entries(rows)}))
    exact = binomtest(held, 4).proportion_ci(0.95, "exact")
    assert (told["low"], told["high"]) == pytest.approx((exact.low, exact.high))


def test_misses_come_farthest_first_each_with_why(card, words):
    table = missed(card, words)
    assert table["quantity"].tolist() == ["below", "above"]
    assert table["distance"].tolist() == [4.0, 2.0]
    assert "just bought more than is usual" in table["because"][0]
    assert "Chance" in table["because"][1]


def test_what_chance_cannot_explain_is_said(words):
    table = missed(join({"a": entries([("far", 10.0, 0.0, -1.0, 1.0)])}), words)
    assert "Too far for chance" in table["because"].item()


def test_many_misses_are_more_than_chance(words):
    rows = [("x", 0.0, 0.0, -1.0, 1.0)] * 30
    fine = answer_facts(join({"a": entries([*rows, ("y", 9.0, 0.0, -1.0, 1.0)])}), "company", 0.95, words)
    bad = answer_facts(join({"a": entries([*rows, *[("y", 9.0, 0.0, -1.0, 1.0)] * 9])}), "company", 0.95, words)
    assert not fine["more"]
    assert bad["more"]


def test_people_see_four_digits_and_whole_counts(words):
    shown = for_people(entries([("a", 123.0, 123456.7, 0.123456, np.nan)]), words)
    assert shown.loc[0, ["planted", "found", "low", "high"]].tolist() == [123, 123500, 0.1235, None]
    assert isinstance(shown.loc[0, "planted"], int)
    assert shown["holds"].item() == "no interval"
