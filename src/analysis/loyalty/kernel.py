"""PLS path modelling on correlation matrices, many at a time.

Everything that partial least squares estimates from standardised data is a function of the items'
correlation matrix alone. The kernel takes a batch of such matrices (the sample; bootstrap or jackknife
resamples; groups) and iterates all of them together, dropping those that have converged.

Source: Lohmöller (1989), Latent Variable Path Modeling with Partial Least Squares, chapter 2; Tenenhaus et al.
(2005), Comput. Stat. Data Anal. 48, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .moments import Array, Outcome
from .specification import Specification

Scheme = Literal["centroid", "factorial", "path"]
SCHEMES: tuple[Scheme, ...] = ("centroid", "factorial", "path")

_SINGULAR = 1e-10
"""Smallest admissible eigenvalue of a block that has to be inverted."""

_DENSE = 0.75
"""Share of a batch still iterating below which the rest is dropped: copying costs, and so does iterating for nothing."""


@dataclass(frozen=True)
class Layout:
    """A specification as index arrays: p items in construct order, J constructs, A arrows."""

    starts: NDArray[np.int64]
    """(J + 1,) first item of each block, and p."""
    owner: NDArray[np.int64]
    """(p,) construct of each item."""
    mode_b: tuple[int, ...]
    """Constructs of more than one item in mode B."""
    sources: tuple[tuple[int, ...], ...]
    """For each construct, the constructs with an arrow into it."""
    arrow_source: NDArray[np.int64]
    arrow_target: NDArray[np.int64]

    @classmethod
    def of(cls, specification: Specification) -> Layout:
        """The layout of `specification`."""
        sizes = [len(c.items) for c in specification.composites]
        number = {name: j for j, name in enumerate(specification.constructs)}
        sources = tuple(tuple(number[s] for s in specification.sources_of(name)) for name in specification.constructs)
        return cls(
            starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            owner=np.repeat(np.arange(len(sizes)), sizes),
            mode_b=tuple(j for j, c in enumerate(specification.composites) if c.mode == "B" and len(c.items) > 1),
            sources=sources,
            arrow_source=np.array([number[p.source] for p in specification.paths], dtype=np.int64),
            arrow_target=np.array([number[p.target] for p in specification.paths], dtype=np.int64),
        )

    @property
    def width(self) -> int:
        """Number of constructs, J."""
        return len(self.starts) - 1

    def block(self, construct: int) -> slice:
        """Positions of the items of a construct."""
        return slice(int(self.starts[construct]), int(self.starts[construct + 1]))

    def successors(self) -> NDArray[np.bool_]:
        """(J, J): entry [i, j] says that i is a target of j."""
        result = np.zeros((self.width, self.width), dtype=bool)
        result[self.arrow_target, self.arrow_source] = True
        return result


@dataclass(frozen=True)
class Estimates:
    """Estimates of B correlation matrices; rows whose `outcome` is not CONVERGED hold NaN."""

    outcome: NDArray[np.int64]
    iterations: NDArray[np.int64]
    weights: Array
    """(B, p), of standardised items; every composite has variance one."""
    cross_loadings: Array
    """(B, p, J) correlations of items with composites."""
    correlations: Array
    """(B, J, J) correlations of composites."""
    paths: Array
    """(B, A) standardised path coefficients."""
    inflation: Array
    """(B, A) variance inflation factor of each arrow's source among its target's sources."""
    r_squared: Array
    """(B, J), NaN for exogenous constructs."""
    total_effects: Array
    """(B, J, J): entry [i, j] is the total effect of i on j."""


def estimate(
    correlations: Array,
    layout: Layout,
    scheme: Scheme = "path",
    *,
    tolerance: float = 1e-10,
    max_iterations: int = 300,
    failed: NDArray[np.integer] | None = None,
    orientation: Array | None = None,
) -> Estimates:
    """Estimate the path model of every correlation matrix of a batch.

    Parameters
    ----------
    correlations : (B, p, p), items in the order of `layout`
    scheme : inner weighting; centroid (signs of correlations), factorial (correlations) or path (regression
        weights of sources, correlations of targets)
    tolerance : largest change of a standardised weight at which the iteration stops
    failed : (B,) `Outcome` of matrices not to be tried, CONVERGED for the others
    orientation : (p,) loadings that fix each composite's sign: a composite is turned so that its loadings have
        a positive inner product with these. By default the sum of its loadings is made positive.
    """
    size, p = correlations.shape[:2]
    outcome = np.full(size, Outcome.NOT_CONVERGED, dtype=np.int64)
    tried = np.ones(size, dtype=bool) if failed is None else np.asarray(failed) == Outcome.CONVERGED
    if failed is not None:
        outcome[~tried] = np.asarray(failed)[~tried]
    inverses = _mode_b_inverses(correlations, layout, outcome)
    iterations = np.zeros(size, dtype=np.int64)
    active = np.flatnonzero(tried & (outcome == Outcome.NOT_CONVERGED))
    matrices, *inverses = (_batch_last(part[active]) for part in (correlations, *inverses))
    current = _composites(np.ones((p, len(active))), matrices, layout)
    found = _Composites(*(np.full((*part.shape[:-1], size), np.nan) for part in current))
    pending = np.ones(len(active), dtype=bool)
    step = 0
    while pending.any() and step < max_iterations:
        step += 1
        updated, singular = _iterate(current, inverses, layout, scheme)
        updated = _composites(updated, matrices, layout)
        settled = np.abs(np.abs(updated.weights) - np.abs(current.weights)).max(axis=0) < tolerance
        current = updated
        done = pending & (settled | singular)
        if done.any():
            ready = done & settled
            for whole, part in zip(found, current, strict=True):
                whole[..., active[ready]] = part[..., ready]
            outcome[active[ready]] = Outcome.CONVERGED
            outcome[active[done & singular]] = Outcome.SINGULAR
            iterations[active[done]] = step
            pending &= ~done
            keep = np.flatnonzero(pending)
            if len(keep) < _DENSE * len(pending):
                active, pending = active[keep], pending[keep]
                matrices, *inverses = (part[..., keep] for part in (matrices, *inverses))
                current = _Composites(*(part[..., keep] for part in current))
    iterations[active[pending]] = step
    return _results(found, layout, outcome, iterations, orientation)


def _batch_last(values: Array) -> Array:
    """(B, ...) to (..., B): sums over few items run along the batch, so that arithmetic is not lost in their overhead."""
    return np.ascontiguousarray(np.moveaxis(values, 0, -1))


def own_loadings(estimates: Estimates, layout: Layout) -> Array:
    """Correlation of every item with its own composite: (B, p)."""
    return estimates.cross_loadings[:, np.arange(len(layout.owner)), layout.owner]


def _mode_b_inverses(correlations: Array, layout: Layout, outcome: NDArray[np.int64]) -> list[Array]:
    inverses = []
    for construct in layout.mode_b:
        block = correlations[:, layout.block(construct), layout.block(construct)]
        # Eigenvalues that sum to k multiply to less than e times the smallest: most blocks need no decomposition.
        singular = np.linalg.det(block) < np.e * _SINGULAR
        singular[singular] = np.linalg.eigvalsh(block[singular])[:, 0] < _SINGULAR
        outcome[singular & (outcome == Outcome.NOT_CONVERGED)] = Outcome.SINGULAR
        safe = np.where(singular[:, None, None], np.eye(block.shape[1]), block)
        inverses.append(np.linalg.inv(safe))
    return inverses


def _batch_first(values: Array) -> Array:
    """(..., B) to (B, ...)."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


