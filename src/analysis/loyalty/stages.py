"""Items made of scores: the first stage of higher-order constructs and of moderation, redone in every resample.

A component's score is a weighted sum of items, so its correlations follow from those of the items alone: T'RT. The product of
two scores is not, so its moments are summed over the rows; both with the weights, means and deviations of each resample.

Sources: Sarstedt et al. (2019), Australas. Mark. J. 27, 197-211 (higher order); Henseler & Chin (2010), Struct. Equ. Modeling
17, 82-109 (products).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .kernel import Estimates, Layout, Scheme, estimate, own_loadings
from .moments import Array, MomentBatch, Moments, Outcome
from .specification import Moderation, Specification


class StagedMoments:
    """Moments of the items of a staged model, with the interface of `Moments`.

    Means and deviations of items made of scores are NaN: they have no unit of their own.

    Parameters
    ----------
    base : moments of the answers, columns as in `specification.columns`
    values, weights, respondents : what `base` was made of; only products need the rows again
    """

    def __init__(
        self,
        base: Moments,
        values: Array,
        weights: Array | None,
        respondents: NDArray[np.integer] | None,
        specification: Specification,
        scheme: Scheme,
    ) -> None:
        self.respondents = base.respondents
        self._base = base
        self._components = _Components(specification, scheme) if specification.components else None
        self._products = None
        every = np.ones((1, self.respondents))
        first = base.full()
        if self._components is not None:
            self._components.orient(first)
        if specification.products:
            self._products = _Products(specification, scheme, values, weights, respondents)
            self._products.orient(self._main(first)[0])
        self._full = self._staged(first, every)

    def full(self) -> MomentBatch:
        """Moments of the sample itself (a batch of one)."""
        return self._full

    def batch(self, counts: Array) -> MomentBatch:
        """Moments of the resamples that `counts` (B, respondents) describes."""
        return self._staged(self._base.batch(counts), np.asarray(counts, dtype=float))

    def without_each(self, left_out: slice) -> MomentBatch:
        """Moments of the samples that leave out one respondent each."""
        first = self._base.without_each(left_out)
        if self._products is None:
            return self._main(first)[0]
        numbers = np.arange(self.respondents)[left_out]
        counts = np.ones((len(numbers), self.respondents))
        counts[np.arange(len(numbers)), numbers] = 0.0
        return self._staged(first, counts)

    def standardised(self, z: Array) -> Array:
        """Standardised items (n, items) of the staged model from those of the answers (n, columns), a gap as 0."""
        main, transform = self._main(self._base.full())
        items = z @ transform[0]
        return items if self._products is None else np.hstack([items, self._products.standardised(main, items)])

    def _main(self, first: MomentBatch) -> tuple[MomentBatch, Array]:
        """The batch with components in place of their items, and the (B, columns, items) matrix that makes them."""
        if self._components is not None:
            return self._components.batch(first)
        return first, np.broadcast_to(np.eye(self._base.width), first.correlations.shape)

    def _staged(self, first: MomentBatch, counts: Array) -> MomentBatch:
        main, transform = self._main(first)
        return main if self._products is None else self._products.batch(first, main, transform, counts)


class _Stage:
    """One estimation whose scores become items, its composites turned as in the sample."""

    def __init__(self, specification: Specification, scheme: Scheme) -> None:
        self.layout = Layout.of(specification)
        self._scheme = scheme
        self._orientation: Array | None = None

    def orient(self, sample: MomentBatch) -> None:
        """Keep the signs of the sample's composites for all resamples."""
        self._orientation = own_loadings(self.estimate(sample), self.layout)[0]

    def estimate(self, batch: MomentBatch) -> Estimates:
        """Estimates of a batch; what has failed before is not tried."""
        return estimate(
            batch.correlations, self.layout, self._scheme, failed=batch.outcome, orientation=self._orientation
        )


class _Components(_Stage):
    """Scores of components as items of the higher-order constructs."""

    def __init__(self, specification: Specification, scheme: Scheme) -> None:
        first = specification.first_stage
        super().__init__(first, scheme)
        items = specification.main_effects.items
        made = {c.name for c in specification.components}
        self._score = np.array([item in made for item in items])
        # An item may share its name with a component of one item, so the two are looked up apart.
        self._column = np.array([0 if item in made else first.items.index(item) for item in items])
        self._block = {k: self.layout.block(first.constructs.index(i)) for k, i in enumerate(items) if i in made}

    def batch(self, first: MomentBatch) -> tuple[MomentBatch, Array]:
        found = self.estimate(first)
        ok = found.outcome == Outcome.CONVERGED
        size, p = found.weights.shape
        transform = np.zeros((size, p, len(self._score)))
        plain = np.flatnonzero(~self._score)
        transform[:, self._column[plain], plain] = 1.0
        for k, block in self._block.items():
            transform[:, block, k] = np.where(ok[:, None], found.weights[:, block], 0.0)
        joined = transform.transpose(0, 2, 1) @ first.correlations @ transform
        joined[~ok] = np.eye(joined.shape[1])
        units = (np.where(self._score, np.nan, values[:, self._column]) for values in (first.means, first.deviations))
        constant = first.constant[:, self._column] & ~self._score
        return MomentBatch(*units, joined, constant, found.outcome), transform


