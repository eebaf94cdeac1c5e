"""From points to money: the arithmetic of the chain, its limits, its uncertainty, and the truth of a simulated company."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from link_world import SmallCompany, value_of
from test_link import linked_of, true_reliability

from analysis.loyalty import (
    CustomerBase,
    DriverEffects,
    Link,
    LinkRefused,
    LinkResults,
    PLSPathModel,
    Reliability,
    ReturnOnQuality,
    customer_base,
    customer_link,
    driver_effects_drawn,
    loyalty_drivers,
    performance,
)
from analysis.loyalty.link_model import EFFECTS
from analysis.loyalty.return_on_quality import _GRID
from analysis.scorecard.link import daily_discount, raised_money
from analysis.valuation import ParetoNBD, weekly_discount


def exact_link(rate: float, hazard: float, error: float = 0.0, spread: float = 20.0) -> Link:
    """A link whose effects by a standard deviation of the score are given."""
    params = pd.Series([rate, hazard], index=list(EFFECTS))
    covariance = pd.DataFrame(np.eye(2) * max(error, 1e-12) ** 2, index=params.index, columns=params.index)
    results = LinkResults(params, covariance, 0.7, 0.0, 100, 100, np.zeros((100, 2)))
    return Link(results, pd.DataFrame(), Reliability(1.0), {}, spread, 0.0)


def exact_base(spread: float = 0.0, kept: float = 0.8) -> CustomerBase:
    """A base whose value falls in proportion to the hazard's multiplier to the power −0.2."""
    value = np.exp(-0.2 * _GRID)
    tables = np.stack([value, value**2, kept ** np.exp(_GRID)])[:, None, :]
    return CustomerBase(1_000, 52, 50_000.0, 400_000.0, kept, spread, np.repeat(tables, 3, axis=1))


def exact_drivers(error: float = 0.0, level: float = 60.0) -> DriverEffects:
    drawn = 0.5 + error * np.random.default_rng(1).standard_normal(500)
    draws = np.column_stack([np.ones(500), drawn])
    return DriverEffects(("Satisfaction", "Quality"), np.array([1.0, 0.5]), draws, np.array([70.0, level]))


def test_the_chain_by_hand():
    """Ten points of quality are five of satisfaction: rate × e^(0.1·5/20), hazard × e^(−0.4·5/20)."""
    table = ReturnOnQuality(exact_drivers(), exact_link(0.1, -0.4), exact_base()).what_if((10.0,)).set_index("driver")
    row = table.loc["Quality"]
    assert row["satisfaction"] == pytest.approx(5)
    assert row["purchases"] == pytest.approx(np.expm1(0.025))
    assert row["money"] == pytest.approx(50_000 * (np.exp(0.025 + 0.2 * 0.1) - 1), rel=1e-4)
    assert row["lifetime"] == pytest.approx(400_000 * (np.exp(0.025 + 0.4 * 0.1) - 1), rel=1e-3)
    assert row["retention"] == pytest.approx(100 * (0.8 ** np.exp(-0.1) - 0.8), rel=1e-2)
    assert row["customer"] == pytest.approx(row["money"] / 1_000)
    assert table.loc["Satisfaction", "satisfaction"] == pytest.approx(10)


def test_a_raise_stops_at_the_top_of_the_scale():
    table = ReturnOnQuality(exact_drivers(level=97.0), exact_link(0.1, -0.4), exact_base()).what_if((1.0, 10.0))
    quality = table[table["driver"] == "Quality"].set_index("raise")
    assert quality.loc[1.0, "raised"] == 1 and quality.loc[10.0, "raised"] == pytest.approx(3)
    assert quality.loc[10.0, "satisfaction"] == pytest.approx(1.5)
    top = ReturnOnQuality(exact_drivers(level=100.0), exact_link(0.1, -0.4), exact_base()).worth("Quality")
    assert top["value"] == pytest.approx(0, abs=1e-6) and top["raised"] == 0


def test_return_break_even_and_chance():
    chain = ReturnOnQuality(exact_drivers(), exact_link(0.1, -0.4, error=0.05), exact_base())
    found = chain.returns("Quality", 10.0, cost=1_000.0)
    assert found["net"] == pytest.approx(found["break_even"] - 1_000)
    assert found["value"] == pytest.approx(found["net"] / 1_000)
    assert found["low"] < found["value"] < found["high"] and 0.5 < found["chance"] <= 1
    assert chain.returns("Quality", 10.0, cost=found["break_even"])["value"] == pytest.approx(0)
    assert chain.returns("Quality", 10.0, 1_000.0, lifetime=True)["net"] > found["net"]
    with pytest.raises(LinkRefused, match="above 0"):
        chain.returns("Quality", 10.0, cost=0.0)
    with pytest.raises(LinkRefused, match="no driver with a sound scale"):
        chain.worth("Price")


@pytest.mark.parametrize(
    ("errors", "weakest"), [((0.2, 0.0, 0.0), "driver"), ((0.0, 0.2, 0.0), "link"), ((0.0, 0.0, 0.3), "value")]
)
def test_the_weakest_step_is_named(errors, weakest):
    chain = ReturnOnQuality(exact_drivers(errors[0]), exact_link(0.1, -0.4, errors[1]), exact_base(errors[2]))
    steps = chain.uncertainty("Quality").set_index("step")
    assert steps["share"].idxmax() == weakest and steps.loc[weakest, "share"] > 0.99
    assert steps["share"].sum() == pytest.approx(1)


