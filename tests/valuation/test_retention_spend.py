"""One more unit of money on winning or keeping customers: planted elasticities, and what is not identified."""

import datetime as dt
from dataclasses import replace

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.valuation.concentration import Estimate
from analysis.valuation.retention_spend import (
    MARGINAL_COLUMNS,
    _difference,
    _ratio,
    kept_value,
    marginal_facts,
    marginal_for_people,
    retention_panel,
    retention_response,
    run_marginal_spend,
)
from tests.promises import assert_covers

START, END = dt.date(2021, 1, 1), dt.date(2023, 12, 31)


def panel_of(rng, n=35, effect=0.15, zeros=False, carried=0.0, spend=None):
    """Months of customers at stake and kept, with season, trend, noise that is carried over, and an effect of spend a customer."""
    t = np.arange(n)
    part, season = (t + 1) % 12, 0.1 * np.sin(2 * np.pi * ((t + 1) % 12) / 12)
    active = (1500 + 30 * t * rng.uniform(0.8, 1.2)).astype(int)
    noise, shock = np.zeros(n), rng.normal(0, 0.03, n)
    for k in range(n):
        noise[k] = carried * noise[k - 1] * (k > 0) + shock[k]
    if spend is None:
        if zeros:
            spend = np.where(rng.random(n) < 0.45, 0.0, rng.uniform(0.5, 3.0, n))
        else:
            spend = np.exp(2 * season + 0.01 * t + rng.normal(0, 0.4, n))
    moved = effect * (spend if zeros else np.log(np.maximum(spend, 1e-9)))
    share = (0.3 * np.exp(moved + season + 0.003 * t + noise)).clip(0, 0.95)
    kept = rng.binomial(active, share)
    frame = pd.DataFrame(
        {
            "period": 24_000 + t,
            "part": part,
            "active": active,
            "kept": kept,
            "margin": 20.0 * kept,
            "spend": spend * active,
        }
    )
    frame.attrs["period"] = "month"
    return frame


@pytest.mark.parametrize("settings", [{}, {"n": 23}, {"n": 16}, {"zeros": True, "effect": 0.05}, {"carried": 0.5}])
def test_the_interval_covers_a_planted_elasticity(settings):
    effect, ends, truth = settings.get("effect", 0.15), [], []
    for seed in range(40):
        panel = panel_of(np.random.default_rng(seed), **settings)
        found = retention_response(panel)
        if found.identified:
            ends.append((found.elasticity.low, found.elasticity.high))
            truth.append(effect * (panel["spend"].sum() / panel["active"].sum() if settings.get("zeros") else 1.0))
    assert len(ends) >= 36
    assert_covers(ends, truth)


def test_a_clear_effect_is_told_and_a_unit_of_money_brings_the_slope():
    panel = panel_of(np.random.default_rng(3), effect=0.3)
    found = retention_response(panel)
    assert 0 < found.elasticity.low < 0.3 < found.elasticity.high
    back = found.per_money(50.0)
    assert back.value == pytest.approx(50 * found.elasticity.value * panel["kept"].sum() / panel["spend"].sum())
    # a margin of 20 for each one kept tells the same
    assert retention_response(panel, "margin").per_money().value == pytest.approx(0.4 * back.value, rel=1e-6)
    # money in another unit leaves the elasticity where it was
    cents = panel.assign(spend=100 * panel["spend"])
    cents.attrs = panel.attrs
    assert retention_response(cents).elasticity.value == pytest.approx(found.elasticity.value)


def seasonal(n):
    return 1.0 + 0.5 * np.sin(2 * np.pi * ((np.arange(n) + 1) % 12) / 12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rng: panel_of(rng, n=6), "6 whole periods are too few"),
        (lambda rng: panel_of(rng, spend=np.full(35, 2.0)), "hardly varies"),
        (lambda rng: panel_of(rng).assign(spend=5000.0), "hardly varies"),
        (lambda rng: panel_of(rng).assign(active=rng.integers(1000, 3000, 35), spend=5000.0), "hardly varies"),
        (lambda rng: panel_of(rng, spend=seasonal(35)), "only with season, trend"),
        (lambda rng: panel_of(rng, n=16, spend=np.exp(0.1 * np.arange(16))), "only with season, trend"),
        (lambda rng: panel_of(rng, zeros=True, spend=np.zeros(35)), "nothing was spent"),
        (lambda rng: panel_of(rng, zeros=True, spend=(np.arange(35) % 6 == 0) * 1.0), "in 6 of 35 periods"),
        (lambda rng: panel_of(rng, zeros=True, spend=(np.arange(35) % 12 != 0) * 1.0), "only 3 of 35"),
        (lambda rng: panel_of(rng).assign(kept=0), "brought nothing"),
    ],
)
def test_what_is_not_identified(change, reason):
    panel = change(np.random.default_rng(1))
    panel.attrs["period"] = "month"
    found = retention_response(panel)
    assert not found.identified and np.isnan(found.elasticity.value)
    assert found.elasticity.reason.startswith("not identified: ") and reason in found.elasticity.reason
    assert np.isnan(found.per_money(10.0).value)


