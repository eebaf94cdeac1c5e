"""Intervals of shares, and the half width of normal ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint

from analysis.valuation.purchases import Array

Z95 = 1.959964  # standard errors to either side of a normal estimate that hold 95 %


def share_interval(successes: ArrayLike, n: ArrayLike, alpha: float = 0.05) -> tuple[Array, Array]:
    """Wilson's interval of a share; NaN where n is 0.

    Parameters
    ----------
    successes, n : array-like of shape (m,)
    alpha : float
        1 − the level of the interval.

    Returns
    -------
    low, high : arrays of shape (m,)

    Notes
    -----
    Source: Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference. Journal of
    the American Statistical Association 22(158), 209–212.
    """
    k, total = np.asarray(successes, dtype=float), np.asarray(n, dtype=float)
    total = np.where(total > 0, total, np.nan)
    low, high = proportion_confint(k, total, alpha, method="wilson")
    # exactly 0 and 1 at the ends, which rounding misses by a last digit
    return np.where((k == 0) & (total > 0), 0.0, low), np.where(k == total, 1.0, high)
