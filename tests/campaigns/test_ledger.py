"""The year by the universal holdout: planted effects are covered, claims that count twice show as a gap."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from analysis.campaigns.effects import CUPED, DifferenceInMeans
from analysis.campaigns.ledger import Claim, held_out, run_ledger, year_panel


def planted(n=3000, effect=8.0, seed=1, share=0.3):
    """Customers with a year's sales; reached ones bring ``effect`` more, through two campaigns that share it."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"c{i}" for i in range(n)], dtype=object)
    before = rng.gamma(2, 30, n)
    out = rng.random(n) < share
    first, second = rng.random(n) < 0.5, rng.random(n) < 0.5
    gain = np.where(out, 0.0, effect * np.maximum(first, second))
    year = 0.9 * before + rng.normal(0, 15, n) + gain
    panel = pd.DataFrame(
        {"customer_id": ids, "spend": year, "spend_before": before, "recent_before": before / 2,
         "days_before": rng.poisson(3, n), "exposure": 365.0}
    )  # fmt: skip
    claims = [
        Claim(name, "mail", DifferenceInMeans(year[~out], arm[~out]).fit(), ids[~out], int(arm[~out].sum()), 100.0)
        for name, arm in (("one", first), ("two", second))
    ]
    return panel, pd.Series(out, index=ids), claims, float(gain.sum())


def planted_needs_more_than_half():
    panel, held, claims, _ = planted(200, effect=0.5, seed=4)
    found, _ = ledger(panel, held, claims)
    return found.needed is None


def ledger(panel, held, claims, **changes):
    given = {"margin": 0.4, "days": 365, "spend": 200.0} | changes
    return run_ledger(panel, held, claims, **given)


def test_the_years_profit_is_covered():
    covered = np.zeros(200)
    for i in range(200):
        panel, held, claims, gain = planted(2100, seed=i)
        found, _ = ledger(panel, held, claims)
        covered[i] = found.profit.low <= 0.4 * gain - 200 <= found.profit.high
    assert abs(covered.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_figures_follow_from_each_other():
    panel, held, claims, gain = planted(20_000)
    found, reason = ledger(panel, held, claims, spend=500.0, unclaimed=["three"])
    assert reason is None and found.unclaimed == ("three",)
    assert found.reached + found.held_out == 20_000
    assert found.sales.low <= gain <= found.sales.high
    assert found.profit.value == pytest.approx(0.4 * found.sales.value - 500)
    assert found.gap.value == pytest.approx(found.claimed.value - found.profit.value)
    assert found.claims["profit"].sum() == pytest.approx(found.claimed.value)
    assert found.summary()["row"].tolist() == ["sales", "profit", "claimed", "gap"]
    assert found.probability > 0.99 and found.balance.p_value > 0.001 and found.contacted == 0
    assert found.needed < found.held_out and found.detectable < found.profit.value + 500
    assert planted_needs_more_than_half()
    half, _ = ledger(panel, held, claims, spend=500.0, days=730)
    assert half.profit.value == pytest.approx(found.profit.value / 2)
    assert half.claimed.value == pytest.approx(found.claimed.value / 2)


def test_campaigns_that_share_an_effect_claim_less_than_they_brought_together():
    # Either of two is as good as both: each finds only half of it, and the holdout finds the whole.
    panel, held, claims, _ = planted(40_000)
    found, _ = ledger(panel, held, claims)
    assert found.gap.high < 0


def test_held_out_customers_who_were_reached_are_counted():
    panel, held, claims, _ = planted()
    found, _ = ledger(panel, held, claims, contacted=[*held.index[held][:3], *held.index[~held]])
    assert found.contacted == 3


def test_no_ledger_has_a_reason():
    panel, held, claims, _ = planted(200)
    assert ledger(panel, None, claims) == (None, "no_holdout")
    assert ledger(panel, held, claims, spend=None) == (None, "no_contact_cost")
    assert ledger(panel, held & False, claims) == (None, "nobody_held_out")
    few = held & (np.cumsum(held) <= 5)
    assert ledger(panel, few, claims) == (None, "too_few")
    assert ledger(panel.assign(spend=1.0), held, claims) == (None, "no_sales")
    found, _ = ledger(panel, held, [])
    assert found.claimed is None and found.gap is None and found.claims.empty
    with pytest.raises(ValueError, match="margin must lie"):
        ledger(panel, held, claims, margin=40)


def test_holdout_is_read_however_it_is_written():
    customers = pd.DataFrame({"customer_id": list("abcd"), "universal_holdout": ["Yes ", "no", None, "true"]})
    assert held_out(customers).tolist() == [True, False, False, True]
    flags = customers.assign(universal_holdout=[True, False, False, True])
    assert held_out(flags).tolist() == [True, False, False, True]
    assert held_out(customers[["customer_id"]]) is None


def test_year_panel_counts_what_belongs_to_the_period(company):
    lines = company.order_lines(
        [("a", dt.date(2024, 1, 5), 10.0), ("a", dt.date(2024, 6, 1), 20.0), ("a", dt.date(2024, 12, 31), 40.0),
         ("b", dt.date(2024, 5, 31), 7.0), ("gone", dt.date(2024, 6, 1), 99.0)]
    )  # fmt: skip
    customers = pd.DataFrame(
        {"customer_id": list("abc"), "acquired_on": pd.to_datetime(["2024-01-05", "2024-07-01", None])}
    )
    panel = year_panel(lines, customers, dt.date(2024, 6, 1), dt.date(2024, 12, 30)).set_index("customer_id")
    assert panel.loc["a"].tolist() == [20.0, 10.0, 10.0, 1.0, 213.0]
    assert panel.loc["b"].tolist() == [0.0, 7.0, 7.0, 1.0, 183.0]
    assert panel.loc["c"].tolist() == [0.0, 0.0, 0.0, 0.0, 213.0]


def test_gap_of_campaigns_whose_effects_add_is_covered_by_its_interval():
    covered = np.zeros(200)
    for i in range(200):
        rng, n = np.random.default_rng(i), 2100
        ids, before, out = np.array([f"c{j}" for j in range(n)], dtype=object), rng.gamma(2, 30, n), rng.random(n) < 0.3
        arms = [(rng.random(n) < 0.5) & ~out for _ in range(2)]
        year = 0.9 * before + rng.normal(0, 15, n) + 8 * arms[0] + 5 * arms[1]
        panel = pd.DataFrame(
            {"customer_id": ids, "spend": year, "spend_before": before, "recent_before": before / 2, "days_before": 0.0,
             "exposure": 365.0}
        )  # fmt: skip
        claims = [
            Claim(str(k), "mail", CUPED(year[~out], arm[~out], before[~out]).fit(), ids[~out], int(arm.sum()), 100.0)
            for k, arm in enumerate(arms)
        ]
        found, _ = ledger(panel, pd.Series(out, index=ids), claims)
        covered[i] = found.gap.low <= 0 <= found.gap.high
    assert abs(covered.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)
