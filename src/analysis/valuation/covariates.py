"""Static covariates in the BG/NBD and Pareto/NBD models: what is known of a customer moves their rates.

The story is that of the model, but a customer with covariates z buys at exp(γ'z) times the rate of one with z = 0,
and z (the same or others) moves leaving too:

* Pareto/NBD: α exp(−γ'z) and β exp(−δ'z), so that the hazard of leaving is exp(δ'z) times as high;
* BG/NBD: α exp(−γ'z) and a exp(δ'z), so that the odds of leaving after a purchase, a/b, are exp(δ'z) times as high.

Coefficients are named "rate: <column>" and "dropout: <column>"; exp of one is a ratio of rates, hazards or odds for
one more unit of the column.

Source: Fader, P. S. & Hardie, B. G. S. (2007). Incorporating time-invariant covariates into the Pareto/NBD and BG/NBD
models, note 019 (http://www.brucehardie.com/notes/019/). In the BG/NBD they let covariates move a and b, each with
its own coefficients; here b is common, which leaves one coefficient a column. CLVTools multiplies a and b by the same
factor, which leaves the mean probability of leaving where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.valuation import bg_nbd, pareto_nbd
from analysis.valuation.bg_nbd import BGNBD
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import (
    Array,
    Cells,
    ModelNotFitted,
    Objective,
    PurchaseModel,
    PurchaseResults,
    checked_counts,
    checked_histories,
    checked_horizon,
    checked_weights,
    counted,
    judge,
    maximise_in_stages,
    stage_sizes,
    whole,
)

RATE, DROPOUT = "rate", "dropout"
# A column is a combination of others when less than this share of its spread is its own.
_OWN_SHARE = 1e-6


@dataclass(frozen=True)
class CovariateCells(Cells):
    """Distinct (frequency, recency, T, covariates) with the number of customers in each.

    Attributes
    ----------
    rate, dropout : arrays of shape (cells, columns)
        Covariates of buying and of leaving; zero columns where there are none.
    """

    rate: Array | None = None
    dropout: Array | None = None

    def thinned(self, customers: int) -> CovariateCells:
        """About `customers` of the customers, as in :meth:`Cells.thinned`."""
        keep, taken = self._every(customers)
        return CovariateCells(
            self.x[keep], self.t_x[keep], self.T[keep], taken[keep], None, self.rate[keep], self.dropout[keep]
        )


def _covariate_cells(
    columns: tuple[Array, Array, Array], rate: Array, dropout: Array, weights: Array | None
) -> CovariateCells:
    plain = Cells.of(*columns)
    key, size = plain.index.astype(np.int64), len(plain.x)
    for column in np.hstack([rate, dropout]).T:
        code, distinct = pd.factorize(column)
        key = key * len(distinct) + code
        # renumbering after each column keeps the keys far from overflow
        found, _, key = counted(key, size * len(distinct), None, True)
        size = len(found)
    first = np.empty(size, dtype=np.intp)
    first[key[::-1]] = np.arange(len(key))[::-1]
    count = np.bincount(key, weights=weights, minlength=size).astype(float)
    return CovariateCells(*(v[first] for v in columns), count, key, rate[first], dropout[first])


def _checked(frame: pd.DataFrame | None, customers: int, side: str) -> tuple[list[str], Array]:
    """Column names and values, shape (customers, columns); raises ValueError on what cannot be used."""
    if frame is None:
        return [], np.zeros((customers, 0))
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{side} covariates: give a DataFrame with one row a customer and named columns")
    if len(frame) != customers:
        raise ValueError(f"{side} covariates: {len(frame)} rows for {customers} customers; give one row a customer")
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise ValueError(f"{side} covariates: two columns have the same name")
    for name, kind in zip(names, frame.dtypes, strict=True):
        if not (pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind)):
            raise ValueError(f"{side} covariates: column {name!r} is not numeric; make dummies of its values")
    values = frame.to_numpy(dtype=float, na_value=np.nan)
    for name, column in zip(names, values.T, strict=True):
        if not np.isfinite(column).all():
            raise ValueError(f"{side} covariates: column {name!r} has missing values; fill them or leave it out")
    return names, values


def _check_independent(names: list[str], values: Array, weights: Array | None, side: str) -> None:
    """Raise ValueError where a column says nothing of its own."""
    weight = np.ones(len(values)) if weights is None else weights
    values = values[weight > 0]
    centred = values - values.mean(axis=0)
    basis = np.zeros((len(values), 0))
    for name, column, raw in zip(names, centred.T, values.T, strict=True):
        if np.ptp(raw) == 0.0:
            raise ValueError(f"{side} covariates: column {name!r} is the same for everybody; leave it out")
        column = column / np.linalg.norm(column)
        own = column - basis @ (basis.T @ column)
        own -= basis @ (basis.T @ own)
        if np.linalg.norm(own) < _OWN_SHARE:
            raise ValueError(
                f"{side} covariates: column {name!r} follows from the columns before it; leave one of them out "
                "(of the dummies of one property, one must go)"
            )
        basis = np.column_stack([basis, own / np.linalg.norm(own)])


class CovariateResults(PurchaseResults):
    """A fitted model with covariates: the parameters of a customer with z = 0, then the coefficients.

    Every method that scores takes the covariates as frames with the columns of the fit, in any order, one row a
    customer: `rate` and `dropout`; a side that has none takes nothing.
    """

    @property
    def _logged(self) -> NDArray[np.bool_]:
        logged = np.ones(len(self.params), dtype=bool)
        logged[len(self.model.base.parameter_names) :] = False
        return logged

    def customer_params(
        self, customers: int, rate: pd.DataFrame | None = None, dropout: pd.DataFrame | None = None
    ) -> tuple[float | Array, ...]:
        """The model's parameters for each customer: floats, or arrays of shape (customers,) where they differ."""
        model = self.model
        sides = []
        for side, frame, names in ((RATE, rate, model.rate_names), (DROPOUT, dropout, model.dropout_names)):
            if not names:
                sides.append(np.zeros((customers, 0)))
                continue
            lacking = [n for n in names if frame is None or n not in frame.columns]
            if lacking:
                raise ValueError(f"{side} covariates: the model needs the column {lacking[0]!r}")
            sides.append(_checked(frame[names], customers, side)[1])
        return model.spread(self.params.to_numpy(), *sides)

    def _scored(
        self,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rate: pd.DataFrame | None,
        dropout: pd.DataFrame | None,
    ) -> tuple[Cells, tuple[float | Array, ...]]:
        x, t_x, age = checked_histories(frequency, recency, T)
        cells = Cells(x, t_x, age, np.ones(len(x)), np.arange(len(x)))
        return cells, self.customer_params(len(x), rate, dropout)

    def probability_alive(
        self,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rate: pd.DataFrame | None = None,
        dropout: pd.DataFrame | None = None,
    ) -> Array:
        """Probability that a customer with this history and these covariates is still one, shape (customers,)."""
        cells, params = self._scored(frequency, recency, T, rate, dropout)
        return self.model.alive(*params, cells)

    def expected_purchases(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rate: pd.DataFrame | None = None,
        dropout: pd.DataFrame | None = None,
        discount: float = 0.0,
    ) -> Array:
        """Expected purchases in the next `t` given history and covariates, discounted by exp(−discount × time).

        Parameters
        ----------
        t : float
            Horizon, in the data's unit of time.
        frequency, recency, T : array-like of shape (customers,)
        rate, dropout : DataFrame of shape (customers, columns)
        discount : float
            Continuous rate per unit of time; 0 counts purchases.
        """
        t, discount = checked_horizon(t, discount)
        cells, params = self._scored(frequency, recency, T, rate, dropout)
        return self.model.alive(*params, cells) * self.model.if_alive(*params, t, cells.x, cells.T, discount)

    def expected_repeats(
        self, t: ArrayLike, rate: pd.DataFrame | None = None, dropout: pd.DataFrame | None = None
    ) -> Array:
        """E[X(t)] of new customers with these covariates, shape (customers,); `t` is one time or one a customer."""
        given = [len(f) for f in (rate, dropout) if f is not None]
        customers = given[0] if given else np.size(t)
        time = np.broadcast_to(np.asarray(t, dtype=float), (customers,))
        zero = np.zeros(customers)
        return self.model.if_alive(*self.customer_params(customers, rate, dropout), time, zero, zero, 0.0)

    def count_distribution(
        self,
        n_max: int,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rate: pd.DataFrame | None = None,
        dropout: pd.DataFrame | None = None,
    ) -> Array:
        """P(X(T, T+t) = n | history, covariates) for n = 0 … n_max, shape (customers, n_max + 1)."""
        n_max, t = checked_counts(n_max, t)
        cells, params = self._scored(frequency, recency, T, rate, dropout)
        alive = self.model.alive(*params, cells)
        chances = alive[:, None] * self.model.counts(np.arange(n_max + 1.0), t, *params, cells.x, cells.T)
        chances[:, 0] += 1.0 - alive
        return chances

    def simulate_future(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rng: np.random.Generator,
        size: int = 1,
        rate: pd.DataFrame | None = None,
        dropout: pd.DataFrame | None = None,
    ) -> tuple[Array, Array]:
        """Draw futures of length `t`: purchases and time spent as a customer, each (size, customers)."""
        t, _ = checked_horizon(t, endless=False)
        cells, params = self._scored(frequency, recency, T, rate, dropout)
        alive = rng.random((size, len(cells.x))) < self.model.alive(*params, cells)
        return self.model.futures(*params, t, cells.x, cells.T, alive, rng)


