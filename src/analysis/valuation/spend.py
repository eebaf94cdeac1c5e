"""The gamma-gamma model of spend: what a customer's next purchase is worth on average.

The story: a customer's purchases vary around their own mean (gamma with shape p), and means differ between
customers (their inverse scale is gamma with q and γ), independently of how often they buy. The mean of a few
purchases is pulled towards the mean of everybody, the more so the fewer they are.

Source: Fader, P. S. & Hardie, B. G. S. (2013). The gamma-gamma model of monetary value, note 025
(http://www.brucehardie.com/notes/025/), after Colombo & Jiang (1999). Equation numbers are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

from analysis.valuation.purchases import Array, ModelNotFitted, Verdict, judge, maximise

_NAMES = ("p", "q", "gamma")


def _loglike_rows(params: Array, x: Array, z: Array) -> tuple[Array, Array]:
    """Log-likelihood by customer, eq. 1a, and its gradient in (p, q, γ), shape (3, customers)."""
    p, q, gamma = params
    levels, of = np.unique(x, return_inverse=True)
    log_total = np.log(gamma + x * z)
    shape = p * x + q
    per_level = special.gammaln(p * levels + q) - special.gammaln(p * levels) - special.gammaln(q)
    value = per_level[of] + q * np.log(gamma) + (p * x - 1.0) * np.log(z) + p * x * np.log(x) - shape * log_total
    digamma = special.digamma(p * levels + q)
    gradient = np.stack(
        [
            x * ((digamma - special.digamma(p * levels))[of] + np.log(z) + np.log(x) - log_total),
            (digamma - special.digamma(q))[of] + np.log(gamma) - log_total,
            q / gamma - shape / (gamma + x * z),
        ]
    )
    return value, gradient


@dataclass(frozen=True)
class GammaGammaResults:
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

    params: pd.Series
    log_cov: Array
    llf: float
    nobs: int
    left_out: int
    verdict: Verdict

    @property
    def bse(self) -> pd.Series:
        """Standard errors of `params`."""
        variance = np.where(np.diag(self.log_cov) > 0, np.diag(self.log_cov), np.nan)
        return (self.params * np.sqrt(variance)).rename("std_err")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals built on the log scale: columns `low` and `high`."""
        half = stats.norm.ppf(1 - alpha / 2) * self.bse / self.params
        return pd.DataFrame({"low": self.params * np.exp(-half), "high": self.params * np.exp(half)})

    def summary(self) -> pd.DataFrame:
        """One row a parameter: `parameter`, `estimate`, `std_err`, `low`, `high` (95 %)."""
        frame = pd.concat([self.params, self.bse, self.conf_int()], axis=1)
        return frame.rename_axis("parameter").reset_index()

    def with_params(self, params: ArrayLike) -> GammaGammaResults:
        """The same model at other parameters."""
        series = pd.Series(np.asarray(params, dtype=float), index=self.params.index, name="estimate")
        return GammaGammaResults(series, self.log_cov, self.llf, self.nobs, self.left_out, self.verdict)

    def draw_params(self, size: int, rng: np.random.Generator) -> Array:
        """Draw parameter sets, shape (size, 3), from the normal approximation on the log scale."""
        root = np.linalg.cholesky(self.log_cov)
        return np.exp(np.log(self.params.to_numpy()) + rng.standard_normal((size, 3)) @ root.T)

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
    """

    name = "gamma-gamma"

    def __init__(self, frequency: ArrayLike, monetary_value: ArrayLike) -> None:
        x, z = _usable(frequency, monetary_value)
        if len(x) != np.size(monetary_value):
            raise ValueError("gamma-gamma: frequency and monetary_value must have the same length")
        order = np.lexsort((z, x))
        x, z = x[order], z[order]
        self.frequency, self.monetary_value = x[x > 0], z[x > 0]
        self.nobs = len(self.frequency)
        self.left_out = len(x) - self.nobs

    def loglike(self, params: ArrayLike) -> float:
        """Log-likelihood at (p, q, γ)."""
        return float(_loglike_rows(np.asarray(params, dtype=float), self.frequency, self.monetary_value)[0].sum())

    def score(self, params: ArrayLike) -> Array:
        """Exact gradient of `loglike`, shape (3,)."""
        return _loglike_rows(np.asarray(params, dtype=float), self.frequency, self.monetary_value)[1].sum(axis=1)

    def fit(self) -> GammaGammaResults:
        """Maximise the likelihood; money is measured internally in units of its mean.

        Raises
        ------
        ModelNotFitted
            With fewer than three customers whose repeat purchases have a positive mean, or equal means.
        """
        if self.nobs < 3 or np.ptp(self.monetary_value) == 0.0:
            raise ModelNotFitted(
                f"gamma-gamma: {self.nobs} customers with repeat spend above zero are too few, or too alike, "
                "to show how spend differs; watch for longer"
            )
        unit = float(self.monetary_value.mean())
        x, z = self.frequency, self.monetary_value / unit

        def objective(log_params: Array) -> tuple[float, Array]:
            params = np.exp(log_params)
            value, gradient = _loglike_rows(params, x, z)
            return -float(value.sum()) / self.nobs, -gradient.sum(axis=1) * params / self.nobs

        starts = [np.log([p, q, (q - 1.0) / p]) for p, q in ((4.0, 4.0), (1.5, 8.0), (10.0, 2.5))]
        fit = maximise(objective, starts)
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
