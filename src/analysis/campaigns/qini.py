"""What a ranking of customers is worth: Qini, area, uplift at a depth, curve and calibration, each with an interval.

Everything rests on Γ (``gamma``), a measure of each customer's effect from
:func:`analysis.campaigns.uplift.cross_fit_scores` or :func:`analysis.campaigns.uplift.effect_scores`, and on mid-ranks of the
score, so that neither the order of rows nor ties matter. Intervals take the score as given: it must come from models that did
not see the customers it ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]

NEIGHBOURHOOD = 0.1
"""Share of customers on either side of a cut whose effect stands for the effect at the cut."""


@dataclass(frozen=True)
class RankingResults:
    """One number about a ranking.

    Attributes
    ----------
    name : what it measures. estimate, se : in the outcome's unit a customer. n : rows.
    contributions : shape (customers,), each customer's part of the estimation error; ``se² = Σ contributions²``.
    """

    name: str
    estimate: float
    se: float
    n: int
    contributions: Array = field(repr=False)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Lower and upper limit."""
        reach = float(stats.norm.ppf(0.5 + confidence / 2)) * self.se
        return self.estimate - reach, self.estimate + reach

    @property
    def pvalue(self) -> float:
        """Two-sided p value of zero; 1 when neither the estimate nor its error differs from zero."""
        if self.se == 0:
            return 0.0 if self.estimate else 1.0
        return float(2 * stats.norm.sf(abs(self.estimate / self.se)))


def _checked(score: ArrayLike, gamma: ArrayLike) -> tuple[Array, Array]:
    s, g = np.asarray(score, dtype=float), np.asarray(gamma, dtype=float)
    if s.ndim != 1 or s.shape != g.shape:
        raise ValueError(f"score and gamma must be one-dimensional and equally long, got {s.shape} and {g.shape}")
    if len(s) < 2:
        raise ValueError("a ranking needs at least two customers")
    if not (np.isfinite(s).all() and np.isfinite(g).all()):
        raise ValueError("score or gamma hold missing or infinite values; drop those customers first")
    return s, g


def mid_ranks(score: ArrayLike) -> Array:
    """Share of customers with a higher score, plus half the share with the same: 0 the top, 1 the bottom, shape (n,)."""
    _, codes, counts = np.unique(np.asarray(score, dtype=float), return_inverse=True, return_counts=True)
    above = len(codes) - np.cumsum(counts)
    return ((above + counts / 2) / len(codes))[codes]


def ranks_within(score: ArrayLike, fold: ArrayLike) -> Array:
    """A score that ranks customers within their fold, the higher the better, shape (n,).

    Scores of different folds come from different models. Where a fold's effects are high by chance, the models that left
    it out predict low, so ranking across folds would make every learner look worse than it is.
    """
    s, fold = np.asarray(score, dtype=float), np.asarray(fold)
    found = np.empty(len(s))
    for k in np.unique(fold):
        found[fold == k] = 1 - mid_ranks(s[fold == k])
    return found


def _by_customer(psi: Array, groups: ArrayLike | None) -> Array:
    """Mean-zero influences, shape (n,) or (n, m), to contributions a customer, corrected for their number."""
    psi = psi / len(psi)
    if groups is not None:
        codes = pd.factorize(np.asarray(groups))[0]
        if codes.max() + 1 < len(codes):
            summed = np.zeros((codes.max() + 1, *psi.shape[1:]))
            np.add.at(summed, codes, psi)
            psi = summed
    return psi * np.sqrt(len(psi) / (len(psi) - 1)) if len(psi) > 1 else np.full(psi.shape, np.nan)


def _results(name: str, estimate: float, psi: Array, groups: ArrayLike | None) -> RankingResults:
    parts = _by_customer(psi, groups)
    return RankingResults(name, float(estimate), float(np.sqrt(parts @ parts)), len(psi), parts)


def _influence_of_ranks(s: Array, g: Array) -> tuple[Array, Array]:
    """Mid-ranks R, and for each customer the mean of Γ over those ranked below, ties half."""
    _, codes, counts = np.unique(s, return_inverse=True, return_counts=True)
    sums = np.bincount(codes, weights=g, minlength=len(counts))
    n = len(s)
    ranks = (n - np.cumsum(counts) + counts / 2) / n
    below = (np.cumsum(sums) - sums / 2) / n
    return ranks[codes], below[codes]


def qini_coefficient(score: ArrayLike, gamma: ArrayLike, groups: ArrayLike | None = None) -> RankingResults:
    """Qini coefficient: what reaching customers in the order of the score gains over reaching as many at random.

    It is the area between the curve of gains and its chord, mean(Γ · (½ − R)), in the outcome's unit a customer, averaged
    over all depths. A constant score has exactly 0.

    Parameters
    ----------
    score, gamma : shape (n,). groups : shape (n,), the customer of each row, for the standard error.

    Source: Radcliffe (2007), Direct Marketing Analytics Journal 1:14, in the covariance form of Yadlowsky et al. (2025),
    JASA 120:38; standard error from the influence function of a U-statistic of order two.
    """
    s, g = _checked(score, gamma)
    ranks, below = _influence_of_ranks(s, g)
    own = g * (0.5 - ranks)
    return _results("qini", own.mean(), own - own.mean() - (below - below.mean()), groups)


