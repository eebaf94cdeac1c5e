"""From effect to profit: identities, coverage, and what happens when a number is missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.campaigns.effects import DifferenceInMeans, EffectResults
from analysis.campaigns.money import CampaignProfit, break_even_line, scenarios


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
