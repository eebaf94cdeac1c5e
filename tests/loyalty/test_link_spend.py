"""Satisfaction and the spend of a purchase: against statsmodels, against what is planted, and through to money by its routes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from link_world import SmallCompany
from test_link import linked_of, true_reliability
from test_return_on_quality import exact_base, exact_drivers, exact_link

from analysis.loyalty import (
    SPEND,
    ReturnOnQuality,
    SpendLink,
    customer_link,
    route_facts,
    route_table,
    spend_link,
)
from analysis.loyalty.link import MINIMUM_LINKED
from analysis.loyalty.link_spend import SpendEffect, fading, fit_spend
from analysis.simulate.clock import PERIOD_DAYS, START

ATTRIBUTES = ["age_band", "region", "acquisition_channel"]


def spending_more(company: SmallCompany, effect: float) -> SmallCompany:
    """The same company, in which the spend of a purchase answers to the satisfaction of the quarter before, as the rate does."""
    days = company.days.copy()
    quarter = (pd.to_datetime(days["order_date"]) - pd.Timestamp(START)).dt.days // PERIOD_DAYS
    owner = pd.Index(company.who.customer_id).get_indexer(days["customer_id"])
    days["spend"] *= np.exp(effect * company.latents["Satisfaction"][owner, np.maximum(quarter - 1, 0)])
    return replace(company, days=days)


@pytest.fixture(scope="module")
def company():
    return SmallCompany.draw("company", 6_000, np.random.default_rng(17))


@pytest.fixture(scope="module")
def link(company):
    return customer_link(linked_of(company), true_reliability(company), ATTRIBUTES)


# -- the regression ----------------------------------------------------------------------------------------------------------


def drawn(n: int = 600, seed: int = 3) -> dict:
    rng = np.random.default_rng(seed)
    score, before, control = rng.standard_normal((3, n))
    mean = np.exp(3 + 0.2 * score + 0.6 * before - 0.3 * control)
    return {
        "score": score,
        "spend": rng.gamma(2.0, mean / 2),
        "past": rng.poisson(1.0, (n, 4)).astype(float),
        "first": np.full(n, 4.0),
        "before": before,
        "controls": control[:, None],
        "weight": rng.integers(1, 4, n).astype(float),
        "customer": np.repeat(np.arange(n // 2), 2),
    }


def test_where_satisfaction_leaves_no_trace_it_is_the_gamma_model_of_statsmodels():
    """At a persistence of next to nothing, past spend is a control like any other."""
    rows = drawn()
    ours = fit_spend(**rows, persistence=1e-9)
    design = sm.add_constant(np.column_stack([rows["score"], rows["before"], rows["controls"]]))
    model = sm.GLM(
        rows["spend"], design, family=sm.families.Gamma(sm.families.links.Log()), freq_weights=rows["weight"]
    )
    theirs = model.fit()
    assert ours.value == pytest.approx(theirs.params[1], rel=1e-6)
    rest = (rows["weight"] * (rows["spend"] / theirs.mu - 1))[:, None] * design
    bread = np.linalg.inv(design.T @ (design * rows["weight"][:, None]))
    sums = pd.DataFrame(rest).groupby(rows["customer"]).sum().to_numpy()
    covariance = bread @ sums.T @ sums @ bread * 300 / 299
    assert ours.error == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-6)


def test_what_past_satisfaction_left_in_past_spend_is_given_back():
    """Past spend that holds 0.8 of today's effect: as a mere control it takes part of the effect away, in the model it does not."""
    rng = np.random.default_rng(5)
    n, effect, rho = 20_000, 0.3, 0.8
    score, lasting = rng.standard_normal((2, n))
    past = rng.poisson(2.0, (n, 1)).astype(float)
    before = lasting + effect * rho * score
    spend = rng.gamma(3.0, np.exp(1 + lasting + effect * score) / 3)
    rows = {"score": score, "spend": spend, "past": past, "first": np.ones(n), "before": before}
    rows |= {"controls": np.zeros((n, 0)), "weight": np.ones(n), "customer": np.arange(n)}
    assert fit_spend(**rows, persistence=rho).value == pytest.approx(effect, abs=0.02)
    assert fit_spend(**rows, persistence=1e-9).value == pytest.approx(effect * (1 - rho), abs=0.02)
    sure, unsure = (fit_spend(**rows, persistence=rho, persistence_error=e).error for e in (0.0, 0.1))
    slope = (fit_spend(**rows, persistence=0.82).value - fit_spend(**rows, persistence=0.78).value) / 0.04
    assert unsure**2 - sure**2 == pytest.approx((0.1 * slope) ** 2, rel=0.02)


def test_fading_by_hand():
    """Two purchases one period back, one two back, and the first of all, 2.4 periods before the window, so in the third."""
    found = fading(np.array([[2.0, 1.0, 0.0]]), np.array([2.4]), 0.5)
    assert found == pytest.approx((2 * 0.5 + 0.25 + 0.125) / 4)


# -- in a company ------------------------------------------------------------------------------------------------------------


def test_nothing_planted_on_spend_is_nothing_found(link):
    row = link.effects.set_index("outcome").loc[SPEND]
    error = (row["true_high"] - row["true_low"]) / (2 * 1.959964)
    assert abs(row["true"]) < 3.5 * error and 0.01 < error < 0.05
    told = link.effect(SPEND)
    assert told["silent"] > 0 and told["responses"] + told["silent"] == link.results.nobs


def test_planted_spend_comes_back_corrected_for_the_error_of_the_score(company):
    found = customer_link(linked_of(spending_more(company, 0.2)), true_reliability(company), ATTRIBUTES).effect(SPEND)
    assert found["low"] > 0
    assert abs(found["value"] - 0.2) < 3.5 * (found["high"] - found["low"]) / (2 * 1.959964)


