"""The Pareto/NBD model of Schmittlein, Morrison & Colombo: customers may leave at any moment.

The story: while a customer is one, they buy at random at their own rate λ (Poisson), and leave for good at
their own hazard μ (exponential). Rates differ between customers by a gamma distribution (r, α), hazards by
another (s, β), independently.

Sources: Schmittlein, D. C., Morrison, D. G. & Colombo, R. (1987). Counting your customers: who are they and
what will they do next? Management Science 33(1), 1–24 (SMC below). Fader, P. S. & Hardie, B. G. S. (2005). A note on
deriving the Pareto/NBD model and related expressions (FH below). Fader, Hardie & Lee (2005), RFM and CLV:
using iso-value curves for customer base analysis, Journal of Marketing Research 42(4), 415–430.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.valuation.integrals import discounted_time
from analysis.valuation.purchases import (
    Array,
    Cells,
    Grid,
    Mixture,
    MixtureModel,
    PurchaseResults,
    negative_binomial,
    quadrature_rule,
)

_NODES, _WEIGHTS = _MANY = quadrature_rule(24)
# A range this short, over which the integrand falls by no more than this many log units, needs half the nodes.
_FEW, _SHORT, _SHALLOW = quadrature_rule(12), 3.0, 9.0
# A longer range holds a bend wherever y passes α or β, and is cut into panels.
_PANELS = np.concatenate([(part + _NODES) / 4 for part in range(4)]), np.tile(_WEIGHTS / 4, 4)
_LONG = 6.0
_COUNT_RULE = quadrature_rule(16)
# Rows integrated at a time, so that their nodes stay in the processor's cache.
_ROWS = 512
# Beyond forty log units below its start the integrand is worth nothing in double precision.
_TAIL = 40.0


@dataclass(frozen=True)
class _Leaving:
    """∫ (α+y)^−(r+x) (β+y)^−(s+1) dy between two moments: its log, and means over it, each of shape (rows,)."""

    log: Array
    log_a: Array
    log_b: Array
    per_a: Array
    per_b: Array


def _leaving(
    r: float,
    alpha: Array | float,
    s: float,
    beta: Array | float,
    x: Array,
    begin: Array,
    end: Array | float,
    means: bool = True,
) -> _Leaving:
    """Integrate over the moment of leaving, y, from `begin` to `end`.

    In v = log(m + y) with m = min(α, β) the integrand is log-concave and near-exponential, so its tail can be
    cut where its slope at the start says, and a few Gauss–Legendre nodes give full accuracy.

    Parameters
    ----------
    r, alpha, s, beta : floats; α and β may have the shape (rows,)
    x, begin : arrays of shape (rows,)
    end : float or array of shape (rows,)
    means : bool
        Whether to take the means of log(α + y), log(β + y), 1/(α + y) and 1/(β + y) too.
    """
    m, apart = np.minimum(alpha, beta), np.abs(alpha - beta)
    first = m + begin
    width = np.log1p((end - begin) / first)
    slope = (r + x) * first / (alpha + begin) + (s + 1.0) * first / (beta + begin) - 1.0
    width = np.where(slope > 0, np.minimum(width, _TAIL / np.maximum(slope, 1e-300)), width)
    low_is_a = np.broadcast_to(alpha <= beta, x.shape)
    of_a, of_b = r + x, np.full_like(x, s + 1.0)
    columns = (
        width,
        first,
        np.broadcast_to(apart, x.shape),
        np.where(low_is_a, of_a, of_b),
        np.where(low_is_a, of_b, of_a),
    )
    found = np.empty((5 if means else 1, len(x)))
    short = (width <= _SHORT) & ((r + x + s + 1.0) * width <= _SHALLOW)
    long = width > _LONG
    parts = (_FEW, short), (_MANY, ~(short | long)), (_PANELS, long)
    for rule, chosen in ((rule, np.flatnonzero(rows)) for rule, rows in parts):
        for start in range(0, len(chosen), _ROWS):
            rows = chosen[start : start + _ROWS]
            found[:, rows] = _quadrature(*rule, *(v[rows] for v in columns), means)
    if not means:
        return _Leaving(found[0], *(4 * (found[0],)))
    log_low, per_low, log_high, per_high = found[1:]
    return _Leaving(
        found[0],
        np.where(low_is_a, log_low, log_high),
        np.where(low_is_a, log_high, log_low),
        np.where(low_is_a, per_low, per_high),
        np.where(low_is_a, per_high, per_low),
    )


def _quadrature(
    nodes: Array,
    weights: Array,
    width: Array,
    first: Array,
    apart: Array,
    power_low: Array,
    power_high: Array,
    means: bool,
) -> Array:
    """log ∫ low^(1−power_low) high^(−power_high) dv, and means of log low, 1/low, log high, 1/high, (5, rows).

    low = first × exp(v − its start) and high = low + apart, over a range of `width` in v.
    """
    log_low = width[:, None] * nodes
    low = np.exp(log_low)
    low *= first[:, None]
    log_low += np.log(first)[:, None]
    high = low + apart[:, None]
    log_high = np.log(high)
    value = (1.0 - power_low)[:, None] * log_low
    value -= power_high[:, None] * log_high
    # the integrand falls from its start, or rises by a few log units first
    top = value[:, 0].copy()
    value -= top[:, None]
    np.exp(value, out=value)
    value *= weights
    total = value.sum(axis=1)
    with np.errstate(divide="ignore"):
        log_total = top + np.log(total) + np.log(width)
    if not means:
        return log_total
    parts = [np.einsum("ij,ij->i", value, log_low)]
    parts.append(np.einsum("ij,ij->i", value, np.divide(1.0, low, out=low)))
    parts.append(np.einsum("ij,ij->i", value, log_high))
    parts.append(np.einsum("ij,ij->i", value, np.divide(1.0, high, out=high)))
    return np.stack([log_total, *(p / total for p in parts)])


def likelihood(params: Sequence[Array | float], grid: Grid) -> Mixture:
    """FH eq. 15 in the integral form on a grid; on :attr:`Cells.apart` α and β may have one entry a cell.

    A customer stays, or has left at some y between t_x and T. Where cells share a grid, that integral is the one
    from t_x to the largest T less the one from T on. The latter is never more than the part that stays, so nothing
    is lost in the subtraction.
    """
    r, alpha, s, beta = params
    x = grid.levels
    log_end_a, log_end_b = np.log(alpha + grid.age), np.log(beta + grid.age)
    log_stay = -(r + grid.age_x) * log_end_a - s * log_end_b
    left = _leaving(r, alpha, s, beta, grid.last_x, grid.last, grid.end)
    d_stay = np.stack([-log_end_a, -(r + grid.age_x) / (alpha + grid.age), -log_end_b, -s / (beta + grid.age)])
    keep: Array | float = 1.0
    if grid.shared:
        later = _leaving(r, alpha, s, beta, grid.age_x, grid.age, grid.end)
        share = np.exp(np.minimum(np.log(s) + later.log - log_stay, 0.0))
        keep = 1.0 - share
        d_stay -= share * _d_leaving(r, s, grid.age_x, later)
    return Mixture(
        grid,
        log_level=special.gammaln(r + x) - special.gammaln(r) + r * np.log(alpha) + s * np.log(beta),
        log_stay=log_stay,
        keep=keep,
        log_leave=np.log(s) + left.log,
        d_level=np.stack(
            [
                special.digamma(r + x) - special.digamma(r) + np.log(alpha),
                r / alpha + np.zeros_like(x),
                np.log(beta) + np.zeros_like(x),
                s / beta + np.zeros_like(x),
            ]
        ),
        d_stay=d_stay,
        d_leave=_d_leaving(r, s, grid.last_x, left),
    )


def _d_leaving(r: float, s: float, x: Array, left: _Leaving) -> Array:
    return np.stack([-left.log_a, -(r + x) * left.per_a, 1.0 / s - left.log_b, -(s + 1.0) * left.per_b])


def _power_integral(exponent: float, log_ratio: Array) -> Array:
    """(1 − exp(−exponent × log_ratio)) / exponent, with its limit log_ratio at exponent 0."""
    if abs(exponent) < 1e-12:
        return log_ratio
    return -np.expm1(-exponent * log_ratio) / exponent


def alive(r: float, alpha: Array | float, s: float, beta: Array | float, cells: Cells) -> Array:
    """P(alive) of each cell: what stays over what stays or has left; α and β may have one entry a cell."""
    log_alive = -(r + cells.x) * np.log(alpha + cells.T) - s * np.log(beta + cells.T)
    left = _leaving(r, alpha, s, beta, cells.x, cells.t_x, cells.T, means=False)
    return special.expit(log_alive - np.log(s) - left.log)


def _new_counts(n: Array, t: float, r: Array, alpha: Array, s: float, beta: Array) -> Array:
    """P(n purchases in t) at λ ~ gamma(r, α) and μ ~ gamma(s, β), shape (customers, n).

    The customer stays for t, or leaves at some y before and has bought by then: the density of y is integrated
    in u = log(1 + y/β) against the negative binomial of counts up to y.
    """
    shape, scale = r[:, None], alpha[:, None]
    far = np.log1p(t / beta)
    chances = np.exp(-s * far)[:, None] * negative_binomial(n, shape, scale, t)
    # leaving later than this has no weight in double precision
    far = np.minimum(far, _TAIL / s)
    # counts up to y rise around y = n α / r, over a share of y of the order of one over the root of r or n
    panels = int(np.ceil(far.max(initial=0.0) / 1.5)) + 7
    for panel in range(panels):
        for node, weight in zip(*_COUNT_RULE, strict=True):
            u = far * (panel + node) / panels
            density = s * np.exp(-s * u) * weight * far / panels
            chances += density[:, None] * negative_binomial(n, shape, scale, (beta * np.expm1(u))[:, None])
    return chances


def counts(
    n: Array, t: float, r: float, alpha: Array | float, s: float, beta: Array | float, x: Array, age: Array
) -> Array:
    """P(n purchases in the next t) of customers known to be alive, shape (customers, n); α and β may differ."""
    return _new_counts(n, t, r + x, alpha + age, s, beta + age)


def purchases_if_alive(
    r: float,
    alpha: Array | float,
    s: float,
    beta: Array | float,
    t: Array | float,
    x: Array,
    age: Array,
    discount: float,
) -> Array:
    """Expected discounted purchases in the next t of customers known to be alive, shape of x; α and β may differ."""
    if discount == 0.0 and not np.isfinite(t).all():
        raise ValueError("expected_purchases: an endless horizon needs a discount rate above 0")
    scale = beta + age
    return (r + x) / (alpha + age) * scale * discounted_time(s - 1.0, discount * scale, np.log1p(t / scale))


def futures(
    r: float,
    alpha: Array | float,
    s: float,
    beta: Array | float,
    t: float,
    x: Array,
    age: Array,
    here: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Draw purchases in the next t, and time spent as a customer, for those `here`, each of its shape."""
    shape = here.shape
    rate = rng.gamma(r + x, size=shape) / (alpha + age)
    hazard = np.maximum(rng.gamma(s, size=shape) / (beta + age), 1e-300)
    active = np.where(here, np.minimum(rng.standard_exponential(shape) / hazard, t), 0.0)
    return rng.poisson(rate * active).astype(float), active


