"""The Pareto/NBD model with a season: the calendar moves how often all customers buy.

The story is that of Pareto/NBD, but a customer of rate λ buys at λ × exp(γ'z(t)), where z(t) is known for every
calendar week and the same for everybody: sines and cosines of the year, and given columns such as holidays or
promotions. Leaving knows no season. With the operational time S(y) = ∫ exp(γ'z) from a customer's first purchase to
y later, everything in the likelihood stays as it was, except that purchases run on S:

    L = Γ(r+x)/Γ(r) α^r β^s Π exp(γ'z(t_i)) [ (α+S(T))^−(r+x) (β+T)^−s + s ∫ (α+S(y))^−(r+x) (β+y)^−(s+1) dy ]

with the integral from t_x to T. The product over all purchases needs only how many fell into each week, so that the
model is fitted on those weekly sums and on counts of equal customers.

Source: Bachmann, P., Meierer, M. & Näf, J. (2021). The role of time-varying contextual factors in latent attrition
models for customer base analysis. Marketing Science 40(4), 783–809: the special case of covariates of buying that
are the same for all customers.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from analysis.valuation.integrals import discounted_time
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import (
    LOG_BOUND,
    Array,
    Cells,
    ModelNotFitted,
    Objective,
    PurchaseModel,
    PurchaseResults,
    judge,
    maximise_in_stages,
    negative_binomial,
    quadrature_rule,
    stage_sizes,
)
from analysis.valuation.summary import DAYS_PER_WEEK, purchase_days

UNITS = {"days": 1.0, "weeks": DAYS_PER_WEEK}
DAYS_PER_YEAR = 365.2425
YEAR_OF_WEEKS = 364  # days; a season needs as many of history
MOST_PAIRS = 26
_EPOCH = np.datetime64("2000-01-01")
_MIDDLE = 3.5  # days from the start of a week to its middle
# A column is a combination of others when less than this share of its spread is its own.
_OWN_SHARE = 1e-6
# Rules of integration with the largest fall of the integrand, in log units, and the longest range for each; longer
# ranges than the last are cut into panels.
_MANY = quadrature_rule(24)
_RULES = ((quadrature_rule(4), 0.8, 0.5), (quadrature_rule(8), 5.5, 1.5), (_MANY, np.inf, 6.0))
_PANELS = np.concatenate([(part + _MANY[0]) / 4 for part in range(4)]), np.tile(_MANY[1] / 4, 4)
_ROWS = 2048  # integrated at a time, so that their nodes stay in the processor's cache
# Beyond forty log units below its start the integrand is worth nothing in double precision.
_TAIL = 40.0
_COUNT_RULE = quadrature_rule(8)
_LARGEST = 1 << 20  # (x, T) times weeks worked on at a time
_CURVES = 4000  # drawn behind a band
_CLOSELY = {"maxiter": 60, "ftol": 1e-14, "gtol": 1e-8}


def weekly_repeats(order_lines: ibis.Table, observed_to: datetime.date) -> pd.DataFrame:
    """How many repeat purchases fell into each calendar week, up to and including `observed_to`.

    Parameters
    ----------
    order_lines : ibis.Table
        The canonical table; a purchase is a day as in :func:`analysis.valuation.purchase_days`.
    observed_to : date

    Returns
    -------
    DataFrame, one row a week with a purchase, in order
        `week` (its Monday) and `purchases` (occasions after each customer's first).
    """
    days = purchase_days(order_lines, observed_to)
    first = days.group_by("customer_id").aggregate(first_day=days.order_date.min())
    dated = days.join(first, "customer_id")
    counts = dated.group_by(dated.order_date.truncate("W").cast("date").name("week")).aggregate(
        purchases=(dated.order_date > dated.first_day).cast("int64").sum()
    )
    frame = counts.order_by("week").to_pyarrow().to_pandas()
    return frame.assign(week=pd.to_datetime(frame["week"]))


@dataclass(frozen=True, eq=False)
class Calendar:
    """What is known of each calendar week: terms of the year, and given columns.

    Parameters
    ----------
    pairs : int
        Pairs of cosine and sine: 1 gives one high and one low season a year, more give sharper peaks.
    columns : DataFrame, optional
        Numeric columns, such as holidays or promotions, one row a week, indexed by the week's Monday. Observed weeks
        must all be there, and so must those to come before purchases in them are foreseen.

    Raises
    ------
    ValueError
        On pairs outside 0 … 26, columns that are not numeric or lack values, weeks that are not Mondays or come twice,
        or nothing at all.
    """

    pairs: int = 2
    columns: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.pairs, int) and 0 <= self.pairs <= MOST_PAIRS):
            raise ValueError(f"calendar: pairs must be a whole number from 0 to {MOST_PAIRS}, not {self.pairs!r}")
        if self.columns is None or self.columns.shape[1] == 0:
            if not self.pairs:
                raise ValueError("calendar: it has neither seasonal terms nor columns; give pairs or columns")
            object.__setattr__(self, "columns", None)
            return
        object.__setattr__(self, "columns", _checked_columns(self.columns))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients, seasonal terms first."""
        terms = (f"season: {f} {k}" for k in range(1, self.pairs + 1) for f in ("cos", "sin"))
        given = () if self.columns is None else (f"week: {name}" for name in self.columns.columns)
        return (*terms, *given)

    def values(self, mondays: pd.DatetimeIndex) -> Array:
        """z of each week, shape (weeks, coefficients); raises ValueError where a column has no value for a week."""
        season = self.season((mondays.to_numpy() - _EPOCH) / np.timedelta64(1, "D") + _MIDDLE)
        if self.columns is None:
            return season
        lacking = mondays.difference(self.columns.index)
        if len(lacking):
            raise ValueError(
                f"calendar: column {self.columns.columns[0]!r} has no value for the week of {lacking[0].date()}; "
                "add that week, with 0 where nothing was or is planned"
            )
        return np.hstack([season, self.columns.loc[mondays].to_numpy(float)])

    def season(self, day: Array) -> Array:
        """The seasonal terms at days since 2000-01-01, shape (days, 2 × pairs)."""
        angle = 2.0 * np.pi / DAYS_PER_YEAR * np.outer(day, np.arange(1, self.pairs + 1))
        return np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(len(day), 2 * self.pairs)

    def with_columns(self, more: pd.DataFrame) -> Calendar:
        """The same calendar with further weeks of the same columns."""
        if self.columns is None:
            raise ValueError("calendar: it has no columns to add weeks to")
        return Calendar(self.pairs, pd.concat([self.columns, _checked_columns(more)[list(self.columns.columns)]]))

    def to_settings(self) -> dict[str, object]:
        """Plain values for JSON."""
        if self.columns is None:
            return {"pairs": self.pairs, "weeks": [], "columns": {}}
        weeks = [str(week.date()) for week in self.columns.index]
        return {"pairs": self.pairs, "weeks": weeks, "columns": self.columns.astype(float).to_dict("list")}

    @classmethod
    def from_settings(cls, saved: dict[str, object]) -> Calendar:
        """The calendar that :meth:`to_settings` wrote."""
        columns = pd.DataFrame(saved["columns"], index=pd.DatetimeIndex(saved["weeks"]))
        return cls(saved["pairs"], columns if saved["columns"] else None)


def _checked_columns(columns: pd.DataFrame) -> pd.DataFrame:
    frame = columns.set_axis([str(name) for name in columns.columns], axis=1)
    frame.index = _mondays(frame.index, "calendar")
    if frame.columns.has_duplicates or frame.index.has_duplicates:
        raise ValueError("calendar: a column or a week is there twice; leave one of the two out")
    for name, column in frame.items():
        if not pd.api.types.is_numeric_dtype(column.dtype):
            raise ValueError(f"calendar: column {name!r} is not numeric; make dummies of its values")
        if not np.isfinite(column.to_numpy(dtype=float, na_value=np.nan)).all():
            raise ValueError(f"calendar: column {name!r} has missing values; fill them or leave it out")
    return frame.astype(float).sort_index()


def _mondays(weeks: ArrayLike, where: str) -> pd.DatetimeIndex:
    try:
        found = pd.DatetimeIndex(weeks).as_unit("ns")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: weeks must be given as the dates of their Mondays") from error
    other = found[(found.day_of_week != 0) | (found != found.normalize())]
    if len(other):
        raise ValueError(f"{where}: weeks are named by their Mondays, and {other[0].date()} is none")
    return found


@dataclass(frozen=True)
class Timeline:
    """Calendar weeks around the last observed day, in the caller's unit of time; that day's end is 0.

    Attributes
    ----------
    bounds : array of shape (weeks + 1,)
        Where each week begins and the last one ends. A day is the stretch that ends at its own number, so that a
        purchase on a day lies after the end of the day before.
    z : array of shape (weeks, coefficients)
    mondays : DatetimeIndex of shape (weeks,)
    """

    bounds: Array
    z: Array
    mondays: pd.DatetimeIndex

    @classmethod
    def around(
        cls, calendar: Calendar, observed_to: datetime.date, begin: float, end: float, unit_days: float
    ) -> Timeline:
        """The weeks that hold begin … end (in days from the end of `observed_to`), the outer ones cut there."""
        past = observed_to.weekday() + 1  # days of the last observed week
        begin, end = round(begin, 6), round(end, 6)  # whole days counted in weeks are whole again
        low = int(np.floor((begin + past) / DAYS_PER_WEEK))
        high = max(int(np.ceil((end + past) / DAYS_PER_WEEK)), low + 1)
        numbers = np.arange(low, high + 1)
        bounds = np.clip(DAYS_PER_WEEK * numbers - past, begin, max(end, begin))
        monday = pd.Timestamp(observed_to) - pd.Timedelta(days=past - 1)
        mondays = (monday + pd.to_timedelta(7 * numbers[:-1], unit="D")).as_unit("ns")
        return cls(bounds / unit_days, calendar.values(mondays), mondays)

    def scaled(self, factor: float) -> Timeline:
        """The same weeks with times multiplied by `factor`."""
        return Timeline(self.bounds * factor, self.z, self.mondays)

    def week_of(self, time: Array) -> NDArray[np.intp]:
        """The week that each moment begins a stretch in."""
        return np.clip(np.searchsorted(self.bounds, time, side="right") - 1, 0, len(self.z) - 1)

    def passed(self, gamma: Array) -> Array:
        """Operational time from the first bound to each bound, shape of `bounds`."""
        return np.concatenate([[0.0], np.cumsum(np.exp(self.z @ gamma) * np.diff(self.bounds))])


@dataclass(frozen=True)
class _Stretch:
    """∫ (A + mτ)^−a (B + τ)^−b dτ over τ from 0 to h: its log, and means over it, each of shape (rows,)."""

    log: Array
    log_a: Array
    per_a: Array
    log_b: Array
    per_b: Array


def _stretches(a: Array, b: float, A: Array, m: Array, B: Array, h: Array) -> _Stretch:
    """Integrate over stretches of one factor m each.

    In v = log(1 + τ/c), c = min(A/m, B), the integrand is log-concave and near-exponential, so its tail can be cut
    where its slope at the start says, and a few Gauss–Legendre nodes give full accuracy.
    """
    reach = A / m
    c = np.minimum(reach, B)
    width = np.log1p(h / c)
    slope = a * c / reach + b * c / B - 1.0
    width = np.where(slope > 0, np.minimum(width, _TAIL / np.maximum(slope, 1e-300)), width)
    fall = (a + b + 1.0) * width
    found = np.full((5, len(A)), -np.inf)
    found[1:] = 0.0
    todo = h > 0
    columns = (a, A, m, B, c, width)
    for rule, steepest, longest in (*_RULES, (_PANELS, np.inf, np.inf)):
        chosen = np.flatnonzero(todo & (fall <= steepest) & (width <= longest))
        todo[chosen] = False
        for start in range(0, len(chosen), _ROWS):
            rows = chosen[start : start + _ROWS]
            found[:, rows] = _quadrature(*rule, b, *(v[rows] for v in columns))
    return _Stretch(*found)


def _quadrature(
    nodes: Array, weights: Array, b: float, a: Array, A: Array, m: Array, B: Array, c: Array, width: Array
) -> Array:
    v = nodes[:, None] * width
    grown = np.expm1(v)
    at_a = grown * (m * c / A)
    log_a = np.log1p(at_a)
    at_b = grown * (c / B)
    log_b = np.log1p(at_b)
    value = np.exp(v - a * log_a - b * log_b)
    value *= weights[:, None]
    total = value.sum(axis=0)
    value /= total
    log_A, log_B = np.log(A), np.log(B)
    return np.stack(
        [
            np.log(total) + np.log(width * c) - a * log_A - b * log_B,
            log_A + np.einsum("ij,ij->j", value, log_a),
            np.einsum("ij,ij->j", value, 1.0 / (1.0 + at_a)) / A,
            log_B + np.einsum("ij,ij->j", value, log_b),
            np.einsum("ij,ij->j", value, 1.0 / (1.0 + at_b)) / B,
        ]
    )


class _Layout:
    """Which stretches of weeks the likelihood of counted cells is made of.

    A customer may have left between t_x and T. That range is the rest of the week of t_x, its own for each cell, and
    whole weeks from there on, which cells of equal (x, T) share. The rows of stretches are the former, one a cell,
    then the latter.
    """

    def __init__(self, cells: Cells, timeline: Timeline) -> None:
        self.cells, self.timeline = cells, timeline
        self.x, self.age, self.pair = cells.age_pairs
        self.levels, self.level_of = cells.levels
        self.weeks, self.pairs, bounds = len(timeline.z), len(self.age), timeline.bounds
        self.entry_week = timeline.week_of(-self.age)
        self.entry_past = -self.age - bounds[self.entry_week]
        last = cells.t_x - cells.T
        self.last_week = timeline.week_of(last)
        self.slot = self.pair * self.weeks + self.last_week
        begin = np.full(self.pairs, self.weeks)
        np.minimum.at(begin, self.pair, self.last_week + 1)
        self.whole_pair, self.whole_week = np.nonzero(np.arange(self.weeks) >= begin[:, None])
        whole_start = bounds[self.whole_week]
        # of every stretch: its pair and week, where in the week and at what age it begins, and how long it is
        self.of = np.concatenate([self.pair, self.whole_pair])
        self.week = np.concatenate([self.last_week, self.whole_week])
        self.past = np.concatenate([last - bounds[self.last_week], np.zeros(len(whole_start))])
        self.moment = np.concatenate([cells.t_x, self.age[self.whole_pair] + whole_start])
        length = [bounds[self.last_week + 1] - last, bounds[self.whole_week + 1] - whole_start]
        self.length = np.maximum(np.concatenate(length), 0.0)

    def evaluate(self, params: Array) -> _Evaluated:
        """Everything that the likelihood at (r, α, s, β, γ…) and its gradient are made of."""
        r, alpha, s, beta = params[:4]
        factor = np.exp(self.timeline.z @ params[4:])
        passed = self.timeline.passed(params[4:])
        entered = passed[self.entry_week] + factor[self.entry_week] * self.entry_past
        lived = passed[-1] - entered
        # at coefficients far out the difference loses its digits, and must not fall below 0
        run = np.maximum(passed[self.week] + factor[self.week] * self.past - entered[self.of], 0.0)
        start = alpha + run
        stretch = _stretches((r + self.x)[self.of], s + 1.0, start, factor[self.week], beta + self.moment, self.length)
        cells = len(self.cells.x)
        by_week = np.full((self.pairs, self.weeks + 1), -np.inf)
        by_week[self.whole_pair, self.whole_week] = stretch.log[cells:]
        onwards = np.logaddexp.accumulate(by_week[:, ::-1], axis=1)[:, ::-1]
        after = onwards[self.pair, self.last_week + 1]
        log_left = np.logaddexp(stretch.log[:cells], after)
        log_stay = -(r + self.x) * np.log(alpha + lived) - s * np.log(beta + self.age)
        return _Evaluated(factor, lived, start, stretch, onwards, after, log_left, log_stay)

    def total(self, params: Array) -> tuple[float, Array]:
        """Log-likelihood of the cells, but for the factors of their purchases, and its gradient in (r, α, s, β, γ…)."""
        r, alpha, s, beta = params[:4]
        count, found = self.cells.count, self.evaluate(params)
        customers = count.sum()
        at_level = np.bincount(self.level_of, weights=count, minlength=len(self.levels))
        stay, leave = found.log_stay[self.pair], np.log(s) + found.log_left
        both = np.logaddexp(stay, leave)
        value = (
            at_level @ (special.gammaln(r + self.levels) - special.gammaln(r))
            + customers * (r * np.log(alpha) + s * np.log(beta))
            + count @ both
        )
        stayed = np.bincount(self.pair, weights=count * np.exp(stay - both), minlength=self.pairs)
        left = count * np.exp(leave - both)
        weight, stretch = self._weights(left, found), found.stretch
        # derivatives in the operational time at the start of each stretch, and at the end of those who stayed
        on_start = -(r + self.x)[self.of] * weight * stretch.per_a
        on_end = -(r + self.x) * stayed / (alpha + found.lived)
        on_params = np.array(
            [
                at_level @ (special.digamma(r + self.levels) - special.digamma(r))
                + customers * np.log(alpha)
                - stayed @ np.log(alpha + found.lived)
                - weight @ stretch.log_a,
                customers * r / alpha + on_end.sum() + on_start.sum(),
                customers * np.log(beta) + left.sum() / s - stayed @ np.log(beta + self.age) - weight @ stretch.log_b,
                customers * s / beta - s * (stayed / (beta + self.age)).sum() - (s + 1.0) * (weight @ stretch.per_b),
            ]
        )
        within = -(r + self.x)[self.of] * weight - on_start * found.start
        per_week = self._by_week(self.week, within) + self._through_time(on_start, on_end, found.factor)
        return float(value), np.concatenate([on_params, per_week @ self.timeline.z])

    def _weights(self, left: Array, found: _Evaluated) -> Array:
        """What each stretch weighs in the integrals of all cells that run over it, shape (stretches,)."""
        cells = len(left)
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(np.isneginf(found.log_left), 0.0, left * np.exp(found.stretch.log[:cells] - found.log_left))
            share = np.where(np.isneginf(found.after), 0.0, left * np.exp(found.after - found.log_left))
            joined = np.bincount(self.slot, weights=share, minlength=self.pairs * self.weeks)
            joined = joined.reshape(self.pairs, self.weeks)
            log_joined = np.where(joined > 0, np.log(joined) - found.onwards[:, 1:], -np.inf)
        so_far = np.logaddexp.accumulate(log_joined, axis=1)
        # a week is in the integrals of the cells whose last purchase came in a week before it
        whole = np.exp(so_far[self.whole_pair, self.whole_week - 1] + found.stretch.log[cells:])
        return np.concatenate([own, whole])

    def _through_time(self, on_start: Array, on_end: Array, factor: Array) -> Array:
        """Derivatives in the log factor of each week through operational time, which runs from each pair's entry."""
        on_entry = -on_end - np.bincount(self.of, weights=on_start, minlength=self.pairs)
        part = self._by_week(self.week, on_start * self.past) + self._by_week(
            self.entry_week, on_entry * self.entry_past
        )
        reached = self._by_week(self.week, on_start) + self._by_week(self.entry_week, on_entry)
        beyond = on_end.sum() + reached.sum() - np.cumsum(reached)
        return factor * (part + np.diff(self.timeline.bounds) * beyond)

    def _by_week(self, week: NDArray[np.intp], values: Array) -> Array:
        return np.bincount(week, weights=values, minlength=self.weeks)


def _layouts(cells: Cells, timeline: Timeline) -> list[_Layout]:
    """The cells in blocks of whole levels of x, so that what is held for each (x, T) and week stays small."""
    width, _ = timeline.z.shape
    levels, level_of = cells.levels
    _, _, pair = cells.age_pairs
    ends = np.flatnonzero(np.diff(level_of, append=len(levels))) + 1
    pairs_of_level = np.bincount(level_of[np.unique(pair, return_index=True)[1]], minlength=len(levels))
    block = np.cumsum(pairs_of_level * width) // _LARGEST
    cuts = [0, *ends[np.flatnonzero(np.diff(block, append=block[-1] + 1))]]
    fields = (cells.x, cells.t_x, cells.T, cells.count)
    return [_Layout(Cells(*(v[a:b] for v in fields)), timeline) for a, b in pairwise(cuts)]


def _total(layouts: list[_Layout], params: Array, weekly: Array) -> tuple[float, Array]:
    """Log-likelihood of all customers and its gradient in (r, α, s, β, γ…); `weekly` purchases, shape (weeks,)."""
    z = layouts[0].timeline.z
    value, gradient = float(weekly @ (z @ params[4:])), np.zeros(len(params))
    gradient[4:] = weekly @ z
    for layout in layouts:
        more, slope = layout.total(params)
        value += more
        gradient += slope
    return value, gradient


@dataclass(frozen=True)
class _Evaluated:
    """Of each week its factor; of each pair operational time and log of what stays; of each stretch its start in
    operational time (with α) and its integral; `onwards` the logs of sums of whole weeks by pair, and of each cell the
    log of the whole weeks after its own stretch and of everything.
    """

    factor: Array
    lived: Array
    start: Array
    stretch: _Stretch
    onwards: Array
    after: Array
    log_left: Array
    log_stay: Array


class SeasonalParetoNBDResults(PurchaseResults):
    """A fitted seasonal Pareto/NBD model: r, alpha (time), s, beta (time), then the coefficients of the calendar.

    Histories that are scored must be seen from the model's own `observed_to`, in its unit of time. r/α is the mean
    rate of a week with z = 0.
    """

    @property
    def _logged(self) -> NDArray[np.bool_]:
        return np.arange(len(self.params)) < 4

    @property
    def gamma(self) -> Array:
        """The coefficients of the calendar, shape (coefficients,)."""
        return self.params.to_numpy()[4:]

    def to_json(self, time_unit: str | None = None) -> str:
        """The fit as JSON text, without the data; `time_unit` is the model's own."""
        if time_unit not in (None, self.model.unit):
            raise ValueError(f"fitted model: it counts in {self.model.unit}, not in {time_unit}; convert or fit again")
        return super().to_json(self.model.unit)

    def with_columns(self, more: pd.DataFrame) -> Self:
        """The same fit with given columns for further weeks, so that purchases in them can be foreseen."""
        settings = self.model.settings() | {"calendar": self.model.calendar.with_columns(more).to_settings()}
        model = type(self.model).without_data(self.nobs, **settings)
        return type(self)(model, self.params, self.log_cov, self.llf, self.verdict)

    def likelihood_ratio(self, plain: PurchaseResults) -> dict[str, float]:
        """Test of no season: `statistic`, `df`, `p_value` against Pareto/NBD on the same customers and unit of time.

        Customers are independent in it. Whatever else happens to all of them in one week (a strike, a viral post) is
        not, so a small p-value on many customers says less than a forecast that improves.

        Raises
        ------
        ValueError
            When `plain` is another model or saw other customers or another unit of time.
        """
        same = plain.name == ParetoNBD.name and plain.nobs == self.nobs
        if not (same and np.isclose(self.model.loglike(self._without_season(plain)), plain.llf, rtol=1e-7)):
            raise ValueError("likelihood ratio: give the Pareto/NBD fit of the same customers, in the same unit")
        statistic, df = max(2.0 * (self.llf - plain.llf), 0.0), len(self.gamma)
        return {"statistic": statistic, "df": df, "p_value": float(stats.chi2.sf(statistic, df))}

    def _without_season(self, plain: PurchaseResults) -> Array:
        return np.concatenate([plain.params, np.zeros(len(self.gamma))])

    def expected_between(
        self, first: datetime.date, last: datetime.date, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike
    ) -> Array:
        """Expected purchases from day `first` to day `last`, both included and after `observed_to`, (customers,).

        Raises
        ------
        ValueError
            When the days are not after the observed ones, or a given column lacks one of their weeks.
        """
        begin = (first - self.model.observed_to).days - 1
        end = (last - self.model.observed_to).days
        if not 0 <= begin < end:
            raise ValueError(f"expected purchases: {first} to {last} is not a period after {self.model.observed_to}")
        cells = Cells.of(frequency, recency, T)
        x, age, pair = cells.age_pairs
        per_day = self.model.unit_days
        found = self._expected(begin / per_day, end / per_day, age) * self._rate_if_alive(x, age)
        return (self._alive_cells(cells) * found[pair])[cells.index]

    def expected_weekly(self, weeks: int, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Array:
        """Expected purchases of the whole base in each of the next `weeks` stretches of seven days, shape (weeks,)."""
        cells = Cells.of(frequency, recency, T)
        x, age, pair = cells.age_pairs
        alive = np.bincount(pair, weights=self._alive_cells(cells) * cells.count, minlength=len(age))
        rates = alive * self._rate_if_alive(x, age)
        step = DAYS_PER_WEEK / self.model.unit_days
        return np.array([rates @ self._expected(k * step, (k + 1) * step, age) for k in range(weeks)])

    def expected_repeats(self, t: ArrayLike, entered: datetime.date) -> Array:
        """Expected repeat purchases in the first `t` of a customer whose first purchase was on day `entered`."""
        r, alpha = self.params.iloc[:2]
        time = np.atleast_1d(np.asarray(t, dtype=float))
        begin = (entered - self.model.observed_to).days / self.model.unit_days
        found = [r / alpha * self._expected(0.0, end, np.zeros(1), start=begin)[0] for end in time]
        return np.array(found).reshape(np.shape(t))

    def expected_past(self, T: ArrayLike, weights: ArrayLike | None = None) -> pd.DataFrame:
        """Repeat purchases that the model expects in each observed calendar week, of customers of these ages.

        Returns
        -------
        DataFrame
            `week` (its Monday) and `purchases`.
        """
        ages, of = np.unique(np.asarray(T, dtype=float), return_inverse=True)
        count = np.bincount(of, weights=weights)
        r, alpha, s, beta = self.params.iloc[:4]
        line = self._timeline(-ages.max(), 0.0)
        low = np.maximum(line.bounds[:-1] + ages[:, None], 0.0)
        length = np.maximum(line.bounds[1:] + ages[:, None], 0.0) - low
        kept = _kept(low, length, s, beta, 0.0)
        purchases = r / alpha * (count @ kept) * np.exp(line.z @ self.gamma)
        return pd.DataFrame({"week": line.mondays, "purchases": purchases})

    def season(self, level: float = 0.95, seed: int = 1, dispersion: float = 1.0) -> pd.DataFrame:
        """The seasonal factor on each day of a year, its mean over the year being 1.

        Parameters
        ----------
        level : float
            Of a simultaneous band: it holds the whole curve so often.
        seed : int
        dispersion : float
            Variance of weekly purchases over the model's own; see :func:`weekly_dispersion`.

        Returns
        -------
        DataFrame
            `day` (1 … 365), `factor`, `low`, `high`.
        """
        factors, low, high, _ = self._band(lambda daily: daily, level, seed, dispersion)
        return pd.DataFrame({"day": np.arange(1, 366), "factor": factors, "low": low, "high": high})

    def season_by_month(self, level: float = 0.95, seed: int = 1, dispersion: float = 1.0) -> pd.DataFrame:
        """The seasonal factor of each month, as :meth:`season`: `month` (1 … 12), `factor`, `low`, `high`, `busiest`.

        The band is simultaneous over months, so it holds for the busiest one although that was picked afterwards.
        `busiest` is how often, over what the estimates leave open, the month is the busiest of the year.
        """
        month = pd.date_range("2001-01-01", periods=365).month.to_numpy() - 1
        share = np.equal.outer(np.arange(12), month) / np.bincount(month)[:, None]
        factors, low, high, drawn = self._band(lambda daily: daily @ share.T, level, seed, dispersion)
        busiest = np.bincount(drawn.argmax(axis=1), minlength=12) / len(drawn)
        return pd.DataFrame(
            {"month": np.arange(1, 13), "factor": factors, "low": low, "high": high, "busiest": busiest}
        )

    def _band(
        self, reduce: Callable[[Array], Array], level: float, seed: int, dispersion: float
    ) -> tuple[Array, Array, Array, Array]:
        terms = 2 * self.model.calendar.pairs
        if not terms:
            raise ValueError("season: the calendar has no seasonal terms, only columns")
        z = self.model.calendar.season((np.datetime64("2001-01-01") - _EPOCH).astype(float) + np.arange(365) + 0.5)

        def curves(gamma: Array) -> Array:
            daily = np.exp(gamma @ z.T)
            return np.log(reduce(daily / daily.mean(axis=-1, keepdims=True)))

        centre = self.gamma[:terms]
        found = curves(centre)
        rng = np.random.default_rng(seed)
        root = np.linalg.cholesky(self.log_cov[4 : 4 + terms, 4 : 4 + terms] * max(dispersion, 1.0))
        apart = curves(centre + rng.standard_normal((_CURVES, terms)) @ root.T) - found
        error = apart.std(axis=0)
        widest = np.quantile((np.abs(apart) / error).max(axis=1), level)
        return np.exp(found), np.exp(found - widest * error), np.exp(found + widest * error), apart + found

    def _timeline(self, begin: float, end: float) -> Timeline:
        per_day = self.model.unit_days
        return Timeline.around(self.model.calendar, self.model.observed_to, begin * per_day, end * per_day, per_day)

    def _lived(self, age: Array) -> Array:
        """Operational time from each age's entry to the last observed day."""
        line = self._timeline(-float(age.max(initial=0.0)), 0.0)
        passed = line.passed(self.gamma)
        return passed[-1] - np.interp(-age, line.bounds, passed)

    def _rate_if_alive(self, x: Array, age: Array) -> Array:
        r, alpha = self.params.iloc[:2]
        return (r + x) / (alpha + self._lived(age))

    def _expected(self, begin: float, end: float, age: Array, discount: float = 0.0, start: float = 0.0) -> Array:
        """∫ exp(γ'z) P(still there) exp(−discount τ) dτ from begin to end, from `start` on, of those alive at `age`."""
        if not np.isfinite(end):
            raise ValueError("expected purchases: the calendar has no endless future; give a horizon")
        s, beta = self.params.iloc[2:4]
        line = self._timeline(start + begin, start + end)
        low, length = line.bounds[:-1] - start, np.diff(line.bounds)
        ages, of = np.unique(age, return_inverse=True)
        kept = _kept(low, np.broadcast_to(length, (len(ages), len(low))), s, beta + ages[:, None], discount)
        return (kept @ np.exp(line.z @ self.gamma))[of]

    def _alive_cells(self, cells: Cells) -> Array:
        alive = []
        for layout in _layouts(cells, self._timeline(-float(cells.T.max()), 0.0)):
            found = layout.evaluate(self.params.to_numpy())
            alive.append(special.expit(found.log_stay[layout.pair] - np.log(self.params["s"]) - found.log_left))
        return np.concatenate(alive)

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        return self._expected(0.0, float(t), age, discount) * self._rate_if_alive(x, age)

    def _counts_if_alive(self, n: Array, t: float, x: Array, age: Array) -> Array:
        r, alpha, s, beta = self.params.iloc[:4]
        line = self._timeline(0.0, float(t))
        passed = line.passed(self.gamma)
        shape, scale = (r + x)[:, None], (alpha + self._lived(age))[:, None]
        base = beta + age
        chances = (1.0 + t / base[:, None]) ** -s * negative_binomial(n, shape, scale, passed[-1])
        for k, length in enumerate(np.diff(line.bounds)):
            for node, weight in zip(*_COUNT_RULE, strict=True):
                moment = line.bounds[k] + node * length
                density = s / base * (1.0 + moment / base) ** (-s - 1.0) * weight * length
                bought = passed[k] + node * (passed[k + 1] - passed[k])
                chances += density[:, None] * negative_binomial(n, shape, scale, bought)
        return chances

    def _future_if_alive(
        self, t: float, x: Array, age: Array, here: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        r, alpha, s, beta = self.params.iloc[:4]
        line = self._timeline(0.0, float(t))
        rate = rng.gamma(r + x, size=here.shape) / (alpha + self._lived(age))
        hazard = np.maximum(rng.gamma(s, size=here.shape) / (beta + age), 1e-300)
        active = np.where(here, np.minimum(rng.standard_exponential(here.shape) / hazard, t), 0.0)
        lived = np.interp(active, line.bounds, line.passed(self.gamma))
        return rng.poisson(rate * lived).astype(float), active


def _kept(low: Array, length: Array, s: float, scale: Array | float, discount: float) -> Array:
    """∫ (1 + τ/scale)^−s exp(−discount τ) dτ from low to low + length, in the common shape."""
    here = scale + low
    within = here * discounted_time(s - 1.0, discount * here, np.log1p(length / here))
    return (scale / here) ** s * np.exp(-discount * low) * within


class SeasonalParetoNBD(PurchaseModel):
    """Pareto/NBD purchase model whose purchase rate moves with the calendar.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases; first to last purchase; first purchase to `observed_to`.
    weekly : DataFrame
        `week` (Mondays) and `purchases`, the repeat purchases of the same customers by calendar week, from
        :func:`weekly_repeats`; with weights, weighted too. A week that is not there had none.
    observed_to : date
        The last observed day.
    calendar : Calendar, optional
        Two pairs of seasonal terms if not given.
    unit : {"weeks", "days"}
        What times are counted in.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for.

    Raises
    ------
    ValueError
        Where seasonal terms meet less than a year, weekly purchases do not add up to the customers' own, a column is
        the same in all observed weeks or follows from others.

    Notes
    -----
    With all coefficients 0 the likelihood is that of Pareto/NBD, so log-likelihood, AIC and BIC compare directly.
    """

    name: ClassVar[str] = "Seasonal Pareto/NBD"
    time_parameters: ClassVar[tuple[str, ...]] = ("alpha", "beta")
    results_class: ClassVar[type[PurchaseResults]] = SeasonalParetoNBDResults

    def __init__(
        self,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        *,
        weekly: pd.DataFrame,
        observed_to: datetime.date,
        calendar: Calendar | None = None,
        unit: str = "weeks",
        weights: ArrayLike | None = None,
    ) -> None:
        super().__init__(frequency, recency, T, weights)
        self.calendar = calendar or Calendar()
        self.observed_to, self.unit = observed_to, unit
        if unit not in UNITS:
            raise ValueError(f"{self.name}: unit must be days or weeks, not {unit!r}")
        watched = float(self.cells.T.max()) * self.unit_days
        if self.calendar.pairs and watched < YEAR_OF_WEEKS:
            raise ValueError(
                f"{self.name}: the longest-known customer has been watched for {watched / DAYS_PER_WEEK:.0f} weeks; "
                "a season needs a year"
            )
        self.timeline = Timeline.around(self.calendar, observed_to, -watched, 0.0, self.unit_days)
        self.weekly = self._placed(weekly)
        _check_varied(self.calendar.names, self.timeline.z)

    @property
    def unit_days(self) -> float:
        """Days in a unit of time."""
        return UNITS[self.unit]

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Those of Pareto/NBD, then one coefficient a term of the calendar."""
        return (*ParetoNBD.parameter_names, *self.calendar.names)

    def settings(self) -> dict[str, object]:
        """The calendar, the last observed day and the unit of time."""
        return {
            "calendar": self.calendar.to_settings(),
            "observed_to": self.observed_to.isoformat(),
            "unit": self.unit,
        }

    @classmethod
    def without_data(cls, nobs: float, **settings: object) -> SeasonalParetoNBD:
        """A model that scores but holds no data, from what :meth:`settings` returned."""
        day = datetime.date.fromisoformat(settings["observed_to"])
        calendar = Calendar.from_settings(settings["calendar"])
        return super().without_data(nobs, calendar=calendar, observed_to=day, unit=settings["unit"])

    def loglike_total(self, params: Array, cells: Cells) -> tuple[float, Array]:
        """Log-likelihood of all customers in `cells` and its gradient, shape (k,)."""
        return _total(_layouts(cells, self.timeline), params, self.weekly)

    def fit(self) -> SeasonalParetoNBDResults:
        """Maximise the likelihood, starting from Pareto/NBD without a season.

        Raises
        ------
        ModelNotFitted
            Where Pareto/NBD cannot be fitted: fewer than two customers, or no repeat purchase.
        """
        cells, names = self.cells, self.parameter_names
        try:
            plain = ParetoNBD(cells.x, cells.t_x, cells.T, weights=cells.count).fit()
        except ModelNotFitted as error:
            raise ModelNotFitted(f"{self.name}: {str(error).partition(': ')[2]}") from error
        clock = float(cells.count @ cells.T) / self.nobs
        # centred and in units of their spread, the calendar's terms leave the other estimates nearly alone
        mean, spread = self.timeline.z.mean(axis=0), self.timeline.z.std(axis=0)
        line = Timeline(self.timeline.bounds / clock, (self.timeline.z - mean) / spread, self.timeline.mondays)
        natural = cells.scaled(1.0 / clock)
        scale = np.array([1.0, clock, 1.0, clock])
        first = np.concatenate([np.log(plain.params.to_numpy() / scale), np.zeros(len(mean))])
        stages = [natural.thinned(n) for n in stage_sizes(self.nobs) if n * 2 <= len(cells.x)]
        objectives = [self._objective_on(c, line) for c in (*stages, natural)]
        first = _closer(objectives[0], first, plain.log_cov * self.nobs, self.nobs / self.weekly.sum())
        fit = maximise_in_stages(objectives, [first])
        # back to the terms as they are: a linear map of log parameters and coefficients
        back = np.diag(np.concatenate([np.ones(4), 1.0 / spread]))
        back[1, 4:] = mean / spread
        estimates = back @ fit.log_params
        estimates[:4] = np.exp(estimates[:4]) * scale
        return SeasonalParetoNBDResults(
            model=self,
            params=pd.Series(estimates, index=list(names), name="estimate"),
            log_cov=back @ fit.log_covariance @ back.T / self.nobs,
            llf=-fit.value * self.nobs - float(cells.count @ cells.x) * np.log(clock),
            verdict=judge(fit, names, self.nobs),
        )

    def _objective_on(self, cells: Cells, line: Timeline) -> Objective:
        layouts, customers = _layouts(cells, line), float(cells.count.sum())
        weekly = self.weekly * (float(cells.count @ cells.x) / self.weekly.sum())

        def objective(working: Array) -> tuple[float, Array]:
            params = np.concatenate([np.exp(working[:4]), working[4:]])
            value, gradient = _total(layouts, params, weekly)
            gradient[:4] *= params[:4]
            return -value / customers, -gradient / customers

        return objective

    def _placed(self, weekly: pd.DataFrame) -> Array:
        """Purchases of each week of the timeline; raises ValueError where they cannot be those of the customers."""
        weeks = _mondays(weekly["week"], "weekly purchases")
        values = weekly["purchases"].to_numpy(dtype=float, na_value=np.nan)
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError("weekly purchases: every week needs a number from 0 up")
        at = self.timeline.mondays.get_indexer(weeks)
        if (values[at < 0] > 0).any():
            week = weeks[(at < 0) & (values > 0)][0].date()
            raise ValueError(f"weekly purchases: nobody is watched in the week of {week}; use the same customers")
        placed = np.bincount(at[at >= 0], weights=values[at >= 0], minlength=len(self.timeline.z)).astype(float)
        repeats = float(self.cells.count @ self.cells.x)
        if not np.isclose(placed.sum(), repeats, rtol=1e-9, atol=1e-9):
            raise ValueError(
                f"weekly purchases: they add up to {placed.sum():g}, the customers' repeat purchases to {repeats:g}; "
                "both must be of the same customers and days"
            )
        return placed


def _closer(objective: Objective, first: Array, covariance: Array, spare: float) -> Array:
    """A better start: steps measured by the covariance without a season, and by `spare` for each coefficient."""
    root = np.sqrt(spare) * np.eye(len(first))
    if np.isfinite(covariance).all():
        root[:4, :4] = np.linalg.cholesky(covariance)

    def measured(step: Array) -> tuple[float, Array]:
        value, gradient = objective(np.clip(first + root @ step, -LOG_BOUND, LOG_BOUND))
        return value, root.T @ gradient

    found = optimize.minimize(measured, np.zeros(len(first)), jac=True, method="L-BFGS-B", options=_CLOSELY)
    return np.clip(first + root @ found.x, -LOG_BOUND, LOG_BOUND)


def _check_varied(names: tuple[str, ...], z: Array) -> None:
    """Raise ValueError where a term says nothing of its own over the observed weeks."""
    basis = np.full((len(z), 1), 1.0 / np.sqrt(len(z)))
    for name, column in zip(names, z.T, strict=True):
        size = np.linalg.norm(column - column.mean())
        if size <= 1e-12 * max(np.abs(column).max(), 1e-300):
            raise ValueError(f"calendar: {name!r} is the same in all observed weeks; leave it out")
        own = column - basis @ (basis.T @ column)
        own -= basis @ (basis.T @ own)
        if np.linalg.norm(own) < _OWN_SHARE * size:
            raise ValueError(
                f"calendar: {name!r} follows from the terms before it over the observed weeks; leave it out"
            )
        basis = np.column_stack([basis, own / np.linalg.norm(own)])


def weekly_dispersion(results: SeasonalParetoNBDResults) -> float:
    """Variance of weekly repeat purchases around what the model expects, over that of a Poisson count; at least 1.

    Above 1, more than chance and season moves single weeks, and standard errors of the season are too small by its
    root (quasi-likelihood: McCullagh & Nelder 1989, section 9.2).
    """
    model = results.model
    expected = results.expected_past(model.cells.T, model.cells.count)["purchases"].to_numpy()
    used = expected > 0
    left = (model.weekly[used] - expected[used]) ** 2 / expected[used]
    return max(float(left.sum()) / max(int(used.sum()) - len(results.params), 1), 1.0)
