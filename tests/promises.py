"""What a statement about chance is held to."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def assert_covers(ends: ArrayLike, truth: ArrayLike, level: float = 0.95, widest: float = 1.4) -> None:
    """Intervals hold the truth as often as they say, and are not wide for nothing.

    Parameters
    ----------
    ends : array-like of shape (replications, 2) or (replications, quantities, 2)
    truth : scalar, or array-like that fits ends without their last axis
    widest : how many times as wide as the middles scatter about the truth intervals may be
    """
    ends = np.asarray(ends, dtype=float)
    low, high = ends[..., 0], ends[..., 1]
    held = ((low <= truth) & (truth <= high)).mean(axis=0)
    assert (held > level - 4 * np.sqrt(level * (1 - level) / len(ends))).all(), held
    scatter = np.sqrt(np.square((low + high) / 2 - truth).mean(axis=0))
    width = np.median(high - low, axis=0) / (2 * stats.norm.ppf(0.5 + level / 2) * scatter)
    assert (width < widest).all(), width
