"""The MBG/NBD model: customers may leave after any purchase, the first one included.

The story is that of the BG/NBD with one change: a customer may leave right after the first purchase too. So
the silence of a customer who never came back counts against them, P(alive) < 1 at x = 0, which makes this the
model of the family to publish a probability of being alive from.

Sources: Batislam, E. P., Denizel, M. & Filiztekin, A. (2007). Empirical validation and comparison of models for
customer base analysis. International Journal of Research in Marketing 24(3), 201–209. Wagner, U. & Hoppe, D.
(2008). Erratum on the MBG/NBD model. The same journal 25(3), 225–226.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.valuation import bg_nbd
from analysis.valuation.purchases import Array, Cells, Grid, Mixture, MixtureModel, PurchaseResults


def likelihood(params: Sequence[Array | float], grid: Grid) -> Mixture:
    """The likelihood on a grid; on :attr:`Cells.apart` the parameters may be arrays with one entry a cell.

    Γ(r+x)/Γ(r) α^r × (B(a, b+x+1) (α+T)^−(r+x) + B(a+1, b+x) (α+t_x)^−(r+x)) / B(a, b): the density of the
    purchase times, not of their number, so that it compares with the other purchase models.
    """
    r, alpha, a, b = params
    x = grid.levels
    log_end, log_last = np.log(alpha + grid.age), np.log(alpha + grid.last)
    rising = special.gammaln(r + x) - special.gammaln(r)
    staying = (
        special.gammaln(b + x + 1.0) - special.gammaln(b) + special.gammaln(a + b) - special.gammaln(a + b + x + 1)
    )
    lost = special.digamma(a + b) - special.digamma(a + b + x + 1.0)
    none_age, none_last = np.zeros_like(grid.age), np.zeros_like(grid.last)
    return Mixture(
        grid,
        log_level=rising + staying + r * np.log(alpha),
        log_stay=-(r + grid.age_x) * log_end,
        keep=1.0,
        log_leave=np.log(a) - np.log(b + grid.last_x) - (r + grid.last_x) * log_last,
        d_level=np.stack(
            [
                special.digamma(r + x) - special.digamma(r) + np.log(alpha),
                r / alpha + np.zeros_like(x),
                lost,
                lost + special.digamma(b + x + 1.0) - special.digamma(b),
            ]
        ),
        d_stay=np.stack([-log_end, -(r + grid.age_x) / (alpha + grid.age), none_age, none_age]),
        d_leave=np.stack(
            [-log_last, -(r + grid.last_x) / (alpha + grid.last), none_last + 1.0 / a, -1.0 / (b + grid.last_x)]
        ),
    )


def _log_odds_gone(r: float, alpha: float, a: float, b: float, cells: Cells) -> Array:
    """log odds of having left at the last purchase: a/(b+x) ((α+T)/(α+t_x))^(r+x)."""
    return np.log(a) - np.log(b + cells.x) + (r + cells.x) * np.log1p((cells.T - cells.t_x) / (alpha + cells.t_x))


class MBGNBDResults(PurchaseResults):
    """A fitted MBG/NBD model: parameters r, alpha (time), a, b."""

    def _alive_cells(self, cells: Cells) -> Array:
        return special.expit(-_log_odds_gone(*self.params.to_numpy(), cells))

    @property
    def _staying(self) -> tuple[float, float, float, float]:
        """The BG/NBD of those who stayed after the first purchase: one chance to leave is behind them."""
        r, alpha, a, b = self.params.to_numpy()
        return r, alpha, a, b + 1.0

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        return bg_nbd.purchases_if_alive(*self._staying, t, x, age, discount)

    def expected_repeats(self, t: ArrayLike) -> Array:
        """E[X(t)] of a customer who has just made the first purchase, shape of `t`."""
        _, _, a, b = self.params.to_numpy()
        time = np.atleast_1d(np.asarray(t, dtype=float))
        zero = np.zeros_like(time)
        value = b / (a + b) * bg_nbd.purchases_if_alive(*self._staying, time, zero, zero, 0.0)
        return value if np.ndim(t) else value[0]

    def purchase_pmf(self, n: ArrayLike, t: float) -> Array:
        """P(X(t) = n): probability that a new customer makes n repeat purchases in `t`, shape of `n`."""
        _, _, a, b = self.params.to_numpy()
        count, gone = np.asarray(n, dtype=float), a / (a + b)
        return np.where(count == 0, gone, 0.0) + (1.0 - gone) * bg_nbd.new_counts(count, t, *self._staying)

    def _future_if_alive(
        self, t: float, x: Array, age: Array, here: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        return bg_nbd.futures(*self._staying, t, x, age, here, rng)


class MBGNBD(MixtureModel):
    """MBG/NBD purchase model.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases; first to last purchase; first purchase to the end of observation.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for.

    Examples
    --------
    >>> results = MBGNBD([2, 0, 1, 4], [30.4, 0, 1.7, 31.0], [38.9, 38.9, 38.9, 36.0]).fit()
    >>> list(results.params.index)
    ['r', 'alpha', 'a', 'b']
    """

    name: ClassVar[str] = "MBG/NBD"
    parameter_names: ClassVar[tuple[str, ...]] = ("r", "alpha", "a", "b")
    time_parameters: ClassVar[tuple[str, ...]] = ("alpha",)
    results_class: ClassVar[type[PurchaseResults]] = MBGNBDResults
    likelihood = staticmethod(likelihood)

    def start(self, cells: Cells) -> list[Array]:
        """Starts whose mean buying rate is near the observed one."""
        exposure = float(cells.count @ cells.T) / float(cells.count @ cells.x)
        return [
            np.array([r, r * exposure * 0.7, a, b]) for r, a, b in ((0.5, 0.8, 1.6), (1.0, 0.1, 2.0), (3.0, 1.0, 10.0))
        ]
