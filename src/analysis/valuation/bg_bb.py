"""The BG/BB model: occasions come one by one, and at each a customer buys or not, until they leave.

The story: at every occasion (a yearly appeal, a monthly box, an event) a customer buys with their own probability p;
before each they leave for good with their own probability θ. Buying probabilities differ between customers by a
beta distribution (α, β), leaving probabilities by another (γ, δ), independently.

Source: Fader, P. S., Hardie, B. G. S. & Shang, J. (2010). Customer-base analysis in a discrete-time noncontractual
setting. Marketing Science 29(6), 1086–1108.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from analysis.valuation.integrals import beta_mean
from analysis.valuation.purchases import (
    Array,
    Cells,
    ModelNotFitted,
    PurchaseModel,
    PurchaseResults,
    check_enough,
    checked_horizon,
    judge,
    maximise,
)


def _log_odds_gone(params: Array, cells: Cells, slopes: bool = False) -> tuple[Array, Array]:
    """log odds of having left since the last purchase, against being alive at the last occasion.

    They are the sum over t from t_x to n − 1 of h(t), the odds of having left after occasion t. Going back from
    h(n − 1) = γ/(δ+n−1) × (α+β+n−1)/(β+n−1−x), each h(t) is h(t + 1) times (α+β+t)/(β+t−x) × (γ+δ+t+1)/(δ+t). All
    are positive, so hundreds of occasions lose no digit and, in logs, overflow nothing; and customers with the
    same x and n share them.

    Returns
    -------
    log_odds : array of shape (cells,)
        −∞ where the last occasion was a purchase.
    slope : array of shape (4, cells)
        Derivatives in (α, β, γ, δ), 0 where log_odds is −∞; not computed without `slopes`.
    """
    alpha, beta, gamma, delta = params
    x, n, pair = cells.age_pairs
    log_odds, slope = np.full(len(cells.x), -np.inf), np.zeros((4, len(cells.x)))
    term, odds = np.zeros(len(x)), np.full(len(x), -np.inf)
    d_term, d_odds = np.zeros((4, len(x))), np.zeros((4, len(x)))
    by_last = np.argsort(cells.t_x, kind="stable")
    first = np.searchsorted(cells.t_x[by_last], np.arange(n.max() + 1.0))
    for t in range(int(n.max()) - 1, -1, -1):
        on = np.flatnonzero((n > t) & (x <= t))
        latest = n[on] == t + 1.0
        silent = beta + t - x[on]
        whole = alpha + beta + t
        # the two steps differ only in the part that belongs to leaving
        top, bottom = np.where(latest, gamma, gamma + delta + t + 1.0), delta + t
        term[on] += np.log(whole) - np.log(silent) + np.log(top) - np.log(bottom)
        odds[on] = np.logaddexp(odds[on], term[on])
        if slopes:
            step = np.stack([0.0 * silent, -1.0 / silent, 1.0 / top, np.where(latest, 0.0, 1.0 / top) - 1.0 / bottom])
            step[:2] += 1.0 / whole
            d_term[:, on] += step
            d_odds[:, on] += np.exp(term[on] - odds[on]) * (d_term[:, on] - d_odds[:, on])
        here = by_last[first[t] : first[t + 1]]
        here = here[cells.T[here] > t]
        log_odds[here] = odds[pair[here]]
        slope[:, here] = d_odds[:, pair[here]]
    return log_odds, slope


class BGBBResults(PurchaseResults):
    """A fitted BG/BB model: parameters alpha, beta (buying), gamma, delta (leaving); none has a unit of time.

    Horizons, ages and discounts count occasions.
    """

    def _alive_cells(self, cells: Cells) -> Array:
        _check_occasions(cells)
        return special.expit(-_log_odds_gone(self.params.to_numpy(), cells)[0])

    def probability_alive(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, ahead: int = 0) -> Array:
        """Probability of being a customer, shape (customers,).

        Parameters
        ----------
        frequency, recency, T : array-like of shape (customers,)
        ahead : int
            0 asks for the last occasion T; 1 for the occasion after it, as the paper does.
        """
        _, _, gamma, delta = self.params.to_numpy()
        cells = Cells.of(frequency, recency, T)
        alive = self._alive_cells(cells)
        for i in range(ahead):
            alive = alive * ((delta + cells.T + i) / (gamma + delta + cells.T + i))
        return alive[cells.index]

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        alpha, beta, gamma, delta = self.params.to_numpy()
        chance = (alpha + x) / (alpha + beta + age)
        if not np.isfinite(t):
            return chance * _discounted_stay(gamma, delta + age, float(np.expm1(discount)))
        return chance * _stay(gamma, delta + age, _occasions(t), discount)

    def expected_repeats(self, t: ArrayLike) -> Array:
        """E[X(t)]: expected purchases of a new customer at their first `t` occasions, shape of `t`."""
        alpha, beta, gamma, delta = self.params.to_numpy()
        time = np.asarray(t, dtype=float)
        if not (np.isfinite(time).all() and (time >= 0).all() and (time == np.floor(time)).all()):
            raise ValueError("expected_repeats: t counts occasions and must hold whole numbers from 0 up")
        i = np.arange(min(np.max(time, initial=0.0), _SUMMED))
        stays = np.cumsum(np.cumprod((delta + i) / (gamma + delta + i)))
        few = np.array(np.concatenate([[0.0], stays])[np.minimum(time, _SUMMED).astype(np.int64)])
        many = time > _SUMMED
        if many.any():
            few[many] = [_stay(gamma, np.array([delta]), occasions, 0.0)[0] for occasions in time[many]]
        return alpha / (alpha + beta) * few

    def purchase_pmf(self, n: ArrayLike, t: int) -> Array:
        """P(X(t) = n): probability that a new customer buys at n of their first `t` occasions, shape of `n`."""
        alpha, beta, gamma, delta = self.params.to_numpy()
        if _occasions(t) > _COUNTED:
            raise ValueError(f"purchase_pmf: {t:g} occasions are too many to go through; at most {_COUNTED:,}")
        count = np.asarray(n, dtype=float)[..., None]
        # either they left after `seen` occasions, or stayed for all t
        seen = np.arange(t + 1.0)
        possible = seen >= count
        misses = np.where(possible, seen - count, 0.0)
        log_buys = (
            special.gammaln(seen + 1.0)
            - special.gammaln(count + 1.0)
            - special.gammaln(misses + 1.0)
            + special.betaln(alpha + count, beta + misses)
            - special.betaln(alpha, beta)
        )
        left = seen < t
        log_life = special.betaln(gamma + left, delta + seen) - special.betaln(gamma, delta)
        return np.where(possible, np.exp(log_buys + log_life), 0.0).sum(axis=-1)

    def discounted_expected_residual_transactions(
        self, d: float, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike
    ) -> Array:
        """DERT: expected purchases over an endless future, the m-th occasion from now discounted by (1 + d)^m.

        Parameters
        ----------
        d : float
            Discount of one occasion, above 0; 0.1 is 10 %.
        frequency, recency, T : array-like of shape (customers,)

        Returns
        -------
        array of shape (customers,)
            Fader, Hardie & Shang (2010), whose 2F1 is taken as the integral that it stands for.
        """
        return self.expected_purchases(np.inf, frequency, recency, T, discount=float(np.log1p(d)))

    def simulate_future(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rng: np.random.Generator,
        size: int = 1,
    ) -> tuple[Array, Array]:
        """Draw futures of `t` occasions: purchases and occasions spent as a customer, each (size, customers)."""
        t = _occasions(checked_horizon(t, endless=False)[0])
        alpha, beta, gamma, delta = self.params.to_numpy()
        x, age = np.asarray(frequency, dtype=float), np.asarray(T, dtype=float)
        shape = (size, len(x))
        alive = rng.random(shape) < self.probability_alive(frequency, recency, T)
        leave = np.clip(rng.beta(gamma, delta + age, size=shape), 1e-15, 1.0)
        active = np.where(alive, np.minimum(rng.geometric(leave) - 1, t), 0)
        buys = rng.beta(alpha + x, beta + age - x, size=shape)
        return rng.binomial(active, buys).astype(float), active.astype(float)


# Up to so many occasions are summed one by one; more are an integral, which is as exact and takes no longer for more.
_SUMMED = 1_000
# a table of so many occasions, by how many purchases are asked for, fits into memory
_COUNTED = 100_000


def _occasions(t: float) -> int:
    if not (0 <= t <= 2**53 and t == np.floor(t)):
        raise ValueError(f"future purchases: the horizon is a whole number of occasions from 0 up, not {t:g}")
    return int(t)


def _stay(gamma: float, stayed: Array, t: float, discount: float) -> Array:
    """Σ over m = 1 … t of P(stays m more) exp(−discount m), shape of `stayed`, of those with θ ~ beta(gamma, stayed)."""
    if t > _SUMMED:
        return _long_stay(gamma, stayed, float(t), discount)
    stays, total = np.ones_like(stayed), np.zeros_like(stayed)
    for m in range(int(t)):
        stays = stays * ((stayed + m) / (gamma + stayed + m))
        total += stays * np.exp(-discount * (m + 1.0))
    return total


def _long_stay(gamma: float, stayed: Array, t: float, discount: float) -> Array:
    """What :func:`_stay` sums, as E[z (1 − zᵗ)/(1 − z)] with z = (1 − θ) exp(−discount)."""

    def summed(falls: Array) -> Array:
        """(1 − zᵗ)/(1 − z), where log z = −falls."""
        safe = np.where(falls > 0, falls, 1.0)
        return np.where(falls > 0, np.expm1(-t * safe) / np.expm1(-safe), t)

    def value(p: Array, _: object) -> Array:
        with np.errstate(divide="ignore"):
            return summed(discount - np.log1p(-p))

    most = np.full_like(stayed, summed(np.array(discount)))
    mean = beta_mean(np.full_like(stayed, gamma), stayed + 1.0, value, most, most)
    return stayed / (gamma + stayed) * np.exp(-discount) * mean


def _discounted_stay(gamma: float, stayed: Array, d: float) -> Array:
    """Σ over m ≥ 1 of P(stays m more occasions)/(1 + d)^m = E[(1 − θ)/(d + θ)] with θ ~ beta(gamma, stayed)."""
    if not d > 0:
        raise ValueError("expected_purchases: an endless horizon needs a discount rate above 0")
    a, b = np.full_like(stayed, gamma), stayed + 1.0
    mean = beta_mean(a, b, lambda p, _: 1.0 / (d + p), np.full_like(stayed, 1.0 / d), np.full_like(stayed, 1.0 / d))
    return stayed / (gamma + stayed) * mean


class BGBB(PurchaseModel):
    """BG/BB purchase model for discrete occasions.

    Parameters
    ----------
    frequency : array-like of shape (customers,)
        Occasions with a purchase, after the one that made them a customer.
    recency : array-like of shape (customers,)
        Number of the last occasion with a purchase; 0 where there is none.
    T : array-like of shape (customers,)
        Occasions that there have been since.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for.

    Examples
    --------
    >>> results = BGBB([0, 1, 3, 6, 2], [0, 4, 5, 6, 2], [6, 6, 6, 6, 6]).fit()
    >>> list(results.params.index)
    ['alpha', 'beta', 'gamma', 'delta']
    """

    name: ClassVar[str] = "BG/BB"
    parameter_names: ClassVar[tuple[str, ...]] = ("alpha", "beta", "gamma", "delta")
    time_parameters: ClassVar[tuple[str, ...]] = ()
    results_class: ClassVar[type[PurchaseResults]] = BGBBResults

    def __init__(
        self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, weights: ArrayLike | None = None
    ) -> None:
        super().__init__(frequency, recency, T, weights=weights)
        _check_occasions(self.cells)

    def start(self, cells: Cells) -> list[Array]:
        """Starts whose share of occasions with a purchase is near the observed one."""
        share = float(cells.count @ cells.x) / float(cells.count @ cells.T)
        odds = np.clip(share, 0.02, 0.9) / (1.0 - np.clip(share, 0.02, 0.9))
        return [
            np.array([alpha, alpha / odds * 0.7, gamma, delta])
            for alpha, gamma, delta in ((1.0, 0.7, 3.0), (0.5, 0.2, 5.0), (3.0, 1.0, 20.0))
        ]

    def fit(self) -> PurchaseResults:
        """Maximise the likelihood by quasi-Newton steps with exact gradients on log parameters.

        Occasions are counted, so there is no clock to choose.

        Returns
        -------
        BGBBResults
            With a `verdict`; look at it before using the numbers.

        Raises
        ------
        ModelNotFitted
            With fewer than two customers, no purchase after the first, or at most one occasion.
        """
        cells = self.cells
        check_enough(self.name, self.nobs)
        if not (cells.x > 0).any():
            raise ModelNotFitted(
                f"{self.name}: nobody bought twice, so the buying probability is at its boundary 0; watch for longer"
            )
        if cells.T.max() < 2:
            raise ModelNotFitted(f"{self.name}: one occasion cannot tell who left from who sat out; watch for more")
        fit = maximise(self._objective(cells), [np.log(s) for s in self.start(cells)])
        return self.results_class(
            model=self,
            params=pd.Series(np.exp(fit.log_params), index=list(self.parameter_names), name="estimate"),
            log_cov=fit.log_covariance / self.nobs,
            llf=-fit.value * self.nobs,
            verdict=judge(fit, self.parameter_names, self.nobs),
        )

    @staticmethod
    def loglike_cells(params: Array, cells: Cells) -> tuple[Array, Array]:
        """Log-likelihood of the sequence of occasions by cell, and its gradient in (α, β, γ, δ).

        Of one sequence with this x and t_x, not of all that have them, as in the paper.
        """
        alpha, beta, gamma, delta = params
        x, n, pair = cells.age_pairs
        log_odds, slope = _log_odds_gone(params, cells, slopes=True)
        stays = (
            special.betaln(alpha + x, beta + n - x)
            - special.betaln(alpha, beta)
            + special.betaln(gamma, delta + n)
            - special.betaln(gamma, delta)
        )
        buying = special.digamma(alpha + beta) - special.digamma(alpha + beta + n)
        leaving = special.digamma(gamma + delta) - special.digamma(gamma + delta + n)
        d_stays = np.stack(
            [
                buying + special.digamma(alpha + x) - special.digamma(alpha),
                buying + special.digamma(beta + n - x) - special.digamma(beta),
                leaving,
                leaving + special.digamma(delta + n) - special.digamma(delta),
            ]
        )
        return stays[pair] + np.logaddexp(0.0, log_odds), d_stays[:, pair] + special.expit(log_odds) * slope


def _check_occasions(cells: Cells) -> None:
    whole = (np.floor(cells.t_x) == cells.t_x) & (np.floor(cells.T) == cells.T)
    for wrong, what in (
        (~whole, "recency and T count occasions and must be whole numbers"),
        (cells.x > cells.t_x, "frequency cannot exceed recency, the number of the last occasion with a purchase"),
    ):
        if wrong.any():
            cell = int(np.argmax(wrong))
            raise ValueError(
                f"purchase data: {what} (frequency={cells.x[cell]:g}, recency={cells.t_x[cell]:g}, T={cells.T[cell]:g})"
            )