class ParetoNBDResults(PurchaseResults):
    """A fitted Pareto/NBD model: parameters r, alpha (time), s, beta (time).

    The probability of being alive is SMC eq. 11–13 in the integral form.
    """

    def _alive_cells(self, cells: Cells) -> Array:
        r, alpha, s, beta = self.params.to_numpy()
        return alive(r, alpha, s, beta, cells)

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        return purchases_if_alive(*self.params.to_numpy(), t, x, age, discount)

    def _counts_if_alive(self, n: Array, t: float, x: Array, age: Array) -> Array:
        return counts(n, t, *self.params.to_numpy(), x, age)

    def purchase_pmf(self, n: ArrayLike, t: float) -> Array:
        """P(X(t) = n): probability that a new customer makes n repeat purchases in `t`, shape of `n`."""
        r, alpha, s, beta = (np.array([v]) for v in self.params)
        count = np.asarray(n, dtype=float)
        return _new_counts(count.ravel(), t, r, alpha, s[0], beta)[0].reshape(count.shape)

    def expected_repeats(self, t: ArrayLike) -> Array:
        """E[X(t)] of a new customer, SMC eq. 17, shape of `t`."""
        r, alpha, s, beta = self.params.to_numpy()
        time = np.asarray(t, dtype=float)
        return r * beta / alpha * _power_integral(s - 1.0, np.log1p(time / beta))

    def discounted_expected_residual_transactions(
        self,
        discount: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
    ) -> Array:
        """DERT: expected purchases over an endless future, discounted at a continuous rate per unit of time.

        Source: Fader, Hardie & Lee (2005), JMR 42(4), eq. 2.
        """
        return self.expected_purchases(np.inf, frequency, recency, T, discount=discount)

    def _future_if_alive(
        self, t: float, x: Array, age: Array, here: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        return futures(*self.params.to_numpy(), t, x, age, here, rng)


class ParetoNBD(MixtureModel):
    """Pareto/NBD purchase model.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases; first to last purchase; first purchase to the end of observation.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for; see :class:`PurchaseModel`.

    Examples
    --------
    >>> results = ParetoNBD([2, 0, 1, 4], [30.4, 0, 1.7, 31.0], [38.9, 38.9, 38.9, 36.0]).fit()
    >>> list(results.params.index)
    ['r', 'alpha', 's', 'beta']
    """

    name: ClassVar[str] = "Pareto/NBD"
    parameter_names: ClassVar[tuple[str, ...]] = ("r", "alpha", "s", "beta")
    time_parameters: ClassVar[tuple[str, ...]] = ("alpha", "beta")
    results_class: ClassVar[type[PurchaseResults]] = ParetoNBDResults
    likelihood = staticmethod(likelihood)

    def start(self, cells: Cells) -> list[Array]:
        """Starts whose mean buying rate is the observed one."""
        exposure = float(cells.count @ cells.T) / float(cells.count @ cells.x)
        return [
            np.array([r, r * exposure * 0.7, s, beta])
            for r, s, beta in ((0.6, 0.6, 0.4), (1.0, 0.3, 2.0), (3.0, 2.0, 5.0))
        ]