class CovariateModel(PurchaseModel):
    """Base of the models with static covariates.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        As in :class:`analysis.valuation.PurchaseModel`.
    rate, dropout : DataFrame of shape (customers, columns), optional
        Numeric covariates of buying and of leaving, rows in the order of the customers; dummies are the caller's to
        make, with one value of each property left out. Without any, the model is the plain one.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for.

    Raises
    ------
    ValueError
        On a column that is not numeric, has missing values, is the same for everybody, or follows from others.
    """

    results_class: ClassVar[type[PurchaseResults]] = CovariateResults
    base: ClassVar[type[PurchaseModel]]
    # which parameters the two sides move, and in which direction
    moved: ClassVar[tuple[int, int]]
    signs: ClassVar[tuple[float, float]]

    def __init__(
        self,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rate: pd.DataFrame | None = None,
        dropout: pd.DataFrame | None = None,
        weights: ArrayLike | None = None,
    ) -> None:
        columns = checked_histories(frequency, recency, T)
        customers = len(columns[0])
        weight = checked_weights(weights, customers)
        self.rate_names, rate_values = _checked(rate, customers, RATE)
        self.dropout_names, dropout_values = _checked(dropout, customers, DROPOUT)
        _check_independent(self.rate_names, rate_values, weight, RATE)
        _check_independent(self.dropout_names, dropout_values, weight, DROPOUT)
        if weight is not None:
            used = weight > 0
            columns = tuple(v[used] for v in columns)
            rate_values, dropout_values, weight = rate_values[used], dropout_values[used], weight[used]
        self.plain = self.base(*columns, weights=weight)
        self.cells = _covariate_cells(columns, rate_values, dropout_values, weight)
        self.nobs = whole(self.cells.count.sum())

    def settings(self) -> dict[str, object]:
        """The names of the covariates."""
        return {"rate_names": self.rate_names, "dropout_names": self.dropout_names}

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The plain model's parameters, then one coefficient a column."""
        rates = (f"{RATE}: {name}" for name in self.rate_names)
        dropouts = (f"{DROPOUT}: {name}" for name in self.dropout_names)
        return (*self.base.parameter_names, *rates, *dropouts)

    def spread(self, params: Array, rate: Array, dropout: Array) -> tuple[float | Array, ...]:
        """The plain model's parameters for rows of covariates; floats where a side has no covariates."""
        plain, k = list(params[: len(self.base.parameter_names)]), len(self.base.parameter_names)
        coefficients = params[k : k + rate.shape[1]], params[k + rate.shape[1] :]
        for which, sign, values, gamma in zip(self.moved, self.signs, (rate, dropout), coefficients, strict=True):
            if len(gamma):
                plain[which] = plain[which] * np.exp(sign * (values @ gamma))
        return tuple(plain)

    def loglike_cells(self, params: Array, cells: CovariateCells) -> tuple[Array, Array]:
        """Log-likelihood of each cell, shape (cells,), and its gradient in parameters and coefficients, (k, cells)."""
        own = [np.broadcast_to(v, cells.x.shape) for v in self.spread(params, cells.rate, cells.dropout)]
        k = len(own)
        own[self.fixed[0]], own[self.fixed[1]] = params[self.fixed[0]], params[self.fixed[1]]
        value, gradient = self.likelihood(own, cells.apart).by_cell()
        rows = [gradient[j] for j in range(k)]
        coefficients = []
        for which, sign, values in zip(self.moved, self.signs, (cells.rate, cells.dropout), strict=True):
            in_log = gradient[which] * own[which]
            rows[which] = in_log / params[which]
            coefficients.extend(sign * in_log * column for column in values.T)
        return value, np.stack([*rows, *coefficients])

    def fit(self) -> CovariateResults:
        """Maximise the likelihood, starting from the plain model's estimates.

        Raises
        ------
        ModelNotFitted
            Where the plain model cannot be fitted.
        """
        try:
            start = self.plain.fit()
        except ModelNotFitted as error:
            raise ModelNotFitted(f"{self.name}: {str(error).partition(': ')[2]}") from error
        cells, k, names = self.cells, len(self.base.parameter_names), self.parameter_names
        clock = float(cells.count @ cells.T) / self.nobs
        share = cells.count / self.nobs
        # centred and in units of their spread, covariates leave the other parameters' estimates nearly alone
        both = np.hstack([cells.rate, cells.dropout])
        mean = share @ both
        spread = np.sqrt(share @ (both - mean) ** 2)
        scaled = (both - mean) / spread
        split = cells.rate.shape[1]
        natural = CovariateCells(
            cells.x, cells.t_x / clock, cells.T / clock, cells.count, None, scaled[:, :split], scaled[:, split:]
        )
        scale = np.array([clock if p in self.time_parameters else 1.0 for p in names[:k]])
        first = np.concatenate([np.log(start.params.to_numpy() / scale), np.zeros(both.shape[1])])
        stages = [natural.thinned(n) for n in stage_sizes(self.nobs) if n * 2 <= len(cells.x)]
        fit = maximise_in_stages([self._objective(c) for c in (*stages, natural)], [first])
        # back to the columns as they came: a linear map of log parameters and coefficients
        back = np.diag(np.concatenate([np.ones(k), 1.0 / spread]))
        for which, sign, columns in zip(self.moved, self.signs, (range(split), range(split, len(mean))), strict=True):
            for j in columns:
                back[which, k + j] = -sign * mean[j] / spread[j]
        estimates = back @ fit.log_params
        estimates[:k] = np.exp(estimates[:k]) * scale
        purchases = float(cells.count @ cells.x)
        return CovariateResults(
            model=self,
            params=pd.Series(estimates, index=list(names), name="estimate"),
            log_cov=back @ fit.log_covariance @ back.T / self.nobs,
            llf=-fit.value * self.nobs - purchases * np.log(clock),
            verdict=judge(fit, names, self.nobs),
        )

    def _objective(self, cells: CovariateCells) -> Objective:
        customers, k = float(cells.count.sum()), len(self.base.parameter_names)

        def objective(working: Array) -> tuple[float, Array]:
            params = np.concatenate([np.exp(working[:k]), working[k:]])
            value, gradient = self.loglike_total(params, cells)
            gradient[:k] *= params[:k]
            return -value / customers, -gradient / customers

        return objective


