"""How much of the sales a few customers bring: Lorenz curve, top share, Gini, replacement count.

Intervals are closed-form: the customers are taken as a sample of such customers, and the delta method with
influence functions gives the standard error, on the logit scale so that shares stay between 0 and 1. They
say how the share would vary between bases of this size, and widen where a handful of customers carries it.
Sources: Beach, C. M. & Davidson, R. (1983). Distribution-free statistical inference with Lorenz curves and
income shares. Review of Economic Studies 50(4), 723–735; Davidson, R. (2009). Reliable inference for the Gini
index. Journal of Econometrics 150(1), 30–40.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from analysis.errors import RapportError
from analysis.valuation.purchases import Array


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; `reason` says why where there is none."""

    value: float
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @property
    def interval(self) -> tuple[float, float | None, float | None]:
        """`(value, low, high)`."""
        return self.value, self.low, self.high


@dataclass(frozen=True)
class Concentration:
    """Concentration of a non-negative amount over customers.

    Attributes
    ----------
    customers : int
    top : float
        The share of customers that is called the best, for example 0.20.
    top_share : Estimate
        Share of the amount that they bring.
    gini : Estimate
        0 when all bring the same, near 1 when one brings all.
    replacement : Estimate
        How many ordinary customers (the rest) bring together what one of the best brings on average; not
        rounded.
    half_from : float
        The smallest share of customers that brings half of the amount.
    zeroed : int
        Customers whose amount was negative and was counted as zero.
    curve : DataFrame
        The Lorenz curve at 101 points: `customers_share` (poorest first), `amount_share`.
    """

    customers: int
    top: float
    top_share: Estimate
    gini: Estimate
    replacement: Estimate
    half_from: float
    zeroed: int
    curve: pd.DataFrame


@dataclass(frozen=True)
class Shift:
    """Concentration of what the same customers have brought and are expected to bring.

    Attributes
    ----------
    past, expected : Concentration
    difference : Estimate
        Top share of the expected less that of the past, its interval from the same customers in both.
    stay : float
        Share of the past's best who are among the expected best too.
    """

    past: Concentration
    expected: Concentration
    difference: Estimate
    stay: float


def lorenz(amount: ArrayLike, shares: ArrayLike) -> Array:
    """Share of the amount that the lowest `shares` of the customers bring, linear between customers.

    Parameters
    ----------
    amount : array-like of shape (customers,), not negative, with a positive sum
    shares : array-like of shape (m,), between 0 and 1

    Returns
    -------
    array of shape (m,)
    """
    value = np.sort(np.asarray(amount, dtype=float))
    cumulative = np.concatenate([[0.0], np.cumsum(value)])
    return np.interp(shares, np.linspace(0.0, 1.0, len(cumulative)), cumulative / cumulative[-1])


def gini(amount: ArrayLike) -> float:
    """Gini coefficient: half the mean absolute difference, relative to the mean."""
    value = np.sort(np.asarray(amount, dtype=float))
    n = len(value)
    rank = np.arange(1, n + 1)
    return float((2.0 * rank - n - 1.0) @ value / (n * value.sum()))


def concentration(amount: ArrayLike, top: float = 0.20, alpha: float = 0.05) -> Concentration:
    """Measure how concentrated an amount is over customers.

    Parameters
    ----------
    amount : array-like of shape (customers,)
        Money; negative totals (more returned than bought) count as zero and are counted.
    top : float
        The share of customers called the best.
    alpha : float
        1 − the level of the intervals.

    Raises
    ------
    RapportError
        Fewer than two customers, or no positive amount.
    ValueError
        An amount missing, or `top` outside (0, 1).
    """
    given = np.asarray(amount, dtype=float)
    if not np.isfinite(given).all():
        raise ValueError("concentration: every customer needs an amount")
    if len(given) < 2:
        raise RapportError("valuation: a single customer cannot be compared with others; at least two must have bought")
    if not 0.0 < top < 1.0:
        raise ValueError(f"concentration: top must lie between 0 and 1, not {top:g}")
    value = np.sort(np.maximum(given, 0.0))
    if value[-1] <= 0.0:
        raise RapportError(
            "valuation: every customer took back as much as they bought, so nothing is left to value; check the returns"
        )
    z = float(stats.norm.ppf(1 - alpha / 2))
    share = 1.0 - float(lorenz(value, 1.0 - top))
    top_share = _on_logit(share, _top_share_error(value, top), z)
    coefficient = gini(value)
    points = np.linspace(0.0, 1.0, 101)
    curve = lorenz(value, points)
    heads = np.linspace(0.0, 1.0, len(value) + 1)
    descending = np.concatenate([[0.0], np.cumsum(value[::-1])]) / value.sum()
    return Concentration(
        customers=len(value),
        top=top,
        top_share=top_share,
        gini=_on_logit(coefficient, _gini_error(value, coefficient), z),
        replacement=_replacement(top_share, top),
        half_from=float(np.interp(0.5, descending, heads)),
        zeroed=int((given < 0).sum()),
        curve=pd.DataFrame({"customers_share": points, "amount_share": curve}),
    )


