"""Profit per customer and the whale curve: what adds up, who pays for what, what an interval holds."""

import datetime as dt
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import png
from analysis.valuation import money_figures
from analysis.valuation.profit import (
    contact_costs,
    customer_profit,
    retention_costs,
    service_counts,
    whale_curve,
)

START, END = dt.date(2024, 1, 1), dt.date(2024, 3, 31)
FMT = Formatter("en", "USD")


def lines_of(rows):
    """Rows of (customer, day since START, amount, order)."""
    schema = pa.schema(
        [
            ("customer_id", pa.string()),
            ("order_date", pa.date32()),
            ("net_amount", pa.decimal128(18, 4)),
            ("order_id", pa.string()),
            ("is_return", pa.bool_()),
        ]
    )
    data = [
        {
            "customer_id": customer,
            "order_date": START + dt.timedelta(days=day),
            "net_amount": Decimal(str(amount)),
            "order_id": order,
            "is_return": amount < 0,
        }
        for customer, day, amount, order in rows
    ]
    return ibis.memtable(pa.Table.from_pylist(data, schema=schema))


def contacts_of(rows):
    """Rows of (campaign, customer, arm, day since START or None)."""
    data = [
        {
            "campaign_id": campaign,
            "customer_id": customer,
            "arm": arm,
            "contacted_on": None if day is None else START + dt.timedelta(days=day),
        }
        for campaign, customer, arm, day in rows
    ]
    names = [
        ("campaign_id", pa.string()),
        ("customer_id", pa.string()),
        ("arm", pa.string()),
        ("contacted_on", pa.date32()),
    ]
    return ibis.memtable(pa.Table.from_pylist(data, schema=pa.schema(names)))


LINES = [
    ("a", 0, 100, "1"),
    ("a", 0, 50, "1"),
    ("a", 40, 30, "2"),
    ("a", 45, -20, "2r"),
    ("b", 5, 10, "3"),
    ("c", 200, 10, "4"),
]
SUMMARY = pd.DataFrame({"customer_id": ["b", "a"], "orders": [1, 2], "margin": [3.0, 48.0]})


def test_what_was_handled_is_counted_up_to_the_last_day():
    counts = service_counts(lines_of(LINES), END).set_index("customer_id")
    assert counts.loc["a"].to_list() == [2, 3, 1] and counts.loc["b"].to_list() == [1, 1, 0]
    assert "c" not in counts.index


def test_profit_by_hand():
    found = customer_profit(
        SUMMARY,
        service_counts(lines_of(LINES), END),
        cost_to_serve=2.0,
        cost_per_return=5.0,
        cost_per_line=0.5,
        contacts=pd.DataFrame({"customer_id": ["b"], "contacts": [2], "contact_cost": [1.2], "unpriced": [1]}),
    )
    a, b = found.frame.set_index("customer_id").loc[["a", "b"]].itertuples()
    assert a.cost_to_serve == 2 * 2 + 5 + 3 * 0.5 and a.profit == pytest.approx(48 - 10.5)
    assert b.profit == pytest.approx(3 - 2.5 - 1.2) and found.total.value == pytest.approx(37.5 - 0.7)
    assert any("1 contacts of unknown cost" in text for text in found.assumptions) and found.total.reason


def test_without_costs_profit_is_margin_and_says_so():
    found = customer_profit(SUMMARY)
    assert found.frame["profit"].tolist() == [48.0, 3.0] and "costs nothing" in found.assumptions[0]


def test_only_the_contacted_are_charged():
    contacts = contacts_of(
        [
            ("1", "a", "mail", 3),
            ("1", "b", "control", 3),
            ("1", "c", "untargeted", 3),
            ("1", "d", "mail", None),
            ("1", "e", "mail", 300),
            ("2", "a", "mail", 4),
            ("3", "a", "mail", 4),
        ]
    )
    campaigns = pd.DataFrame(
        {"campaign_id": ["1", "2", "3"], "cost_per_contact": [Decimal("0.6"), None, Decimal("1.1")]}
    )
    own = contact_costs(contacts, campaigns, END)
    assert own.to_dict("records") == [{"customer_id": "a", "contacts": 3, "contact_cost": 1.7, "unpriced": 1}]
    filled = contact_costs(contacts, campaigns, END, contact_cost=0.25)
    assert filled.loc[0, "contact_cost"] == 1.95 and filled.loc[0, "unpriced"] == 0
    unknown = contact_costs(contacts, campaigns.drop(columns="cost_per_contact"), END)
    assert unknown.loc[0, "unpriced"] == 3 and unknown.loc[0, "contact_cost"] == 0.0


def costs_of(rows):
    return pd.DataFrame(rows, columns=["period", "purpose", "amount"]).assign(channel="mail")