def test_the_same_seed_gives_the_same_table():
    parts = exact_drivers(0.1), exact_link(0.1, -0.4, 0.05), exact_base(0.1)
    one, same, other = (ReturnOnQuality(*parts, seed=seed).what_if() for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


@pytest.fixture(scope="module")
def company():
    return SmallCompany.draw("textbook", 6_000, np.random.default_rng(2), rate_effect=0.12, hazard_effect=-0.40)


@pytest.fixture(scope="module")
def base(company):
    value = value_of(company)
    total = value["residual_value"].sum()
    limits = (0.9 * total, 1.1 * total)
    return customer_base(company.summary(), value, horizon_weeks=52, discount_rate=0.10, limits=limits)


def test_value_under_another_hazard_is_that_of_the_model_itself(company, base):
    """Table against Pareto/NBD scored customer by customer with β + T divided by the multiplier."""
    summary = company.summary()
    x, t_x, age = summary["frequency"].to_numpy(), summary["recency"].to_numpy() / 7, summary["T"].to_numpy() / 7
    results = ParetoNBD(x, t_x, age).fit()
    worth = value_of(company)["residual_value"].to_numpy()
    s, beta = results.params[["s", "beta"]]
    discount = weekly_discount(0.10)
    rows = np.random.default_rng(0).choice(len(age), 300, replace=False)
    for k in (20, 40):
        time = np.linspace(0, 52, 4_001)
        step = np.diff(time)
        kept = {}
        for m in (1.0, np.exp(_GRID[k])):
            survival = (1 + m * time / (beta + age[rows, None])) ** -s * np.exp(-discount * time)
            kept[m] = ((survival[:, 1:] + survival[:, :-1]) / 2) @ step
        one, other = kept.values()
        share = worth[rows] @ (other / one) / worth[rows].sum()
        assert base.by_hazard[0, 0, k] == pytest.approx(share, rel=0.02)
    assert base.by_hazard[0, 0, len(_GRID) // 2] == pytest.approx(1)
    assert (np.diff(base.by_hazard[0, 0]) < 0).all() and (np.diff(base.by_hazard[2, 0]) < 0).all()
    assert base.lifetime > base.value and base.spread == pytest.approx(0.1 / 1.959964)


def test_the_base_refuses_what_it_cannot_value(company):
    summary, value = company.summary(), value_of(company)
    options = {"horizon_weeks": 52, "discount_rate": 0.10}
    with pytest.raises(LinkRefused, match="no expected margin"):
        customer_base(summary, value.assign(residual_value=np.nan), **options)
    with pytest.raises(LinkRefused, match="before the data begin"):
        customer_base(summary, value, entry="left_truncated", **options)
    endless = customer_base(summary, value, horizon_weeks=52, discount_rate=None)
    assert endless.lifetime is None
    table = ReturnOnQuality(exact_drivers(), exact_link(0.1, -0.4), endless).what_if((1.0,))
    assert table["lifetime"].isna().all() and table["money"].notna().all()
    with pytest.raises(LinkRefused, match="discount rate"):
        ReturnOnQuality(exact_drivers(), exact_link(0.1, -0.4), endless).returns("Quality", 1.0, 10.0, lifetime=True)


def test_with_the_planted_link_the_money_is_that_of_the_same_world_raised(company, base):
    """No estimate of the link: the base's own response to a raise of half a standard deviation, against the counterfactual."""
    true = raised_money(company.truth(), company.plan, 0.5, daily_discount(0.10))
    drivers = DriverEffects(("Satisfaction",), np.ones(1), np.ones((10, 1)), np.array([50.0]))
    found = ReturnOnQuality(drivers, exact_link(0.12, -0.40, spread=20.0), base).worth("Satisfaction", 10.0)
    assert found["value"] == pytest.approx(true, rel=0.15)


def test_money_covers_its_truth():
    """The whole link, from answers to money, in companies made anew; of four, at most one may miss."""
    rng, held, n = np.random.default_rng(31), 0, 4
    for _ in range(n):
        made = SmallCompany.draw("textbook", 2_500, rng, rate_effect=0.12, hazard_effect=-0.40)
        linked = linked_of(made, minimum=100)
        link = customer_link(linked, true_reliability(made))
        value = value_of(made)
        total = value["residual_value"].sum()
        base = customer_base(
            made.summary(), value, horizon_weeks=52, discount_rate=0.10, limits=(0.88 * total, 1.12 * total)
        )
        slope = np.polyfit(made.answers["latent"], made.answers["satisfaction"], 1)[0]
        drivers = DriverEffects(("Satisfaction",), np.ones(1), np.ones((10, 1)), np.array([50.0]))
        found = ReturnOnQuality(drivers, link, base, draws=1_000).worth("Satisfaction", 10.0)
        true = raised_money(made.truth(), made.plan, 10 / slope, daily_discount(0.10))
        held += found["low"] <= true <= found["high"]
    assert held >= n - 1


def test_driver_draws_are_those_behind_the_table_of_drivers(mobi, ecsi_model):
    results = PLSPathModel(mobi, ecsi_model).fit()
    draws = results.bootstrap(300, seed=2)
    usable = ["Image", "Expectation", "Quality", "Value", "Satisfaction"]
    effects = driver_effects_drawn(results, draws, (1, 10), usable=usable)
    table = (
        loyalty_drivers(results, draws, (1, 10), method="percentile")
        .query("target == 'Satisfaction'")
        .set_index("driver")
    )
    levels = performance(results, draws, (1, 10)).set_index("construct")["score"]
    for k, name in enumerate(effects.names[1:], start=1):
        assert effects.points[k] == pytest.approx(table.loc[name, "points"])
        assert np.quantile(effects.draws[:, k], 0.025) == pytest.approx(table.loc[name, "points_low"], rel=1e-6)
        assert effects.levels[k] == pytest.approx(levels[name])
    with pytest.raises(LinkRefused, match="do not measure one thing"):
        driver_effects_drawn(results, draws, (1, 10), usable=["Image"])
