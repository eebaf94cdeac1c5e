"""The truth of the link: closed forms against the simulation, and its section of the card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.scorecard.link import daily_discount, link_entries, link_truth, raised_money, score_limit
from analysis.simulate import people, purchases, satisfaction
from analysis.simulate.clock import OBSERVED_DAYS, PERIODS
from analysis.simulate.world import TEXTBOOK

SHARES = {"cusa1": 0.4, "cusa2": 0.3, "cusa3": 0.3}
PLAN = replace(satisfaction.TEXTBOOK, rate_effect=0.12, hazard_effect=-0.40)


@pytest.fixture(scope="module")
def limit():
    return score_limit(PLAN, SHARES, (1, 10), n=50_000)


def test_the_score_hangs_on_satisfaction_as_its_items_do(limit):
    """Loadings .85, .80, .82 without a halo: about .86 of a weighted mean's variance before it is cut, a little less after."""
    assert 0.78 < limit.reliability < 0.86
    assert limit.slope == pytest.approx(limit.spread * np.sqrt(limit.reliability), rel=0.01)
    halo = score_limit(satisfaction.COMPANY, SHARES, (1, 10), n=50_000)
    assert halo.reliability < limit.reliability - 0.03


def test_scales_of_the_truth_agree_with_each_other(limit):
    truth = link_truth(PLAN, limit).set_index("outcome")
    assert truth.loc["rate", "true"] == 0.12 and abs(truth.loc["hazard", "seen"]) < 0.40
    assert np.log(truth.loc["rate", "true_ten"]) == pytest.approx(1.2 / limit.slope)
    assert truth["limit"].isna().all()
    assumed = link_truth(PLAN, limit, limit.reliability).set_index("outcome")
    assert assumed.loc["hazard", "limit"] == pytest.approx(-0.40)
    attenuated = np.log(truth.loc["rate", "ten"]) / np.log(truth.loc["rate", "true_ten"])
    assert attenuated == pytest.approx(limit.reliability, rel=0.01)


def test_money_of_a_raise_is_that_of_two_simulated_worlds():
    """Orders simulated twice from the same customers, satisfaction half a standard deviation higher in the second one."""
    rng, n = np.random.default_rng(6), 60_000
    plan = TEXTBOOK.people
    who = people.draw(plan, 1, n, rng)
    latents = satisfaction.latents(n, PLAN, rng, who.trait)
    lapsed = purchases.lapses(who, satisfaction.hazard_multiplier(latents, PLAN), rng)
    frame = pd.DataFrame(
        {
            "alive": lapsed >= OBSERVED_DAYS,
            "rate": who.rate,
            "hazard": who.hazard,
            "spend_mean": 1.0,
            "spend": 1.0,
            "margin_to_date": 1.0,
        }
        | {f"satisfaction_{t}": latents["Satisfaction"][:, t] for t in range(PERIODS)}
    )
    total = {}
    for shift in (0.0, 0.5):
        raised = {"Satisfaction": latents["Satisfaction"] + np.float32(shift)}
        rate, hazard = satisfaction.rate_multiplier(raised, PLAN), satisfaction.hazard_multiplier(raised, PLAN)
        # Only what is alive at the end of the data goes on, from there, at its own pace.
        fresh = np.random.default_rng(9)
        wait = fresh.standard_exponential(n)
        days = np.zeros(n)
        bought = np.zeros(n)
        for quarter in range(8, 12):
            before, spent = days, wait / (who.hazard * hazard[:, quarter])
            alive_for = np.clip(spent, 0, 91) * frame["alive"] * (before >= 91 * (quarter - 8))
            bought += who.rate * rate[:, quarter] * alive_for
            wait = np.maximum(wait - who.hazard * hazard[:, quarter] * 91, 0)
            days = days + np.where(spent >= 91, 91, 0)
        total[shift] = bought.sum()
    simulated = total[0.5] - total[0.0]
    assert raised_money(frame, PLAN, 0.5, 0.0) == pytest.approx(simulated, rel=0.05)
    assert raised_money(frame, PLAN, 0.0, 0.0) == 0
    assert raised_money(frame, PLAN, 0.5, daily_discount(0.10)) < raised_money(frame, PLAN, 0.5, 0.0)


def test_rows_of_the_card():
    findings = {"satisfaction_rate_effect": {"value": 0.1, "low": 0.05, "high": 0.2}}
    card = link_entries(PLAN, 5.0, findings, lambda key, **_: key)
    assert list(card["planted"]) == [0.12, -0.40, 5.0] and card["found"].notna().sum() == 1
    assert set(card["why"]) == {""}
    moody = link_entries(replace(PLAN, halo=0.3), None, findings, lambda key, **_: key)
    assert list(moody["why"]) == ["why_mood", ""]  # nothing was found of the hazard
    larger = {"satisfaction_rate_effect": {"value": 0.3, "low": 0.2, "high": 0.4}}
    assert set(link_entries(replace(PLAN, halo=0.3), None, larger, lambda key, **_: key)["why"]) == {""}
    unseen = link_entries(replace(PLAN, confounding=0.5), None, findings, lambda key, **_: key)
    assert set(unseen["why"]) == {"why_confounding"} and len(unseen) == 2


def test_spend_has_a_truth_of_nothing_once_a_notebook_tells_of_it():
    findings = {"satisfaction_spend_effect": {"value": 0.01, "low": -0.03, "high": 0.05}}
    card = link_entries(PLAN, 5.0, findings, lambda key, **_: key).set_index("quantity")
    assert card.loc["quantity_spend_effect", "planted"] == 0.0 and card.loc["quantity_spend_effect", "high"] == 0.05
