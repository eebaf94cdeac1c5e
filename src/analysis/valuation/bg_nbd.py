"""The BG/NBD model of Fader, Hardie & Lee: customers may leave after any purchase.

The story: while a customer is one, they buy at random at their own rate λ (Poisson). After each purchase
they leave for good with their own probability p. Rates differ between customers by a gamma distribution
(r, α), leaving probabilities by a beta distribution (a, b), independently. A customer who has not bought
again (x = 0) has had no chance to leave, so their probability of being alive is 1 by construction: show the
Pareto/NBD beside it.

Source: Fader, P. S., Hardie, B. G. S. & Lee, K. L. (2005). "Counting your customers" the easy way: an
alternative to the Pareto/NBD model. Marketing Science 24(2), 275–284. Equation numbers below are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.valuation.integrals import purchases_of_leavers
from analysis.valuation.purchases import Array, Cells, Grid, Mixture, MixtureModel, PurchaseResults, negative_binomial


def _log_leaving_share(a: float, b: float, x: Array) -> Array:
    """log of a / (b + x − 1), −∞ where x = 0 (nobody leaves before a repeat purchase)."""
    return np.where(x > 0, np.log(a) - np.log(b + np.maximum(x, 1.0) - 1.0), -np.inf)


def likelihood(params: Sequence[Array | float], grid: Grid) -> Mixture:
    """Eq. 6 on a grid; on :attr:`Cells.apart` the parameters may be arrays with one entry a cell."""
    r, alpha, a, b = params
    x, some = grid.levels, np.maximum(grid.last_x, 1.0)
    log_end, log_last = np.log(alpha + grid.age), np.log(alpha + grid.last)
    rising = special.gammaln(r + x) - special.gammaln(r)
    # B(a, b + x) / B(a, b)
    staying = special.gammaln(b + x) - special.gammaln(b) + special.gammaln(a + b) - special.gammaln(a + b + x)
    lost = special.digamma(a + b) - special.digamma(a + b + x)
    none_age, none_last = np.zeros_like(grid.age), np.zeros_like(grid.last)
    return Mixture(
        grid,
        log_level=rising + staying + r * np.log(alpha),
        log_stay=-(r + grid.age_x) * log_end,
        keep=1.0,
        log_leave=_log_leaving_share(a, b, grid.last_x) - (r + grid.last_x) * log_last,
        d_level=np.stack(
            [
                special.digamma(r + x) - special.digamma(r) + np.log(alpha),
                r / alpha + np.zeros_like(x),
                lost,
                lost + special.digamma(b + x) - special.digamma(b),
            ]
        ),
        d_stay=np.stack([-log_end, -(r + grid.age_x) / (alpha + grid.age), none_age, none_age]),
        d_leave=np.stack(
            [-log_last, -(r + grid.last_x) / (alpha + grid.last), none_last + 1.0 / a, -1.0 / (b + some - 1.0)]
        ),
    )


def alive(r: float, alpha: Array | float, a: Array | float, b: float, cells: Cells) -> Array:
    """P(alive) of each cell; α and a may have one entry a cell.

    The odds of having left at the last purchase are a/(b+x−1) ((α+T)/(α+t_x))^(r+x), from eq. 6.
    """
    silence = np.log1p((cells.T - cells.t_x) / (alpha + cells.t_x))
    return special.expit(-_log_leaving_share(a, b, cells.x) - (cells.x + r) * silence)


def purchases_if_alive(
    r: float, alpha: Array | float, a: Array | float, b: float, t: Array | float, x: Array, age: Array, discount: float
) -> Array:
    """Expected discounted purchases in the next t of a customer known to be alive, shape of x.

    Alive at `age`, a customer has λ ~ gamma(r + x, α + age) and p ~ beta(a, b + x). α and a may have the shape of x.
    """
    return purchases_of_leavers(r + x, alpha + age, a, b + x, t, discount)


def new_counts(n: Array, t: float, r: Array | float, alpha: Array | float, a: Array | float, b: Array | float) -> Array:
    """Eq. 8 at λ ~ gamma(r, α) and p ~ beta(a, b), which may be those of customers whose history is known."""
    log_whole = special.betaln(a, b)
    stays = np.exp(special.betaln(a, b + n) - log_whole) * negative_binomial(n, r, alpha, t)
    some = np.maximum(n, 1.0)
    # the partial negative-binomial sum of eq. 8 is one minus an incomplete beta function
    leaves = np.exp(special.betaln(a + 1.0, b + some - 1.0) - log_whole) * special.betainc(some, r, t / (alpha + t))
    return stays + np.where(n > 0, leaves, 0.0)


def counts(
    n: Array, t: float, r: float, alpha: Array | float, a: Array | float, b: float, x: Array, age: Array
) -> Array:
    """P(n purchases in the next t) of customers known to be alive, shape (customers, n); α and a may differ."""
    first, scale, shape, second = np.broadcast_arrays(r + x, alpha + age, a, b + x)
    return new_counts(n, t, *(v[:, None] for v in (first, scale, shape, second)))


def futures(
    r: float,
    alpha: Array | float,
    a: Array | float,
    b: float,
    t: float,
    x: Array,
    age: Array,
    here: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Draw purchases in the next t, and time spent as a customer, for those `here`, each of its shape."""
    shape = here.shape
    rate = rng.gamma(r + x, size=shape) / (alpha + age)
    leave = rng.beta(a, b + x, size=shape)
    hazard = np.maximum(rate * leave, 1e-300)
    stay = rng.standard_exponential(shape) / hazard
    active = np.where(here, np.minimum(stay, t), 0.0)
    last = (here & (stay < t)).astype(float)
    return rng.poisson(rate * (1.0 - leave) * active) + last, active


