"""PLS path modelling on correlation matrices, many at a time.

Everything that partial least squares estimates from standardised data is a function of the items'
correlation matrix alone. The kernel takes a batch of such matrices (the sample; bootstrap or jackknife
resamples; groups) and iterates all of them together, dropping those that have converged.

Source: Lohmöller (1989), Latent Variable Path Modeling with Partial Least Squares, chapter 2; Tenenhaus et al.
(2005), Comput. Stat. Data Anal. 48, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .moments import Array
from .specification import Specification

Scheme = Literal["centroid", "factorial", "path"]
SCHEMES: tuple[Scheme, ...] = ("centroid", "factorial", "path")

_SINGULAR = 1e-10
"""Smallest admissible eigenvalue of a block that has to be inverted."""


class Outcome(IntEnum):
    """What became of one estimation."""

    CONVERGED = 0
    CONSTANT_ITEM = 1
    SINGULAR = 2
    NOT_CONVERGED = 3


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
    failed: NDArray[np.bool_] | None = None,
    orientation: Array | None = None,
) -> Estimates:
    """Estimate the path model of every correlation matrix of a batch.

    Parameters
    ----------
    correlations : (B, p, p), items in the order of `layout`
    scheme : inner weighting; centroid (signs of correlations), factorial (correlations) or path (regression
        weights of sources, correlations of targets)
    tolerance : largest change of a standardised weight at which the iteration stops
    failed : (B,) matrices not to be tried because an item is constant
    orientation : (p,) loadings that fix each composite's sign: a composite is turned so that its loadings have
        a positive inner product with these. By default the sum of its loadings is made positive.
    """
    size, p = correlations.shape[:2]
    outcome = np.full(size, Outcome.NOT_CONVERGED, dtype=np.int64)
    if failed is not None:
        outcome[failed] = Outcome.CONSTANT_ITEM
    inverses = _mode_b_inverses(correlations, layout, outcome)
    weights = np.full((size, p), np.nan)
    iterations = np.zeros(size, dtype=np.int64)
    active = np.flatnonzero(outcome == Outcome.NOT_CONVERGED)
    current = _normalised(np.ones((len(active), p)), correlations[active], layout)
    matrices, blocks = correlations[active], [inverse[active] for inverse in inverses]
    step = 0
    while len(active) and step < max_iterations:
        step += 1
        updated, singular = _iterate(current, matrices, blocks, layout, scheme)
        settled = np.abs(np.abs(updated) - np.abs(current)).max(axis=1) < tolerance
        current = updated
        done = settled | singular
        if done.any():
            weights[active[settled]] = current[settled]
            outcome[active[settled]] = Outcome.CONVERGED
            outcome[active[singular]] = Outcome.SINGULAR
            iterations[active[done]] = step
            keep = ~done
            active, current, matrices = active[keep], current[keep], matrices[keep]
            blocks = [inverse[keep] for inverse in blocks]
    iterations[active] = step
    return _results(weights, correlations, layout, outcome, iterations, orientation)


def _mode_b_inverses(correlations: Array, layout: Layout, outcome: NDArray[np.int64]) -> list[Array]:
    inverses = []
    for construct in layout.mode_b:
        block = correlations[:, layout.block(construct), layout.block(construct)]
        singular = np.linalg.eigvalsh(block)[:, 0] < _SINGULAR
        outcome[singular & (outcome == Outcome.NOT_CONVERGED)] = Outcome.SINGULAR
        safe = np.where(singular[:, None, None], np.eye(block.shape[1]), block)
        inverses.append(np.linalg.inv(safe))
    return inverses


def _composites(weights: Array, correlations: Array, layout: Layout) -> tuple[Array, Array]:
    """Covariances of items with composites (B, p, J), and of composites with each other (B, J, J)."""
    spread = np.zeros((*weights.shape, layout.width))
    spread[:, np.arange(weights.shape[1]), layout.owner] = weights
    crossed = correlations @ spread
    return crossed, spread.transpose(0, 2, 1) @ crossed


def _normalised(weights: Array, correlations: Array, layout: Layout) -> Array:
    """Weights scaled so that every composite has variance one."""
    result = weights.copy()
    for construct in range(layout.width):
        block = layout.block(construct)
        w = weights[:, block]
        variance = np.einsum("bi,bij,bj->b", w, correlations[:, block, block], w)
        # A block of perfectly opposed items has a composite of variance zero at the start: begin with its
        # first item instead.
        flat = variance < _SINGULAR
        if flat.any():
            result[flat, block] = 0.0
            result[flat, block.start] = 1.0
            variance = np.where(flat, 1.0, variance)
            result[~flat, block] = w[~flat] / np.sqrt(variance[~flat, None])
        else:
            result[:, block] = w / np.sqrt(variance[:, None])
    return result


def _iterate(
    weights: Array, correlations: Array, inverses: list[Array], layout: Layout, scheme: Scheme
) -> tuple[Array, NDArray[np.bool_]]:
    crossed, inner = _composites(weights, correlations, layout)
    links, singular = _inner_weights(inner, layout, scheme)
    proxies = crossed @ links
    updated = proxies[:, np.arange(weights.shape[1]), layout.owner]
    for construct, inverse in zip(layout.mode_b, inverses, strict=True):
        block = layout.block(construct)
        updated[:, block] = (inverse @ updated[:, block, None])[:, :, 0]
    dead = np.abs(updated).max(axis=1) < _SINGULAR
    singular |= dead
    updated[dead] = weights[dead]
    return _normalised(updated, correlations, layout), singular


def _inner_weights(inner: Array, layout: Layout, scheme: Scheme) -> tuple[Array, NDArray[np.bool_]]:
    """(B, J, J): column j holds the weights of j's neighbours in its inner proxy."""
    forward = layout.successors()
    singular = np.zeros(len(inner), dtype=bool)
    if scheme == "path":
        links = inner * forward
        for target, sources in enumerate(layout.sources):
            if sources:
                coefficients, bad = _regress(inner, target, sources)
                links[:, sources, target] = coefficients
                singular |= bad
        return links, singular
    neighbours = forward | forward.T
    return (np.sign(inner) if scheme == "centroid" else inner) * neighbours, singular


