"""What stages are made of: the habit against a plain count, and silences that are far out of it."""

from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.segmentation.life_stage import StageRules, fallen_silent, purchase_habit, silence_p_value, stage_inputs

TO = date(2024, 12, 31)


def customer(**given):
    base = {
        "customer_id": "a",
        "recency_days": 5,
        "T": 400,
        "purchase_days": 20,
        "gaps": 19,
        "gap_low": 15.0,
        "gap_median": 20.0,
        "gap_high": 25.0,
        "window_days": 400,
        "earlier": 10,
        "recent": 9,
        "probability_alive": 0.9,
    }
    return base | given


SILENT = {"purchase_days": 20, "gaps": 19, "recency_days": 200}
ONCE = {"purchase_days": 1, "gaps": 0, "gap_low": np.nan, "gap_high": np.nan, "earlier": 0, "recent": 0}


@pytest.mark.parametrize(
    ("given", "gone"),
    [
        ({}, False),
        (SILENT, True),
        # within the outer fence of the own gaps, 25 + 3 × 10 days, and not yet 90 days
        ({"recency_days": 50}, False),
        ({"recency_days": 80}, False),
        # far out of the habit, but not rare for so few purchases in so long a time
        (SILENT | {"purchase_days": 6, "gaps": 5, "T": 2000}, False),
    ],
)
def test_a_long_silence_is_told_by_the_own_habit(given, gone):
    assert fallen_silent(pd.DataFrame([customer(**given)]), StageRules(), False, 0).tolist() == [gone]


def test_a_single_purchase_is_judged_by_the_habit_of_the_base():
    returning = [customer(customer_id=str(i), gap_high=20.0 + i, gap_low=10.0) for i in range(100)]
    rows = pd.DataFrame(returning + [customer(recency_days=s, **ONCE) for s in (10, 100, 119, 300)])
    # the usual gap of 99 in 100 of those who came back is 118 days
    assert fallen_silent(rows, StageRules(), False, 0).tolist()[-4:] == [False, False, True, True]
    assert not fallen_silent(pd.DataFrame([customer(recency_days=300, **ONCE)]), StageRules(), False, 0).any()


def test_left_truncated_customers_are_watched_from_the_first_day_on():
    row = pd.DataFrame([customer(**SILENT | {"T": 210, "purchase_days": 6, "gaps": 5})])
    # 5 purchases in the 10 days before the silence are out of habit; 6 in 2,000 watched days are not
    assert fallen_silent(row, StageRules(), False, 0).all()
    assert not fallen_silent(row, StageRules(), True, 2000).any()


def test_silence_is_judged_like_purchases_spread_evenly():
    rng = np.random.default_rng(5)
    last = rng.uniform(0, 100, (20_000, 6)).max(axis=1)
    p = silence_p_value(np.full(20_000, 6), np.full(20_000, 100.0), 100 - last)
    # Under no change the p-value is uniform.
    for level in (0.05, 0.5):
        assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 20_000)
    assert silence_p_value([0], [0], [0])[0] == 1


def lines_of(days_of):
    rows = [
        {"customer_id": c, "order_date": day, "net_amount": 10.0, "order_id": f"{c}{i}"}
        for c, days in days_of.items()
        for i, day in enumerate(days)
    ]
    return ibis.memtable(pa.Table.from_pylist(rows))


def back(*ago):
    return [TO - timedelta(days=a) for a in ago]


def test_habit_counts_halves_and_gaps():
    lines = lines_of({"a": back(99, 60, 50, 49, 10, 10, 0), "b": back(30)})
    habit = purchase_habit(lines, date(2024, 1, 1), TO, left_truncated=False).set_index("customer_id")
    a = habit.loc["a"]
    assert (a["purchase_days"], a["gaps"], a["window_days"]) == (6, 5, 98)
    # Half a window is 49 days; the first day starts the clock and is in neither half.
    assert (a["earlier"], a["recent"]) == (3, 2)
    assert a["gap_median"] == 10
    b = habit.loc["b"]
    assert (b["purchase_days"], b["gaps"], b["earlier"], b["recent"]) == (1, 0, 0, 0)
    assert pd.isna(b["gap_median"])


def test_habit_of_left_truncated_customers_counts_the_first_day_too():
    lines = lines_of({"a": back(90, 10)})
    habit = purchase_habit(lines, TO - timedelta(days=99), TO, left_truncated=True)
    assert habit.loc[0, ["window_days", "earlier", "recent"]].tolist() == [100, 1, 1]


def test_two_years_are_compared_by_whole_years_so_a_christmas_buyer_does_not_decline():
    day = date(2024, 12, 20)
    visits = [day.replace(year=y, day=d) for y in range(2020, 2025) for d in (18, 19, 20)]
    habit = purchase_habit(lines_of({"a": visits}), date(2020, 1, 1), TO, left_truncated=False)
    assert habit.loc[0, "window_days"] == 4 * 365
    assert habit.loc[0, "earlier"] == habit.loc[0, "recent"] == 6


@settings(max_examples=15)
@given(st.lists(st.integers(0, 720), min_size=1, max_size=25), st.booleans())
def test_habit_against_a_plain_count(ago, left_truncated):
    start = TO - timedelta(days=720)
    habit = purchase_habit(lines_of({"a": back(*ago)}), start, TO, left_truncated).iloc[0]
    days = sorted(set(ago), reverse=True)
    age = 721 if left_truncated else days[0]
    half = age // 2
    counted = days if left_truncated else days[1:]
    assert habit["purchase_days"] == len(days)
    assert habit["recent"] == sum(a < half for a in counted)
    assert habit["earlier"] == sum(half <= a < 2 * half for a in counted)
    if len(days) > 1:
        gaps = -np.diff(days)
        expected = np.quantile(gaps, [0.25, 0.5, 0.75])
        assert habit[["gap_low", "gap_median", "gap_high"]].tolist() == pytest.approx(expected.tolist())


def test_inputs_join_by_customer_and_name_what_is_missing():
    summary = pd.DataFrame({"customer_id": ["a", "b"], "recency_days": [1, 2], "T": [10, 20]})
    habit = purchase_habit(lines_of({"b": back(2, 20), "a": back(1, 10)}), date(2024, 1, 1), TO, False)
    value = pd.DataFrame({"customer_id": ["b"], "probability_alive": [0.7]})
    joined = stage_inputs(summary, habit, value)
    assert list(joined["customer_id"]) == ["a", "b"]
    assert joined["probability_alive"].isna().tolist() == [True, False]
    assert stage_inputs(summary, habit)["probability_alive"].isna().all()
    with pytest.raises(ValueError, match="1 customers of customer_summary have no purchase day"):
        stage_inputs(summary, habit[habit["customer_id"] == "a"])