class BGNBDResults(PurchaseResults):
    """A fitted BG/NBD model: parameters r, alpha (time), a, b.

    The probability of being alive is that of Fader, Hardie & Lee (2008), Computing P(alive) using the BG/NBD model, eq. 1: 1
    for every customer without a repeat purchase.
    """

    def _alive_cells(self, cells: Cells) -> Array:
        return alive(*self.params.to_numpy(), cells)

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        return purchases_if_alive(*self.params.to_numpy(), t, x, age, discount)

    def expected_repeats(self, t: ArrayLike) -> Array:
        """E[X(t)] of a new customer, eq. 9, shape of `t`."""
        time = np.atleast_1d(np.asarray(t, dtype=float))
        zero = np.zeros_like(time)
        value = purchases_if_alive(*self.params.to_numpy(), time, zero, zero, 0.0)
        return value if np.ndim(t) else value[0]

    def purchase_pmf(self, n: ArrayLike, t: float) -> Array:
        """P(X(t) = n): probability that a new customer makes n repeat purchases in `t`, eq. 8, shape of `n`."""
        r, alpha, a, b = self.params.to_numpy()
        return new_counts(np.asarray(n, dtype=float), t, r, alpha, a, b)

    def _counts_if_alive(self, n: Array, t: float, x: Array, age: Array) -> Array:
        return counts(n, t, *self.params.to_numpy(), x, age)

    def _future_if_alive(
        self, t: float, x: Array, age: Array, here: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        return futures(*self.params.to_numpy(), t, x, age, here, rng)


class BGNBD(MixtureModel):
    """BG/NBD purchase model.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases; first to last purchase; first purchase to the end of observation.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for; see :class:`PurchaseModel`.

    Examples
    --------
    >>> results = BGNBD([2, 0, 1, 4], [30.4, 0, 1.7, 31.0], [38.9, 38.9, 38.9, 36.0]).fit()
    >>> list(results.params.index)
    ['r', 'alpha', 'a', 'b']
    """

    name: ClassVar[str] = "BG/NBD"
    parameter_names: ClassVar[tuple[str, ...]] = ("r", "alpha", "a", "b")
    time_parameters: ClassVar[tuple[str, ...]] = ("alpha",)
    results_class: ClassVar[type[PurchaseResults]] = BGNBDResults
    likelihood = staticmethod(likelihood)

    def start(self, cells: Cells) -> list[Array]:
        """Starts whose mean buying rate is the observed one."""
        exposure = float(cells.count @ cells.T) / float(cells.count @ cells.x)
        return [
            np.array([r, r * exposure * 0.7, a, b]) for r, a, b in ((0.5, 0.8, 2.5), (1.0, 0.1, 2.0), (3.0, 1.0, 10.0))
        ]
