"""Means, standard deviations and correlations of any number of resamples with one matrix product.

A resample is a row of counts (how often each respondent was drawn). Cross-products of the items are computed
once a respondent; counts times cross-products gives every resample's moments. Survey weights multiply the
cross-products, those of a respondent with several rows are added up, so that the rows are drawn together, and missing
answers are dealt with inside each resample, exactly: replaced by its own means, or left to the pairs of answers that it has.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from enum import IntEnum
from functools import cached_property, partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CONSTANT = 1e-10
"""Variance, relative to the full sample's, below which an item of a resample counts as constant."""

_ROUNDING = 1e-12
"""Weight, relative to all of it, below which nobody counts as having answered."""

_CELLS, _MOST = 4_000_000, 512
"""Counts in a batch of resamples, and resamples, at most: the former bounds memory, the latter keeps to the processor's cache.

Fewer would read all features, or go through the steps of the iteration, too often."""

_COUNTED = 200_000
"""Indices counted at a time."""

_INDEFINITE = -1e-8
"""Smallest eigenvalue of a correlation matrix that still counts as rounding."""

Gaps = Literal["mean", "pairwise"]
"""What stands in for a missing answer: the item's mean, or nothing (each correlation from the rows that have both answers)."""


class Outcome(IntEnum):
    """What became of one estimation."""

    CONVERGED = 0
    CONSTANT_ITEM = 1
    SINGULAR = 2
    NOT_CONVERGED = 3
    INDEFINITE = 4
    UNPAIRED = 5


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
    outcome: NDArray[np.int64]
    """(B,): why a resample cannot be used (an `Outcome`), CONVERGED where it can."""
    product_deviations: Array | None = None
    """(B, I) standard deviations of the products of two composites, where the model has such items."""


class _Unanswered(NamedTuple):
    """Respondents who left an item out, at least once, and sums over the rows in which they did."""

    who: NDArray[np.integer]
    """(k,) numbers of the respondents, ascending."""
    features: Array
    """(k, ...) weighted sums of the p items, of the gaps in every item that has some, and, for pairs, of squared items."""


