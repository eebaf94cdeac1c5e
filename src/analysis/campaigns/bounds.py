"""How far hidden differences may go before a finding falls: matched pairs, and trends that part after the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from analysis.campaigns.effects import EstimationError

LARGEST = 100.0
"""Γ and M are searched up to here; beyond it nothing that marketing could hide matters any more."""


def matched_pairs(treated: ArrayLike, scores: ArrayLike, caliper: float = 0.2) -> NDArray[np.int64]:
    """Pair each treated customer with the nearest free one in the comparison, in order of the logit of the score.

    Parameters
    ----------
    treated : shape (n,), 0 or 1. scores : shape (n,), propensities strictly between 0 and 1.
    caliper : largest distance in a pair, in standard deviations of the logit.

    Returns
    -------
    shape (pairs, 2), positions of the treated and of its partner. Treated without a partner are left out.

    Source: Austin (2011), Pharmaceutical Statistics 10:150, for the caliper.
    """
    d, e = np.asarray(treated).astype(bool), np.asarray(scores, dtype=float)
    if d.shape != e.shape or not ((e > 0) & (e < 1)).all():
        raise ValueError("scores must be as long as treated and lie strictly between 0 and 1")
    logit = np.log(e / (1 - e))
    reach = caliper * float(logit.std())
    free = np.flatnonzero(~d)[np.argsort(logit[~d], kind="stable")]
    places = logit[free]
    # The hardest to match go first; each takes the nearest that is left, found by skipping runs of taken ones.
    left, right = np.arange(len(free) + 2), np.arange(len(free) + 2)
    pairs = []
    for who in np.flatnonzero(d)[np.argsort(-logit[d], kind="stable")]:
        at = int(np.searchsorted(places, logit[who])) + 1
        below, above = _free(left, at - 1), _free(right, at)
        gaps = [(abs(places[k - 1] - logit[who]), k) for k in (below, above) if 1 <= k <= len(free)]
        gap, chosen = min(gaps, default=(np.inf, 0))
        if gap <= reach:
            pairs.append((who, free[chosen - 1]))
            left[chosen], right[chosen] = chosen - 1, chosen + 1
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _free(step: NDArray[np.int64], at: int) -> int:
    """Where a chain of taken places ends; the chain is shortened on the way (union–find)."""
    end = at
    while step[end] != end:
        end = int(step[end])
    while step[at] != end and step[at] != at:
        step[at], at = end, int(step[at])
    return end


def signed_rank_bounds(differences: ArrayLike, gamma: float) -> tuple[float, float]:
    """Smallest and largest one-sided p value of Wilcoxon's signed rank test when hidden differences within a pair may
    make one partner up to ``gamma`` times as likely to be treated (in odds).

    Parameters
    ----------
    differences : shape (pairs,), treated less partner; pairs without a difference are ranked first and then fall away.
    gamma : at least 1; 1 is no hidden difference.

    Returns
    -------
    Both p values test that the treated have no more than their partners (normal approximation).

    Source: Rosenbaum (2002), Observational Studies, second edition, section 4.3.3; zeros as Pratt (1959), JASA 54:655.
    """
    _check_gamma(gamma)
    y = np.asarray(differences, dtype=float)
    if not np.isfinite(y).all():
        raise ValueError("differences hold missing values; drop those pairs first")
    if not y.any():
        return 1.0, 1.0
    ranks = stats.rankdata(np.abs(y)) * (y != 0)
    return _p_bounds(float(ranks[y > 0].sum()), ranks, gamma)


def mcnemar_bounds(only_treated: int, only_partner: int, gamma: float) -> tuple[float, float]:
    """Smallest and largest one-sided p value of McNemar's test with hidden differences up to ``gamma``, exact.

    Parameters
    ----------
    only_treated, only_partner : pairs in which only the treated, or only the partner, did it. gamma : at least 1.

    Source: Rosenbaum (2002), Observational Studies, second edition, section 4.3.2.
    """
    _check_gamma(gamma)
    pairs = only_treated + only_partner
    if min(only_treated, only_partner) < 0:
        raise ValueError("counts of pairs cannot be negative")
    low, high = (float(stats.binom.sf(only_treated - 1, pairs, p)) for p in (1 / (1 + gamma), gamma / (1 + gamma)))
    return low, high


def _check_gamma(gamma: float) -> None:
    if not gamma >= 1:
        raise ValueError(f"gamma must be at least 1, got {gamma}")


def _p_bounds(statistic: float, ranks: NDArray[np.float64], gamma: float) -> tuple[float, float]:
    found = []
    for share in (1 / (1 + gamma), gamma / (1 + gamma)):
        spread = np.sqrt(share * (1 - share) * float(ranks @ ranks))
        found.append(float(stats.norm.sf((statistic - share * ranks.sum()) / spread)))
    return found[0], found[1]


@dataclass(frozen=True)
class RosenbaumBounds:
    """How large a hidden difference takes a finding's significance away.

    Attributes
    ----------
    test : ``signed_rank`` or ``mcnemar``. pairs : matched pairs, and informative those that differ. direction : 1 where
    the treated have more, −1 where they have less. p_value : one-sided in that direction, without hidden differences.
    gamma : odds of treatment within a pair at which the p value reaches ``alpha``; 1 when it does so already.
    """

    test: str
    pairs: int
    informative: int
    direction: int
    p_value: float
    gamma: float
    alpha: float


def rosenbaum_bounds(treated: ArrayLike, partner: ArrayLike, alpha: float = 0.025) -> RosenbaumBounds:
    """The hidden difference that would explain away what matched pairs show.

    Parameters
    ----------
    treated, partner : shape (pairs,), the outcome of both in each pair; McNemar's test where all are 0 or 1, else
    Wilcoxon's signed rank test. alpha : one-sided level.
    """
    y1, y0 = np.asarray(treated, dtype=float), np.asarray(partner, dtype=float)
    if y1.shape != y0.shape or y1.ndim != 1:
        raise ValueError("treated and partner must be one-dimensional and equally long")
    if len(y1) == 0:
        raise EstimationError("no_pairs", "no treated customer has a comparable partner")
    change = y1 - y0
    informative = int((change != 0).sum())
    if np.isin(y1, (0, 1)).all() and np.isin(y0, (0, 1)).all():
        more, less = int((change > 0).sum()), int((change < 0).sum())
        direction = 1 if more >= less else -1
        ends = (max(more, less), min(more, less))
        return _bounds("mcnemar", lambda g: mcnemar_bounds(*ends, g)[1], len(y1), informative, direction, alpha)
    direction = 1 if np.sign(change) @ stats.rankdata(np.abs(change)) >= 0 else -1
    moved = direction * change
    return _bounds("signed_rank", lambda g: signed_rank_bounds(moved, g)[1], len(y1), informative, direction, alpha)


def _bounds(
    test: str, worst: Callable[[float], float], pairs: int, informative: int, direction: int, alpha: float
) -> RosenbaumBounds:
    p_value = worst(1.0)
    gamma = 1.0 if p_value > alpha else LARGEST
    if p_value <= alpha and worst(LARGEST) > alpha:
        gamma = float(optimize.brentq(lambda g: worst(g) - alpha, 1.0, LARGEST))
    return RosenbaumBounds(test, pairs, informative, direction, p_value, gamma, alpha)


@dataclass(frozen=True)
class TrendBounds:
    """An event study's effect when the trends may have parted after the start.

    Attributes
    ----------
    table : one row a multiple M: multiple, low, high (changes as shares), of the mean effect over the periods asked for.
    breakdown : largest M at which the interval leaves out zero; 0 when it holds zero already with parallel trends.
    largest_break : the largest change of trend that was seen from one period before the start to the next (log).
    """

    table: pd.DataFrame
    breakdown: float
    largest_break: float


def relative_magnitudes(
    log_ratio: ArrayLike,
    covariance: ArrayLike,
    periods: ArrayLike,
    during: int,
    multiples: ArrayLike = (0.0, 0.5, 1.0, 2.0),
    confidence: float = 0.95,
) -> TrendBounds:
    """What is left of the effect if, from each period after the start to the next, the groups may part by ``M`` times
    as much as they ever did from one period to the next before it.

    Parameters
    ----------
    log_ratio : shape (k,), effect by period. covariance : shape (k, k). periods : shape (k,), 0 at the start; at least
    two before it. during : the effect is the mean over periods 0 … ``during`` − 1, seen from the last one before.

    Returns
    -------
    Intervals that cover at least at the level: the union, over every step before the start that may be the largest, of
    intervals whose limits move with that step (wider than the reference's own).

    Source: Rambachan & Roth (2023), Review of Economic Studies 90:2555, bounds on relative magnitudes.
    """
    effect, spread = np.asarray(log_ratio, dtype=float), np.asarray(covariance, dtype=float)
    period = np.asarray(periods)
    before = np.flatnonzero(period < 0)
    inside = (period >= 0) & (period < during)
    if len(before) < 2 or not inside.any():
        raise EstimationError("no_history", "bounds on the trend need two periods before the start and one after it")
    steps = np.diff(np.eye(len(period))[before], axis=0)
    target = inside / inside.sum() - np.eye(len(period))[before[-1]]
    # A step may recur in each period, so that by the k-th the groups are k steps apart.
    drift = float((period[inside] + 1).mean())
    z = float(stats.norm.ppf(0.5 + confidence / 2))

    def interval(multiple: float) -> tuple[float, float]:
        bent = np.vstack([target + sign * multiple * drift * steps for sign in (1, -1)])
        middle, error = bent @ effect, np.sqrt(np.einsum("ij,jk,ik->i", bent, spread, bent))
        return float((middle - z * error).min()), float((middle + z * error).max())

    rows = [(float(m), *np.expm1(interval(float(m)))) for m in np.asarray(multiples, dtype=float)]

    def clear(multiple: float) -> float:
        low, high = interval(multiple)
        return max(low, -high)

    breakdown = 0.0
    if clear(0.0) > 0:
        breakdown = LARGEST if clear(LARGEST) > 0 else float(optimize.brentq(clear, 0.0, LARGEST))
    table = pd.DataFrame(rows, columns=["multiple", "low", "high"])
    return TrendBounds(table, breakdown, float(np.abs(steps @ effect).max()))
