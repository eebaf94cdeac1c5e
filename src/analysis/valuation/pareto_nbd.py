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

from typing import ClassVar

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike
from scipy import special

from analysis.valuation.purchases import Array, Cells, PurchaseModel, PurchaseResults

_NODES, _WEIGHTS = leggauss(24)
# Beyond forty log units below its start the integrand is worth nothing in double precision.
_TAIL = 40.0


def _leaving_nodes(r: float, alpha: float, s: float, beta: float, cells: Cells) -> tuple[Array, Array, Array]:
    """Nodes for the integral over the moment of leaving between the last purchase and T.

    The likelihood of having left is s ∫ (α+y)^−(r+x) (β+y)^−(s+1) dy over (t_x, T). In v = log(m + y) with
    m = min(α, β) the integrand is log-concave and near-exponential, so its tail can be cut where its steepest
    slope at the start says, and a few Gauss–Legendre nodes give full accuracy.

    Returns
    -------
    log_a, log_b : arrays of shape (cells, nodes)
        log(α + y) and log(β + y) at the nodes.
    log_term : array of shape (cells, nodes)
        log of weight × integrand.
    """
    m = min(alpha, beta)
    begin = np.log(m + cells.t_x)
    width = np.log1p((cells.T - cells.t_x) / (m + cells.t_x))
    slope = (
        (r + cells.x) * (m + cells.t_x) / (alpha + cells.t_x) + (s + 1.0) * (m + cells.t_x) / (beta + cells.t_x) - 1.0
    )
    width = np.where(slope > 0, np.minimum(width, _TAIL / np.maximum(slope, 1e-300)), width)
    v = begin[:, None] + width[:, None] * (0.5 * (_NODES + 1.0))
    moment = np.exp(v)
    log_a = v if alpha == m else np.log(moment + (alpha - m))
    log_b = v if beta == m else np.log(moment + (beta - m))
    with np.errstate(divide="ignore"):
        log_width = np.log(0.5 * width)
    log_term = log_width[:, None] + np.log(_WEIGHTS) + v - (r + cells.x)[:, None] * log_a - (s + 1.0) * log_b
    return log_a, log_b, log_term


def _log_sum(log_term: Array) -> Array:
    top = log_term.max(axis=1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return top + np.log(np.exp(log_term - top[:, None]).sum(axis=1))


def _power_integral(exponent: float, log_ratio: Array) -> Array:
    """(1 − exp(−exponent × log_ratio)) / exponent, with its limit log_ratio at exponent 0."""
    if abs(exponent) < 1e-12:
        return log_ratio
    return -np.expm1(-exponent * log_ratio) / exponent


class ParetoNBDResults(PurchaseResults):
    """A fitted Pareto/NBD model: parameters r, alpha (time), s, beta (time)."""

    def _alive_cells(self, cells: Cells) -> Array:
        r, alpha, s, beta = self.params.to_numpy()
        _, _, log_term = _leaving_nodes(r, alpha, s, beta, cells)
        log_alive = -(r + cells.x) * np.log(alpha + cells.T) - s * np.log(beta + cells.T)
        return special.expit(log_alive - np.log(s) - _log_sum(log_term))

    def probability_alive(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Array:
        """Probability of being alive at T, shape (customers,): SMC eq. 11–13 in the integral form."""
        cells = Cells.of(frequency, recency, T)
        return self._alive_cells(cells)[cells.index]

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        r, alpha, s, beta = self.params.to_numpy()
        rate = (r + x) / (alpha + age)
        if discount == 0.0:
            if not np.isfinite(t):
                raise ValueError("expected_purchases: an endless horizon needs a discount rate above 0")
            return rate * (beta + age) * _power_integral(s - 1.0, np.log1p(t / (beta + age)))
        if not np.isfinite(t):
            z = discount * (beta + age)
            return rate * (beta + age) * z ** (s - 1.0) * special.hyperu(s, s, z)
        far = np.log1p(t / (beta + age))
        u = far[:, None] * (0.5 * (_NODES + 1.0))
        integrand = np.exp((1.0 - s) * u - discount * (beta + age[:, None]) * np.expm1(u))
        return rate * (beta + age) * far * (integrand @ (0.5 * _WEIGHTS))

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

    def simulate_future(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rng: np.random.Generator,
        size: int = 1,
    ) -> tuple[Array, Array]:
        """Draw futures of length `t`: purchases and time spent as a customer, each (size, customers)."""
        r, alpha, s, beta = self.params.to_numpy()
        x, age = np.asarray(frequency, dtype=float), np.asarray(T, dtype=float)
        shape = (size, len(x))
        alive = rng.random(shape) < self.probability_alive(frequency, recency, T)
        rate = rng.gamma(r + x, size=shape) / (alpha + age)
        hazard = np.maximum(rng.gamma(s, size=shape) / (beta + age), 1e-300)
        active = np.where(alive, np.minimum(rng.standard_exponential(shape) / hazard, t), 0.0)
        return rng.poisson(rate * active).astype(float), active


class ParetoNBD(PurchaseModel):
    """Pareto/NBD purchase model.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases; first to last purchase; first purchase to the end of observation.

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

    def start(self, cells: Cells) -> list[Array]:
        """Starts whose mean buying rate is the observed one."""
        exposure = float(cells.count @ cells.T) / float(cells.count @ cells.x)
        return [
            np.array([r, r * exposure * 0.7, s, beta])
            for r, s, beta in ((0.6, 0.6, 0.4), (1.0, 0.3, 2.0), (3.0, 2.0, 5.0))
        ]

    @staticmethod
    def loglike_cells(params: Array, cells: Cells) -> tuple[Array, Array]:
        """Log-likelihood by cell and its gradient in (r, α, s, β), from FH eq. 15 in the integral form."""
        r, alpha, s, beta = params
        x = cells.x
        levels, of = np.unique(x, return_inverse=True)
        log_a, log_b, log_term = _leaving_nodes(r, alpha, s, beta, cells)
        log_gone = np.log(s) + _log_sum(log_term)
        log_end_a, log_end_b = np.log(alpha + cells.T), np.log(beta + cells.T)
        log_alive = -(r + x) * log_end_a - s * log_end_b
        log_both = np.logaddexp(log_alive, log_gone)
        gone = np.exp(log_gone - log_both)
        alive = np.exp(log_alive - log_both)
        # weight of each node within "left at y"; zero where T = t_x leaves no time to have left in
        node = np.exp(log_term + np.log(s) - log_both[:, None])
        rising = special.gammaln(r + levels) - special.gammaln(r)
        value = rising[of] + r * np.log(alpha) + s * np.log(beta) + log_both
        gradient = np.stack(
            [
                (special.digamma(r + levels) - special.digamma(r))[of]
                + np.log(alpha)
                - alive * log_end_a
                - (node * log_a).sum(axis=1),
                r / alpha - (r + x) * (alive / (alpha + cells.T) + (node * np.exp(-log_a)).sum(axis=1)),
                np.log(beta) - alive * log_end_b + gone / s - (node * log_b).sum(axis=1),
                s / beta - s * alive / (beta + cells.T) - (s + 1.0) * (node * np.exp(-log_b)).sum(axis=1),
            ]
        )
        return value, gradient
