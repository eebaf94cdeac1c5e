"""The customer summary: what an occasion is, the clock, returns, margin, and the split at a day."""

import datetime as dt
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.valuation import (
    calibration_holdout,
    customer_summary,
    purchase_days,
    purchase_timing,
    recent_activity,
    without_purchase,
)
from analysis.valuation.summary import MARGIN, line_margin, to_frame

END = dt.date(2024, 3, 31)


def order_lines(rows):
    """Rows of (customer, day of the year 2024, amount[, order, cost]) as an Ibis table."""
    full = [(*row, f"{row[0]}-{row[1]}", None)[:5] if len(row) == 3 else row for row in rows]
    money = pa.decimal128(18, 4)
    schema = pa.schema(
        [
            ("customer_id", pa.string()),
            ("order_date", pa.date32()),
            ("net_amount", money),
            ("order_id", pa.string()),
            ("cost", money),
            ("is_return", pa.bool_()),
        ]
    )
    data = [
        {
            "customer_id": customer,
            "order_date": dt.date(2024, 1, 1) + dt.timedelta(days=day),
            "net_amount": Decimal(str(amount)),
            "order_id": order,
            "cost": None if cost is None else Decimal(str(cost)),
            "is_return": amount < 0,
        }
        for customer, day, amount, order, cost in full
    ]
    return ibis.memtable(pa.Table.from_pylist(data, schema=schema))


def frame_of(table):
    return table.to_pyarrow().to_pandas()


def summary_of(rows, **options):
    frame = frame_of(customer_summary(order_lines(rows), END, **options))
    return frame.set_index("customer_id").sort_index()


def test_one_customer_by_hand():
    row = summary_of([("a", 0, 10), ("a", 10, 20), ("a", 10, 5, "second", None), ("a", 30, 50)]).loc["a"]
    assert row["frequency"] == 2 and row["recency"] == 30 and row["T"] == 90
    assert row["monetary_value"] == 37.5
    assert row["recency_days"] == 60 and row["orders"] == 4 and row["spend"] == 85


def test_an_occasion_is_a_day_with_positive_net_spend():
    rows = [("a", 0, 10), ("a", 5, 20), ("a", 5, -20), ("a", 9, 0), ("a", 20, 7), ("a", 30, -3)]
    row = summary_of(rows).loc["a"]
    assert (row["frequency"], row["recency"], row["monetary_value"]) == (1, 20, 7)
    assert row["spend"] == 14


def test_a_one_time_buyer():
    row = summary_of([("a", 60, 12)]).loc["a"]
    assert (row["frequency"], row["recency"], row["T"], row["monetary_value"]) == (0, 0, 30, 0)


def test_customers_who_never_bought_on_balance_are_left_out_and_counted():
    lines = order_lines([("a", 0, 10), ("b", 0, 5), ("b", 0, -5), ("c", 3, -2)])
    assert frame_of(customer_summary(lines, END))["customer_id"].tolist() == ["a"]
    assert without_purchase(lines, END) == {"customers": 2, "spend": -2.0}
    assert without_purchase(order_lines([("a", 0, 10)]), END) == {"customers": 0, "spend": 0.0}


def test_nothing_after_the_last_day_counts():
    row = summary_of([("a", 0, 10), ("a", 200, 99), ("b", 200, 1)])
    assert row.index.tolist() == ["a"] and row.loc["a", "spend"] == 10


def test_margin_from_cost_from_rate_or_unknown():
    rows = [("a", 0, 10, "1", 6), ("a", 5, -10, "2", 6), ("b", 0, 10, "3", None), ("b", 1, 10, "4", 7)]
    by_cost = summary_of(rows)["margin"]
    assert by_cost["a"] == 0.0 and np.isnan(by_cost["b"])
    by_both = summary_of(rows, margin_rate=0.3)["margin"]
    assert by_both["a"] == 0.0 and by_both["b"] == pytest.approx(6.0)


def test_a_table_without_costs_takes_the_rate_or_stays_unknown():
    lines = order_lines([("a", 0, 10), ("a", 4, 2.55)]).drop("cost")
    assert frame_of(customer_summary(lines, END, 0.3))["margin"].tolist() == [3.765]
    assert frame_of(customer_summary(lines, END))["margin"].isna().all()


def test_money_is_summed_as_decimals():
    row = summary_of([("a", day, 0.1) for day in range(30)], margin_rate=0.5).loc["a"]
    assert row["spend"] == 3.0 and row["margin"] == 1.5


