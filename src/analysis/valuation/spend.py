"""The gamma-gamma model of spend: what a customer's next purchase is worth on average.

The story: a customer's purchases vary around their own mean (gamma with shape p), and means differ between
customers (their inverse scale is gamma with q and γ), independently of how often they buy. The mean of a few
purchases is pulled towards the mean of everybody, the more so the fewer they are.

Source: Fader, P. S. & Hardie, B. G. S. (2013). The gamma-gamma model of monetary value, note 025
(http://www.brucehardie.com/notes/025/), after Colombo & Jiang (1999). Equation numbers are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from analysis.valuation.purchases import (
    Array,
    Estimates,
    ModelNotFitted,
    Objective,
    Verdict,
    checked_weights,
    counted,
    judge,
    maximise_in_stages,
    stage_sizes,
    whole,
)
from analysis.valuation.saved import SavedFit

_NAMES = ("p", "q", "gamma")
_CENTS = 100.0


@dataclass(frozen=True)
class _Totals:
    """What the likelihood needs of the customers: how many made x purchases, and who spent how much in all.

    Attributes
    ----------
    levels, customers : arrays
        Distinct x, and how many customers there are of each.
    total, count, purchases : arrays
        Distinct total spends x z̄, how many customers have each, and how many purchases those made.
    log_mean, log_total : float
        Sums over customers of log z̄, and of x log(x z̄).
    """

    levels: Array
    customers: Array
    total: Array
    count: Array
    purchases: Array
    log_mean: float
    log_total: float
    nobs: float

    @classmethod
    def of(cls, x: Array, z: Array, weight: Array) -> _Totals:
        times = x.astype(np.int64)
        level, customers, _ = counted(times, int(times.max(initial=0)) + 1, weight, False)
        levels = level.astype(float)
        total, count, purchases = _by_total(x * z, weight, weight * x)
        with_log = np.log(total)
        log_total = float(purchases @ with_log)
        log_mean = float(count @ with_log) - float(customers @ np.log(levels))
        return cls(levels, customers, total, count, purchases, log_mean, log_total, float(weight.sum()))

    def scaled(self, factor: float) -> _Totals:
        """The same customers with money multiplied by `factor`."""
        shift = np.log(factor)
        return replace(
            self,
            total=self.total * factor,
            log_mean=self.log_mean + self.nobs * shift,
            log_total=self.log_total + float(self.levels @ self.customers) * shift,
        )

    def loglike(self, params: Array) -> tuple[float, Array]:
        """Log-likelihood, eq. 1a, and its gradient in (p, q, γ), shape (3,)."""
        p, q, gamma = params
        levels, customers = self.levels, self.customers
        beyond = gamma + self.total
        log_beyond = np.log(beyond)
        per_beyond = np.divide(1.0, beyond, out=beyond)
        once, times = float(self.count @ log_beyond), float(self.purchases @ log_beyond)
        per_level = special.gammaln(p * levels + q) - special.gammaln(p * levels) - special.gammaln(q)
        value = (
            customers @ per_level
            + self.nobs * q * np.log(gamma)
            + p * (self.log_total - times)
            - self.log_mean
            - q * once
        )
        digamma = special.digamma(p * levels + q)
        gradient = np.array(
            [
                customers @ (levels * (digamma - special.digamma(p * levels))) + self.log_total - times,
                customers @ (digamma - special.digamma(q)) + self.nobs * np.log(gamma) - once,
                self.nobs * q / gamma - p * (self.purchases @ per_beyond) - q * (self.count @ per_beyond),
            ]
        )
        return float(value), gradient


def _by_total(total: Array, count: Array, purchases: Array) -> tuple[Array, Array, Array]:
    """Distinct totals in order with the sums of `count` and `purchases` in each."""
    highest = total.max(initial=0.0) * _CENTS
    if highest < max(2 * len(total), 1 << 16):
        cents = np.rint(total * _CENTS)
        # a mean of amounts in cents, times their number, is off by rounding errors only
        if (np.abs(total * _CENTS - cents) <= 1e-9 * cents).all():
            key = cents.astype(np.int64)
            found = np.bincount(key, weights=count)
            distinct = np.flatnonzero(found > 0)
            return distinct / _CENTS, found[distinct], np.bincount(key, weights=purchases)[distinct]
    order = np.argsort(total)
    total = total[order]
    first = np.flatnonzero(np.diff(total, prepend=-1.0) > 0)
    return total[first], np.add.reduceat(count[order], first), np.add.reduceat(purchases[order], first)


@dataclass(frozen=True)
class GammaGammaResults(Estimates):
    """A fitted gamma-gamma model.

    Attributes
    ----------
    params : Series (p, q, gamma); gamma is in money
    log_cov : covariance of the logarithms of the estimates, shape (3, 3)
    llf : log-likelihood
    nobs : customers that the fit used
    left_out : customers left out: nothing repeated, or a mean spend that is not above zero
    verdict : Verdict
    """

    name = "gamma-gamma"
    params: pd.Series
    log_cov: Array
    llf: float
    nobs: int
    left_out: int
    verdict: Verdict

    def to_json(self, money_unit: str) -> str:
        """The fit as JSON text, without the data; `money_unit` says what spend was counted in, such as "USD"."""
        return self._saved({"left_out": self.left_out}, money_unit)

    @classmethod
    def from_json(cls, text: str, money_unit: str | None = None) -> GammaGammaResults:
        """Results that score as those that were written.

        Raises
        ------
        ValueError
            When the text is no fitted gamma-gamma model of a known version, is damaged, or in another unit of money.
        """
        saved = SavedFit.from_json(text, money_unit)
        if saved.model != GammaGamma.name or tuple(saved.params.index) != _NAMES:
            raise ValueError(f"fitted model: {saved.model!r} is not {GammaGamma.name}")
        saved.check_positive(np.ones(len(_NAMES), dtype=bool))
        left_out = saved.settings.get("left_out")
        if isinstance(left_out, bool) or not isinstance(left_out, int | float) or not 0 <= left_out < np.inf:
            raise ValueError("fitted model: settings → left_out in the file is no number of customers; write it again")
        verdict = Verdict(saved.status, saved.reason)
        return cls(saved.params, saved.log_cov, saved.llf, saved.nobs, left_out, verdict)

    @property
    def population_mean(self) -> float:
        """Mean spend a purchase over all customers, p γ / (q − 1), eq. 4; infinite when q ≤ 1."""
        p, q, gamma = self.params.to_numpy()
        return float(p * gamma / (q - 1.0)) if q > 1.0 else float("inf")

    def expected_spend(self, frequency: ArrayLike, monetary_value: ArrayLike) -> Array:
        """Expected mean spend a purchase given the history, eq. 5, shape (customers,).

        Parameters
        ----------
        frequency : array-like of shape (customers,)
            Repeat purchases; 0 gives the population mean.
        monetary_value : array-like of shape (customers,)
            Mean spend of those purchases, money; ignored where frequency is 0 or the mean is not above 0.
        """
        p, q, gamma = self.params.to_numpy()
        x, z = _usable(frequency, monetary_value)
        if q <= 1.0 and (x == 0).any():
            raise ModelNotFitted("gamma-gamma: q ≤ 1, so customers without a repeat purchase have no finite mean")
        return p * (gamma + x * z) / (p * x + q - 1.0)

    def simulate_spend(
        self, purchases: ArrayLike, frequency: ArrayLike, monetary_value: ArrayLike, rng: np.random.Generator
    ) -> Array:
        """Draw the total spend of simulated purchases, shape of `purchases`, (size, customers).

        Each customer's inverse scale ν is drawn from gamma(q + p x, γ + x z̄), then the sum of n purchases from
        gamma(p n, ν).
        """
        p, q, gamma = self.params.to_numpy()
        x, z = _usable(frequency, monetary_value)
        n = np.asarray(purchases, dtype=float)
        scale = (gamma + x * z) / rng.gamma(q + p * x, size=n.shape)
        return np.where(n > 0, rng.gamma(np.maximum(p * n, 1e-300)), 0.0) * scale


def _usable(frequency: ArrayLike, monetary_value: ArrayLike) -> tuple[Array, Array]:
    x = np.asarray(frequency, dtype=float)
    z = np.asarray(monetary_value, dtype=float)
    known = (x > 0) & np.isfinite(z) & (np.nan_to_num(z) > 0)
    return np.where(known, x, 0.0), np.where(known, z, 0.0)


class GammaGamma:
    """Gamma-gamma model of spend a purchase.

    Parameters
    ----------
    frequency : array-like of shape (customers,)
        Repeat purchases.
    monetary_value : array-like of shape (customers,)
        Mean spend of the repeat purchases, money. Rows with frequency 0, or a mean that is missing, zero or
        negative, cannot enter a gamma distribution: they are left out and counted in `left_out`.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for, as in :class:`analysis.valuation.PurchaseModel`.
    """

    name = GammaGammaResults.name

    def __init__(self, frequency: ArrayLike, monetary_value: ArrayLike, weights: ArrayLike | None = None) -> None:
        if np.shape(frequency) != np.shape(monetary_value):
            raise ValueError(
                f"gamma-gamma: frequency has {np.size(frequency)} and monetary_value {np.size(monetary_value)} values; "
                "give each one a customer"
            )
        x, z = _usable(frequency, monetary_value)
        weight = np.ones(len(x)) if weights is None else checked_weights(weights, len(x))
        used = (x > 0) & (weight > 0)
        if (x[used] != np.floor(x[used])).any():
            raise ValueError("gamma-gamma: frequency must be a whole number from 0 up")
        self.frequency, self.monetary_value, self.weights = x[used], z[used], weight[used]
        self.nobs = whole(self.weights.sum())
        self.left_out = whole(weight.sum() - self.weights.sum())

    @cached_property
    def _totals(self) -> _Totals:
        return _Totals.of(self.frequency, self.monetary_value, self.weights)

    def loglike(self, params: ArrayLike) -> float:
        """Log-likelihood at (p, q, γ)."""
        return self._totals.loglike(np.asarray(params, dtype=float))[0]

    def score(self, params: ArrayLike) -> Array:
        """Exact gradient of `loglike`, shape (3,)."""
        return self._totals.loglike(np.asarray(params, dtype=float))[1]

    def fit(self) -> GammaGammaResults:
        """Maximise the likelihood; money is measured internally in units of its mean.

        Raises
        ------
        ModelNotFitted
            With fewer than three customers whose repeat purchases have a positive mean, or equal means.
        """
        if self.nobs < 3 or np.ptp(self.monetary_value) == 0.0:
            count = self.nobs if isinstance(self.nobs, int) else f"{self.nobs:.3g}"
            raise ModelNotFitted(
                f"gamma-gamma: {count} customers with repeat spend above zero are too few, or too alike, "
                "to show how spend differs; watch for longer"
            )
        unit = float(self.monetary_value @ self.weights) / self.nobs
        objectives = [_objective(totals.scaled(1.0 / unit)) for totals in self._stages()]
        starts = [np.log([p, q, (q - 1.0) / p]) for p, q in ((4.0, 4.0), (1.5, 8.0), (10.0, 2.5))]
        fit = maximise_in_stages(objectives, starts)
        params = pd.Series(np.exp(fit.log_params) * [1.0, 1.0, unit], index=list(_NAMES), name="estimate")
        verdict = judge(fit, _NAMES, self.nobs)
        if verdict.usable and params["q"] <= 1.0:
            verdict = Verdict("boundary", "mean spend has no finite average over customers (q is not above 1)")
        return GammaGammaResults(
            params=params,
            log_cov=fit.log_covariance / self.nobs,
            llf=-fit.value * self.nobs - self.nobs * float(np.log(unit)),
            nobs=self.nobs,
            left_out=self.left_out,
            verdict=verdict,
        )

    def _stages(self) -> list[_Totals]:
        rows, stages = len(self.frequency), []
        for size in stage_sizes(len(self._totals.total)):
            every = slice(None, None, rows // size)
            stages.append(_Totals.of(self.frequency[every], self.monetary_value[every], self.weights[every]))
        return [*stages, self._totals]


def _objective(totals: _Totals) -> Objective:
    def objective(log_params: Array) -> tuple[float, Array]:
        params = np.exp(log_params)
        value, gradient = totals.loglike(params)
        return -value / totals.nobs, -gradient * params / totals.nobs

    return objective
