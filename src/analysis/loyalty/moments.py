"""Means, standard deviations and correlations of any number of resamples with one matrix product.

A resample is a row of counts (how often each respondent was drawn). Cross-products of the items are computed
once a respondent; counts times cross-products gives every resample's moments. Survey weights multiply the
counts, and mean replacement of missing answers is done with each resample's own means, exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CONSTANT = 1e-10
"""Variance, relative to the full sample's, below which an item of a resample counts as constant."""


class MomentBatch(NamedTuple):
    """Moments of B resamples of p items."""

    means: Array
    """(B, p), in the units of the items."""
    deviations: Array
    """(B, p) standard deviations (divisor: sum of weights), in the units of the items."""
    correlations: Array
    """(B, p, p)."""
    constant: NDArray[np.bool_]
    """(B, p): the item does not vary in the resample; its correlations are zero and not to be used."""


class Moments:
    """Row-wise cross-products of a data matrix, ready to be summed over any resample.

    Parameters
    ----------
    values : (n, p) items; NaN is a missing answer and is replaced by the mean within every resample
    weights : (n,) non-negative survey weights, or None for equal ones
    """

    def __init__(self, values: Array, weights: Array | None = None) -> None:
        values = np.asarray(values, dtype=float)
        n, p = values.shape
        self.rows, self.width = n, p
        self.weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
        seen = ~np.isnan(values)
        self._complete = bool(seen.all())
        filled = np.where(seen, values, 0.0)
        mass = np.maximum(self.weights @ seen, np.finfo(float).tiny)
        self._centre = self.weights @ filled / mass
        centred = np.where(seen, values - self._centre, 0.0)
        spread = np.sqrt(self.weights @ centred**2 / self.weights.sum())
        # An item that is constant up to rounding must not be blown up to unit variance.
        floor = 1e-9 * np.maximum(np.abs(self._centre), np.finfo(float).tiny)
        self._scale = np.where(spread > floor, spread, 1.0)
        z = np.where((spread > floor)[None, :], centred / self._scale, 0.0)
        self._features = self._cross_products(z, seen)

    def _cross_products(self, z: Array, seen: NDArray[np.bool_]) -> Array:
        p = self.width
        first, second = np.triu_indices(p)
        lookup = np.zeros((p, p), dtype=int)
        lookup[first, second] = lookup[second, first] = np.arange(len(first))
        self._lookup = lookup
        parts = [z, z[:, first] * z[:, second]]
        if not self._complete:
            m = seen.astype(float)
            crossed = (m[:, :, None] * z[:, None, :]).reshape(len(z), p * p)
            parts += [m, m[:, first] * m[:, second], crossed]
        return np.hstack(parts)

    def batch(self, counts: Array) -> MomentBatch:
        """Moments of the resamples that `counts` (B, n) describes."""
        drawn = np.asarray(counts, dtype=float) * self.weights
        return self._from_sums(drawn @ self._features, drawn.sum(axis=1))

    def without_each(self, rows: slice) -> MomentBatch:
        """Moments of the samples that leave out one of `rows` each: the jackknife, in one subtraction."""
        w = self.weights[rows]
        sums = self.weights @ self._features - w[:, None] * self._features[rows]
        return self._from_sums(sums, self.weights.sum() - w)

    def _from_sums(self, sums: Array, total: Array) -> MomentBatch:
        # A resample may draw only rows of weight zero; its items then count as constant.
        total = np.where(total > 0, total, 1.0)
        p, pairs = self.width, self.width * (self.width + 1) // 2
        products = sums[:, p : p + pairs][:, self._lookup]
        if self._complete:
            mean = sums[:, :p] / total[:, None]
            covariance = products / total[:, None, None] - mean[:, :, None] * mean[:, None, :]
        else:
            answered = sums[:, p + pairs : 2 * p + pairs]
            both = sums[:, 2 * p + pairs : 2 * p + 2 * pairs][:, self._lookup]
            crossed = sums[:, 2 * p + 2 * pairs :].reshape(-1, p, p)
            mean = sums[:, :p] / np.where(answered > 0, answered, 1.0)
            shift = mean[:, :, None] * crossed
            covariance = products - shift - shift.transpose(0, 2, 1)
            covariance += mean[:, :, None] * mean[:, None, :] * both
            covariance /= total[:, None, None]
        variance = np.einsum("bii->bi", covariance)
        constant = variance < _CONSTANT
        deviation = np.sqrt(np.where(constant, 1.0, variance))
        correlation = covariance / (deviation[:, :, None] * deviation[:, None, :])
        if constant.any():
            correlation[constant[:, :, None] | constant[:, None, :]] = 0.0
        np.einsum("bii->bi", correlation)[:] = 1.0
        means = self._centre + self._scale * mean
        return MomentBatch(means, np.where(constant, 0.0, deviation) * self._scale, correlation, constant)

    def full(self) -> MomentBatch:
        """Moments of the sample itself (a batch of one)."""
        return self.batch(np.ones((1, self.rows)))


def draw_indices(rows: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row numbers of `draws` bootstrap resamples: (draws, rows), each row drawn with replacement."""
    return rng.integers(0, rows, size=(draws, rows))


def counts_of(indices: NDArray[np.integer], rows: int) -> Array:
    """How often each of `rows` rows occurs in every resample of `indices` (B, any length): (B, rows)."""
    draws = len(indices)
    flat = (np.asarray(indices) + rows * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * rows).reshape(draws, rows).astype(float)