def auuc(score: ArrayLike, gamma: ArrayLike, groups: ArrayLike | None = None) -> RankingResults:
    """Area under the curve of gains, mean(Γ · (1 − R)): the Qini plus half the average effect."""
    s, g = _checked(score, gamma)
    ranks, below = _influence_of_ranks(s, g)
    own = g * (1 - ranks)
    return _results("auuc", own.mean(), own - own.mean() - (below - below.mean()), groups)


def _chosen(s: Array, share: float) -> Array:
    """How much of each customer is reached when the top ``share`` is: 1, 0, or a part for those tied at the cut."""
    _, codes, counts = np.unique(s, return_inverse=True, return_counts=True)
    above = len(s) - np.cumsum(counts)
    return np.clip((share * len(s) - above) / counts, 0, 1)[codes]


def _gain(s: Array, g: Array, ranks: Array, share: float) -> tuple[float, Array]:
    """Gain a customer of reaching the top ``share``, and its influences."""
    reached = _chosen(s, share)
    # The effect at the cut: whoever moves the cut exchanges customers there.
    near = np.abs(ranks - share) <= max(NEIGHBOURHOOD, np.abs(ranks - share).min())
    at_cut = g[near].mean()
    gain = (g * reached).mean()
    return float(gain), g * reached - gain - at_cut * (reached - share)


def uplift_at(
    score: ArrayLike, gamma: ArrayLike, share: float = 0.3, groups: ArrayLike | None = None
) -> RankingResults:
    """Average effect on the top ``share`` of customers by the score; those tied at the cut are reached in part."""
    s, g = _checked(score, gamma)
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    gain, psi = _gain(s, g, mid_ranks(s), share)
    return _results("uplift_at", gain / share, psi / share, groups)


def qini_curve(
    score: ArrayLike,
    gamma: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    points: int = 21,
) -> pd.DataFrame:
    """Gain against depth, with a pointwise band.

    Returns
    -------
    One row a depth: share (of customers reached), gain, low, high (the outcome's unit, a customer of the whole list),
    random (the same number reached at random).
    """
    s, g = _checked(score, gamma)
    ranks, reach, rows = mid_ranks(s), float(stats.norm.ppf(0.5 + confidence / 2)), []
    for share in np.linspace(0, 1, points):
        gain, psi = _gain(s, g, ranks, share) if share else (0.0, np.zeros(len(s)))
        found = _results("gain", gain, psi, groups)
        rows.append((share, gain, gain - reach * found.se, gain + reach * found.se, share * g.mean()))
    return pd.DataFrame(rows, columns=["share", "gain", "low", "high", "random"])


def compare_rankings(
    first: ArrayLike, second: ArrayLike, gamma: ArrayLike, groups: ArrayLike | None = None
) -> RankingResults:
    """Qini of the first score less that of the second on the same customers, with a paired standard error."""
    a, b = (qini_coefficient(score, gamma, groups) for score in (first, second))
    parts = a.contributions - b.contributions
    return RankingResults("qini_difference", a.estimate - b.estimate, float(np.sqrt(parts @ parts)), a.n, parts)


def effect_calibration(
    predicted: ArrayLike,
    gamma: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    bins: int = 10,
    order: ArrayLike | None = None,
) -> pd.DataFrame:
    """Predicted against observed effect in equal groups of customers, from the lowest predictions to the highest.

    Parameters
    ----------
    predicted, gamma : shape (n,), the outcome's unit. bins : groups; ties stay together, so there may be fewer.
    order : shape (n,), what sorts customers into groups, ``predicted`` by default (see :func:`ranks_within`).

    Returns
    -------
    One row a group: bin (1 the lowest), customers, predicted, observed, low, high.
    """
    p, g = _checked(predicted, gamma)
    place = 1 - mid_ranks(p if order is None else order)
    codes = np.unique(np.minimum((place * bins).astype(int), bins - 1), return_inverse=True)[1]
    counts = np.bincount(codes)
    observed, mean = (np.bincount(codes, weights=v) / counts for v in (g, p))
    member = codes[:, None] == np.arange(len(counts))
    parts = _by_customer(member * (g[:, None] - observed) * (len(g) / counts), groups)
    reach = float(stats.norm.ppf(0.5 + confidence / 2)) * np.sqrt((parts**2).sum(axis=0))
    return pd.DataFrame({
        "bin": np.arange(1, len(counts) + 1),
        "customers": counts,
        "predicted": mean,
        "observed": observed,
        "low": observed - reach,
        "high": observed + reach,
    })  # fmt: skip
