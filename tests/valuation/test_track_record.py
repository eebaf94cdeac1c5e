"""The track record: counts since the last run, what was expected of them, and when it is too early."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis.reporting.numbers import Formatter
from analysis.valuation.track_record import since, track_record
from analysis.valuation.validation_figures import track_record_groups
from tests.promises import assert_covers

AS_OF = dt.date(2023, 12, 31)
END = AS_OF + dt.timedelta(weeks=26)


def as_lines(rows):
    """Rows of (customer, days after AS_OF, amount) as order lines."""
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "net_amount"])
    frame["order_date"] = [AS_OF + dt.timedelta(days=int(day)) for day in frame.pop("day")]
    lines = ibis.memtable(frame)
    return lines.mutate(net_amount=lines.net_amount.cast("decimal(18, 4)"))


def make_run(customers, rng, truth=1.0, horizon=52.0, weeks=26):
    """Customers who buy at random at rates that the last run knew, times `truth`; 10 money and 3 margin a purchase."""
    rate = rng.gamma(2.0, 0.05, customers)
    names = [f"{i:05d}" for i in range(customers)]
    rows = [(name, -30, 10.0) for name in names]
    for name, r in zip(names, rate):
        for day in np.flatnonzero(rng.random(weeks * 7) < r * truth / 7) + 1:
            rows.append((name, day, 10.0))
    bought = rate * horizon
    half = 1.96 * np.sqrt(bought)
    value = pd.DataFrame(
        {
            "customer_id": names,
            "expected_purchases": bought,
            "residual_value": 3.0 * bought,
            "existing_value": 3.0,
            "clv_low": 3.0 + 3.0 * np.maximum(np.floor(bought - half), 0),
            "clv_high": 3.0 + 3.0 * np.ceil(bought + half),
        }
    )
    return value, as_lines(rows), rate


def record(value, lines, **options):
    given = {"as_of": AS_OF, "observed_to": END, "horizon_weeks": 52.0, "margin": 0.3}
    return track_record(value, lines, **given | options)


def test_what_came_since_is_counted():
    rows = [
        ("a", -5, 10.0),
        ("a", 0, 5.0),
        ("a", 1, 7.0),
        ("a", 1, 2.0),
        ("a", 9, 4.0),
        ("a", 12, -3.0),
        ("b", 30, 6.0),
    ]
    rows += [("a", 400, 99.0), ("c", -9, 1.0)]
    found = since(as_lines(rows), AS_OF, END).set_index("customer_id")
    assert found["purchases"].to_dict() == {"a": 2, "b": 1, "c": 0}
    assert found["spend"].to_dict() == {"a": 10.0, "b": 6.0, "c": 0.0}
    assert found["known"].to_dict() == {"a": True, "b": False, "c": True}
    discounted = since(as_lines(rows), AS_OF, END, 0.10).set_index("customer_id")
    assert discounted.loc["b", "spend"] == pytest.approx(6.0 * 1.1 ** (-30 / 365.25))


def test_a_right_forecast_has_a_ratio_of_one_and_a_wrong_one_shows():
    rng = np.random.default_rng(3)
    right = record(*make_run(600, rng)[:2])
    assert right.judged and right.weeks == 26 and right.customers == 600 and right.newcomers == 0
    assert right.ratio.low < 1.0 < right.ratio.high
    assert right.value_ratio.value == pytest.approx(right.ratio.value, abs=0.02)
    poor = record(*make_run(600, rng, truth=0.7)[:2])
    assert poor.ratio.high < 0.85 and poor.ratio.value == pytest.approx(0.7, abs=0.05)
    assert poor.by_group["customers"].sum() == 600
    assert poor.by_group["expected"].is_monotonic_decreasing
    assert poor.by_group["actual"] @ poor.by_group["customers"] == pytest.approx(poor.actual)


def test_intervals_of_the_ratio_hold():
    rng, ends, groups = np.random.default_rng(9), [], []
    for _ in range(30):
        found = record(*make_run(150, rng, weeks=26)[:2])
        ends.append((found.ratio.low, found.ratio.high))
        groups += ((found.by_group["low"] <= 1.0) & (found.by_group["high"] >= 1.0)).tolist()
    assert_covers(ends, 1.0)
    assert np.mean(groups) > 0.85  # groups of 15: the normal interval is a little short


def test_newcomers_are_counted_apart_and_nothing_is_said_of_the_vanished():
    value, lines, _ = make_run(100, np.random.default_rng(5))
    fresh = as_lines([("new", 20, 50.0), ("new", 40, 50.0)])
    gone = pd.DataFrame({c: ["zzz" if c == "customer_id" else 4.0] for c in value.columns})
    found = record(pd.concat([value, gone], ignore_index=True), lines.union(fresh))
    alone = record(value, lines)
    assert found.newcomers == 1 and (found.customers, found.missing) == (100, 1) and alone.missing == 0
    assert (found.actual, found.expected, found.ratio) == (alone.actual, alone.expected, alone.ratio)
    assert found.value_ratio == alone.value_ratio
    pd.testing.assert_frame_equal(found.by_group, alone.by_group)


def test_the_vanished_are_those_without_a_purchase_before():
    value, lines, _ = make_run(100, np.random.default_rng(5))
    # under their new ids, or back after their old purchases were deleted, they are no longer those of the last run
    back = as_lines([("zzz", 20, 50.0)])
    gone = pd.DataFrame({c: ["zzz" if c == "customer_id" else 4.0] for c in value.columns})
    found = record(pd.concat([value, gone], ignore_index=True), lines.union(back))
    assert found.missing == 1 and found.newcomers == 1 and found.actual == record(value, lines).actual


def test_changed_ids_are_no_customers_who_stayed_away():
    value, lines, _ = make_run(1500, np.random.default_rng(5))
    renamed = lines.mutate(customer_id="x" + lines.customer_id)
    found = record(value, renamed)
    assert not found.judged and found.missing == 1500 and found.by_group.empty
    assert found.reason.startswith("1,500 of 1,500 customers of that edition are not in the data up to 2023-12-31: ")
    assert found.ratio.reason == found.value_ratio.reason == found.reason
    kept = value["customer_id"].head(1349).tolist()
    assert record(value, lines.filter(lines.customer_id.isin(kept))).reason.startswith("151 of 1,500 customers")
    enough = record(value, lines.filter(lines.customer_id.isin([*kept, value["customer_id"].iloc[-1]])))
    assert enough.judged and (enough.customers, enough.missing) == (1350, 150)


def test_a_silent_period_leaves_what_chance_leaves():
    value, lines, _ = make_run(400, np.random.default_rng(6))
    silent = lines.filter(lines.order_date <= ibis.literal(AS_OF))
    found = record(value, silent)
    assert found.judged and found.actual == 0.0 and found.customers == 400
    # P(0 | mean 3.689) is 2.5 %
    assert found.ratio.interval == pytest.approx((0.0, 0.0, 3.6889 / found.expected), rel=1e-4)
    assert found.value_ratio.interval == pytest.approx(found.ratio.interval)
    assert (found.by_group["high"] > 0).all() and (found.by_group["low"] == 0).all()
    assert found.by_group["high"].to_numpy() == pytest.approx(
        3.6889 / (found.by_group["expected"] * found.by_group["customers"]).to_numpy(), rel=1e-4
    )


def test_money_in_another_currency_is_not_judged():
    value, lines, _ = make_run(300, np.random.default_rng(8), horizon=26.0)
    plain = record(value, lines, horizon_weeks=26.0)
    for currencies in ((None, "EUR"), ("EUR", "EUR"), (None, None)):
        same = record(value, lines, horizon_weeks=26.0, currencies=currencies)
        assert same.value_ratio == plain.value_ratio and same.coverage == plain.coverage
    other = record(value, lines, horizon_weeks=26.0, currencies=("EUR", "DKK"))
    assert other.ratio == plain.ratio and not plain.value_ratio.reason
    for money in (other.value_ratio, other.coverage):
        assert money.reason == "that edition counted in EUR, the study counts in DKK now" and np.isnan(money.value)


def test_coverage_waits_for_the_end_of_the_horizon():
    rng = np.random.default_rng(7)
    value, lines, _ = make_run(400, rng, horizon=26.0)
    early = record(value, lines, observed_to=AS_OF + dt.timedelta(weeks=20), horizon_weeks=26.0)
    assert "of which 20.0 have passed" in early.coverage.reason and np.isnan(early.coverage.value)
    over = record(value, lines, horizon_weeks=26.0)
    assert over.coverage.low < over.coverage.value <= over.coverage.high and over.coverage.value > 0.9
    later = record(value, lines, observed_to=END + dt.timedelta(weeks=30), horizon_weeks=26.0)
    assert later.weeks == 26 and later.actual == over.actual and later.coverage == over.coverage
    blind = record(value, lines, horizon_weeks=26.0, margin=None)
    assert "neither costs nor a margin" in blind.value_ratio.reason and blind.coverage.reason


def test_expected_to_date_is_in_proportion_to_time():
    value, lines, rate = make_run(300, np.random.default_rng(11))
    assert record(value, lines).expected == pytest.approx(26.0 * rate.sum())
    sooner = record(value, lines, observed_to=AS_OF + dt.timedelta(weeks=13))
    assert sooner.expected == pytest.approx(13.0 * rate.sum())
    # what comes after the horizon was never forecast
    assert record(value, lines, horizon_weeks=13.0).expected == pytest.approx(52.0 * rate.sum())


def test_too_early_is_said():
    value, lines, _ = make_run(100, np.random.default_rng(2))
    early = record(value, lines, observed_to=AS_OF + dt.timedelta(days=10))
    assert not early.judged and early.reason.startswith("1.4 weeks have passed") and early.by_group.empty
    assert record(value, lines, observed_to=AS_OF).reason.startswith("0.0 weeks")
    few = record(value.head(1).assign(expected_purchases=2.0), lines)
    assert "1.0 purchases were expected so far" in few.reason and few.ratio.reason == few.reason
    nothing = record(value.assign(expected_purchases=np.nan), lines)
    assert "nobody had come back" in nothing.reason
    assert not record(value.iloc[:0], lines).judged


def test_one_customer_has_a_ratio_without_an_interval():
    value, lines, _ = make_run(3, np.random.default_rng(2))
    found = record(value.head(1).assign(expected_purchases=100.0), lines)
    assert found.judged and found.ratio.reason == "one customer shows no spread" and found.ratio.low is None
    assert found.by_group["low"].isna().all()


def test_the_figure_says_expected_and_actual():
    fmt = Formatter("en", "USD")
    found = record(*make_run(200, np.random.default_rng(4))[:2])
    ax = track_record_groups(found, fmt).axes[0]
    title = ax.get_title(loc="left")
    assert fmt.count(round(found.expected)) in title and fmt.count(int(found.actual)) in title and ax.get_ylabel()