def test_retention_cost_is_shared_by_those_who_bought_in_the_period():
    costs = costs_of(
        [("2024-01", "retain", 60), ("2024-02", "retain", 10), ("2024-03", "retain", 7), ("2024-01", "acquire", 99)]
    )
    frame, unspread = retention_costs(lines_of(LINES), costs, START, END)
    assert dict(zip(frame["customer_id"], frame["retention_cost"], strict=True)) == {"a": 40.0, "b": 30.0}
    assert unspread == 7.0
    less, left = retention_costs(lines_of(LINES), costs, START, END, already_charged=38.5)
    assert less["retention_cost"].sum() + left == pytest.approx(77 - 38.5)
    none, left = retention_costs(lines_of(LINES), costs, START, END, already_charged=1000.0)
    assert not none["retention_cost"].any() and left == 0.0
    outside, left = retention_costs(lines_of(LINES), costs_of([("2021-Q1", "retain", 9)]), START, END)
    assert outside.empty and left == 0.0
    spread = customer_profit(SUMMARY, retention=(frame, unspread))
    assert spread.frame["profit"].sum() == pytest.approx(51 - 70) and spread.unspread == 7.0


@pytest.mark.parametrize(
    ("summary", "options", "message"),
    [
        (SUMMARY.iloc[:0], {}, "no customer"),
        (SUMMARY.drop(columns="margin"), {}, "no margin"),
        (SUMMARY.assign(margin=np.nan), {}, "no margin"),
        (SUMMARY, {"cost_to_serve": -1.0}, "negative"),
        (SUMMARY, {"cost_per_return": 1.0}, "service_counts"),
    ],
)
def test_what_cannot_be_had_is_refused(summary, options, message):
    with pytest.raises(ValueError, match=message):
        customer_profit(summary, **options)


def test_a_customer_of_unknown_margin_has_no_profit_and_is_counted():
    found = customer_profit(SUMMARY.assign(margin=[np.nan, 48.0]))
    assert found.unknown == 1 and found.total.value == 48.0 and "unknown" in found.total.reason


def test_the_whale_by_hand():
    found = whale_curve([60.0, 40.0, 0.0, -20.0, -30.0])
    assert found.total == 50.0 and found.losses == 50.0
    assert found.peak.value == 2.0 and found.destroyed.value == 0.5 and found.unprofitable.value == 0.4
    assert found.peak_at in (0.4, 0.6) and found.curve["profit"].iloc[-1] == pytest.approx(50.0)


@settings(max_examples=60)
@given(profit=st.lists(st.floats(-1e5, 1e5).map(lambda v: round(v, 2)), min_size=2, max_size=60).filter(any))
def test_the_curve_rises_then_falls(profit):
    found = whale_curve(profit)
    steps = np.diff(found.curve["profit"])
    assert (np.diff(steps) <= 1e-6).all()
    assert found.curve["profit"].max() <= sum(p for p in profit if p > 0) + 1e-6


def test_ends_of_the_range():
    assert whale_curve([1.0, 2.0]).destroyed.value == 0.0 and whale_curve([1.0, 2.0]).peak.value == 1.0
    loss = whale_curve([-1.0, -2.0])
    assert np.isnan(loss.peak.value) and np.isnan(loss.destroyed.value) and loss.unprofitable.value == 1.0
    even = whale_curve([5.0, -4.0] * 4)
    assert even.peak.low is None and "could be anything" in even.peak.reason
    for wrong in ([1.0], [1.0, np.nan], [0.0, 0.0]):
        with pytest.raises(ValueError, match="whale curve"):
            whale_curve(wrong)


def test_intervals_cover():
    rng, replications, hits = np.random.default_rng(3), 200, np.zeros(3)

    def draw(n):
        return rng.gamma(1.0, 30.0, n) - 12.0

    population = draw(2_000_000)
    gains, losses = np.maximum(population, 0).sum(), np.maximum(-population, 0).sum()
    truth = np.array([gains / population.sum(), losses / gains, (population < 0).mean()])
    for _ in range(replications):
        found = whale_curve(draw(600))
        ends = np.array([(e.low, e.high) for e in (found.peak, found.destroyed, found.unprofitable)])
        hits += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert (np.abs(hits / replications - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)).all()


@pytest.mark.parametrize("profit", [[60, 40, 0, -20, -30], [1.0, 2.0], [-1.0, -2.0], [10.0, -30.0]])
def test_the_figure_is_drawn_whatever_the_signs(profit):
    fig = money_figures.whale(whale_curve(profit), FMT)
    assert png(fig)[:4] == b"\x89PNG" and fig.axes[0].get_title(loc="left")


def test_the_title_says_what_is_lost():
    assert money_figures.whale_title(whale_curve([60.0, 40.0, 0.0, -20.0, -30.0]), FMT) == (
        "40% of customers lose 50.0% of what the others earn"
    )