def lines_of(rows):
    money = pa.decimal128(18, 4)
    names = ["customer_id", "order_date", "net_amount", "is_return"]
    table = pd.DataFrame(rows, columns=names[:3])
    columns = [
        pa.array(table["customer_id"], pa.string()),
        pa.array(table["order_date"], pa.date32()),
        pa.array([f"{a:.2f}" for a in table["net_amount"]]).cast(money),
        pa.array(table["net_amount"] < 0),
    ]
    return ibis.memtable(pa.table(dict(zip(names, columns, strict=True))))


def costs_of(rows):
    return pd.DataFrame(rows, columns=["period", "channel", "purpose", "amount"])


def test_the_panel_by_hand():
    day = dt.date
    lines = lines_of(
        [
            ("a", day(2021, 1, 5), 10), ("b", day(2021, 1, 9), 10), ("c", day(2021, 2, 1), 10),
            ("a", day(2021, 2, 3), 30), ("a", day(2021, 2, 9), 6), ("b", day(2021, 2, 4), -4),
            ("a", day(2021, 3, 1), 8), ("c", day(2021, 3, 31), 2), ("c", day(2021, 4, 2), 9),
        ]
    )  # fmt: skip
    costs = costs_of(
        [
            ("2021-01", "web", "acquire", 1), ("2021-02", "post", "retain", 5), ("2021-02", "sms", "retain", 2),
            ("2021-03", "post", "acquire", 9), ("2021-09", "post", "retain", 9),
        ]
    )  # fmt: skip
    panel = retention_panel(lines, costs, day(2021, 1, 1), day(2021, 4, 20), 0.5)
    # b's return in February is no occasion, yet its money counts; April is not whole; March had no spend on keeping
    assert panel["period"].tolist() == [2021 * 12 + 1, 2021 * 12 + 2] and panel["part"].tolist() == [1, 2]
    assert panel[["active", "kept"]].to_numpy().tolist() == [[2, 1], [2, 2]]
    assert panel["margin"].tolist() == [16.0, 5.0] and panel["spend"].tolist() == [7.0, 0.0]
    assert retention_panel(lines, costs, day(2021, 1, 1), day(2021, 4, 20))["margin"].isna().all()
    with pytest.raises(ValueError, match="no money was spent on keeping"):
        retention_panel(lines, costs[costs["purpose"] == "acquire"], START, END)
    with pytest.raises(ValueError, match="no two whole months"):
        retention_panel(lines, costs, day(2021, 1, 1), day(2021, 2, 20))
    summary = pd.DataFrame({"customer_id": ["a", "b", "c"], "recency_days": [3.0, 40.0, 20.0]})
    value = pd.DataFrame({"customer_id": ["c", "b", "a"], "residual_value": [10.0, 2.0, 30.0]})
    assert kept_value(value, summary, panel) == pytest.approx(21 / 3 + 20 - 2)
    assert kept_value(value, summary.assign(recency_days=3.0), panel) is None


@pytest.fixture(scope="module")
def company():
    """Three years in which spend on both was varied, one channel each, with planted elasticities 0.5 and 0.3."""
    rng = np.random.default_rng(12)
    months = pd.period_range("2021-01", "2023-12", freq="M")
    keep, win = (np.exp(rng.normal(0, 0.5, 36)) for _ in range(2))
    ids = np.array([f"{k:04d}" for k in range(1500)])
    rows, costs, people = [], [], []
    for k, month in enumerate(months):
        bought = rng.random(1500) < 0.35 * keep[k] ** 0.3
        rows += [(i, month.start_time.date() + dt.timedelta(days=int(rng.integers(28))), 40.0) for i in ids[bought]]
        costs += [(str(month), "post", "retain", 300 * keep[k]), (str(month), "web", "acquire", 1000 * win[k])]
        people += [(month.start_time.date(), "web")] * rng.poisson(50 * win[k] ** 0.5)
    customers = pd.DataFrame(people, columns=["acquired_on", "acquisition_channel"])
    summary = pd.DataFrame({"customer_id": ids, "recency_days": rng.uniform(0, 90, 1500)})
    value = pd.DataFrame({"customer_id": ids, "residual_value": 30.0 - summary["recency_days"] / 10})
    return lines_of(rows), customers, summary, value, costs_of(costs)


