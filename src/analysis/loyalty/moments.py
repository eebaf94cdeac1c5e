"""Means, standard deviations and correlations of any number of resamples with one matrix product.

A resample is a row of counts (how often each respondent was drawn). Cross-products of the items are computed
once a respondent; counts times cross-products gives every resample's moments. Survey weights multiply the
cross-products, those of a respondent with several rows are added up, so that the rows are drawn together, and mean
replacement of missing answers is done with each resample's own means, exactly.
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
    """Cross-products of a data matrix, a respondent at a time, ready to be summed over any resample.

    Parameters
    ----------
    values : (n, p) items; NaN is a missing answer and is replaced by the mean within every resample
    weights : (n,) non-negative survey weights, or None for equal ones
    respondents : (n,) number of the respondent behind each row, 0 ... m - 1, or None where every row has its own
    """

    def __init__(
        self, values: Array, weights: Array | None = None, respondents: NDArray[np.integer] | None = None
    ) -> None:
        values = np.asarray(values, dtype=float)
        n, p = values.shape
        self.width = p
        weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
        seen = ~np.isnan(values)
        self._complete = bool(seen.all())
        filled = np.where(seen, values, 0.0)
        mass = np.maximum(weights @ seen, np.finfo(float).tiny)
        self._centre = weights @ filled / mass
        centred = np.where(seen, values - self._centre, 0.0)
        spread = np.sqrt(weights @ centred**2 / weights.sum())
        # An item that is constant up to rounding must not be blown up to unit variance.
        floor = 1e-9 * np.maximum(np.abs(self._centre), np.finfo(float).tiny)
        self._scale = np.where(spread > floor, spread, 1.0)
        z = np.where((spread > floor)[None, :], centred / self._scale, 0.0)
        self._mass, self._features = weights, self._cross_products(z, seen)
        self._features *= weights[:, None]
        if respondents is not None:
            self._mass, self._features = _added(weights, self._features, respondents)
        self.respondents = len(self._mass)

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
        """Moments of the resamples that `counts` (B, respondents) describes."""
        drawn = np.asarray(counts, dtype=float)
        return self._from_sums(drawn @ self._features, drawn @ self._mass)

    def without_each(self, left_out: slice) -> MomentBatch:
        """Moments of the samples that leave out one respondent each: the jackknife, in one subtraction."""
        sums = self._features.sum(axis=0) - self._features[left_out]
        return self._from_sums(sums, self._mass.sum() - self._mass[left_out])

    def _from_sums(self, sums: Array, total: Array) -> MomentBatch:
        # A resample may draw only respondents of weight zero; its items then count as constant.
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
        return self.batch(np.ones((1, self.respondents)))


def _added(weights: Array, features: Array, respondents: NDArray[np.integer]) -> tuple[Array, Array]:
    """Weights (m,) and features (m, f) summed over the rows of each respondent."""
    order = np.argsort(respondents, kind="stable")
    first = np.flatnonzero(np.diff(respondents[order], prepend=-1))
    return np.add.reduceat(weights[order], first), np.add.reduceat(features[order], first, axis=0)


def draw_indices(respondents: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of those in each of `draws` bootstrap resamples: (draws, respondents), drawn with replacement."""
    return rng.integers(0, respondents, size=(draws, respondents))


def counts_of(indices: NDArray[np.integer], respondents: int) -> Array:
    """How often each respondent occurs in every resample of `indices` (B, any length): (B, respondents)."""
    draws = len(indices)
    flat = (np.asarray(indices) + respondents * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * respondents).reshape(draws, respondents).astype(float)
