"""What replays of the early warning teach: who came back after which silence, and what they went on buying.

The mixture of :mod:`analysis.valuation.early_warning` says how likely a customer is still there if customers who are there keep a
steady rhythm. Many do not: they buy in bursts and in seasons, so that those who are there are silent for long more often than
the mixture allows. Replays show how many came back, so they bound the mixture from below:

    P(still there | p) = max(mixture(p), R(p) / R)

R(p) is the share of those with the probability p who bought within the `weeks` after an earlier day, non-decreasing in p
(isotonic regression), and R the same share of those whose silence was shorter than the median of their own gaps, who were there.
The division allows for customers who are there and do not buy within the weeks; it takes all who are there to buy in them as
often as the undisturbed do. So returns that take longer than the weeks are not counted, and the replayed part stays a lower
bound of being there; what may be said with it, and is tested, is that at most the stated share buys within the weeks.

Those who come back often buy less than before. What they went on buying, as a share of what their own rhythm promised, is
learnt in the same way, so that money is not taken for safe because somebody was seen once.

Sources: Barlow, R. E., Bartholomew, D. J., Bremner, J. M. & Brunk, H. D. (1972). Statistical Inference under Order
Restrictions. Wiley (isotonic regression). Zadrozny, B. & Elkan, C. (2002). Transforming classifier scores into accurate multiclass
probability estimates. KDD, 694–699 (isotonic calibration).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize

from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import share_interval
from analysis.valuation.purchases import Array

_LEAST = 30  # observations behind every step: fewer would let a handful set it
_UNDISTURBED = 0.5  # p from which a silence is shorter than the median of the customer's own gaps
_FOLDS = 5


@dataclass(frozen=True)
class Steps:
    """A non-decreasing step function of p.

    Attributes
    ----------
    edges : array of shape (steps − 1,)
        The p from which the second and every later step holds, increasing.
    shares : array of shape (steps,)
        Their heights, increasing.
    """

    edges: Array
    shares: Array

    def __call__(self, p: ArrayLike) -> Array:
        """The height at p, shape of `p`."""
        return self.shares[np.searchsorted(self.edges, np.asarray(p, dtype=float), side="right")]

    def reached(self, share: float) -> float:
        """The smallest p at which the height is at least `share`; 0 where it always is, 1 where it never is."""
        at = int(np.searchsorted(self.shares, share, side="left"))
        return 0.0 if at == 0 else float(self.edges[at - 1]) if at < len(self.shares) else 1.0

    def relative_to(self, whole: float) -> Steps:
        """The same as a share of `whole`, at most 1."""
        heights = np.minimum(self.shares / whole, 1.0)
        rises = np.r_[True, np.diff(heights) > 0]
        return Steps(self.edges[rises[1:]], heights[rises])


@dataclass(frozen=True)
class Recalibration:
    """What replays say of a customer with a given p.

    Attributes
    ----------
    there : Steps
        R(p) / R, the least probability of still being there.
    kept : Steps
        Share of their own rhythm that such customers went on buying, relative to the undisturbed.
    undisturbed : float
        R, the share of the undisturbed who bought within the weeks.
    """

    there: Steps
    kept: Steps
    undisturbed: float


@dataclass(frozen=True)
class Replay:
    """The early warning as it would have been on earlier days, and what came after.

    Attributes
    ----------
    frame : DataFrame
        One row a watched customer and day, for no export: `customer_id`, `cut` (the day), `p`, `stage`, `late` as habit alone
        had it (never in rhythm), `said` (P(still there) by the mixture), `returned` (bought within the weeks),
        `returned_since` (bought by the end of the data), `bought` and `expected` (occasions within the weeks, and in rhythm),
        `says` (P(still there) recalibrated by other customers' replays alone), `says_late` (it is below the threshold).
    cuts : list of date
        The latest first.
    weeks : int
        Time to come back in.
    learned : Recalibration or None
        None where nobody came back, which contradicts nothing.
    """

    frame: pd.DataFrame
    cuts: list[datetime.date]
    weeks: int
    learned: Recalibration | None = field(repr=False)


def fit_steps(p: ArrayLike, count: ArrayLike, of: ArrayLike, least: int = _LEAST) -> Steps:
    """Isotonic regression of `count` / `of` on p, each step on at least `least` observations.

    Parameters
    ----------
    p, count, of : array-like of shape (observations,)
        `of` is above 0. Observations are put into groups of at least `least` neighbours first, so that no single one sets the
        lowest step; equal p stay together.
    """
    value, count, of = (np.asarray(v, dtype=float) for v in (p, count, of))
    order = np.argsort(value, kind="stable")
    value, count, of = value[order], count[order], of[order]
    starts = _starts(value, least)
    weight = np.add.reduceat(of, starts)
    heights = optimize.isotonic_regression(np.add.reduceat(count, starts) / weight, weights=weight).x
    rises = np.r_[True, np.diff(heights) > 1e-12]
    return Steps(value[starts[rises]][1:], heights[rises])


def _starts(value: Array, least: int) -> Array:
    """Where groups of at least `least` neighbours begin among sorted values, equal ones in one group."""
    candidates = np.unique(np.searchsorted(value, value[least::least], side="left"))
    starts = [0]
    for at in candidates:
        if at - starts[-1] >= least and len(value) - at >= least:
            starts.append(int(at))
    return np.array(starts)


def recalibrate(frame: pd.DataFrame) -> Recalibration | None:
    """Learn from the replays in :attr:`Replay.frame`; None where none of the undisturbed bought."""
    calm = frame[frame["p"] >= _UNDISTURBED]
    if not len(calm) or not calm["returned"].any():
        return None
    undisturbed, rhythm = float(calm["returned"].mean()), float(calm["bought"].sum() / calm["expected"].sum())
    there = fit_steps(frame["p"], frame["returned"], np.ones(len(frame))).relative_to(undisturbed)
    kept = fit_steps(frame["p"], frame["bought"], frame["expected"]).relative_to(rhythm)
    return Recalibration(there, kept, undisturbed)


def cross_recalibrated(frame: pd.DataFrame) -> Array:
    """P(still there) of every row, recalibrated by the other customers' rows alone, shape (rows,).

    A fifth of the customers at a time is left out with all their rows, so that nobody's return raises what is said of them.
    """
    fold = frame.groupby("customer_id", sort=True).ngroup().to_numpy() % _FOLDS
    says = frame["said"].to_numpy(float).copy()
    for left_out in range(_FOLDS):
        rows, others = fold == left_out, frame[fold != left_out]
        learned = recalibrate(others) if len(others) else None
        if learned is not None:
            says[rows] = np.maximum(says[rows], learned.there(frame["p"].to_numpy()[rows]))
    return says


def clustered_share(happened: ArrayLike, customers: ArrayLike) -> Estimate:
    """The share of rows in which something happened, with a 95 % interval where customers have several rows.

    Wilson's interval at the number of independent rows that has the variance of the share between customers (linearised ratio,
    Kish & Frankel 1974), which is at most the number of rows; where all or none happened, that of different customers.

    Source: Kish, L. & Frankel, M. R. (1974). Inference from complex samples. Journal of the Royal Statistical Society B
    36, 1–37.
    """
    rows = pd.DataFrame({"happened": np.asarray(happened, dtype=float), "customer": np.asarray(customers)})
    if rows.empty:
        return Estimate(float("nan"), reason="there is nobody to count")
    each = rows.groupby("customer")["happened"].agg(["sum", "size"])
    share, count, different = float(rows["happened"].mean()), len(rows), len(each)
    independent = float(different)
    if 0.0 < share < 1.0 and different > 1:
        residual = each["sum"] - share * each["size"]
        variance = different / (different - 1) * float((residual**2).sum()) / count**2
        independent = min(share * (1.0 - share) / variance, count) if variance > 0 else float(different)
    low, high = share_interval(share * independent, independent)
    return Estimate(share, float(low), float(high))