def test_who_does_not_buy_in_the_window_says_nothing(company, link):
    """Whatever the silent spent before, the estimate is the same; only the spread of the score is everybody's."""
    linked = linked_of(company)
    frame = linked.frame.copy()
    silent = frame["purchases"] == 0
    frame.loc[silent, "mean_spend"] *= np.where(frame.loc[silent, "score"] > 60, 10.0, 0.1)
    found = spend_link(replace(linked, frame=frame), link.results, link.persistence["error"], ATTRIBUTES)
    assert found.fitted.value == pytest.approx(link.spend.fitted.value)
    assert found.silent == silent.sum()


def test_draws_have_the_covariance_of_the_three_effects(link):
    sure = replace(link, reliability=replace(link.reliability, error=0.0))
    drawn_effects = sure.draws(40_000, np.random.default_rng(1))
    by_sd = sure.by_point() / np.append(sure.results.effects, sure.spend.fitted.value)
    np.testing.assert_allclose(
        drawn_effects.mean(axis=0), sure.by_point(), atol=4 * drawn_effects.std(axis=0).max() / 200
    )
    np.testing.assert_allclose(np.cov(drawn_effects.T), sure.covariance * np.outer(by_sd, by_sd), rtol=0.05, atol=2e-7)
    # Rate and spend of the same customers: the covariance is that of the shares in the error, row by row.
    assert abs(sure.covariance[0, 2]) < np.sqrt(sure.covariance[0, 0] * sure.covariance[2, 2])


def test_too_few_buyers_leave_the_route_out_and_say_why(company):
    linked = linked_of(company)
    bought = np.flatnonzero(linked.frame["purchases"] > 0)[MINIMUM_LINKED // 2 - 1 :]
    frame = linked.frame.copy()
    frame.loc[bought, ["purchases", "spend"]] = 0
    frame.loc[bought, SPEND] = np.nan
    link = customer_link(replace(linked, frame=frame), true_reliability(company))
    assert link.spend is None and list(link.effects["outcome"]) == ["rate", "hazard"]
    assert link.effect(SPEND) == {"value": None, "reason": link.spend_reason} and "takes 100" in link.spend_reason
    assert (link.draws(10, np.random.default_rng(1))[:, 2] == 0).all() and link.by_point()[2] == 0


# -- to money ----------------------------------------------------------------------------------------------------------------


def with_spend(rate: float, hazard: float, spend: float, error: float = 0.0):
    fitted = SpendEffect(spend, max(error, 1e-12), np.zeros(0))
    return replace(exact_link(rate, hazard, error), spend=SpendLink(fitted, 0.0, np.zeros(2), 100, 20))


def test_the_three_routes_by_hand():
    """Ten points are half a standard deviation of 20: rate × e^0.05, hazard × e^−0.2 and so value × e^0.04, spend × e^0.03."""
    chain = ReturnOnQuality(exact_drivers(), with_spend(0.1, -0.4, 0.06), exact_base())
    table = chain.routes().set_index("route")
    total = 50_000 * np.expm1(0.05 + 0.04 + 0.03)
    assert table.loc["total", "value"] == pytest.approx(total, rel=1e-3)
    for route, log_change in (("rate", 0.05), ("hazard", 0.04), ("spend", 0.03)):
        assert table.loc[route, "value"] == pytest.approx(total * log_change / 0.12, rel=2e-3)
    row = chain.what_if((10.0,)).iloc[0]
    assert row["spend"] == pytest.approx(np.expm1(0.03)) and row["purchases"] == pytest.approx(np.expm1(0.05))
    assert row["lifetime"] == pytest.approx(400_000 * np.expm1(0.05 + 0.08 + 0.03), rel=1e-3)


@pytest.mark.parametrize("effects", [(0.1, 0.0, 0.0), (0.0, -0.4, 0.0), (0.0, 0.0, 0.06), (0.0, 0.0, 0.0)])
def test_a_route_alone_is_the_total(effects):
    table = ReturnOnQuality(exact_drivers(), with_spend(*effects), exact_base()).routes().set_index("route")["value"]
    for route, effect in zip(("rate", "hazard", "spend"), effects, strict=True):
        assert table[route] == pytest.approx(table["total"] if effect else 0.0, abs=1e-4)


def test_routes_add_up_to_the_total_in_every_draw():
    chain = ReturnOnQuality(exact_drivers(0.1), with_spend(0.1, -0.4, -0.06, 0.05), exact_base(0.1))
    made = chain._chain(chain.draws, 1, 10.0)
    np.testing.assert_allclose(sum(made[f"money_{route}"] for route in ("rate", "hazard", "spend")), made["money"])
    table = chain.routes("Quality").set_index("route")
    assert table["share"].drop("total").sum() == pytest.approx(1) and table.loc["spend", "value"] < 0
    facts = route_facts(chain, "Quality")
    assert facts["first"] == "rate" and not facts["spend_clear"] and facts["spend_reason"] == ""
    assert facts["spend_value"] == table.loc["spend", "value"] < facts["spend_high"]
    assert route_table(chain, "Quality")["route"].is_unique


def test_a_route_that_is_not_known_adds_nothing_and_widens_nothing():
    known, unknown = (
        ReturnOnQuality(exact_drivers(), link, exact_base(), seed=2).worth()
        for link in (with_spend(0.1, -0.4, 0.0, 0.05), exact_link(0.1, -0.4, 0.05))
    )
    assert known["value"] == pytest.approx(unknown["value"])
    assert known["high"] - known["low"] > unknown["high"] - unknown["low"]
