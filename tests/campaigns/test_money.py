"""From effect to profit: identities, coverage, and what happens when a number is missing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.campaigns.effects import DifferenceInMeans, EffectResults
from analysis.campaigns.money import CampaignProfit, break_even_line, lifetime_effect, scenarios


def effect(value, se):
    return EffectResults("given", value, se, 100, 100, np.array([se]))


def test_worked_example():
    case = CampaignProfit(effect(10.0, 2.0), contacts=500, margin=0.3, contact_cost=1.0, discounts=250.0)
    assert case.incremental_sales().value == 5000
    assert case.incremental_margin().value == 1500
    assert case.profit().value == 750
    assert case.return_on_spend().value == pytest.approx(1.0)
    assert case.break_even_contact_cost().value == pytest.approx(2.5)
    assert case.break_even_effect() == pytest.approx(5.0)
    assert case.break_even_margin().value == pytest.approx(0.15)
    assert case.probability_of_profit() == pytest.approx(0.99379, abs=1e-5)  # 2.5 standard errors above break-even


@settings(max_examples=80)
@given(st.floats(-50, 50), st.floats(0.1, 20), st.floats(0.01, 1), st.floats(0, 10), st.floats(0, 1000))
def test_each_break_even_earns_nothing(value, se, margin, cost, discounts):
    case = CampaignProfit(effect(value, se), 100, margin, cost, discounts)
    ceiling = case.break_even_contact_cost().value
    if ceiling >= 0:
        assert CampaignProfit(effect(value, se), 100, margin, ceiling, discounts).profit().value == pytest.approx(
            0, abs=1e-6
        )
    assert CampaignProfit(
        effect(case.break_even_effect(), se), 100, margin, cost, discounts
    ).profit().value == pytest.approx(0, abs=1e-6)
    threshold = case.break_even_margin()
    if threshold is not None and threshold.value <= 1:
        assert CampaignProfit(effect(value, se), 100, threshold.value, cost, discounts).profit().value == pytest.approx(
            0, abs=1e-6
        )
    assert case.profit().low <= case.profit().value <= case.profit().high
    assert (case.probability_of_profit() > 0.5) == (case.profit().value > 0) or abs(case.profit().value) < 1e-6


def test_without_a_contact_cost_there_is_a_break_even_and_no_claim():
    case = CampaignProfit(effect(10.0, 2.0), 500, 0.3)
    assert case.profit() is case.return_on_spend() is case.probability_of_profit() is case.break_even_margin() is None
    assert case.break_even_contact_cost().value == pytest.approx(3.0)


def test_a_free_campaign_has_no_return_on_spend():
    case = CampaignProfit(effect(10.0, 2.0), 500, 0.3, contact_cost=0.0)
    assert case.return_on_spend() is None
    assert case.profit().value == pytest.approx(1500)


def test_profit_interval_covers():
    rng = np.random.default_rng(1)
    truth, covered = 100 * 3.0 * 0.25 - 50.0, []
    for _ in range(200):
        d = rng.integers(0, 2, 300)
        found = CampaignProfit(DifferenceInMeans(3.0 * d + rng.exponential(5, 300), d).fit(), 100, 0.25, 0.5).profit()
        covered.append(found.low <= truth <= found.high)
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_margin_limits_turn_the_effect_around():
    low_margin = CampaignProfit(effect(10.0, 1.0), 100, 0.3, 1.0).break_even_margin()
    assert low_margin.low < low_margin.value < low_margin.high
    assert CampaignProfit(effect(1.0, 5.0), 100, 0.3, 1.0).break_even_margin().high == np.inf
    assert CampaignProfit(effect(-1.0, 5.0), 100, 0.3, 1.0).break_even_margin() is None


def test_line_and_scenarios_agree_with_the_profit():
    found = scenarios(effect(10.0, 2.0), 500, [0.2, 0.3, 0.3], [0.5, 1.0])
    assert len(found) == 4
    row = found[(found["margin"] == 0.3) & (found["contact_cost"] == 1.0)].iloc[0]
    assert row["profit"] == pytest.approx(1000)
    line = break_even_line(CampaignProfit(effect(10.0, 2.0), 500, 0.3), [1.0])
    assert line.loc[0, "profit"] * 500 == pytest.approx(row["profit"])
    assert line.loc[0, "low"] * 500 == pytest.approx(row["low"])


@pytest.mark.parametrize(
    "wrong", [{"margin": 30}, {"margin": -0.1}, {"contacts": 0}, {"contact_cost": -1.0}, {"discounts": -1.0}]
)
def test_bad_input_is_named(wrong):
    with pytest.raises(ValueError, match="must"):
        CampaignProfit(effect(1.0, 1.0), **({"contacts": 10, "margin": 0.3} | wrong))


def test_production_and_offers_cost_whatever_a_contact_costs():
    case = CampaignProfit(effect(10.0, 2.0), 500, 0.3, contact_cost=1.0, discounts=250.0, production=400.0)
    assert case.spend == 1150
    assert case.profit().value == 350
    assert case.break_even_contact_cost().value == pytest.approx(1.7)
    table = scenarios(effect(10.0, 2.0), 500, [0.3], [1.0], 250.0, production=400.0)
    assert table["profit"].tolist() == [350]
    with pytest.raises(ValueError, match="costs not negative"):
        CampaignProfit(effect(10.0, 2.0), 500, 0.3, 1.0, production=-1.0)


def test_break_even_response_earns_nothing():
    case = CampaignProfit(effect(10.0, 2.0), 500, 0.25, contact_cost=1.0)
    needed = case.break_even_response(order_value=80.0, without=0.03)
    assert needed == pytest.approx(0.08)  # one more order in twenty, each of 20 margin, pays for a contact of 1
    assert (needed - 0.03) * 80 * 0.25 == pytest.approx(1.0)
    assert CampaignProfit(effect(10.0, 2.0), 500, 0.25).break_even_response(80.0) is None
    with pytest.raises(ValueError, match="order_value must be positive"):
        case.break_even_response(0.0)


def test_cost_per_incremental_order():
    case = CampaignProfit(effect(10.0, 2.0), 500, 0.3, contact_cost=1.0, production=500.0)
    found, reason = case.cost_per_order(effect(0.1, 0.02))
    low, high = effect(0.1, 0.02).interval()
    assert reason is None
    assert (found.value, found.low, found.high) == pytest.approx((20.0, 2 / high, 2 / low))
    assert case.cost_per_order(effect(0.1, 0.2))[0].high == np.inf
    assert case.cost_per_order(effect(-0.1, 0.02)) == (None, "no_more_orders")
    assert CampaignProfit(effect(10.0, 2.0), 500, 0.3).cost_per_order(effect(0.1, 0.02)) == (None, "no_contact_cost")


def test_cost_per_order_covers_the_cost():
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(200):
        d = np.arange(2000) % 2
        orders = rng.poisson(0.3 + 0.1 * d)
        case = CampaignProfit(effect(1.0, 0.1), 1000, 0.3, contact_cost=2.0)
        found, _ = case.cost_per_order(DifferenceInMeans(orders, d).fit())
        covered.append(found.low <= 20 <= found.high)
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_lifetime_effect_or_why_there_is_none():
    rng = np.random.default_rng(3)
    panel = pd.DataFrame({"customer_id": [f"c{i}" for i in range(400)], "treated": np.arange(400) % 2})
    panel["before"] = rng.gamma(2, 10, 400)
    value = 3 * panel["before"] + 5 * panel["treated"] + rng.normal(0, 5, 400)
    values = pd.DataFrame({"customer_id": panel["customer_id"], "residual_value": value})
    plain, reason = lifetime_effect(panel, values)
    adjusted, _ = lifetime_effect(panel, values, "before")
    assert reason is None and adjusted.se < 0.5 * plain.se
    assert adjusted.interval()[0] <= 5 <= adjusted.interval()[1]
    assert lifetime_effect(panel, values.iloc[:100]) == (None, "no_value")
    assert lifetime_effect(panel, values[["customer_id"]]) == (None, "no_value")
    assert lifetime_effect(panel.assign(treated=1), values) == (None, "no_comparison")
    unknown = values.assign(residual_value=values["residual_value"].where(values.index != 7))
    assert lifetime_effect(panel, unknown) == (None, "no_value")


def test_first_purchases_that_a_campaign_won_count_for_it():
    rng = np.random.default_rng(4)
    panel = pd.DataFrame({"customer_id": [f"c{i}" for i in range(4000)], "treated": np.arange(4000) % 2})
    value = rng.gamma(2, 10, 4000)
    won = (rng.random(4000) < 0.2) & (panel["treated"] == 1)
    bought = (rng.random(4000) < 0.7) | won
    values = pd.DataFrame({"customer_id": panel["customer_id"], "residual_value": np.where(won, value / 4, value)})[
        bought
    ]
    found, _ = lifetime_effect(panel, values)
    everybody = np.where(bought, np.where(won, value / 4, value), 0.0)
    arms = panel["treated"].to_numpy()
    assert found.effect == pytest.approx(everybody[arms == 1].mean() - everybody[arms == 0].mean())
