"""Life stages: every rule where it should decide, no gap, no overlap, exact tests, the habit against a plain count."""

from datetime import date, timedelta
from math import comb

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from analysis.segmentation.life_stage import (
    STAGES,
    StageRules,
    change_p_values,
    false_alarm_rate,
    life_stages,
    purchase_habit,
    silence_p_value,
    stage_conditions,
    stage_inputs,
    stage_table,
)

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


def stage_of(*rows, **options):
    result = life_stages(pd.DataFrame(list(rows)), **options)
    return list(zip(result.customers["life_stage"], result.customers["because"], strict=True))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("stability", "habit")),
        ({"probability_alive": 0.1}, ("ended", "alive")),
        ({"probability_alive": 0.4}, ("decline", "alive")),
        ({"recency_days": 120}, ("decline", "silence")),
        ({"earlier": 15, "recent": 4}, ("decline", "falling")),
        ({"purchase_days": 2, "gaps": 1, "earlier": 0, "recent": 1}, ("exploration", "few")),
        (
            {"purchase_days": 1, "gaps": 0, "gap_low": np.nan, "gap_high": np.nan, "earlier": 0, "recent": 0},
            ("exploration", "few"),
        ),
        ({"earlier": 4, "recent": 15}, ("formation", "rising")),
        ({"T": 100}, ("formation", "young")),
        ({"probability_alive": np.nan, "recency_days": 200}, ("ended", "silence")),
        ({"probability_alive": np.nan}, ("stability", "habit")),
    ],
)
def test_each_rule_decides_where_it_should(given, expected):
    assert stage_of(customer(**given)) == [expected]


def test_a_single_purchase_is_judged_by_the_habit_of_the_base():
    returning = [customer(customer_id=str(i), gap_high=20.0 + i, gap_low=10.0) for i in range(50)]
    once = {"purchase_days": 1, "gaps": 0, "gap_low": np.nan, "gap_high": np.nan, "earlier": 0, "recent": 0}
    once |= {"probability_alive": np.nan}
    silences = [10, 68, 80, 300]
    rows = returning + [customer(customer_id=f"x{s}", recency_days=s, **once) for s in silences]
    # Beyond the gap of 95 in 100 (66.6 days) it declines; beyond 99 in 100 and 90 days it has ended.
    assert [s for s, _ in stage_of(*rows)[-4:]] == ["exploration", "decline", "decline", "ended"]


def test_left_truncated_customers_are_never_exploring_or_forming():
    rows = [
        customer(T=100),
        customer(earlier=4, recent=15),
        customer(earlier=15, recent=4),
        customer(purchase_days=2, gaps=1, earlier=0, recent=1, probability_alive=np.nan, recency_days=1),
    ]
    found = stage_of(*rows, left_truncated=True, span_days=400)
    assert [s if isinstance(s, str) else None for s, _ in found] == [
        "stability",
        "stability",
        "decline",
        None,
    ]
    with pytest.raises(ValueError, match="span_days"):
        life_stages(pd.DataFrame(rows), left_truncated=True)


COUNTS = st.integers(0, 60)
CUSTOMERS = st.lists(
    st.builds(
        lambda silent, T, days, low, spread, earlier, recent, alive: customer(
            recency_days=min(silent, T),
            T=T,
            purchase_days=days,
            gaps=days - 1,
            earlier=earlier,
            recent=recent,
            gap_low=low if days > 1 else np.nan,
            gap_high=low + spread if days > 1 else np.nan,
            probability_alive=alive,
        ),
        COUNTS.map(lambda n: n * 7),
        st.integers(0, 900),
        st.integers(1, 60),
        st.floats(1, 200),
        st.floats(0, 200),
        COUNTS,
        COUNTS,
        st.one_of(st.just(np.nan), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60)
@given(CUSTOMERS, st.booleans())
def test_stages_leave_no_gap_and_do_not_overlap(rows, left_truncated):
    frame = pd.DataFrame(rows)
    result = life_stages(frame, left_truncated=left_truncated, span_days=900)
    stage = result.customers["life_stage"]
    assert len(stage) == len(frame)
    assert result.customers["because"].notna().all()
    conditions = stage_conditions(frame, StageRules(), left_truncated, 900)
    names = [n for n in conditions.columns if ":" in n]
    # Read the definitions backwards: a stage is right when its rule holds and no earlier rule does.
    for i in range(len(frame)):
        decided = f"{'not_identified' if pd.isna(stage[i]) else stage[i]}:{result.customers['because'][i]}"
        holds = conditions.loc[i, names]
        assert holds[decided]
        assert not holds[names[: names.index(decided)]].any()
    if left_truncated:
        assert stage.dropna().isin(["stability", "decline", "ended"]).all()
    else:
        assert stage.isin(STAGES).all()


@given(st.integers(0, 80), st.integers(0, 80))
def test_change_is_the_exact_conditional_test(earlier, recent):
    fall, rise = change_p_values([earlier], [recent])
    if earlier + recent == 0:
        assert (fall[0], rise[0]) == (1, 1)
    else:
        total = earlier + recent
        assert fall[0] == pytest.approx(binomtest(recent, total, 0.5, "less").pvalue)
        assert rise[0] == pytest.approx(binomtest(recent, total, 0.5, "greater").pvalue)


@pytest.mark.parametrize("total", [0, 1, 4, 5, 11, 40])
def test_false_alarm_rate_is_the_size_of_the_test(total):
    k = np.arange(total + 1)
    fall, _ = change_p_values(total - k, k)
    chance = np.array([comb(total, int(i)) / 2**total for i in k])
    assert false_alarm_rate([total], 0.05)[0] == pytest.approx(chance[fall <= 0.05].sum(), abs=1e-12)
    assert false_alarm_rate([total], 0.05)[0] <= 0.05


def test_silence_is_judged_like_purchases_spread_evenly():
    rng = np.random.default_rng(5)
    last = rng.uniform(0, 100, (20_000, 6)).max(axis=1)
    p = silence_p_value(np.full(20_000, 6), np.full(20_000, 100.0), 100 - last)
    # Under no change the p-value is uniform.
    for level in (0.05, 0.5):
        assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 20_000)
    assert silence_p_value([0], [0], [0])[0] == 1


def test_unchanged_buyers_decline_no_more_often_than_said():
    rng = np.random.default_rng(8)
    n = 3000
    counts = rng.poisson(np.tile(rng.gamma(2, 6, n), (2, 1)))
    rows = pd.DataFrame(customer(), index=range(n)).assign(earlier=counts[0], recent=counts[1])
    result = life_stages(rows)
    declined = (result.customers["life_stage"] == "decline").sum()
    expected = result.false_declines
    assert abs(declined - expected) < 4 * np.sqrt(expected)


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


@settings(max_examples=15, deadline=None)
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


def test_stage_table_keeps_the_order_of_life_and_the_unknown_last():
    frame = pd.DataFrame(
        {"life_stage": ["ended", None, "stability", "stability"], "spend": [1.0, 2, 3, 4], "recency_days": 5}
    )
    table = stage_table(frame)
    assert list(table["life_stage"]) == ["stability", "ended", "not_identified"]
    assert list(table["customers"]) == [2, 1, 1]
    assert table["share_sales"].sum() == pytest.approx(1)