def test_winning_against_keeping(company):
    lines, customers, summary, value, costs = company
    found, reason = run_marginal_spend(
        lines, customers, summary, value, costs, START, END, new_value=60.0, margin_rate=0.5
    )
    assert reason == "" and found.period == "month" and found.controls == "season and trend"
    rows = found.table.set_index("purpose")
    assert rows.loc["acquire", "elasticity"] == pytest.approx(0.5, abs=0.1)
    low, high = found.retained.elasticity.low, found.retained.elasticity.high
    # spend is a fixed sum, so a customer's share of it depends on how many are at stake, which adds nothing to the truth
    assert low < 0.3 < high
    kept, spent = found.panel["kept"].sum(), found.panel["spend"].sum()
    back = rows.loc["retain", "return_per_money"]
    assert back == pytest.approx(found.retained.elasticity.value * kept / spent * found.kept_value)
    assert found.kept_value == pytest.approx(20.0 + 3.0, abs=0.3)
    assert found.at_least.value == pytest.approx(back * 20.0 / found.kept_value, rel=0.01)
    won = rows.loc["acquire", "return_per_money"]
    assert found.ratio.value == pytest.approx(back / won) and found.difference.value == pytest.approx(back - won)
    assert found.ratio.low > 1 and found.least_difference.low > 0 and found.shift == "retain"
    facts = marginal_facts(found)
    assert facts["retain_known"] and facts["acquire_known"] and facts["least_known"] and facts["shift"] == "retain"
    assert facts["periods"] == facts["spent"] == 35 and facts["ratio_low"] < facts["ratio"] < facts["ratio_high"]
    shown = marginal_for_people(found)
    assert list(shown) == list(MARGINAL_COLUMNS) and len(shown) == 3
    # a new customer worth ten times as much turns it round
    dear, _ = run_marginal_spend(lines, customers, summary, value, costs, START, END, new_value=2000.0, margin_rate=0.5)
    assert dear.shift == "acquire"
    # between the two neither is better beyond doubt: keeping is judged by the margin of the month, winning by all
    assert replace(found, least_difference=Estimate(1.0, -1.0, 3.0)).shift == ""


@pytest.mark.parametrize(
    ("change", "acquire", "retain"),
    [
        ({"customers": None}, "customers need acquisition_channel", ""),
        ({"new_value": None}, "is worth is not known", ""),
        ({"margin_rate": None}, "", "is worth is not known"),
        ({"observed_to": dt.date(2021, 6, 30)}, "periods", "5 whole periods are too few"),
        ({"only": "acquire"}, "", "no money was spent on keeping"),
        ({"only": "retain"}, "no amount with purpose acquire", ""),
        ({"amount": 100.0}, "hardly varies", "hardly varies"),
        ({"amount": 0.0}, "nothing was spent", "no money was spent on keeping"),
    ],
)
def test_each_side_says_why_it_is_not_known(company, change, acquire, retain):
    lines, customers, summary, value, costs = company
    costs = costs[costs["purpose"] == change["only"]] if "only" in change else costs
    costs = costs.assign(amount=change["amount"]) if "amount" in change else costs
    found, reason = run_marginal_spend(
        lines,
        change.get("customers", customers),
        summary,
        value,
        costs,
        START,
        change.get("observed_to", END),
        new_value=change.get("new_value", 60.0),
        margin_rate=change.get("margin_rate", 0.5),
    )
    assert reason == ""
    facts = marginal_facts(found)
    for purpose, why in (("acquire", acquire), ("retain", retain)):
        assert facts[f"{purpose}_known"] == (not facts[f"{purpose}_reason"])
        assert why in facts[f"{purpose}_reason"] and "not identified" not in facts[f"{purpose}_reason"]
        assert not why or facts[f"{purpose}_reason"]
    assert facts["shift"] == "" and facts["ratio"] is None
    assert len(marginal_for_people(found)) >= 2


def test_no_costs_at_all(company):
    lines, customers, summary, value, costs = company
    for none in (None, costs.iloc[:0]):
        assert run_marginal_spend(lines, customers, summary, value, none, START, END) == (
            None,
            "the study holds no marketing costs",
        )
    found, reason = run_marginal_spend(lines, customers, summary, value, costs.assign(period="spring"), START, END)
    assert found is None and "cannot be read" in reason


def test_the_ratio_is_fiellers_and_covers():
    rng, hits = np.random.default_rng(6), 0
    for _ in range(400):
        keep, win = rng.normal(3.0, 0.6), rng.normal(2.0, 0.4)
        found = _ratio(Estimate(keep, keep - 1.96 * 0.6, keep + 1.96 * 0.6), Estimate(win, win - 0.784, win + 0.784))
        hits += found.low is not None and found.low < 1.5 < found.high
    assert abs(hits / 400 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400)
    nothing = _ratio(Estimate(3.0, 2.0, 4.0), Estimate(0.5, -0.5, 1.5))
    assert np.isnan(nothing.value) and "cannot be told from nothing" in nothing.reason
    apart = _difference(Estimate(3.0, 0.0, 6.0), Estimate(1.0, -3.0, 5.0))
    assert apart.interval == pytest.approx((2.0, -3.0, 7.0))


def test_facts_go_beside_the_arguments_of_findings_and_tables(company, taken):
    lines, customers, summary, value, costs = company
    found, _ = run_marginal_spend(lines, customers, summary, value, costs, START, END, new_value=60.0, margin_rate=0.5)
    assert not taken & set(marginal_facts(found))