class _Composites(NamedTuple):
    """Composites of variance one; the batch is the last axis."""

    weights: Array
    """(p, B)."""
    crossed: Array
    """(p, J, B) correlations of items with composites."""
    inner: Array
    """(J, J, B) correlations of composites."""


def _composites(weights: Array, correlations: Array, layout: Layout) -> _Composites:
    """Composites whose weights (p, B) are in every block proportional to those given, from (p, p, B) correlations."""
    crossed = np.empty((len(weights), layout.width, weights.shape[1]))
    inner = np.empty((layout.width, *crossed.shape[1:]))
    blocks = [layout.block(construct) for construct in range(layout.width)]
    for construct, block in enumerate(blocks):
        np.einsum("kib,kb->ib", correlations[block], weights[block], out=crossed[:, construct])
    for construct, block in enumerate(blocks):
        np.einsum("kjb,kb->jb", crossed[block], weights[block], out=inner[construct])
    variance = np.einsum("jjb->jb", inner)
    # A block of perfectly opposed items has a composite of variance zero at the start: begin with its
    # first item instead.
    flat = variance < _SINGULAR
    if flat.any():
        first = np.isin(np.arange(len(weights)), layout.starts[:-1])
        return _composites(np.where(flat[layout.owner], first[:, None], weights), correlations, layout)
    scale = 1 / np.sqrt(variance)
    crossed *= scale
    inner *= scale[:, None] * scale
    return _Composites(weights * scale[layout.owner], crossed, inner)


