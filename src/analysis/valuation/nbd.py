"""The NBD model of Ehrenberg: customers buy at their own rate and never leave.

The story: everybody buys at random at their own rate λ (Poisson) for ever; rates differ between customers by a
gamma distribution (r, α). It is what Pareto/NBD and BG/NBD become when nobody leaves, so it is the yardstick
that says whether a story of leaving earns its keep, and the model of a panel in which none can be seen.

Source: Ehrenberg, A. S. C. (1959). The pattern of consumer purchases. Applied Statistics 8(1), 26–41.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.valuation.purchases import (
    Array,
    Cells,
    PurchaseModel,
    PurchaseResults,
    checked_horizon,
    negative_binomial,
)


class NBDResults(PurchaseResults):
    """A fitted NBD model: parameters r, alpha (time). Everybody is alive: the model has no way of leaving."""

    def _alive_cells(self, cells: Cells) -> Array:
        return np.ones_like(cells.x)

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        r, alpha = self.params.to_numpy()
        if discount == 0.0:
            return (r + x) / (alpha + age) * t
        return (r + x) / (alpha + age) * -np.expm1(-discount * t) / discount

    def _counts_if_alive(self, n: Array, t: float, x: Array, age: Array) -> Array:
        r, alpha = self.params.to_numpy()
        return negative_binomial(n, (r + x)[:, None], (alpha + age)[:, None], t)

    def expected_repeats(self, t: ArrayLike) -> Array:
        """E[X(t)] of a new customer, r t / α, shape of `t`."""
        r, alpha = self.params.to_numpy()
        return r / alpha * np.asarray(t, dtype=float)

    def simulate_future(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rng: np.random.Generator,
        size: int = 1,
    ) -> tuple[Array, Array]:
        """Draw futures of length `t`: purchases and time spent as a customer (all of it), each (size, customers)."""
        t, _ = checked_horizon(t, endless=False)
        r, alpha = self.params.to_numpy()
        x, age = np.asarray(frequency, dtype=float), np.asarray(T, dtype=float)
        rate = rng.gamma(r + x, size=(size, len(x))) / (alpha + age)
        return rng.poisson(rate * t).astype(float), np.full(rate.shape, float(t))


class NBD(PurchaseModel):
    """NBD purchase model.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases; first to last purchase (not used by this model); first purchase to the end of observation.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for; see :class:`PurchaseModel`.

    Examples
    --------
    >>> results = NBD([2, 0, 1, 4], [30.4, 0, 1.7, 31.0], [38.9, 38.9, 38.9, 36.0]).fit()
    >>> list(results.params.index)
    ['r', 'alpha']
    """

    name: ClassVar[str] = "NBD"
    parameter_names: ClassVar[tuple[str, ...]] = ("r", "alpha")
    time_parameters: ClassVar[tuple[str, ...]] = ("alpha",)
    results_class: ClassVar[type[PurchaseResults]] = NBDResults
    can_leave: ClassVar[bool] = False

    def start(self, cells: Cells) -> list[Array]:
        """A start whose mean buying rate is the observed one."""
        exposure = float(cells.count @ cells.T) / float(cells.count @ cells.x)
        return [np.array([r, r * exposure]) for r in (0.5, 3.0)]

    @staticmethod
    def loglike_cells(params: Array, cells: Cells) -> tuple[Array, Array]:
        """Log-likelihood by cell of the purchase times, and its gradient in (r, α).

        The density of the times, not of their number, so that it compares with the other purchase models.
        """
        r, alpha = params
        levels, of = cells.levels
        log_end = np.log(alpha + cells.T)
        rising = special.gammaln(r + levels) - special.gammaln(r)
        value = rising[of] + r * np.log(alpha) - (r + cells.x) * log_end
        gradient = np.stack(
            [
                (special.digamma(r + levels) - special.digamma(r))[of] + np.log(alpha) - log_end,
                r / alpha - (r + cells.x) / (alpha + cells.T),
            ]
        )
        return value, gradient