lines_strategy = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 120), st.decimals(-50, 50, places=2)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40)
@given(rows=lines_strategy, seed=st.integers(0, 5))
def test_the_summary_agrees_with_a_plain_recount_in_any_order(rows, seed):
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    found = summary_of(shuffled)
    counted = {}
    for customer in sorted({row[0] for row in rows}):
        days = {}
        for _, day, amount in (row for row in rows if row[0] == customer and row[1] <= 90):
            days[day] = days.get(day, 0) + amount
        bought = sorted(day for day, amount in days.items() if amount > 0)
        if bought:
            repeat = [days[day] for day in bought[1:]]
            mean = float(sum(repeat)) / len(repeat) if repeat else 0.0
            counted[customer] = (
                len(bought) - 1,
                bought[-1] - bought[0],
                90 - bought[0],
                mean,
                float(sum(days.values())),
            )
    assert found.index.tolist() == list(counted)
    for customer, expected in counted.items():
        row = found.loc[customer, ["frequency", "recency", "T", "monetary_value", "spend"]]
        assert row.to_list() == pytest.approx(list(expected))


def test_the_split_shows_a_model_the_past_only():
    rows = [("a", 0, 10), ("a", 40, 20), ("a", 55, 30), ("a", 70, 40), ("b", 55, 5), ("c", 75, 9)]
    frame = calibration_holdout(order_lines(rows), dt.date(2024, 3, 1), END).set_index("customer_id")
    assert frame.index.tolist() == ["a", "b"] and frame.attrs["holdout_days"] == 30
    a, b = frame.loc["a"], frame.loc["b"]
    assert (a["frequency"], a["recency"], a["T"], a["monetary_value"]) == (2, 55, 60, 25)
    assert (a["recent_frequency"], a["recent_repeats"], a["recent_spend"]) == (2, 2, 50)
    # the first day of b is recent, that of a is not
    assert (a["recent_repeat_spend"], b["recent_spend"], b["recent_repeat_spend"]) == (50, 5, 0)
    assert (a["holdout_frequency"], a["holdout_spend"]) == (1, 40)
    assert (b["frequency"], b["recent_frequency"], b["recent_repeats"], b["holdout_frequency"]) == (
        0,
        1,
        0,
        0,
    )


@settings(max_examples=15)
@given(rows=lines_strategy)
def test_calibration_and_holdout_make_up_the_whole(rows):
    lines = order_lines([*rows, ("z", 0, 1)])
    frame = calibration_holdout(lines, dt.date(2024, 2, 15), END).set_index("customer_id")
    whole = frame_of(customer_summary(lines, END)).set_index("customer_id")["frequency"]
    assert (frame["frequency"] + frame["holdout_frequency"] == whole.reindex(frame.index)).all()
    assert (frame["recency"] <= frame["T"]).all()


def test_recent_money_without_first_purchases_is_that_of_recent_repeats():
    rows = [("a", 35, 10), ("a", 40, 20), ("a", 58, 30), ("b", 50, 0.1), ("b", 51, 0.2), ("c", 2, 9)]
    frame = calibration_holdout(order_lines(rows), dt.date(2024, 3, 1), END).set_index("customer_id")
    assert frame["recent_repeats"].to_dict() == {"a": 2, "b": 1, "c": 0}
    assert frame["recent_repeat_spend"].to_dict() == {"a": 50.0, "b": 0.2, "c": 0.0}
    assert (frame["recent_spend"] >= frame["recent_repeat_spend"]).all()


@pytest.mark.parametrize("costs", [True, False])
def test_a_line_of_any_amount_that_money_holds_has_a_margin(costs):
    # 9e13 is the most that a decimal of 18 digits, 4 of them decimals, holds
    rows = [("a", 0, Decimal("90000000000000.1234"), "1", None), ("b", 1, Decimal("-400000000000"), "2", None)]
    rows += [("c", 2, Decimal("10.0001"), "3", Decimal("4") if costs else None)]
    lines = order_lines(rows) if costs else order_lines(rows).drop("cost")
    found = lines.select("customer_id", margin=line_margin(lines, 0.3123).cast(MARGIN))
    margins = {row["customer_id"]: row["margin"] for row in found.to_pyarrow().to_pylist()}
    rate = Decimal("0.3123")
    assert margins == {
        "a": Decimal("90000000000000.1234") * rate,
        "b": Decimal("-400000000000") * rate,
        "c": Decimal("6.0001") if costs else Decimal("10.0001") * rate,
    }


def test_a_split_that_holds_nothing_out_is_refused():
    lines = order_lines([("a", 80, 10)])
    with pytest.raises(ValueError, match="is not before observed_to"):
        calibration_holdout(lines, END, END)
    with pytest.raises(ValueError, match="nobody bought on or before"):
        calibration_holdout(lines, dt.date(2024, 2, 1), END)


def test_recent_activity_counts_the_last_days():
    lines = order_lines([("a", 0, 10), ("a", 85, 1), ("a", 90, 1), ("b", 88, 4), ("c", 1, 3)])
    frame = recent_activity(lines, END, 7)
    assert frame.to_dict("list") == {
        "customer_id": ["a", "b"],
        "recent_frequency": [2, 1],
        "recent_repeats": [2, 0],
    }