class _Scored(NamedTuple):
    """Rows of the product of two scores, (n, B), and its mean and deviation (B,) in every resample."""

    rows: Array
    mean: Array
    deviation: Array


class _Products(_Stage):
    """Products of scores as items of their own."""

    def __init__(
        self,
        specification: Specification,
        scheme: Scheme,
        values: Array,
        weights: Array | None,
        respondents: NDArray[np.integer] | None,
    ) -> None:
        main = specification.main_effects
        super().__init__(main, scheme)
        self._pairs = _positions(main, specification.products)
        self._seen = ~np.isnan(values)
        self._centre = np.nanmean(values, axis=0)
        self._values = np.where(self._seen, values - self._centre, 0.0)
        self._weights = np.ones(len(values)) if weights is None else weights
        self.respondents_of = np.arange(len(values)) if respondents is None else respondents

    def batch(self, first: MomentBatch, main: MomentBatch, transform: Array, counts: Array) -> MomentBatch:
        found = self.estimate(main)
        mass = counts.T[self.respondents_of] * self._weights[:, None]
        mass /= np.where(mass.sum(axis=0) > 0, mass.sum(axis=0), 1.0)
        scale = np.where(first.deviations > 0, first.deviations, 1.0)
        shift = first.means - self._centre
        products = [self._score(found.weights, transform, scale, shift, mass, pair) for pair in self._pairs]
        crossed = [self._with_items(p, mass, scale, shift, transform) for p in products]
        joined = _joined(main.correlations, crossed, products, mass)
        deviations = np.stack([p.deviation for p in products], axis=1)
        flat = ~(deviations > 1e-10)
        ok = (found.outcome == Outcome.CONVERGED) & ~flat.any(axis=1)
        joined[~ok] = np.eye(joined.shape[1])
        outcome = np.where(found.outcome == Outcome.CONVERGED, Outcome.CONSTANT_ITEM, found.outcome)
        none = np.full(deviations.shape, np.nan)
        return MomentBatch(
            np.hstack([main.means, none]),
            np.hstack([main.deviations, none]),
            joined,
            np.hstack([main.constant, flat]),
            np.where(ok, Outcome.CONVERGED, outcome).astype(np.int64),
            deviations,
        )

    def standardised(self, main: MomentBatch, items: Array) -> Array:
        """Standardised products (n, I) of the sample from its standardised items."""
        weights = self.estimate(main).weights[0]
        mass = self._weights / self._weights.sum()
        columns = []
        for one, other in self._pairs:
            product = (items[:, one] @ weights[one]) * (items[:, other] @ weights[other])
            centred = product - mass @ product
            columns.append(centred / np.sqrt(mass @ centred**2))
        return np.stack(columns, axis=1)

    def _score(
        self, weights: Array, transform: Array, scale: Array, shift: Array, mass: Array, pair: tuple[slice, slice]
    ) -> _Scored:
        rows = np.ones_like(mass)
        for block in pair:
            per_unit = np.einsum("bpk,bk->bp", transform[:, :, block], np.nan_to_num(weights[:, block])) / scale
            rows *= self._values @ per_unit.T - self._seen @ (per_unit * shift).T
        mean = (mass * rows).sum(axis=0)
        variance = (mass * rows**2).sum(axis=0) - mean**2
        return _Scored(rows, mean, np.sqrt(np.maximum(variance, 0.0)))

    def _with_items(self, product: _Scored, mass: Array, scale: Array, shift: Array, transform: Array) -> Array:
        """Correlations (B, items) of a product with the other items, whose means are zero."""
        weighted = (mass * product.rows).T
        answers = (weighted @ self._values - (weighted @ self._seen) * shift) / scale
        deviation = np.where(product.deviation > 0, product.deviation, 1.0)
        return np.einsum("bpk,bp->bk", transform, answers) / deviation[:, None]


def _positions(main: Specification, products: Sequence[Moderation]) -> list[tuple[slice, slice]]:
    layout = Layout.of(main)
    blocks = {name: layout.block(j) for j, name in enumerate(main.constructs)}
    return [(blocks[product.source], blocks[product.moderator]) for product in products]


def _joined(correlations: Array, crossed: list[Array], products: list[_Scored], mass: Array) -> Array:
    """Correlations of items and products together."""
    width, extra = correlations.shape[1], len(products)
    joined = np.zeros((len(correlations), width + extra, width + extra))
    joined[:, :width, :width] = correlations
    for k, one in enumerate(products):
        joined[:, width + k, :width] = joined[:, :width, width + k] = crossed[k]
        for m, other in enumerate(products):
            scale = one.deviation * other.deviation
            covariance = (mass * one.rows * other.rows).sum(axis=0) - one.mean * other.mean
            joined[:, width + k, width + m] = covariance / np.where(scale > 0, scale, 1.0)
        joined[:, width + k, width + k] = 1.0
    return joined