class Moments:
    """Cross-products of a data matrix, a respondent at a time, ready to be summed over any resample.

    Parameters
    ----------
    values : (n, p) items; NaN is a missing answer
    weights : (n,) non-negative survey weights, or None for equal ones
    respondents : (n,) number of the respondent behind each row, 0 ... m - 1, or None where every row has its own
    gaps : "mean" replaces a missing answer by the mean of its resample; "pairwise" takes every mean and deviation from the
        answers given and every correlation from the rows with both answers (such correlations may contradict each other;
        resamples where they do are marked)
    """

    def __init__(
        self,
        values: Array,
        weights: Array | None = None,
        respondents: NDArray[np.integer] | None = None,
        gaps: Gaps = "mean",
    ) -> None:
        values = np.asarray(values, dtype=float)
        weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
        owners = np.arange(len(values)) if respondents is None else np.asarray(respondents)
        if respondents is not None:
            order = np.argsort(owners, kind="stable")
            values, weights, owners = values[order], weights[order], owners[order]
        p = self.width = values.shape[1]
        self._square = np.zeros((p, p), dtype=np.intp)
        first, second = np.triu_indices(p)
        self._square[first, second] = self._square[second, first] = np.arange(len(first))
        seen = ~np.isnan(values)
        z = self._standardised(values, seen, weights)
        self._holed = np.flatnonzero(~seen.all(axis=0))
        self._pairwise = gaps == "pairwise" and len(self._holed) > 0
        self._mass = _added(weights, owners)
        self.respondents = len(self._mass)
        self._features = self._products(z, weights, owners)
        self._gaps = self._unanswered(z, seen, weights, owners)

    def _standardised(self, values: Array, seen: NDArray[np.bool_], weights: Array) -> Array:
        """Items of mean zero and variance one, a missing answer 0; columns are contiguous."""
        filled = np.where(seen, values, 0.0)
        self._centre = weights @ filled / np.maximum(weights @ seen, np.finfo(float).tiny)
        centred = np.where(seen, values - self._centre, 0.0)
        spread = np.sqrt(weights @ centred**2 / weights.sum())
        # An item that is constant up to rounding must not be blown up to unit variance.
        varies = spread > 1e-9 * np.maximum(np.abs(self._centre), np.finfo(float).tiny)
        self._scale = np.where(varies, spread, 1.0)
        return np.asfortranarray(np.where(varies, centred / self._scale, 0.0))

    def _products(self, z: Array, weights: Array, owners: NDArray[np.integer]) -> Array:
        """(respondents, p + pairs): items, and products of two items, times weight; columns are contiguous."""
        p = self.width
        found = np.empty((p + p * (p + 1) // 2, self.respondents)).T
        weighted = z * weights[:, None]
        found[:, :p] = _added(weighted, owners)
        end = p
        for item in range(p):
            start, end = end, end + p - item
            found[:, start:end] = _added(weighted[:, item, None] * z[:, item:], owners)
        return found

    def _unanswered(
        self, z: Array, seen: NDArray[np.bool_], weights: Array, owners: NDArray[np.integer]
    ) -> list[_Unanswered]:
        """What those who did not answer an item said otherwise, for every item with gaps."""
        found = []
        for item in self._holed:
            rows = np.flatnonzero(~seen[:, item])
            answers = z[rows]
            parts = [answers, ~seen[np.ix_(rows, self._holed)]]
            if self._pairwise:
                parts.append(answers**2)
            features = np.hstack(parts) * weights[rows, None]
            found.append(_Unanswered(np.unique(owners[rows]), _added(features, owners[rows])))
        return found

    def batch(self, counts: Array) -> MomentBatch:
        """Moments of the resamples that `counts` (B, respondents) describes."""
        drawn = np.asarray(counts, dtype=float)
        lacking = [drawn[:, who] @ features for who, features in self._gaps]
        return self._from_sums(drawn @ self._features, lacking, drawn @ self._mass)

    def without_each(self, left_out: slice) -> MomentBatch:
        """Moments of the samples that leave out one respondent each: the jackknife, in one subtraction."""
        sums, lacking, mass = self._sums
        start, stop, _ = left_out.indices(self.respondents)
        rest = [np.tile(total, (stop - start, 1)) for total in lacking]
        for one, (who, features) in zip(rest, self._gaps, strict=True):
            own = slice(*np.searchsorted(who, [start, stop]))
            one[who[own] - start] -= features[own]
        return self._from_sums(sums - self._features[left_out], rest, mass - self._mass[left_out])

    def full(self) -> MomentBatch:
        """Moments of the sample itself (a batch of one)."""
        sums, lacking, mass = self._sums
        return self._from_sums(sums[None], [total[None] for total in lacking], np.array([mass]))

    @cached_property
    def _sums(self) -> tuple[Array, list[Array], float]:
        """Features, those of the items with gaps, and weights, summed over the sample."""
        lacking = [features.sum(axis=0) for _, features in self._gaps]
        return self._features.sum(axis=0), lacking, float(self._mass.sum())

    def _from_sums(self, sums: Array, lacking: list[Array], total: Array) -> MomentBatch:
        """Moments from the sums of features (B, p + pairs), those of each item with gaps (B, ...), and of weights (B,)."""
        # A resample may draw only respondents of weight zero; its items then count as constant.
        total = np.where(total > 0, total, 1.0)
        p, holed = self.width, self._holed
        products = np.take(sums[:, p:], self._square, axis=1)  # worked on in place below: nothing here is larger
        answered = np.repeat(total[:, None], p, axis=1)
        if lacking:
            beside = np.stack(lacking, axis=1)
            unseen = beside[:, :, p : p + len(holed)]
            answered[:, holed] -= np.einsum("bii->bi", unseen)
        # What is left after a subtraction of all is rounding.
        answered[answered < _ROUNDING * total[:, None]] = 0.0
        mean = sums[:, :p] / np.where(answered > 0, answered, 1.0)
        if self._pairwise:
            return self._available(mean, products, answered, total, beside)
        covariance = products
        covariance /= total[:, None, None]
        covariance -= mean[:, :, None] * mean[:, None, :]
        if lacking:
            # An answer put in at the mean takes part in no product: undo what the line above took off for it.
            own = mean[:, holed, None]
            back = own * beside[:, :, :p]
            back[:, :, holed] += 0.5 * own * unseen * own.transpose(0, 2, 1)
            back /= total[:, None, None]
            covariance[:, holed] += back
            covariance.transpose(0, 2, 1)[:, holed] += back
        variance = np.einsum("bii->bi", covariance).copy()
        constant = variance < _CONSTANT
        deviation = np.sqrt(np.where(constant, 1.0, variance))
        correlation = covariance
        correlation /= deviation[:, :, None]
        correlation /= deviation[:, None, :]
        if constant.any():
            correlation[constant[:, :, None] | constant[:, None, :]] = 0.0
        np.einsum("bii->bi", correlation)[:] = 1.0
        means = self._centre + self._scale * mean
        outcome = np.where(constant.any(axis=1), Outcome.CONSTANT_ITEM, Outcome.CONVERGED).astype(np.int64)
        return MomentBatch(means, np.where(constant, 0.0, deviation) * self._scale, correlation, constant, outcome)

    def _available(self, mean: Array, products: Array, answered: Array, total: Array, beside: Array) -> MomentBatch:
        """Correlations of each pair over the rows that have both answers, with the means and deviations of those rows.

        answered : (B, p) weight of those who answered each item; beside : (B, gaps, ...) sums of `_unanswered`
        """
        p, holed = self.width, self._holed
        both = answered[:, :, None] + answered[:, None, :] - total[:, None, None]
        both[:, holed[:, None], holed] += beside[:, :, p : p + len(holed)]
        both[both < _ROUNDING * total[:, None, None]] = 0.0
        number = np.where(both > 0, both, 1.0)
        # Entry [i, j] sums j, or its square, over the rows that have i.
        crossed = np.repeat((mean * answered)[:, None, :], p, axis=1)
        crossed[:, holed] -= beside[:, :, :p]
        squares = np.repeat(np.einsum("bii->bi", products)[:, None, :], p, axis=1)
        squares[:, holed] -= beside[:, :, p + len(holed) :]
        first = crossed / number
        variance = squares / number - first**2
        own = np.einsum("bii->bi", variance)
        constant = own < _CONSTANT
        unpaired = (both <= 0) | (variance < _CONSTANT) | (variance < _CONSTANT).transpose(0, 2, 1)
        scale = np.sqrt(np.where(unpaired, 1.0, variance))
        covariance = products / number - first * first.transpose(0, 2, 1)
        correlation = np.where(unpaired, 0.0, covariance / (scale * scale.transpose(0, 2, 1)))
        np.einsum("bii->bi", correlation)[:] = 1.0
        outcome = np.where(np.linalg.eigvalsh(correlation)[:, 0] < _INDEFINITE, Outcome.INDEFINITE, Outcome.CONVERGED)
        outcome[unpaired.any(axis=(1, 2))] = Outcome.UNPAIRED
        outcome[constant.any(axis=1)] = Outcome.CONSTANT_ITEM
        deviation = np.where(constant, 0.0, np.sqrt(np.where(constant, 1.0, own))) * self._scale
        return MomentBatch(
            self._centre + self._scale * mean, deviation, correlation, constant, outcome.astype(np.int64)
        )


def _added(rows: Array, owners: NDArray[np.integer]) -> Array:
    """Rows (n, ...) summed over those of each owner, whose numbers ascend."""
    first = np.flatnonzero(np.diff(owners, prepend=-1))
    return rows if len(first) == len(rows) else np.add.reduceat(rows, first, axis=0)


class Resamples:
    """Bootstrap resamples of respondents, drawn when they are needed and again the same: kept, they would fill gigabytes.

    Parameters
    ----------
    respondents, draws : how many of each
    source : the generator, as it is before it draws (it is not moved on), or the numbers of the respondents in each
        resample (draws, respondents)
    """

    def __init__(self, respondents: int, draws: int, source: np.random.Generator | NDArray[np.integer]) -> None:
        self._respondents, self._draws = respondents, draws
        self._source = copy.deepcopy(source) if isinstance(source, np.random.Generator) else source

    def __len__(self) -> int:
        return self._draws

    def first(self, draws: int) -> Resamples:
        """The first of them, `draws` at most."""
        return Resamples(self._respondents, min(draws, self._draws), self._source)

    def batches(self, rng: np.random.Generator | None = None) -> Iterator[NDArray[np.integer]]:
        """Their indices, as many at a time as suit the processor; drawn with `rng` and moving it on, if it is given."""
        source = self._source
        if isinstance(source, np.random.Generator):
            source = copy.deepcopy(source) if rng is None else rng
        step = int(np.clip(_CELLS // self._respondents, 1, _MOST))
        for start in range(0, self._draws, step):
            size = min(step, self._draws - start)
            drawn = isinstance(source, np.random.Generator)
            yield draw_indices(self._respondents, size, source) if drawn else source[start : start + size]

    def counts(self, rng: np.random.Generator | None = None) -> Iterator[Array]:
        """How often each respondent occurs in each of them, as `batches`."""
        # A loop would keep a batch while it draws the next.
        return map(partial(counts_of, respondents=self._respondents), self.batches(rng))


def draw_indices(respondents: int, draws: int, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Numbers of those in each of `draws` bootstrap resamples: (draws, respondents), drawn with replacement."""
    return rng.integers(0, respondents, size=(draws, respondents), dtype=np.uint32)


def counts_of(indices: NDArray[np.integer], respondents: int) -> Array:
    """How often each respondent occurs in every resample of `indices` (B, any length): (B, respondents)."""
    found = np.empty((len(indices), respondents))
    step = max(_COUNTED // respondents, 1)
    for start in range(0, len(indices), step):
        some = np.asarray(indices[start : start + step], dtype=np.int64)
        flat = (some + respondents * np.arange(len(some))[:, None]).ravel()
        found[start : start + step] = np.bincount(flat, minlength=len(some) * respondents).reshape(-1, respondents)
    return found