def test_purchase_days_hold_one_row_a_day():
    days = frame_of(purchase_days(order_lines([("a", 1, 2), ("a", 1, 3), ("a", 2, -1)])))
    assert len(days) == 1 and days["spend"].astype(float).tolist() == [5.0]


def test_orders_that_span_days_count_once_and_returns_do_not_count():
    rows = [("a", 0, 10, "1", None), ("a", 1, 5, "1", None), ("a", 1, -5, "2", None), ("a", 1, 9, "2", None)]
    rows += [("a", 2, -3, "3", None), ("a", 3, 4, "4", None), ("b", 0, 4, "1", None), ("b", 0, 4, "1", None)]
    assert summary_of(rows)["orders"].to_dict() == {"a": 3, "b": 1}


@pytest.mark.parametrize("rate", [None, 0.3123])
def test_margin_is_to_the_bit_what_its_lines_add_up_to(rate):
    rng = np.random.default_rng(3)
    rows = [
        (f"c{who}", int(day), Decimal(int(amount)) / 10_000, f"o{at}", None if gap else Decimal(int(cost)) / 10_000)
        for at, (who, day, amount, cost, gap) in enumerate(
            zip(
                rng.integers(0, 30, 600),
                rng.integers(0, 91, 600),
                rng.integers(-900_000, 2_000_000, 600),
                rng.integers(0, 900_000, 600),
                rng.random(600) < 0.04,
                strict=True,
            )
        )
    ]
    found, added = summary_of(rows, margin_rate=rate)["margin"], {}
    for customer, _, amount, _, cost in rows:
        own = None if cost is None and rate is None else amount * Decimal(f"{rate or 0:.4f}")
        added.setdefault(customer, []).append(own if cost is None else amount - (cost if amount >= 0 else -cost))
    for customer, margin in found.items():
        known = None not in added[customer]
        assert margin == float(sum(added[customer])) if known else np.isnan(margin)
    assert found.isna().any() == (rate is None) and found.notna().any()


def test_kept_purchase_days_stand_in_for_the_lines():
    rng = np.random.default_rng(5)
    rows = [(f"c{w}", int(d), round(float(a), 2)) for w, d, a in
            zip(rng.integers(0, 9, 300), rng.integers(0, 120, 300), rng.normal(8, 9, 300), strict=True)]  # fmt: skip
    lines = order_lines(rows)
    days = purchase_days(lines).cache()
    cut = dt.date(2024, 2, 15)
    for reduce in (
        lambda table: frame_of(purchase_days(table, cut)).sort_values(["customer_id", "order_date"], ignore_index=True),
        lambda table: calibration_holdout(table, cut, END),
        lambda table: purchase_timing(table, END),
        lambda table: recent_activity(table, END, 21),
    ):
        from_lines = reduce(lines)
        assert len(from_lines) > 5
        pd.testing.assert_frame_equal(reduce(days), from_lines, check_exact=True)
    for needs_lines in (lambda: customer_summary(days, END), lambda: without_purchase(days, END)):
        with pytest.raises(ValueError, match="needs the lines themselves"):
            needs_lines()


def test_every_reduction_is_to_the_bit_the_same_on_postgres(postgres):
    rng = np.random.default_rng(6)
    rows = [
        (f"c{w}", int(d), round(float(a), 2), f"o{o}", None if gap else round(abs(float(a)) * 0.7, 2))
        for w, d, a, o, gap in zip(
            rng.integers(0, 25, 500),
            rng.integers(0, 120, 500),
            rng.normal(8, 9, 500),
            rng.integers(0, 200, 500),
            rng.random(500) < 0.1,
            strict=True,
        )
    ]
    here = order_lines(rows)
    server = ibis.connect(postgres)
    there = server.create_table("summary_lines", here.to_pyarrow(), temp=True)
    cut = dt.date(2024, 2, 15)
    for rate in (None, 0.3123):
        found = to_frame(customer_summary(there, END, rate))
        pd.testing.assert_frame_equal(found, to_frame(customer_summary(here, END, rate)), check_exact=True)
    assert without_purchase(there, END) == without_purchase(here, END)
    for reduce in (
        lambda table: calibration_holdout(table, cut, END),
        lambda table: purchase_timing(table, END),
        lambda table: recent_activity(table, END, 21),
    ):
        pd.testing.assert_frame_equal(reduce(there), reduce(here), check_exact=True)
    server.disconnect()


def test_timing_sums_the_logs_of_the_days_between_occasions():
    rows = [("a", 0, 5), ("a", 2, 5), ("a", 2, 1), ("a", 9, 5), ("b", 31, 5), ("b", 39, -1)]
    found = purchase_timing(order_lines(rows), END).set_index("customer_id")["litt"]
    assert found["a"] == pytest.approx(np.log(2) + np.log(7), abs=1e-9) and found["b"] == 0.0
    split = calibration_holdout(order_lines(rows), dt.date(2024, 1, 5), END).set_index("customer_id")
    assert split.loc["a", "litt"] == pytest.approx(np.log(2), abs=1e-9)
