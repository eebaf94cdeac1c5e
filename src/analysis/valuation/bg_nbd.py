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

from typing import ClassVar

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike
from scipy import special

from analysis.valuation.purchases import Array, Cells, PurchaseModel, PurchaseResults

_NODES, _WEIGHTS = leggauss(20)


def _log_leaving_share(a: float, b: float, x: Array) -> Array:
    """log of a / (b + x − 1), −∞ where x = 0 (nobody leaves before a repeat purchase)."""
    return np.where(x > 0, np.log(a) - np.log(b + np.maximum(x, 1.0) - 1.0), -np.inf)


def _log_odds_gone(r: float, alpha: float, a: float, b: float, cells: Cells) -> Array:
    """log odds of having left at the last purchase: a/(b+x−1) ((α+T)/(α+t_x))^(r+x), from eq. 6."""
    return _log_leaving_share(a, b, cells.x) + (cells.x + r) * np.log1p((cells.T - cells.t_x) / (alpha + cells.t_x))


def _discounted_rate_integral(
    r: float, alpha: float, a: float, b: float, t: Array, x: Array, age: Array, discount: float
) -> Array:
    """Expected discounted purchases in the next t of a customer known to be alive, shape of x.

    Alive at `age`, a customer has λ ~ gamma(r + x, α + age) and p ~ beta(a, b + x), and buys τ later at the
    expected rate E[λ exp(−λpτ)], which is a Gauss hypergeometric function by Euler's integral. Integrating
    that rate avoids the subtraction in eq. 10, which loses all digits near a = 1 and for many purchases.
    """
    far = np.log1p(t / (alpha + age))
    u = far[:, None] * (0.5 * (_NODES + 1.0))
    hyper = special.hyp2f1(a + b - r - 1.0, a, a + b + x[:, None], -np.expm1(-u))
    time = (alpha + age[:, None]) * np.expm1(u)
    integrand = np.exp((1.0 - a) * u - discount * time) * hyper
    return (r + x) * far * (integrand @ (0.5 * _WEIGHTS))


class BGNBDResults(PurchaseResults):
    """A fitted BG/NBD model: parameters r, alpha (time), a, b."""

    def _alive_cells(self, cells: Cells) -> Array:
        return special.expit(-_log_odds_gone(*self.params.to_numpy(), cells))

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        return _discounted_rate_integral(*self.params.to_numpy(), np.full_like(x, t), x, age, discount)

    def probability_alive(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Array:
        """Probability of being alive at T, shape (customers,); 1 for every customer without a repeat purchase.

        Source: Fader, Hardie & Lee (2008), Computing P(alive) using the BG/NBD model, eq. 1.
        """
        cells = Cells.of(frequency, recency, T)
        return self._alive_cells(cells)[cells.index]

    def expected_repeats(self, t: ArrayLike) -> Array:
        """E[X(t)] of a new customer, eq. 9, shape of `t`."""
        time = np.atleast_1d(np.asarray(t, dtype=float))
        zero = np.zeros_like(time)
        value = _discounted_rate_integral(*self.params.to_numpy(), time, zero, zero, 0.0)
        return value if np.ndim(t) else value[0]

    def purchase_pmf(self, n: ArrayLike, t: float) -> Array:
        """P(X(t) = n): probability that a new customer makes n repeat purchases in `t`, eq. 8, shape of `n`."""
        r, alpha, a, b = self.params.to_numpy()
        count = np.asarray(n, dtype=float)
        share = t / (alpha + t)
        stays = np.exp(
            special.betaln(a, b + count)
            - special.betaln(a, b)
            + special.gammaln(r + count)
            - special.gammaln(r)
            - special.gammaln(count + 1.0)
            + r * np.log1p(-share)
            + special.xlogy(count, share)
        )
        some = np.maximum(count, 1.0)
        # the partial negative-binomial sum of eq. 8 is one minus an incomplete beta function
        leaves = np.exp(special.betaln(a + 1.0, b + some - 1.0) - special.betaln(a, b)) * special.betainc(
            some, r, share
        )
        return stays + np.where(count > 0, leaves, 0.0)

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
        r, alpha, a, b = self.params.to_numpy()
        x = np.asarray(frequency, dtype=float)
        shape = (size, len(x))
        alive = rng.random(shape) < self.probability_alive(frequency, recency, T)
        rate = rng.gamma(r + x, size=shape) / (alpha + np.asarray(T, dtype=float))
        leave = rng.beta(a, b + x, size=shape)
        hazard = np.maximum(rate * leave, 1e-300)
        stay = rng.standard_exponential(shape) / hazard
        active = np.where(alive, np.minimum(stay, t), 0.0)
        last = (alive & (stay < t)).astype(float)
        return rng.poisson(rate * (1.0 - leave) * active) + last, active


class BGNBD(PurchaseModel):
    """BG/NBD purchase model.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases; first to last purchase; first purchase to the end of observation.

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

    def start(self, cells: Cells) -> list[Array]:
        """Starts whose mean buying rate is the observed one."""
        exposure = float(cells.count @ cells.T) / float(cells.count @ cells.x)
        return [
            np.array([r, r * exposure * 0.7, a, b]) for r, a, b in ((0.5, 0.8, 2.5), (1.0, 0.1, 2.0), (3.0, 1.0, 10.0))
        ]

    @staticmethod
    def loglike_cells(params: Array, cells: Cells) -> tuple[Array, Array]:
        """Log-likelihood by cell and its gradient in (r, α, a, b), from eq. 6."""
        r, alpha, a, b = params
        x = cells.x
        levels, of = np.unique(x, return_inverse=True)
        log_end, log_last = np.log(alpha + cells.T), np.log(alpha + cells.t_x)
        log_odds = _log_odds_gone(r, alpha, a, b, cells)
        gone = special.expit(log_odds)
        per_level = (
            special.gammaln(r + levels) - special.gammaln(r) + special.betaln(a, b + levels) - special.betaln(a, b)
        )
        value = per_level[of] + r * np.log(alpha) - (r + x) * log_end + np.logaddexp(0.0, log_odds)
        digamma_all = special.digamma(a + b) - special.digamma(a + b + levels)
        gradient = np.stack(
            [
                (special.digamma(r + levels) - special.digamma(r))[of]
                + np.log(alpha)
                - (1.0 - gone) * log_end
                - gone * log_last,
                r / alpha - (r + x) * ((1.0 - gone) / (alpha + cells.T) + gone / (alpha + cells.t_x)),
                digamma_all[of] + gone / a,
                (digamma_all + special.digamma(b + levels) - special.digamma(b))[of]
                - gone / (b + np.maximum(x, 1.0) - 1.0),
            ]
        )
        return value, gradient
