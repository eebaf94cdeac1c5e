"""Reliability and validity coefficients as functions of correlations, loadings and weights, batched.

Arrays carry a leading axis of B resamples; p items stand in construct order and J constructs own them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .kernel import Layout
from .moments import Array

COEFFICIENTS = ("alpha", "rho_a", "rho_c", "ave")


def cronbach_alpha(correlations: Array) -> Array:
    """Standardised coefficient alpha of one block, (B, k, k) -> (B,); 1 for a single item.

    Source: Cronbach (1951), Psychometrika 16, on standardised items.
    """
    k = correlations.shape[-1]
    if k == 1:
        return np.ones(len(correlations))
    total = correlations.sum(axis=(1, 2))
    return k / (k - 1) * (1 - k / total)


def dijkstra_rho(correlations: Array, weights: Array) -> Array:
    """Reliability rho_A of a mode A composite, (B, k, k) and (B, k) -> (B,); 1 for a single item.

    Source: Dijkstra & Henseler (2015), MIS Quarterly 39, equation 3.
    """
    k = correlations.shape[-1]
    if k == 1:
        return np.ones(len(correlations))
    off = ~np.eye(k, dtype=bool)
    outer = weights[:, :, None] * weights[:, None, :]
    shared = (outer * correlations * off).sum(axis=(1, 2))
    possible = (outer**2 * off).sum(axis=(1, 2))
    length = (weights**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(possible > 1e-12, length**2 * shared / possible, np.nan)


def composite_reliability(loadings: Array) -> Array:
    """Composite reliability rho_C of one block, (B, k) -> (B,).

    Source: Werts, Linn & Jöreskog (1974), Educ. Psychol. Meas. 34, p. 27 (also Dillon-Goldstein's rho).
    """
    common = loadings.sum(axis=1) ** 2
    return common / (common + (1 - loadings**2).sum(axis=1))


def average_variance_extracted(loadings: Array) -> Array:
    """Mean squared loading of one block, (B, k) -> (B,). Source: Fornell & Larcker (1981), J. Mark. Res. 18."""
    return (loadings**2).mean(axis=1)


def reliability(correlations: Array, loadings: Array, weights: Array, layout: Layout) -> Array:
    """The four `COEFFICIENTS` of every construct: (B, J, 4)."""
    result = np.empty((len(correlations), layout.width, len(COEFFICIENTS)))
    for j in range(layout.width):
        block = layout.block(j)
        result[:, j, 0] = cronbach_alpha(correlations[:, block, block])
        result[:, j, 1] = dijkstra_rho(correlations[:, block, block], weights[:, block])
        result[:, j, 2] = composite_reliability(loadings[:, block])
        result[:, j, 3] = average_variance_extracted(loadings[:, block])
    result[np.isnan(loadings).any(axis=1)] = np.nan
    return result


def heterotrait_monotrait(correlations: Array, layout: Layout) -> Array:
    """HTMT ratio of every pair of constructs: (B, J, J), symmetric, NaN on the diagonal.

    Mean absolute correlation between the items of two constructs, over the geometric mean of the mean
    absolute correlations within them (1 for a single item).
    Source: Henseler, Ringle & Sarstedt (2015), J. Acad. Mark. Sci. 43, equation 6, in absolute values.
    """
    size = np.diff(layout.starts)
    absolute = np.abs(correlations)
    sums = np.add.reduceat(np.add.reduceat(absolute, layout.starts[:-1], axis=1), layout.starts[:-1], axis=2)
    own = np.einsum("bjj->bj", sums)
    pairs = size * (size - 1)
    within: NDArray[np.float64] = np.where(pairs > 0, (own - size) / np.where(pairs > 0, pairs, 1), 1.0)
    scale = np.sqrt(within[:, :, None] * within[:, None, :])
    between = sums / (size[:, None] * size[None, :])
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(scale > 1e-12, between / scale, np.nan)
    np.einsum("bjj->bj", ratio)[:] = np.nan
    return ratio
