"""What today's customers are worth if nobody stops the clock: expected margin over an endless future, discounted.

The sum is that of :mod:`analysis.valuation.lifetime` without its horizon: expected discounted purchases to the end of each
customer's life (DERT; Fader, P. S., Hardie, B. G. S. & Lee, K. L. (2005). RFM and CLV: using iso-value curves for customer
base analysis. Journal of Marketing Research 42(4), 415–430) times expected spend times margin. It needs a discount rate and
a model in which customers leave; no test reaches as far as it does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.valuation.bg_cnbd_k import BGCNBDkResults, draw_lives
from analysis.valuation.bg_nbd import BGNBDResults
from analysis.valuation.concentration import Estimate
from analysis.valuation.holdout import expected_spend
from analysis.valuation.intervals import Z95
from analysis.valuation.lifetime import CustomerValue, mean_discount, weekly_discount
from analysis.valuation.mbg_nbd import MBGNBDResults
from analysis.valuation.models import FittedModels
from analysis.valuation.purchases import Array, Cells, PurchaseResults
from analysis.valuation.summary import DAYS_PER_WEEK, in_weeks

_DRAWS = 60  # sets of parameters
_CUSTOMERS = 4_000  # that represent a larger base
_FUTURES = 20  # a customer, behind the part of chance
_LEFT = 1e-3  # what discounting leaves of a purchase where the simulation of chance stops
_LIVES = 100_000  # drawn over all customers, and no fewer than 20 each, where the sum has no closed form


def endless_value(
    value: CustomerValue,
    summary: pd.DataFrame,
    models: FittedModels,
    discount_rate: float | None,
    entry: str = "first_purchase",
    seed: int = 1,
) -> Estimate:
    """Expected margin of the base from the last observed day on, without end, discounted; sales where no margin is known.

    Parameters
    ----------
    value : CustomerValue
        Its forecast, its margin and its doubt are used.
    summary, models
        As :func:`analysis.valuation.customer_value` took them.
    discount_rate : float or None
        A year, above 0.
    entry : str
        The study's clock.
    seed : int

    Returns
    -------
    Estimate
        With a 95 % range: chance, parameters drawn from their sampling distribution, and the doubt that widens the range of
        the horizon's total. NaN, and a reason, where there is no discount rate, where the forecast is a plain rule or a
        model in which nobody leaves, or where customers are older than the data.
    """
    reason = _impossible(value, models, discount_rate, entry)
    if reason:
        return Estimate(float("nan"), reason=reason)
    base = summary.sort_values("customer_id", ignore_index=True)
    stride = -(-len(base) // _CUSTOMERS)
    part, delta = base.iloc[::stride], weekly_discount(discount_rate)
    results = models.purchases[value.forecast]
    total = _sum(results, models, base, delta, seed)
    at = _drawn(results, models, part, delta, seed) / _sum(results, models, part, delta, seed)
    doubt = value.sales_doubt or 0.0
    other = Z95 * float(np.hypot(_by_chance(results, models, part, delta, seed) / np.sqrt(stride), doubt))
    low, high = np.quantile(at, [0.025, 0.975])
    ends = (
        max(1.0 - float(np.hypot(max(1.0 - low, 0.0), other)), 0.0),
        1.0 + float(np.hypot(max(high - 1.0, 0.0), other)),
    )
    total *= 1.0 if value.margin is None else value.margin
    return Estimate(total, total * ends[0], total * ends[1])


def endless_facts(endless: Estimate, value: CustomerValue) -> dict[str, Any]:
    """The facts of the sentence on the endless future: what it is worth and how much of it no horizon has shown."""
    known = bool(np.isfinite(endless.value))
    tests = None if value.doubt is None else value.doubt.tests
    return {
        "endless": endless.value if known else None,
        "endless_low": endless.low if known else None,
        "endless_high": endless.high if known else None,
        "endless_reason": endless.reason or "",
        "horizon": value.horizon_weeks,
        "within": value.headline.value / endless.value if known and endless.value > 0 else None,
        "kind": "sales" if value.margin is None else "margin",
        "tested_weeks": None
        if tests is None
        else (tests["until"] - tests["origin"]).map(lambda d: d.days).max() / DAYS_PER_WEEK,
    }


def _impossible(value: CustomerValue, models: FittedModels, discount_rate: float | None, entry: str) -> str:
    if not value.known:
        return "nobody has come back yet, so there is nothing to expect a value from"
    if entry == "left_truncated":
        return "customers were there before the data begin, so how long they stay is not known"
    if discount_rate is None or discount_rate <= 0.0:
        return "the study states no discount rate, and without one a sum without end may have none"
    if value.forecast not in models.purchases:
        return "the forecast is a plain rule, which knows of nobody who leaves"
    if not models.purchases[value.forecast].model.can_leave:
        return f"in the {value.forecast} model, which fits best, nobody ever leaves"
    return ""


def _sum(results: PurchaseResults, models: FittedModels, base: pd.DataFrame, delta: float, seed: int) -> float:
    """Expected discounted sales of a base without end, money."""
    return float(endless_purchases(results, *in_weeks(base), delta, seed) @ expected_spend(models, base))


def _drawn(results: PurchaseResults, models: FittedModels, base: pd.DataFrame, delta: float, seed: int) -> Array:
    """:func:`_sum` at parameters drawn from their sampling distribution, shape (draws,)."""
    rng = np.random.default_rng(seed)
    purchases = results.draw_params(_DRAWS, rng)
    spends = [None] * _DRAWS if models.spend is None else models.spend.draw_params(_DRAWS, rng)
    weeks, fixed = in_weeks(base), expected_spend(models, base)

    def one(params: Array, spend: Array | None) -> float:
        each = fixed
        if spend is not None:
            each = models.spend.with_params(spend).expected_spend(base["frequency"], base["monetary_value"])
        return float(endless_purchases(results.with_params(params), *weeks, delta, seed) @ each)

    return np.array([one(*drawn) for drawn in zip(purchases, spends, strict=True)])


def _by_chance(results: PurchaseResults, models: FittedModels, base: pd.DataFrame, delta: float, seed: int) -> float:
    """Standard deviation of discounted sales, as a share, from what customers do by chance."""
    rng = np.random.default_rng(seed)
    x, t_x, age = in_weeks(base)
    bought, active = results.simulate_future(-np.log(_LEFT) / delta, x, t_x, age, rng, size=_FUTURES)
    if models.spend is None:
        money = bought * expected_spend(models, base)
    else:
        money = models.spend.simulate_spend(bought, x, base["monetary_value"].to_numpy(float), rng)
    money = money * mean_discount(delta, active)
    return float(np.sqrt(money.var(axis=0, ddof=1).sum()) / money.mean(axis=0).sum())


def endless_purchases(
    results: PurchaseResults, frequency: Array, recency: Array, T: Array, discount: float, seed: int = 1
) -> Array:
    """Expected purchases of each customer without end, each discounted by exp(−discount × time), shape (customers,).

    Parameters
    ----------
    results : PurchaseResults
        Of any model. For the (M)BG family, whose sum has no closed form, it is a mean over drawn rates λ and leaving
        probabilities p of the exact sum given these: φ^N / (1 − (1 − p) φ^k) with φ = λ/(λ + δ), k stages from one
        purchase to the next and N to the coming one (k = N = 1 in (M)BG/NBD).
    frequency, recency, T : arrays of shape (customers,)
        In the unit of time of the model.
    discount : float
        Continuous rate per unit of time, above 0.
    seed : int
        Of the draws.
    """
    if not isinstance(results, BGCNBDkResults | BGNBDResults | MBGNBDResults):
        return results.expected_purchases(np.inf, frequency, recency, T, discount=discount)
    rng = np.random.default_rng(seed)
    size, k = max(20, _LIVES // max(len(frequency), 1)), getattr(results, "k", 1)
    at_once = getattr(results.model, "at_once", isinstance(results, MBGNBDResults))
    cells = Cells.of(frequency, recency, T)
    rate, leave, passed = draw_lives(results.params.to_numpy(), k, at_once, cells, rng, size)
    share = rate / (rate + discount)
    each = share ** (k - passed) / (1.0 - (1.0 - leave) * share**k)
    return results.probability_alive(frequency, recency, T) * each.mean(axis=0)
