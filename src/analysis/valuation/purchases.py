"""What every purchase model shares: counted cells, the fit, standard errors and a verdict.

A purchase model sees three numbers a customer: how often they came back (`frequency`, x), when they last did
(`recency`, t_x, counted from the first purchase) and how long they have been watched (`T`). Customers with
the same three numbers contribute the same likelihood, so everything runs on distinct cells and their counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Array = NDArray[np.float64]

# A parameter this many log units from the data's own clock no longer describes the data: it is running away.
LOG_BOUND = 12.0
# A standard error above two log units leaves a parameter unknown within a factor of fifty.
WEAK_LOG_ERROR = 2.0


class ModelNotFitted(ValueError):
    """The data cannot carry the model; the message says why and what would help."""


@dataclass(frozen=True)
class Verdict:
    """Whether a fit may be used, and if not, why.

    Attributes
    ----------
    status : {"ok", "weak", "boundary", "not converged"}
    reason : str
        One plain clause; empty when the status is "ok".
    """

    status: str
    reason: str = ""

    @property
    def usable(self) -> bool:
        """True when the estimates and their standard errors may be shown and used."""
        return self.status == "ok"


@dataclass(frozen=True)
class Cells:
    """Distinct (frequency, recency, T) with the number of customers in each, sorted.

    Attributes
    ----------
    x, t_x, T : arrays of shape (cells,)
        Repeat purchases, time of the last one and age, times in the caller's unit.
    count : array of shape (cells,)
    index : array of shape (customers,)
        The cell of every customer, in the caller's order.
    """

    x: Array
    t_x: Array
    T: Array
    count: Array
    index: NDArray[np.intp]

    @classmethod
    def of(cls, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Cells:
        """Count equal customers; raises ValueError on data that no purchase history can have."""
        x, t_x, age = _checked(frequency, recency, T)
        order = np.lexsort((age, t_x, x))
        x, t_x, age = x[order], t_x[order], age[order]
        new = np.ones(len(x), dtype=bool)
        new[1:] = (np.diff(x) != 0) | (np.diff(t_x) != 0) | (np.diff(age) != 0)
        cell = np.cumsum(new) - 1
        index = np.empty(len(x), dtype=np.intp)
        index[order] = cell
        return cls(x[new], t_x[new], age[new], np.bincount(cell).astype(float), index)

    def scaled(self, factor: float) -> Cells:
        """The same cells with times multiplied by `factor`."""
        return Cells(self.x, self.t_x * factor, self.T * factor, self.count, self.index)


def _checked(frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> tuple[Array, Array, Array]:
    x, t_x, age = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (frequency, recency, T)))
    x, t_x, age = (np.atleast_1d(v).ravel() for v in (x, t_x, age))
    if len(x) == 0:
        raise ValueError("purchase data: no customer; give one row a customer")
    if not (np.isfinite(x).all() and np.isfinite(t_x).all() and np.isfinite(age).all()):
        raise ValueError("purchase data: a frequency, recency or T is missing; drop or fill those rows")
    for wrong, what in (
        ((x < 0) | (x != np.floor(x)), "frequency must be a whole number from 0 up"),
        ((t_x < 0) | (t_x > age), "recency must lie between 0 and T"),
        ((x == 0) & (t_x > 0), "recency must be 0 where frequency is 0"),
        ((x > 0) & (t_x == 0), "recency must be above 0 where frequency is"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"purchase data, row {row}: {what} (frequency={x[row]:g}, recency={t_x[row]:g}, T={age[row]:g})"
            )
    return x, t_x, age


class PurchaseModel:
    """Base of the purchase models: holds the cells and finds the maximum of the likelihood.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases (whole numbers), time from the first to the last purchase, and time from the first
        purchase to the end of observation, in any one unit of time.

    Notes
    -----
    Time is measured internally in units of the mean age, so the fit is the same whatever unit comes in;
    parameters and likelihood are returned in the caller's unit.
    """

    name: ClassVar[str]
    parameter_names: ClassVar[tuple[str, ...]]
    time_parameters: ClassVar[tuple[str, ...]]
    results_class: ClassVar[type[PurchaseResults]]
    can_leave: ClassVar[bool] = True

    def __init__(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> None:
        self.cells = Cells.of(frequency, recency, T)
        self.nobs = int(self.cells.count.sum())

    @staticmethod
    def loglike_cells(params: Array, cells: Cells) -> tuple[Array, Array]:
        """Log-likelihood of each cell, shape (cells,), and its gradient in the parameters, (k, cells)."""
        raise NotImplementedError

    def start(self, cells: Cells) -> list[Array]:
        """Starting parameters on the natural clock, most plausible first."""
        raise NotImplementedError

    def loglike(self, params: ArrayLike) -> float:
        """Log-likelihood of the whole base at `params`, in the caller's unit of time."""
        value, _ = self.loglike_cells(np.asarray(params, dtype=float), self.cells)
        return float(value @ self.cells.count)

    def score(self, params: ArrayLike) -> Array:
        """Exact gradient of `loglike`, shape (k,)."""
        _, gradient = self.loglike_cells(np.asarray(params, dtype=float), self.cells)
        return gradient @ self.cells.count

    def fit(self) -> PurchaseResults:
        """Maximise the likelihood by quasi-Newton steps with exact gradients on log parameters.

        Returns
        -------
        PurchaseResults
            With a `verdict`; look at it before using the numbers.

        Raises
        ------
        ModelNotFitted
            With fewer than two customers, no repeat purchase, or nobody watched for any time.
        """
        cells = self.cells
        if self.nobs < 2:
            raise ModelNotFitted(f"{self.name}: one customer cannot show how customers differ; give at least two")
        if not (cells.x > 0).any():
            raise ModelNotFitted(
                f"{self.name}: nobody bought twice, so the buying rate is at its boundary 0; watch for longer"
            )
        clock = float(cells.count @ cells.T) / self.nobs
        natural = cells.scaled(1.0 / clock)

        def objective(log_params: Array) -> tuple[float, Array]:
            params = np.exp(log_params)
            value, gradient = self.loglike_cells(params, natural)
            return (
                -float(value @ natural.count) / self.nobs,
                -(gradient @ natural.count) * params / self.nobs,
            )

        fit = maximise(objective, [np.log(s) for s in self.start(natural)])
        scale = np.array([clock if p in self.time_parameters else 1.0 for p in self.parameter_names])
        verdict = judge(fit, self.parameter_names, self.nobs)
        purchases = float(cells.count @ cells.x)
        return self.results_class(
            model=self,
            params=pd.Series(np.exp(fit.log_params) * scale, index=list(self.parameter_names), name="estimate"),
            log_cov=fit.log_covariance / self.nobs,
            llf=-fit.value * self.nobs - purchases * np.log(clock),
            verdict=verdict,
        )