def concentration_shift(past: ArrayLike, expected: ArrayLike, top: float = 0.20, alpha: float = 0.05) -> Shift:
    """Compare the concentration of two amounts over the same customers, each with its own best.

    Parameters
    ----------
    past, expected : arrays of shape (customers,)
        Money, in one order of customers. Negative amounts count as zero.
    top, alpha
        As for :func:`concentration`, whose errors it raises too.

    Notes
    -----
    An expectation evens out luck, which the past holds: what will come is more concentrated than what is expected.
    """
    before, after = (np.maximum(np.asarray(amount, dtype=float), 0.0) for amount in (past, expected))
    first, then = concentration(past, top, alpha), concentration(expected, top, alpha)
    difference = then.top_share.value - first.top_share.value
    influence = _top_share_influence(after, top) - _top_share_influence(before, top)
    half = float(stats.norm.ppf(1 - alpha / 2) * influence.std() / np.sqrt(len(influence)))
    best = max(1, round(top * len(before)))
    top_past, top_expected = (set(np.argsort(-amount, kind="stable")[:best].tolist()) for amount in (before, after))
    return Shift(
        past=first,
        expected=then,
        difference=Estimate(difference, difference - half, difference + half),
        stay=len(top_past & top_expected) / best,
    )


def _replacement(top_share: Estimate, top: float) -> Estimate:
    """The count is a rising function of the top share, so its interval is the share's, carried over."""

    def ratio(share: float | None) -> float | None:
        return None if share is None else (share / top) / ((1.0 - share) / (1.0 - top)) if share < 1.0 else math.inf

    if top_share.value >= 1.0:
        return Estimate(math.nan, reason="the ordinary customers brought nothing")
    return Estimate(ratio(top_share.value), ratio(top_share.low), ratio(top_share.high), top_share.reason)


def _top_share_error(value: Array, top: float) -> float:
    return float(_top_share_influence(value, top).std() / np.sqrt(len(value)))


def _top_share_influence(value: Array, top: float) -> Array:
    """What each customer adds to the error of the top share, in the order given."""
    below = 1.0 - top
    cut = np.sort(value)[min(int(np.ceil(below * len(value))) - 1, len(value) - 1)]
    ordinate = float(lorenz(value, below))
    return -(np.minimum(value - cut, 0.0) + below * cut - ordinate * value) / value.mean()


def _gini_error(value: Array, coefficient: float) -> float:
    n, mean = len(value), value.mean()
    cumulative = np.cumsum(value)
    rank = np.arange(1, n + 1)
    mean_distance = (2.0 * rank - n) * value / n + (cumulative[-1] - 2.0 * cumulative) / n
    influence = mean_distance / mean - coefficient * value / mean
    return float(influence.std() / np.sqrt(n))


def _on_logit(share: float, error: float, z: float) -> Estimate:
    if not 0.0 < share < 1.0 or error == 0.0:
        return Estimate(share, reason="customers do not differ enough to show how it varies")
    centre, half = np.log(share / (1.0 - share)), z * error / (share * (1.0 - share))
    low, high = (1.0 / (1.0 + np.exp(-end)) for end in (centre - half, centre + half))
    return Estimate(share, float(low), float(high))
