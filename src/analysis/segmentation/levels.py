"""Which relationship level pays for whom: expected incremental value less cost to serve, within what people can look after.

What a level does to a customer is an assumption of the company until an experiment has measured it, so everything here
says at which effect a level would just pay. All is counted against the basic level, over the horizon of the expected
values:

    gain = residual value × ((1 + a) × (1 + margin) − 1) + growth × growth value − cost
    a    = A(μ (1 − retention)) / A(μ) − 1,   A(m) = (1 − exp(−(m + δ) h)) / ((m + δ) h)

The residual value is that of somebody who may have left already (it holds P(alive)), and who may leave at rate μ from
now on; averting a share of the leaving lengthens the time in which a customer brings a margin (a constant rate of leaving and of
discounting: Blattberg, Getz & Thomas 2001, *Customer Equity*, ch. 3). Growth value holds P(alive) too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import chi2

from analysis.segmentation.assignment import Assignment, assign
from analysis.valuation.concentration import Estimate
from analysis.valuation.lifetime import WEEKS_PER_YEAR, mean_discount
from analysis.valuation.summary import DAYS_PER_WEEK

Floats = NDArray[np.float64]
DAYS_PER_YEAR = WEEKS_PER_YEAR * DAYS_PER_WEEK
_ROUNDS = 30
_WEIGHT = 2.0  # purchases


@dataclass(frozen=True)
class LevelOffer:
    """One level above basic.

    Attributes
    ----------
    level : ``reactive``, ``accountable``, ``proactive`` or ``partnership``.
    cost : money a customer and year, more than basic.
    places : customers for whom there is room; ``inf`` for all.
    retention : share of the leaving that it averts (0 to 1).
    growth : share of the growth value that it captures (0 to 1).
    margin : share by which it raises the expected margin (0 or more).
    hours_each : hours a customer and year, where room was given in hours; only for what one more hour is worth.
    """

    level: str
    cost: float
    places: float = np.inf
    retention: float = 0.0
    growth: float = 0.0
    margin: float = 0.0
    hours_each: float | None = None

    def scaled(self, factor: float) -> LevelOffer:
        """The same with all effects ``factor`` times as large."""
        effects = {name: factor * getattr(self, name) for name in EFFECTS}
        return LevelOffer(self.level, self.cost, self.places, hours_each=self.hours_each, **effects)


EFFECTS = ("retention", "growth", "margin")


def level_offers(offered: Mapping[str, Any], end: str = "value") -> list[LevelOffer]:
    """The levels that a study offers (``study.relationship.offered``), as numbers.

    Parameters
    ----------
    offered : level -> object with cost, retention, growth, margin (each with value, low, high; effects may be None), places and
        hours_each.
    end : ``value``, or ``low`` or ``high`` for the ends of the ranges: ``low`` is low effects at high costs.
    """
    other = {"value": "value", "low": "high", "high": "low"}[end]
    found = []
    for level, given in offered.items():
        effects = {name: 0.0 if (e := getattr(given, name)) is None else float(getattr(e, end)) for name in EFFECTS}
        places = np.inf if given.places is None else float(given.places)
        found.append(
            LevelOffer(level, float(getattr(given.cost, other)), places, hours_each=given.hours_each, **effects)
        )
    return found


def leaving_rate(probability_alive: ArrayLike, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Estimate:
    """The share of customers who leave in a year, from who has probably left so far.

    Expected leavers over the years that customers were there. A customer who is still one was there all along. When one who
    left did so is not seen; at rate r of buying and m of leaving, the time between the last purchase and leaving has density
    ∝ exp(−(r + m) t) up to the end of the silence, and its mean is counted. The rates follow from the years in turn (as in an
    EM algorithm): m is the base's, r a customer's own, drawn towards the base's by as much as two purchases weigh. A rate of m
    a year loses 1 − exp(−m). It is the average over the past; those who are left now are the more faithful ones.

    Parameters
    ----------
    probability_alive : array of shape (n,), 0 to 1, missing where unknown.
    frequency, recency, T : arrays of shape (n,), as in ``customer_summary``, days.

    Returns
    -------
    Estimate
        With the exact 95 % interval of a Poisson count (Garwood 1936) of as many leavers; a value of NaN and the reason where
        no probability is known.
    """
    alive, x, t_x, age = (np.asarray(a, dtype=float) for a in (probability_alive, frequency, recency, T))
    known = np.isfinite(alive)
    alive, x, t_x, age = alive[known], x[known], t_x[known], age[known]
    if not x.sum() or not age.sum():
        return Estimate(float("nan"), reason="no chance of still being a customer is known")
    silence = age - t_x
    there = t_x + alive * silence
    for _ in range(_ROUNDS):
        buying, leaves = x.sum() / there.sum(), (1 - alive).sum() / there.sum()
        rate = (x + _WEIGHT) / (there + _WEIGHT / buying) + leaves
        gone = np.minimum(rate * silence, 700.0)  # beyond, the exponential overflows and its share is nothing
        late = 1 / rate - silence / np.expm1(np.maximum(gone, 1e-6))
        there = t_x + alive * silence + (1 - alive) * np.where(gone > 1e-6, late, silence / 2)
    years = float(there.sum()) / DAYS_PER_YEAR
    left = float((1 - alive).sum())
    low, high = chi2.ppf(0.025, 2 * left) / 2 if left else 0.0, chi2.ppf(0.975, 2 * left + 2) / 2
    return Estimate(*(float(-np.expm1(-count / years)) for count in (left, low, high)))


def longer_stay(retention: float, leaving: float, horizon_weeks: float, discount: float = 0.0) -> float:
    """By what share a customer's expected value over a horizon rises when a share of the leaving is averted.

    Parameters
    ----------
    retention : share of the rate of leaving that is averted, 0 to 1.
    leaving : share of customers who leave in a year as things stand, 0 to under 1; NaN where unknown gives 0.
    horizon_weeks : weeks.
    discount : continuous rate a week.
    """
    if not np.isfinite(leaving) or retention == 0:
        return 0.0
    if not 0 <= leaving < 1:
        raise ValueError(
            f"relationship levels: the share that leaves in a year must lie between 0 and 1, not {leaving:g}"
        )
    rate = -np.log1p(-leaving) / WEEKS_PER_YEAR
    return float(
        mean_discount(rate * (1 - retention) + discount, horizon_weeks) / mean_discount(rate + discount, horizon_weeks)
        - 1.0
    )


def incremental_values(
    residual: ArrayLike,
    growth: ArrayLike,
    offers: Sequence[LevelOffer],
    *,
    horizon_weeks: float,
    leaving: float,
    discount: float = 0.0,
) -> tuple[Floats, Floats]:
    """What each level adds for each customer over the horizon, against the basic level.

    Parameters
    ----------
    residual, growth : arrays of shape (n,), expected margin and growth potential over the horizon, money.
    offers : k levels.
    horizon_weeks, leaving, discount : as in :func:`longer_stay`.

    Returns
    -------
    gain : array of shape (n, k), money, before costs.
    cost : array of shape (k,), money a customer over the horizon.
    """
    residual, growth = np.asarray(residual, dtype=float), np.asarray(growth, dtype=float)
    gain = np.empty((len(residual), len(offers)))
    for j, offer in enumerate(offers):
        stay = longer_stay(offer.retention, leaving, horizon_weeks, discount)
        gain[:, j] = residual * ((1 + stay) * (1 + offer.margin) - 1) + offer.growth * growth
    years = horizon_weeks / WEEKS_PER_YEAR * float(mean_discount(discount, horizon_weeks))
    return gain, years * np.array([offer.cost for offer in offers])


@dataclass(frozen=True)
class LevelPlan:
    """Who should get which level.

    Attributes
    ----------
    level : Series of shape (n,), the relationship level; null where the residual value is unknown.
    net : array of shape (n,), expected value that the level adds over the horizon less its cost; NaN where unknown.
    table : one row a level, basic first: level, customers, places (inf: for all), gain, cost, net (money over the horizon), low,
        high (net at the ends of the assumptions, the same customers), place_worth (one more place), hour_worth (one more hour a
        year, where room is in hours), break_even (by what factor all assumed effects may shrink before the level no longer pays
        for its customers; for a level without customers, before it pays for the ``best`` to whom it is worth most), retention,
        growth, margin (assumed), cost_each (a year).
    total, low, high : net of all levels, and at the ends of the assumptions, money over the horizon.
    leaving : share of customers who leave in a year; its value is NaN where neither stated nor known, and retention then counts
        for nothing.
    unknown : customers whose residual value is unknown.
    no_growth : customers whose growth value is unknown, counted as 0.
    horizon_weeks : of the values.
    """

    level: pd.Series
    net: Floats
    table: pd.DataFrame
    total: float
    low: float
    high: float
    leaving: Estimate
    unknown: int
    no_growth: int
    horizon_weeks: float


def plan_levels(
    residual: ArrayLike,
    growth: ArrayLike | None,
    offered: Mapping[str, Any],
    *,
    horizon_weeks: float,
    leaving: Estimate,
    discount: float = 0.0,
    best: int = 10,
) -> LevelPlan:
    """Give every customer the level with the highest expected incremental value less cost, within the places there are.

    Parameters
    ----------
    residual : array of shape (n,), ``residual_value``, money over the horizon; NaN where unknown.
    growth : array of shape (n,), ``growth_value``; NaN or None where unknown.
    offered : as in :func:`level_offers`.
    horizon_weeks : horizon of both.
    leaving : share of customers who leave in a year: the study's assumption, or :func:`leaving_rate`; its low and high end, where
        it has them, go with the low and high ends of the effects.
    discount : continuous rate a week.
    best : for how many customers a level without customers is judged.

    Raises
    ------
    ValueError
        No residual value is known.
    """
    residual = np.asarray(residual, dtype=float)
    growth = np.zeros(len(residual)) if growth is None else np.asarray(growth, dtype=float)
    known = np.isfinite(residual)
    if not known.any():
        raise ValueError("relationship levels: no expected value is known; give a margin in the study")
    worth, potential = residual[known], np.nan_to_num(growth[known])
    terms = {"horizon_weeks": horizon_weeks, "leaving": leaving.value, "discount": discount}
    offers = level_offers(offered)
    gain, cost = incremental_values(worth, potential, offers, **terms)
    net = np.column_stack([np.zeros(len(worth)), gain - cost])
    found = assign(net, [np.inf, *(offer.places for offer in offers)])
    rows = [_basic_row(found)]
    for j, offer in enumerate(offers):
        members = found.choice == j + 1
        rows.append(_row(offer, gain[:, j], cost[j], members, float(found.shadow_price[j + 1])))
        judged = members if members.any() else np.argsort(-gain[:, j], kind="stable")[:best]
        rows[-1]["break_even"] = break_even(worth[judged], potential[judged], offer, **terms)
        for end in ("low", "high"):
            at = [each for each in level_offers(offered, end) if each.level == offer.level]
            limit = getattr(leaving, end)
            at_end = terms | {"leaving": leaving.value if limit is None else limit}
            theirs, each = incremental_values(worth[members], potential[members], at, **at_end)
            rows[-1][end] = float((theirs - each).sum())
    table = pd.DataFrame(rows)
    names = np.array(["basic", *(offer.level for offer in offers)], dtype=object)
    level = pd.Series(None, index=range(len(residual)), dtype="str", name="recommended_relationship_level")
    level[known] = names[found.choice]
    added = np.full(len(residual), np.nan)
    added[known] = net[np.arange(len(worth)), found.choice]
    return LevelPlan(
        level, added, table, found.total, float(table["low"].sum()), float(table["high"].sum()), leaving,
        int((~known).sum()), int((known & ~np.isfinite(growth)).sum()), horizon_weeks,
    )  # fmt: skip


def break_even(
    residual: Floats,
    growth: Floats,
    offer: LevelOffer,
    *,
    horizon_weeks: float,
    leaving: float,
    discount: float = 0.0,
) -> float:
    """The factor on all assumed effects at which a level just pays for a group of customers.

    Parameters
    ----------
    residual, growth : arrays of shape (n,), of the group.
    offer, horizon_weeks, leaving, discount : as in :func:`incremental_values`.

    Returns
    -------
    The factor; under 1 the level pays with something to spare. NaN where no factor makes it pay: no more than all leaving
    can be averted, and a group without value has nothing to raise.
    """
    sums = np.array([residual.sum()]), np.array([growth.sum()])
    terms = {"horizon_weeks": horizon_weeks, "leaving": leaving, "discount": discount}

    def short(factor: float) -> float:
        gain, cost = incremental_values(*sums, [offer.scaled(factor)], **terms)
        return float(gain[0, 0] - len(residual) * cost[0])

    if short(0.0) >= 0:
        return 0.0
    most = 1 / max(offer.retention, offer.growth, 1e-3)
    return float(brentq(short, 0.0, most, xtol=1e-9)) if short(most) >= 0 else float("nan")


def _basic_row(found: Assignment) -> dict[str, Any]:
    zero = dict.fromkeys(("gain", "cost", "net", "low", "high", "place_worth", "cost_each", *EFFECTS), 0.0)
    unknown = {"hour_worth": np.nan, "break_even": np.nan}
    return {"level": "basic", "customers": int(found.used[0]), "places": np.inf, **zero, **unknown}


def _row(offer: LevelOffer, gain: Floats, cost: float, members: NDArray[np.bool_], price: float) -> dict[str, Any]:
    gained, paid = float(gain[members].sum()), float(cost * members.sum())
    return {
        "level": offer.level,
        "customers": int(members.sum()),
        "places": offer.places,
        "gain": gained,
        "cost": paid,
        "net": gained - paid,
        "place_worth": price,
        "hour_worth": np.nan if offer.hours_each is None else price / offer.hours_each,
        "cost_each": offer.cost,
        **{name: getattr(offer, name) for name in EFFECTS},
    }
