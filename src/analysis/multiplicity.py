"""Several questions asked of one body of data at once."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def adjust_p_values(p_values: ArrayLike, method: str = "holm") -> NDArray[np.float64]:
    """P values that allow for asking several questions at once.

    Parameters
    ----------
    p_values : shape (m,). method : ``holm`` (any false finding; Holm 1979) or ``bh`` (share of false findings;
    Benjamini & Hochberg 1995).
    """
    p = np.asarray(p_values, dtype=float)
    m = len(p)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(m)
    if method == "holm":
        adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * (m - np.arange(m))))
    elif method == "bh":
        adjusted[order] = np.minimum(1, np.minimum.accumulate((p[order] * m / np.arange(1, m + 1))[::-1])[::-1])
    else:
        raise ValueError(f"method must be holm or bh, not {method}")
    return adjusted