def _iterate(
    current: _Composites, inverses: list[Array], layout: Layout, scheme: Scheme
) -> tuple[Array, NDArray[np.bool_]]:
    """Weights (p, B) in proportion, from the inner proxies of composites; and which of the B are singular."""
    links, singular = _inner_weights(current.inner, layout, scheme)
    updated = np.empty_like(current.weights)
    for construct in range(layout.width):
        block = layout.block(construct)
        np.einsum("ijb,jb->ib", current.crossed[block], links[:, construct], out=updated[block])
    for construct, inverse in zip(layout.mode_b, inverses, strict=True):
        block = layout.block(construct)
        updated[block] = np.einsum("ikb,kb->ib", inverse, updated[block])
    dead = np.abs(updated).max(axis=0) < _SINGULAR
    updated[:, dead] = current.weights[:, dead]
    return updated, singular | dead


def _inner_weights(inner: Array, layout: Layout, scheme: Scheme) -> tuple[Array, NDArray[np.bool_]]:
    """(J, J, B): column j holds the weights of j's neighbours in its inner proxy."""
    forward = layout.successors()
    singular = np.zeros(inner.shape[-1], dtype=bool)
    if scheme == "path":
        links = inner * forward[:, :, None]
        for target, sources in enumerate(layout.sources):
            if sources:
                links[sources, target], bad = _regress(inner, target, sources)
                singular |= bad
        return links, singular
    neighbours = (forward | forward.T)[:, :, None]
    return (np.sign(inner) if scheme == "centroid" else inner) * neighbours, singular


def _regress(inner: Array, target: int, sources: tuple[int, ...]) -> tuple[Array, NDArray[np.bool_]]:
    """Coefficients (k, B) of a composite on its sources, and which of the B systems are singular."""
    right = inner[sources, target]
    if len(sources) == 1:
        return right, np.zeros(inner.shape[-1], dtype=bool)
    solution, smallest = _solve(inner[np.ix_(sources, sources)], right)
    return solution, smallest < _SINGULAR


def _solve(a: Array, b: Array) -> tuple[Array, Array]:
    """Solve B small positive definite systems by elimination across the batch; also the smallest pivot.

    LAPACK is called once a matrix, which for a handful of unknowns costs more than the arithmetic.

    a, b : (k, k, B) and (k, B); both are overwritten, b by the solution
    """
    k, size = b.shape
    smallest = np.full(size, np.inf)
    for i in range(k):
        np.minimum(smallest, a[i, i], out=smallest)
        pivot = np.where(a[i, i] < _SINGULAR, 1.0, a[i, i])
        for r in range(i + 1, k):
            factor = a[r, i] / pivot
            a[r, i:] -= factor * a[i, i:]
            b[r] -= factor * b[i]
        a[i, i] = pivot
    for i in range(k - 1, -1, -1):
        for c in range(i + 1, k):
            b[i] -= a[i, c] * b[c]
        b[i] /= a[i, i]
    return b, smallest


def _results(
    found: _Composites,
    layout: Layout,
    outcome: NDArray[np.int64],
    iterations: NDArray[np.int64],
    orientation: Array | None,
) -> Estimates:
    weights, crossed, inner = found
    p, size = weights.shape
    own = crossed[np.arange(p), layout.owner]
    reference = own if orientation is None else own * orientation[:, None]
    sign = np.where(np.add.reduceat(reference, layout.starts[:-1], axis=0) < 0, -1.0, 1.0)
    inner = inner * sign[:, None] * sign
    paths = np.full((size, len(layout.arrow_source)), np.nan)
    inflation = np.ones_like(paths)
    r_squared = np.full((size, layout.width), np.nan)
    direct = np.zeros((size, layout.width, layout.width))
    ok = outcome == Outcome.CONVERGED
    for target, sources in enumerate(layout.sources):
        if not sources:
            continue
        coefficients, bad = _regress(inner, target, sources)
        outcome[bad & ok] = Outcome.SINGULAR
        ok &= ~bad
        arrows = np.flatnonzero(layout.arrow_target == target)
        paths[:, arrows] = coefficients.T
        direct[:, sources, target] = coefficients.T
        r_squared[:, target] = (coefficients * inner[sources, target]).sum(axis=0)
        if len(sources) > 1:
            inflation[:, arrows] = _inflation(inner, sources, ok)
    total = np.linalg.inv(np.eye(layout.width) - direct) - np.eye(layout.width)
    total[np.abs(total) < 1e-15] = 0.0
    weights, crossed, inner = (_batch_first(part) for part in (weights * sign[layout.owner], crossed * sign, inner))
    estimates = (weights, crossed, inner, paths, inflation, r_squared, total)
    for array in estimates:
        array[~ok] = np.nan
    return Estimates(outcome, iterations, *estimates)


def _inflation(inner: Array, sources: tuple[int, ...], ok: NDArray[np.bool_]) -> Array:
    left = _batch_first(inner[np.ix_(sources, sources)])
    safe = np.where(ok[:, None, None], left, np.eye(len(sources)))
    return np.einsum("bii->bi", np.linalg.inv(safe))
