"""The shifted-beta-geometric model: how long customers with a contract keep renewing it.

The story: at the end of every period a customer cancels with their own probability θ, the same each time; θ differs
between customers by a beta distribution (α, β). The ones who cancel easily go first, so the retention rate of a
cohort rises although nobody becomes more loyal.

Sources: Fader, P. S. & Hardie, B. G. S. (2007). How to project customer retention. Journal of Interactive Marketing
21(1), 76–90 (FH 2007). Fader, P. S. & Hardie, B. G. S. (2010). Customer-base valuation in a contractual setting: the
perils of ignoring heterogeneity. Marketing Science 29(1), 85–93 (FH 2010).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.valuation.integrals import beta_mean
from analysis.valuation.purchases import Array, Estimates, ModelNotFitted, Verdict, judge, maximise
from analysis.valuation.saved import SavedFit

_NAMES = ("alpha", "beta")
# a table of more periods would fill the memory, and no contract is renewed so often: those are days, or a date
_MOST_PERIODS = 1_000_000


def _log_survival(params: Array, periods: int) -> tuple[Array, Array]:
    """log S(t) for t = 0 … periods, and its gradient in (α, β), (2, periods + 1)."""
    alpha, beta = params
    s = np.arange(float(periods))
    whole = alpha + beta + s
    steps = np.stack([-np.log1p(alpha / (beta + s)), -1.0 / whole, alpha / (whole * (beta + s))])
    total = np.concatenate([np.zeros((3, 1)), np.cumsum(steps, axis=1)], axis=1)
    return total[0], total[1:]


def _whole(values: ArrayLike, least: int, what: str) -> Array:
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):  # text, or the missing value of a nullable column
        numbers = np.array([np.nan])
    if not (np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all() and (numbers >= least).all()):
        raise ValueError(f"sBG: {what} must be whole numbers from {least} up")
    return numbers


def _tabled(periods: Array) -> NDArray[np.int64]:
    """Whole numbers as integers; raises ValueError where a table up to the largest would be absurd."""
    longest = periods.max(initial=0.0)
    if longest > _MOST_PERIODS:
        raise ValueError(
            f"sBG: {longest:,.0f} periods are more than a contract has; count renewals, not days or seconds"
        )
    return periods.astype(np.int64)


def _flags(values: ArrayLike) -> NDArray[np.bool_]:
    """Booleans, or 0 and 1, in whatever container; text and missing values would count as true, and are refused."""
    given = pd.Series(np.ravel(values) if isinstance(values, np.ndarray) else values)
    if given.isna().any():
        raise ValueError(f"sBG: churned is missing in {given.isna().sum()} rows; leave out whom nobody knows about")
    given = given.infer_objects()
    if pd.api.types.is_bool_dtype(given.dtype) or pd.api.types.is_numeric_dtype(given.dtype):
        numbers = given.to_numpy(dtype=float)
        if np.isin(numbers, (0.0, 1.0)).all():
            return numbers == 1.0
    raise ValueError("sBG: churned must hold true and false, or 1 and 0, not text or other numbers")


@dataclass(frozen=True)
class SBGResults(Estimates):
    """A fitted sBG model.

    Attributes
    ----------
    params : Series (alpha, beta)
    log_cov : covariance of the logarithms of the estimates, shape (2, 2)
    llf : log-likelihood
    nobs : customers
    verdict : Verdict
    """

    name = "sBG"
    params: pd.Series
    log_cov: Array
    llf: float
    nobs: int
    verdict: Verdict

    def to_json(self, time_unit: str) -> str:
        """The fit as JSON text, without the data; `time_unit` says what a period is, such as "months"."""
        return self._saved({}, time_unit)

    @classmethod
    def from_json(cls, text: str, time_unit: str | None = None) -> SBGResults:
        """Results that project as those that were written.

        Raises
        ------
        ValueError
            When the text is no fitted sBG model of a known version, is damaged, or has other periods than `time_unit`.
        """
        saved = SavedFit.from_json(text, time_unit)
        if saved.model != cls.name or tuple(saved.params.index) != _NAMES:
            raise ValueError(f"fitted model: {saved.model!r} is not {cls.name}")
        saved.check_positive(np.ones(len(_NAMES), dtype=bool))
        return cls(saved.params, saved.log_cov, saved.llf, saved.nobs, Verdict(saved.status, saved.reason))

    def survival(self, t: ArrayLike) -> Array:
        """S(t): share of a new cohort still customers after `t` periods (renewals), shape of `t`; FH 2007."""
        periods = _tabled(_whole(t, 0, "periods"))
        return np.exp(_log_survival(self.params.to_numpy(), int(periods.max(initial=0)))[0])[periods]

    def retention_rate(self, t: ArrayLike) -> Array:
        """Share of the customers of period `t` (from 1) that renew at its end, shape of `t`; FH 2007."""
        alpha, beta = self.params.to_numpy()
        before = _whole(t, 1, "periods") - 1.0
        return (beta + before) / (alpha + beta + before)

    @property
    def expected_lifetime(self) -> float:
        """Mean number of periods of a new customer, the first included, (α+β−1)/(α−1); infinite when α ≤ 1."""
        alpha, beta = self.params.to_numpy()
        return float((alpha + beta - 1.0) / (alpha - 1.0)) if alpha > 1.0 else float("inf")

    def expected_residual_lifetime(self, n: ArrayLike) -> Array:
        """Mean number of periods still to come of a customer in period `n`, shape of `n`; infinite when α ≤ 1.

        Counted just before the renewal at the end of period n, which is not certain: (β+n−1)/(α−1).
        """
        alpha, beta = self.params.to_numpy()
        period = _whole(n, 1, "periods")
        return (beta + period - 1.0) / (alpha - 1.0) if alpha > 1.0 else np.full(period.shape, np.inf)

    def discounted_expected_lifetime(self, d: float) -> float:
        """DEL: Σ S(t)/(1+d)^t from t = 0: periods of a new customer, the first paid at once and in full.

        Parameters
        ----------
        d : float
            Discount of one period, above 0; 0.1 is 10 %.
        """
        alpha, beta = self.params.to_numpy()
        return float(_discounted(alpha, np.array([beta]), d)[0])

    def discounted_expected_residual_lifetime(self, d: float, n: ArrayLike) -> Array:
        """DERL: discounted periods still to come of a customer in period `n`, shape of `n`.

        Parameters
        ----------
        d : float
            Discount of one period, above 0.
        n : array-like of whole numbers from 1
            The period that they are in: n − 1 renewals are behind them, and the next, if it comes, is paid now.

        Returns
        -------
        array
            FH 2010: (β+n−1)/(α+β+n−1) 2F1(1, β+n; α+β+n; 1/(1+d)).
        """
        alpha, beta = self.params.to_numpy()
        period = _whole(n, 1, "periods")
        value = self.retention_rate(period).ravel() * _discounted(alpha, np.ravel(beta + period), d)
        return value.reshape(period.shape)

    def interval(self, quantity: Callable[[SBGResults], ArrayLike], alpha: float = 0.05) -> pd.DataFrame:
        """A quantity that is above 0 with its interval from the uncertainty of the estimates.

        Delta method on the logarithms of the estimates and of the quantity.

        Parameters
        ----------
        quantity : callable
            Takes results and returns one number or several, such as ``lambda r: r.survival([1, 2, 3])``.
        alpha : float

        Returns
        -------
        DataFrame
            `value`, `low`, `high`, one row a number.

        Raises
        ------
        ModelNotFitted
            Where the estimates have no covariance.
        """
        if not np.isfinite(self.log_cov).all():
            raise ModelNotFitted(f"sBG: no covariance to make an interval from ({self.verdict.reason})")
        logs, width = np.log(self.params.to_numpy()), 1e-5
        value = np.atleast_1d(np.asarray(quantity(self), dtype=float))
        slopes = []
        for step in np.eye(2) * width:
            up, down = (np.atleast_1d(quantity(self.with_params(np.exp(logs + s)))) for s in (step, -step))
            slopes.append((np.log(up) - np.log(down)) / (2 * width))
        error = np.sqrt(np.einsum("im,ij,jm->m", slopes, self.log_cov, slopes))
        half = stats.norm.ppf(1 - alpha / 2) * error
        return pd.DataFrame({"value": value, "low": value * np.exp(-half), "high": value * np.exp(half)})


def _discounted(alpha: float, b: Array, d: float) -> Array:
    """2F1(1, b; α+b; 1/(1+d)) = E[(1+d)/(d+θ)] with θ ~ beta(α, b), for any d above 0."""
    if not d > 0:
        raise ValueError("sBG: an endless future needs a discount rate above 0")
    limit = np.full_like(b, 1.0 / d)
    return (1.0 + d) * beta_mean(np.full_like(b, alpha), b, lambda p, _: 1.0 / (d + p), limit, limit)


class SBG:
    """Shifted-beta-geometric model of contract renewals.

    Parameters
    ----------
    lost : array-like of shape (periods,)
        Customers lost at the end of their 1st, 2nd, … period, all cohorts together.
    active : number or array-like of shape (periods,)
        Customers still there when last seen: after 1, 2, … periods; a single number means after all of them.

    Examples
    --------
    >>> results = SBG.from_survivors([1000, 869, 743, 653, 593]).fit()
    >>> list(results.params.index)
    ['alpha', 'beta']
    """

    name = "sBG"

    def __init__(self, lost: ArrayLike, active: ArrayLike) -> None:
        self.lost = np.atleast_1d(np.asarray(lost, dtype=float))
        kept = np.asarray(active, dtype=float)
        self.active = np.zeros_like(self.lost)
        if self.lost.ndim != 1 or len(self.lost) == 0:
            raise ValueError("sBG: no period; give the customers lost in each")
        if kept.ndim == 0:
            self.active[-1] = kept
        elif kept.shape == self.lost.shape:
            self.active = kept
        else:
            raise ValueError("sBG: active must be one number, or as long as lost")
        for values, what in ((self.lost, "lost"), (self.active, "active")):
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ValueError(f"sBG: a number of customers {what} is missing or negative")
        total = float(self.lost.sum() + self.active.sum())
        self.nobs = int(total) if total.is_integer() else total

    @classmethod
    def from_survivors(cls, survivors: ArrayLike) -> SBG:
        """From one cohort: its size at the start and after 1, 2, … periods, shape (periods + 1,)."""
        sizes = np.asarray(survivors, dtype=float)
        if sizes.ndim != 1 or len(sizes) < 2:
            raise ValueError("sBG: survivors must hold the cohort's size and at least one later count")
        if not (np.diff(sizes) <= 0).all():
            raise ValueError("sBG: survivors can only fall from period to period, and none may be missing")
        return cls(-np.diff(sizes), sizes[-1])

    @classmethod
    def from_durations(cls, periods: ArrayLike, churned: ArrayLike) -> SBG:
        """From one row a customer.

        Parameters
        ----------
        periods : array-like of shape (customers,)
            Completed periods, whole numbers. Who has completed none is still in the first and says nothing yet:
            they are left out.
        churned : array-like of shape (customers,)
            Whether they left at the end of the last completed period; if not, they renewed there. Booleans, or 1 and 0.

        Raises
        ------
        ValueError
            When rows differ in number, a value is missing or something else, or a duration is no number of renewals.
        """
        completed, left = _tabled(_whole(periods, 0, "completed periods")), _flags(churned)
        if completed.ndim != 1 or completed.shape != left.shape or len(completed) == 0:
            raise ValueError("sBG: give one row a customer in both periods and churned")
        if (left & (completed == 0)).any():
            raise ValueError("sBG: a customer who left has completed at least one period")
        longest = int(completed.max())
        return cls(*(np.bincount(completed[which], minlength=longest + 1)[1:] for which in (left, ~left)))

    def _loglike(self, params: Array) -> tuple[float, Array]:
        alpha, beta = params
        periods = len(self.lost)
        log_s, slope = _log_survival(params, periods)
        whole = alpha + beta + np.arange(float(periods))
        # who is lost in period t was there before it, and then left with probability α/(α+β+t−1)
        value = self.lost @ (log_s[:-1] + np.log(alpha) - np.log(whole)) + self.active @ log_s[1:]
        gradient = slope[:, :-1] @ self.lost + slope[:, 1:] @ self.active - self.lost @ (1.0 / whole)
        gradient[0] += self.lost.sum() / alpha
        return float(value), gradient

    def loglike(self, params: ArrayLike) -> float:
        """Log-likelihood at (α, β); FH 2007."""
        return self._loglike(np.asarray(params, dtype=float))[0]

    def score(self, params: ArrayLike) -> Array:
        """Exact gradient of `loglike`, shape (2,)."""
        return self._loglike(np.asarray(params, dtype=float))[1]

    def fit(self) -> SBGResults:
        """Maximise the likelihood.

        Returns
        -------
        SBGResults
            With a `verdict`; look at it before using the numbers.

        Raises
        ------
        ModelNotFitted
            With fewer than two customers, nobody lost, nobody kept after the first period, or one period only.
        """
        there = self.lost.sum() - self.lost[0] + self.active.sum()
        for wrong, why in (
            (self.nobs < 2, "one customer cannot show how customers differ; give at least two"),
            (self.lost.sum() == 0, "nobody left, so the leaving probability is at its boundary 0; watch for longer"),
            (there == 0, "nobody renewed, so there is no later period to learn from; watch another cohort"),
            (
                self.lost[1:].sum() + self.active[1:].sum() == 0,
                "one renewal cannot show how customers differ; watch for a second period",
            ),
        ):
            if wrong:
                raise ModelNotFitted(f"{self.name}: {why}")

        def objective(log_params: Array) -> tuple[float, Array]:
            params = np.exp(log_params)
            value, gradient = self._loglike(params)
            return -value / self.nobs, -gradient * params / self.nobs

        at_risk = float((self.lost + self.active) @ np.arange(1.0, len(self.lost) + 1.0))
        share = float(np.clip(self.lost.sum() / at_risk, 1e-4, 0.9))
        starts = [np.log([alpha, alpha * (1.0 - share) / share]) for alpha in (1.0, 0.3, 10.0)]
        fit = maximise(objective, starts)
        return SBGResults(
            params=pd.Series(np.exp(fit.log_params), index=list(_NAMES), name="estimate"),
            log_cov=fit.log_covariance / self.nobs,
            llf=-fit.value * self.nobs,
            nobs=self.nobs,
            verdict=judge(fit, _NAMES, self.nobs),
        )
