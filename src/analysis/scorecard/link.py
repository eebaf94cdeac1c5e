"""Was it found what satisfaction does to buying, staying and money? What is planted, on the scale of the answers, against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.loyalty.path_model import PLSResults
from analysis.loyalty.scores import item_weights
from analysis.scorecard.card import CHANCE, entries, finding
from analysis.scorecard.words import Words
from analysis.simulate.clock import FUTURE_DAYS, OBSERVED_DAYS, PERIOD_DAYS
from analysis.simulate.satisfaction import SatisfactionPlan, answers, latents

# Keys of the sentences that say what keeps the notebook from the truth: an unseen trait that moves both sides; a mood that colours
# all answers of a respondent, counts as agreement between them, and so hides how much error they hold: effects come out too small.
CONFOUNDED, MOOD = "why_confounding", "why_mood"
SPEND_FINDING = "satisfaction_spend_effect"


@dataclass(frozen=True)
class ScoreLimit:
    """The observed score of satisfaction in a population so large that chance plays no part.

    Attributes
    ----------
    slope : points of the score by a standard deviation of satisfaction. spread : standard deviation of the score, points.
    reliability : share of the score's variance that is satisfaction.
    """

    slope: float
    spread: float
    reliability: float


def score_limit(
    plan: SatisfactionPlan,
    shares: Mapping[str, float],
    scale: tuple[float, float],
    construct: str = "Satisfaction",
    n: int = 200_000,
    seed: int = 1,
) -> ScoreLimit:
    """How the score of a construct hangs on the construct itself, over `n` simulated people.

    Parameters
    ----------
    shares : how much each item counts in the score, by name; adds up to one. A skipped answer counts at its item's mean.
    """
    rng = np.random.default_rng(seed)
    true = latents(n, plan, rng, rng.standard_normal(n), periods=1)
    given = answers({name: score[:, 0] for name, score in true.items()}, plan, rng)
    score = np.zeros(n)
    for item, share in shares.items():
        values = given[item].astype(float)
        values[values < scale[0]] = np.nan
        values = np.where(np.isnan(values), np.nanmean(values), values)
        score += share * 100 * (values - scale[0]) / (scale[1] - scale[0])
    covariance = np.cov(score, true[construct][:, 0])
    return ScoreLimit(
        slope=float(covariance[0, 1] / covariance[1, 1]),
        spread=float(np.sqrt(covariance[0, 0])),
        reliability=float(covariance[0, 1] ** 2 / covariance[0, 0] / covariance[1, 1]),
    )


def score_shares(results: PLSResults, scale: tuple[float, float], construct: str = "Satisfaction") -> dict[str, float]:
    """How much each item counts in the score of a construct, as the loyalty notebook weighs them."""
    weights = item_weights(results, scale)
    return weights[weights["construct"] == construct].set_index("item")["share"].to_dict()


def link_truth(plan: SatisfactionPlan, limit: ScoreLimit, reliability: float | None = None) -> pd.DataFrame:
    """What is planted of each link, on the scales on which a notebook can find it.

    Parameters
    ----------
    reliability : that the notebook takes the score to have; a mood that all answers share makes it too high.

    Returns
    -------
    outcome ("rate", "hazard"); true (log-change by a standard deviation of satisfaction); seen (the same by one of the score, which
    measures it with error); true_ten, ten (ratios by ten points of satisfaction itself, and of the score); limit (what "true" comes
    out as, without chance, under `reliability`; NaN without it).
    """
    rows = []
    for outcome, effect in (("rate", plan.rate_effect), ("hazard", plan.hazard_effect)):
        seen = effect * np.sqrt(limit.reliability)
        ratios = {"true_ten": np.exp(10 * effect / limit.slope), "ten": np.exp(10 * seen / limit.spread)}
        found = np.nan if reliability is None else seen / np.sqrt(reliability)
        rows.append({"outcome": outcome, "true": effect, "seen": seen} | ratios | {"limit": found})
    return pd.DataFrame(rows)


def raised_money(
    people: pd.DataFrame, plan: SatisfactionPlan, raised: float, discount: float, days: int = FUTURE_DAYS
) -> float:
    """What the base would bring more in the next `days` if everybody were `raised` standard deviations more satisfied, money.

    The same world twice, in expectation and in closed form: who is active at the end of the data buys at their own rate and
    leaves at their own hazard, both moved by the satisfaction of the quarter before, from the first day after the data on.

    Parameters
    ----------
    people : the simulation's truth, one row a customer. discount : a day, continuous.
    """
    active = people[people["alive"]]
    share = people["margin_to_date"].sum() / people["spend"].sum()
    worth = active["rate"].to_numpy() * active["spend_mean"].to_numpy() * share

    def expected(shift: float) -> float:
        survival, total = np.ones(len(active)), np.zeros(len(active))
        first = OBSERVED_DAYS // PERIOD_DAYS
        for quarter in range(first, first + -(-days // PERIOD_DAYS)):
            length = min(PERIOD_DAYS, days - (quarter - first) * PERIOD_DAYS)
            score = active[f"satisfaction_{quarter - 1}"].to_numpy(float)
            rate = np.exp(plan.rate_effect * (score + shift) - plan.rate_effect**2 / 2)
            hazard = active["hazard"].to_numpy() * np.exp(
                plan.hazard_effect * (score + shift) - plan.hazard_effect**2 / 2
            )
            decay = np.maximum(hazard + discount, 1e-12)
            start = np.exp(-discount * (quarter - first) * PERIOD_DAYS)
            total += survival * start * rate * -np.expm1(-decay * length) / decay
            survival = survival * np.exp(-hazard * length)
        return float((worth * total).sum())

    return expected(raised) - expected(0.0)


def daily_discount(annual_rate: float | None) -> float:
    """Continuous discount rate a day that equals an annual rate."""
    return float(np.log1p(annual_rate or 0.0) / 365.25)


def link_entries(
    plan: SatisfactionPlan, money: float | None, findings: Mapping[str, dict], words: Words
) -> pd.DataFrame:
    """Section of the card: the links by a standard deviation of satisfaction, and what ten points of it are worth.

    The spend of a purchase does not answer to satisfaction in the simulated worlds: its truth is 0 wherever a notebook tells of it,
    and the money of :func:`raised_money`, which has no route through spend, is the truth of a total that has one.
    """
    rows = [
        finding(words(f"quantity_{name}_effect"), effect, findings.get(f"satisfaction_{name}_effect"))
        for name, effect in (("rate", plan.rate_effect), ("hazard", plan.hazard_effect))
        if effect
    ]
    if SPEND_FINDING in findings:
        rows.append(finding(words("quantity_spend_effect"), 0.0, findings[SPEND_FINDING]))
    if money is not None:
        rows.append(finding(words("quantity_ten_points_money"), money, findings.get("ten_points_money")))
    told = entries(rows, CONFOUNDED if plan.confounding else CHANCE)
    if plan.halo and not plan.confounding:
        # A mood makes effects too small, never too large.
        told.loc[told["found"].abs() < told["planted"].abs(), "why"] = MOOD
    return told
