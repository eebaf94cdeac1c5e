"""Acquisition by channel and at the margin: what adds up, what an interval holds, what is not identified."""

import datetime as dt
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.valuation import money_figures
from analysis.valuation.acquisition import (
    _bootstrap_sums,
    at_the_margin,
    channel_value,
    margin_by_age,
    new_customers,
    payback,
    spend_response,
)

START, END = dt.date(2024, 1, 1), dt.date(2024, 12, 31)
FMT = Formatter("en", "USD")


def costs_of(rows):
    return pd.DataFrame(rows, columns=["period", "channel", "purpose", "amount"])


CUSTOMERS = pd.DataFrame(
    {
        "customer_id": [f"{k:03d}" for k in range(60)],
        "acquisition_channel": ["shop"] * 30 + ["web"] * 28 + ["fair", None],
        "acquired_on": [dt.date(2024, 3, 5)] * 59 + [dt.date(2023, 3, 5)],
    }
)
VALUE = pd.DataFrame(
    {
        "customer_id": CUSTOMERS["customer_id"][:58],
        "existing_value": np.arange(58.0),
        "residual_value": 2.0,
    }
)
COSTS = costs_of(
    [
        ("2024-01", "shop", "acquire", Decimal("100")),
        ("2024-12", "web", "acquire", Decimal("90")),
        ("2024-03", "radio", "acquire", Decimal("7")),
        ("2024-03", "web", "retain", Decimal("1000")),
        ("2025-01", "web", "acquire", Decimal("5")),
    ]
)


def test_by_channel_by_hand():
    found = channel_value(CUSTOMERS, VALUE, COSTS, START, END, small_group=1)
    table = found.frame.set_index("channel")
    assert table.loc["shop", ["customers", "buyers", "existing_value", "expected_value", "cost", "net"]].tolist() == [
        30, 30, 435.0, 60.0, 100.0, 395.0,
    ]  # fmt: skip
    assert table.loc["web", "net"] == sum(range(30, 58)) + 56 - 90 and table.loc["web", "cost_per_customer"] == 90 / 28
    assert table.loc["fair", ["customers", "buyers", "net"]].tolist() == [1, 0, 0.0] and table.loc["fair", "reason"]
    assert table.loc["radio", "net"] == -7.0 and table.loc["radio", "reason"] == "nobody came through it"
    assert found.outside == 1 and found.cost_outside == 5.0
    assert table.loc["shop", "net_low"] < 395.0 < table.loc["shop", "net_high"]
    assert (found.frame["net"].diff().dropna() <= 0).all()


def test_small_channels_are_joined_with_their_cost():
    found = channel_value(CUSTOMERS.drop(columns="acquired_on"), VALUE, COSTS, START, END, small_group=10)
    table = found.frame.set_index("channel")
    assert set(table.index) == {"shop", "others", "radio"} and table.loc["others", "customers"] == 30
    assert found.frame["cost"].sum() == 197.0 and found.frame["customers"].sum() == 60 and found.outside == 0
    assert found.frame["value"].sum() == VALUE[["existing_value", "residual_value"]].to_numpy().sum()