def _regress(inner: Array, target: int, sources: tuple[int, ...]) -> tuple[Array, NDArray[np.bool_]]:
    """Coefficients (B, k) of a composite on its sources, and which of the B systems are singular."""
    right = inner[:, sources, target]
    if len(sources) == 1:
        return right, np.zeros(len(inner), dtype=bool)
    left = inner[:, np.array(sources)[:, None], np.array(sources)]
    solution, smallest = _solve(left, right)
    return solution, smallest < _SINGULAR


def _solve(left: Array, right: Array) -> tuple[Array, Array]:
    """Solve B small positive definite systems by elimination across the batch; also the smallest pivot.

    LAPACK is called once a matrix, which for a handful of unknowns costs more than the arithmetic.
    """
    k = right.shape[1]
    a = np.moveaxis(left, 0, -1).copy()
    b = right.T.copy()
    smallest = np.full(len(right), np.inf)
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
    return b.T, smallest


def _results(
    weights: Array,
    correlations: Array,
    layout: Layout,
    outcome: NDArray[np.int64],
    iterations: NDArray[np.int64],
    orientation: Array | None,
) -> Estimates:
    size, p = weights.shape
    crossed, inner = _composites(np.nan_to_num(weights), correlations, layout)
    own = crossed[:, np.arange(p), layout.owner]
    reference = own if orientation is None else own * orientation
    agreement = np.add.reduceat(reference, layout.starts[:-1], axis=1)
    sign = np.where(agreement < 0, -1.0, 1.0)
    weights = weights * sign[:, layout.owner]
    crossed = crossed * sign[:, None, :]
    inner = inner * sign[:, :, None] * sign[:, None, :]
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
        paths[:, arrows] = coefficients
        direct[:, sources, target] = coefficients
        r_squared[:, target] = (coefficients * inner[:, sources, target]).sum(axis=1)
        if len(sources) > 1:
            inflation[:, arrows] = _inflation(inner, sources, ok)
    total = np.linalg.inv(np.eye(layout.width) - direct) - np.eye(layout.width)
    total[np.abs(total) < 1e-15] = 0.0
    estimates = (weights, crossed, inner, paths, inflation, r_squared, total)
    for array in estimates:
        array[~ok] = np.nan
    return Estimates(outcome, iterations, *estimates)


def _inflation(inner: Array, sources: tuple[int, ...], ok: NDArray[np.bool_]) -> Array:
    left = inner[:, np.array(sources)[:, None], np.array(sources)]
    safe = np.where(ok[:, None, None], left, np.eye(len(sources)))
    return np.einsum("bii->bi", np.linalg.inv(safe))