@dataclass(frozen=True)
class Maximum:
    """Where an objective on log parameters is smallest, with its curvature there."""

    log_params: Array
    value: float
    gradient: Array
    hessian: Array
    log_covariance: Array


def maximise(objective, starts: list[Array]) -> Maximum:
    """Minimise a mean negative log-likelihood over log parameters from several starts.

    Parameters
    ----------
    objective : callable
        log parameters of shape (k,) → (value, gradient of shape (k,)).
    starts : list of arrays of shape (k,)
        Tried in turn; the search stops at the first that ends in an inner maximum.

    Returns
    -------
    Maximum
        The best end point, polished by Newton steps; `log_covariance` is the inverse Hessian (NaN where it
        is not positive definite).
    """
    best: Maximum | None = None
    for start in starts:
        bounds = [(-LOG_BOUND, LOG_BOUND)] * len(start)
        found = optimize.minimize(
            objective,
            np.clip(start, -LOG_BOUND, LOG_BOUND),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-8, "maxls": 50},
        )
        candidate = _polished(objective, found.x)
        if best is None or candidate.value < best.value - 1e-12:
            best = candidate
        if np.isfinite(best.log_covariance).all() and np.abs(best.gradient).max() < 1e-7:
            break
    assert best is not None
    return best


def _polished(objective, log_params: Array) -> Maximum:
    value, gradient = objective(log_params)
    hessian = _hessian(objective, log_params)
    for _ in range(4):
        if not _positive_definite(hessian) or np.abs(gradient).max() < 1e-12:
            break
        step = np.linalg.solve(hessian, gradient)
        if np.abs(step).max() > 0.5:
            break
        trial = log_params - step
        trial_value, trial_gradient = objective(trial)
        if np.abs(trial_gradient).max() >= np.abs(gradient).max() or np.abs(trial).max() > LOG_BOUND:
            break
        log_params, value, gradient = trial, trial_value, trial_gradient
        hessian = _hessian(objective, log_params)
    covariance = np.linalg.inv(hessian) if _positive_definite(hessian) else np.full_like(hessian, np.nan)
    return Maximum(log_params, value, gradient, hessian, covariance)