@pytest.mark.parametrize(
    ("customers", "value", "costs", "message"),
    [
        (CUSTOMERS.drop(columns="acquisition_channel"), VALUE, COSTS, "acquisition_channel"),
        (CUSTOMERS.assign(acquisition_channel=None), VALUE, COSTS, "acquisition_channel"),
        (CUSTOMERS, VALUE, COSTS[COSTS["purpose"] == "retain"], "purpose acquire"),
        (CUSTOMERS, VALUE, costs_of([("2020", "web", "acquire", 5)]), "observed periods"),
        (CUSTOMERS, VALUE.assign(residual_value=np.nan), COSTS, "state a margin"),
        (CUSTOMERS, VALUE, costs_of([("spring", "web", "acquire", 5)]), "cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_refused(customers, value, costs, message):
    with pytest.raises(ValueError, match=message):
        channel_value(customers, value, costs, START, END)


def test_the_bootstrap_covers():
    rng, replications, hits = np.random.default_rng(4), 200, 0
    for _ in range(replications):
        low, high = np.quantile(_bootstrap_sums(rng.gamma(2.0, 10.0, 80), 400, rng), [0.025, 0.975])
        hits += low <= 80 * 20.0 <= high
    assert abs(hits / replications - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)


def test_a_large_channel_is_drawn_smaller_with_the_same_spread():
    n = 40_000
    customers = pd.DataFrame({"customer_id": [f"{k:05d}" for k in range(n)], "acquisition_channel": "web"})
    money = np.random.default_rng(1).gamma(0.5, 10.0, n)
    value = pd.DataFrame({"customer_id": customers["customer_id"], "existing_value": money, "residual_value": 0.0})
    row = channel_value(customers, value, COSTS[COSTS["channel"] == "web"], START, END, draws=300).frame.iloc[0]
    assert row["net_high"] - row["net_low"] == pytest.approx(2 * 1.96 * money.std() * np.sqrt(n), rel=0.2)


def lines_of(rows):
    money = pa.decimal128(18, 4)
    names = [
        ("customer_id", pa.string()),
        ("order_date", pa.date32()),
        ("net_amount", money),
        ("is_return", pa.bool_()),
    ]
    data = [
        {
            "customer_id": customer,
            "order_date": START + dt.timedelta(days=day),
            "net_amount": Decimal(str(amount)),
            "is_return": amount < 0,
        }
        for customer, day, amount in rows
    ]
    return ibis.memtable(pa.Table.from_pylist(data, schema=pa.schema(names)))


def test_margin_by_age_counts_only_those_observed_for_all_of_it():
    people = ibis.memtable(
        pa.table({"customer_id": ["a", "b", "c"], "acquisition_channel": pa.array(["web", "web", None], pa.string())})
    )
    lines = lines_of([("a", 0, 10), ("a", 28, 6), ("b", 40, 20), ("b", 60, -4), ("c", 0, 8), ("a", 62, 99)])
    found = margin_by_age(lines, people, START + dt.timedelta(days=67), margin_rate=0.5)
    web = found[found["channel"] == "web"]
    # 68 days hold two whole ages of a and one of b, whose return at 20 days counts
    assert web["customers"].tolist() == [2, 1]
    assert web["margin"].tolist() == [(5 + 8) / 2, 3.0] and web["cumulative"].tolist() == [6.5, 9.5]
    assert found[found["channel"] == "unknown"]["margin"].tolist() == [4.0, 0.0]
    assert margin_by_age(lines, people, START + dt.timedelta(days=67)).empty


def test_payback():
    curve = pd.DataFrame({"age": [0, 1, 2], "customers": [90, 60, 10], "cumulative": [5.0, 9.0, 50.0]})
    assert payback(curve, 4.0).value == 28 and payback(curve, 9.0).value == 56
    late = payback(curve, 20.0)
    assert np.isnan(late.value) and "56 days" in late.reason
    assert payback(curve, 0.0).value == 0.0 and np.isnan(payback(curve, 1.0, least=100).value)


def test_new_customers_in_whole_periods():
    people = pd.DataFrame(
        {
            "acquisition_channel": ["web", "web", "web", "shop", None],
            "acquired_on": [dt.date(2024, 2, 3), dt.date(2024, 2, 9), dt.date(2024, 1, 9), dt.date(2024, 4, 1), None],
        }
    )
    costs = costs_of([(f"2024-{m:02d}", c, "acquire", m * 10) for m in range(1, 5) for c in ("web", "radio")])
    found = new_customers(people, costs, dt.date(2024, 1, 15), dt.date(2024, 4, 30))
    web = found[found["channel"] == "web"]
    assert web["count"].tolist() == [2, 0, 0] and web["spend"].tolist() == [20, 30, 40]
    assert found[found["channel"] == "radio"]["count"].sum() == 0 and set(found["channel"]) == {"web", "radio"}
    with pytest.raises(ValueError, match="acquired_on"):
        new_customers(people.drop(columns="acquired_on"), costs, START, END)


def observed(rng, elasticity=0.4, periods=24, spread=0.5, channels=3):
    """Counts that respond to spend, more variable than Poisson, with a trend."""
    rows = []
    for channel in range(channels):
        spend = 1000 * np.exp(spread * rng.standard_normal(periods))
        mean = (20 + 10 * channel) * (spend / 1000) ** elasticity * np.exp(0.01 * np.arange(periods))
        count = rng.poisson(mean * rng.gamma(20.0, 1 / 20.0, periods))
        rows.append(
            pd.DataFrame({"channel": str(channel), "period": np.arange(periods), "count": count, "spend": spend})
        )
    return pd.concat(rows, ignore_index=True)


def test_the_elasticity_is_found_and_covered():
    rng, replications, hits, found = np.random.default_rng(8), 200, 0, []
    for _ in range(replications):
        at = spend_response(observed(rng)).elasticity
        hits += at.low <= 0.4 <= at.high
        found.append(at.value)
    assert abs(hits / replications - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)
    assert np.mean(found) == pytest.approx(0.4, abs=4 * np.std(found) / np.sqrt(replications))


def test_one_channel_with_some_periods_of_nothing():
    data = observed(np.random.default_rng(9), channels=1)
    data.loc[0, "spend"] = 0.0
    found = spend_response(data)
    assert found.identified and found.observations == 23 and found.channels == 1 and found.overdispersion > 0


def test_what_one_more_unit_of_money_brings():
    found = spend_response(observed(np.random.default_rng(10)))
    table = at_the_margin(found, 50.0).set_index("purpose")
    by_hand = found.elasticity.value * found.count / found.spend * 50
    assert table.loc["acquire", "return_per_money"] == pytest.approx(by_hand)
    assert table.loc["acquire", "low"] < by_hand < table.loc["acquire", "high"]
    assert table.loc["retain", "reason"].startswith("not identified")
    both = at_the_margin(found, 50.0, found, 10.0).set_index("purpose")
    assert both.loc["retain", "return_per_money"] == pytest.approx(by_hand / 5)
    loss = found.per_money(-1.0)
    assert loss.low < loss.value < loss.high


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.assign(spend=500.0), "hardly varies"),
        (lambda d: d.assign(spend=d["count"] * 15.0), "fixed price"),
        (lambda d: d[d["period"] < 5], "fewer than 8 periods"),
        (lambda d: d.assign(spend=0.0), "nothing was spent"),
        (lambda d: d.iloc[:0], "nothing was spent"),
        (lambda d: d.assign(spend=np.exp(0.1 * d["period"])), "follows a trend"),
        (lambda d: d.assign(count=0), "nothing came"),
    ],
)
def test_what_is_not_identified_says_why(change, reason):
    found = spend_response(change(observed(np.random.default_rng(11))))
    assert not found.identified and np.isnan(found.elasticity.value)
    assert found.elasticity.reason.startswith("not identified: ") and np.isnan(found.per_money().value)
    assert reason in found.elasticity.reason


def test_figure():
    fig = money_figures.channels(channel_value(CUSTOMERS, VALUE, COSTS, START, END, small_group=1), FMT)
    assert png(fig)[:4] == b"\x89PNG"
    assert fig.axes[0].get_title(loc="left") == "A customer won by web brings most: $42.29 after cost"
    losing = channel_value(CUSTOMERS, VALUE.assign(existing_value=-5.0), COSTS, START, END)
    assert png(money_figures.channels(losing, FMT))