class BGNBDCovariates(CovariateModel):
    """BG/NBD with static covariates of the buying rate and of the odds of leaving after a purchase.

    Parameters
    ----------
    frequency, recency, T, rate, dropout, weights
        See :class:`CovariateModel`.
    """

    name: ClassVar[str] = "BG/NBD with covariates"
    time_parameters: ClassVar[tuple[str, ...]] = BGNBD.time_parameters
    base: ClassVar[type[PurchaseModel]] = BGNBD
    moved: ClassVar[tuple[int, int]] = (1, 2)
    fixed: ClassVar[tuple[int, int]] = (0, 3)
    signs: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    likelihood = staticmethod(bg_nbd.likelihood)
    alive = staticmethod(bg_nbd.alive)
    if_alive = staticmethod(bg_nbd.purchases_if_alive)
    counts = staticmethod(bg_nbd.counts)
    futures = staticmethod(bg_nbd.futures)


class ParetoNBDCovariates(CovariateModel):
    """Pareto/NBD with static covariates of the buying rate and of the hazard of leaving.

    Parameters
    ----------
    frequency, recency, T, rate, dropout, weights
        See :class:`CovariateModel`.
    """

    name: ClassVar[str] = "Pareto/NBD with covariates"
    time_parameters: ClassVar[tuple[str, ...]] = ParetoNBD.time_parameters
    base: ClassVar[type[PurchaseModel]] = ParetoNBD
    moved: ClassVar[tuple[int, int]] = (1, 3)
    fixed: ClassVar[tuple[int, int]] = (0, 2)
    signs: ClassVar[tuple[float, float]] = (-1.0, -1.0)
    likelihood = staticmethod(pareto_nbd.likelihood)
    alive = staticmethod(pareto_nbd.alive)
    if_alive = staticmethod(pareto_nbd.purchases_if_alive)
    counts = staticmethod(pareto_nbd.counts)
    futures = staticmethod(pareto_nbd.futures)