def _hessian(objective, log_params: Array, width: float = 1e-4) -> Array:
    rows = []
    for j in range(len(log_params)):
        step = np.zeros_like(log_params)
        step[j] = width
        rows.append((objective(log_params + step)[1] - objective(log_params - step)[1]) / (2 * width))
    hessian = np.array(rows)
    return (hessian + hessian.T) / 2


def _positive_definite(matrix: Array) -> bool:
    return bool(np.isfinite(matrix).all() and np.linalg.eigvalsh(matrix).min() > 1e-10)


def judge(fit: Maximum, names: tuple[str, ...], nobs: int) -> Verdict:
    """Say whether a maximum is an inner, well-determined one.

    Parameters
    ----------
    fit : Maximum
    names : parameter names, length k
    nobs : number of customers behind the mean log-likelihood
    """
    at_edge = np.abs(fit.log_params) > LOG_BOUND - 2.0
    if at_edge.any():
        name = names[int(np.argmax(at_edge))]
        where = "infinity" if fit.log_params[int(np.argmax(at_edge))] > 0 else "zero"
        return Verdict("boundary", f"the data do not hold what the parameter {name} measures (it runs to {where})")
    if np.abs(fit.gradient).max() > 1e-5:
        return Verdict("not converged", "the search for the best parameters did not settle")
    if not np.isfinite(fit.log_covariance).all():
        return Verdict("boundary", "the likelihood is flat: several parameter sets fit the data equally well")
    errors = np.sqrt(np.diag(fit.log_covariance) / nobs)
    if errors.max() > WEAK_LOG_ERROR:
        name = names[int(np.argmax(errors))]
        return Verdict("weak", f"the data leave the parameter {name} almost free")
    return Verdict("ok")


@dataclass(frozen=True)
class PurchaseResults:
    """A fitted purchase model.

    Attributes
    ----------
    model : PurchaseModel
    params : Series of shape (k,)
        Estimates in the unit of time of the data.
    log_cov : array of shape (k, k)
        Covariance of the logarithms of the estimates (inverse observed information).
    llf : float
        Log-likelihood at the estimates, in the data's unit of time.
    verdict : Verdict
    """

    model: PurchaseModel
    params: pd.Series
    log_cov: Array
    llf: float
    verdict: Verdict

    @property
    def bse(self) -> pd.Series:
        """Standard errors of `params`; NaN where the maximum is not an inner one."""
        variance = np.where(np.diag(self.log_cov) > 0, np.diag(self.log_cov), np.nan)
        return (self.params * np.sqrt(variance)).rename("std_err")

    def cov_params(self) -> pd.DataFrame:
        """Covariance of the estimates, shape (k, k)."""
        values = self.params.to_numpy()
        return pd.DataFrame(self.log_cov * np.outer(values, values), index=self.params.index, columns=self.params.index)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals built on the log scale, so that they stay positive: columns `low` and `high`."""
        half = stats.norm.ppf(1 - alpha / 2) * self.bse / self.params
        return pd.DataFrame({"low": self.params * np.exp(-half), "high": self.params * np.exp(half)})

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2 * len(self.params) - 2 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's criterion, customers being the observations."""
        return len(self.params) * float(np.log(self.model.nobs)) - 2 * self.llf

    def summary(self) -> pd.DataFrame:
        """One row a parameter: `parameter`, `estimate`, `std_err`, `low`, `high` (95 %)."""
        frame = pd.concat([self.params, self.bse, self.conf_int()], axis=1)
        return frame.rename_axis("parameter").reset_index()

    def with_params(self, params: ArrayLike) -> PurchaseResults:
        """The same model at other parameters, for simulation from their sampling distribution."""
        series = pd.Series(np.asarray(params, dtype=float), index=self.params.index, name="estimate")
        return type(self)(self.model, series, self.log_cov, self.llf, self.verdict)

    def draw_params(self, size: int, rng: np.random.Generator) -> Array:
        """Draw parameter sets, shape (size, k), from the normal approximation on the log scale."""
        if not np.isfinite(self.log_cov).all():
            raise ModelNotFitted(f"{self.model.name}: no covariance to draw parameters from ({self.verdict.reason})")
        root = np.linalg.cholesky(self.log_cov)
        return np.exp(np.log(self.params.to_numpy()) + rng.standard_normal((size, len(self.params))) @ root.T)

    def probability_alive(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Array:
        """Probability that a customer with this history is still one, shape (customers,)."""
        raise NotImplementedError

    def expected_repeats(self, t: ArrayLike) -> Array:
        """E[X(t)]: expected repeat purchases of a new customer in their first `t`, shape of `t`."""
        raise NotImplementedError

    def expected_purchases(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        discount: float = 0.0,
    ) -> Array:
        """Expected purchases in the next `t` given the history, each discounted by exp(−discount × time).

        Parameters
        ----------
        t : float
            Horizon, in the data's unit of time.
        frequency, recency, T : array-like of shape (customers,)
        discount : float
            Continuous rate per unit of time; 0 counts purchases.

        Returns
        -------
        array of shape (customers,)
        """
        cells = Cells.of(frequency, recency, T)
        alive = self._alive_cells(cells)
        x, age, pair = _distinct_pairs(cells.x, cells.T)
        return (alive * self._purchases_if_alive(t, x, age, discount)[pair])[cells.index]

    def simulate_future(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rng: np.random.Generator,
        size: int = 1,
    ) -> tuple[Array, Array]:
        """Draw `size` futures of length `t` for each customer.

        Returns
        -------
        purchases : array of shape (size, customers)
            Number of purchases within `t`.
        active : array of shape (size, customers)
            How long the customer stays one, at most `t`.
        """
        raise NotImplementedError

    def _alive_cells(self, cells: Cells) -> Array:
        raise NotImplementedError

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        raise NotImplementedError


def _distinct_pairs(x: Array, age: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    order = np.lexsort((age, x))
    x_sorted, age_sorted = x[order], age[order]
    new = np.ones(len(x), dtype=bool)
    new[1:] = (np.diff(x_sorted) != 0) | (np.diff(age_sorted) != 0)
    pair = np.empty(len(x), dtype=np.intp)
    pair[order] = np.cumsum(new) - 1
    return x_sorted[new], age_sorted[new], pair


def expected_cumulative(results: PurchaseResults, T: ArrayLike, at: ArrayLike) -> Array:
    """Expected repeat purchases of the whole base up to each moment since observation began.

    Parameters
    ----------
    results : PurchaseResults
    T : array-like of shape (customers,)
        Ages at the end of the fitting period; the oldest customer's first purchase starts the clock.
    at : array-like of shape (m,)
        Moments since the oldest customer's first purchase, in the data's unit of time.

    Returns
    -------
    array of shape (m,)
        Sum over customers of E[X(moment − first purchase)] (Fader, Hardie & Lee 2005, Marketing Science
        24(2), eq. 9 and section 4.2).
    """
    ages, count = np.unique(np.asarray(T, dtype=float), return_counts=True)
    entry = ages.max() - ages
    moments = np.atleast_1d(np.asarray(at, dtype=float))
    time = np.maximum(moments[:, None] - entry[None, :], 0.0)
    flat, where = np.unique(time, return_inverse=True)
    return results.expected_repeats(flat)[where.reshape(time.shape)] @ count.astype(float)
