"""What every purchase model shares: counted cells, the fit, standard errors and a verdict.

A purchase model sees three numbers a customer: how often they came back (`frequency`, x), when they last did
(`recency`, t_x, counted from the first purchase) and how long they have been watched (`T`). Customers with
the same three numbers contribute the same likelihood, so everything runs on distinct cells and their counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, sparse, special, stats

from analysis.valuation.saved import SavedFit
from analysis.valuation.summary import DAYS_PER_WEEK

Array = NDArray[np.float64]
Objective = Callable[[Array], tuple[float, Array]]

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
class Grid:
    """Where the parts of a likelihood repeat from cell to cell, so that each is computed once.

    Attributes
    ----------
    levels : array
        Distinct numbers of repeat purchases.
    level_of : array of shape (cells,), or slice
        Where each cell finds its level; the slice takes them as they are, one a cell.
    age_x, age : arrays
        Distinct (x, T), found by `age_of`.
    last_x, last : arrays
        Distinct (x, t_x), found by `last_of`.
    end : array or float
        The moment up to which an integral from `last` runs: the cell's own T where `last` has one entry a cell;
        otherwise the largest T, and what lies beyond the cell's T is taken off at `age`.
    shared : bool
        Whether (x, T) and (x, t_x) are shared between cells.
    """

    levels: Array
    level_of: NDArray[np.intp] | slice
    age_x: Array
    age: Array
    age_of: NDArray[np.intp] | slice
    last_x: Array
    last: Array
    last_of: NDArray[np.intp] | slice
    end: Array | float
    shared: bool

    def by_age(self, cell_values: Array) -> Array:
        """Sums of a value of each cell by (x, T), shape of `age`."""
        return _sums(cell_values, self.age_of, len(self.age))

    def by_last(self, cell_values: Array) -> Array:
        """Sums of a value of each cell by (x, t_x), shape of `last`."""
        return np.add.reduceat(cell_values, self.ends[:-1]) if self.shared else cell_values

    def by_level(self, cell_values: Array) -> Array:
        """Sums of a value of each cell by x, shape of `levels`."""
        return _sums(cell_values, self.level_of, len(self.levels))

    def spread(self, cell_values: Array, at_age: Array) -> Array:
        """Sums by (x, t_x) of a value of each cell times what its (x, T) has: (k, …) of `age` → (k, …) of `last`."""
        if not self.shared:
            return cell_values * at_age
        shape = len(self.last), len(self.age)
        return (sparse.csr_array((cell_values, self.age_of, self.ends), shape=shape) @ at_age.T).T

    @cached_property
    def ends(self) -> NDArray[np.intp]:
        """Where the cells of each (x, t_x) begin, and the last ones end: cells lie in the order of these pairs."""
        return np.append(0, np.cumsum(np.bincount(self.last_of, minlength=len(self.last))))


def _sums(cell_values: Array, of: NDArray[np.intp] | slice, size: int) -> Array:
    return cell_values if isinstance(of, slice) else np.bincount(of, weights=cell_values, minlength=size)


@dataclass(frozen=True)
class Cells:
    """Distinct (frequency, recency, T) with the number of customers in each, sorted.

    Attributes
    ----------
    x, t_x, T : arrays of shape (cells,)
        Repeat purchases, time of the last one and age, times in the caller's unit.
    count : array of shape (cells,)
        Customers, or the sum of their weights.
    index : array of shape (customers,), or None
        The cell of every customer, in the caller's order; None where it was not asked for.
    """

    x: Array
    t_x: Array
    T: Array
    count: Array
    index: NDArray[np.intp] | None = None

    @classmethod
    def of(
        cls,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        weights: ArrayLike | None = None,
        index: bool = True,
    ) -> Cells:
        """Count equal customers; raises ValueError on data that no purchase history can have.

        Parameters
        ----------
        frequency, recency, T : array-like of shape (customers,)
        weights : array-like of shape (customers,), optional
            How many customers each row stands for, above 0.
        index : bool
            Whether to remember the cell of every customer.
        """
        columns = _columns(frequency, recency, T)
        ranges = _ranges(columns)
        codes = [_coding(column, found) for column, found in zip(columns, ranges, strict=True)]
        sizes = [c.size for c in codes]
        if math.prod(sizes) > _LARGEST_KEY:
            _check_rows(columns)
            rows, of = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
            count = np.bincount(of, weights=weights).astype(float)
            return cls(*np.ascontiguousarray(rows.T), count, of if index else None)
        # Whole numbers are reckoned as floats as long as these hold them exactly, which saves turning each column.
        dtype = np.dtype(float if math.prod(sizes) <= _LARGEST_WHOLE else np.int64)
        key = np.empty(len(columns[0]), dtype=np.int64)
        for start in range(0, len(key), _BLOCK):
            rows = slice(start, start + _BLOCK)
            part = codes[0].codes(columns[0], rows, dtype)
            for coding, column in zip(codes[1:], columns[1:], strict=True):
                part *= coding.size
                part += coding.codes(column, rows, dtype)
            key[rows] = part
        if _increasing(key):
            # they are cells already, as equal_customers counts them
            _check_rows(columns)
            count = np.ones(len(key)) if weights is None else np.array(weights, dtype=float)
            return cls(*(column.copy() for column in columns), count, np.arange(len(key)) if index else None)
        distinct, count, of = counted(key, math.prod(sizes), weights, index)
        rest, age = np.divmod(distinct, sizes[2])
        x, last = np.divmod(rest, sizes[1])
        cells = cls(*(coding.values(code) for coding, code in zip(codes, (x, last, age), strict=True)), count, of)
        # Cells are fewer than rows, which are looked through only to name one that is wrong.
        if not _possible(cells.x, cells.t_x, cells.T):
            _check_rows(columns)
        return cells

    def scaled(self, factor: float) -> Cells:
        """The same cells with times multiplied by `factor`."""
        return Cells(self.x, self.t_x * factor, self.T * factor, self.count, self.index)

    def thinned(self, customers: int) -> Cells:
        """Every n-th customer in the order of the cells, about `customers` in all: a sample stratified by history."""
        keep, taken = self._every(customers)
        return Cells(self.x[keep], self.t_x[keep], self.T[keep], taken[keep])

    def _every(self, customers: int) -> tuple[NDArray[np.bool_], Array]:
        passed = np.floor(np.cumsum(self.count) * (customers / self.count.sum()) + 0.5)
        taken = np.diff(passed, prepend=0.0)
        return taken > 0, taken

    @cached_property
    def levels(self) -> tuple[Array, NDArray[np.intp]]:
        """Distinct x, and the one of each cell."""
        new = np.ones(len(self.x), dtype=bool)
        new[1:] = self.x[1:] != self.x[:-1]
        return self.x[new], np.cumsum(new) - 1

    @cached_property
    def age_pairs(self) -> tuple[Array, Array, NDArray[np.intp]]:
        """Distinct (x, T), and the one of each cell."""
        return self._pairs(self.T)

    @cached_property
    def grid(self) -> Grid:
        """What the cells share; by themselves where sharing would not pay, as with continuous times."""
        levels, level_of = self.levels
        new = np.ones(len(self.x), dtype=bool)
        new[1:] = (self.x[1:] != self.x[:-1]) | (self.t_x[1:] != self.t_x[:-1])
        if new.sum() < 0.8 * len(new):
            age_x, age, age_of = self.age_pairs
            if new.sum() + len(age) < 0.8 * len(new):
                last = (self.x[new], self.t_x[new], np.cumsum(new) - 1)
                return Grid(levels, level_of, age_x, age, age_of, *last, float(self.T.max()), True)
        return replace(self.apart, levels=levels, level_of=level_of)

    @cached_property
    def sums(self) -> tuple[Array, Array]:
        """Customers by x, and by (x, T), as :attr:`grid` has them."""
        return self.grid.by_level(self.count), self.grid.by_age(self.count)

    @cached_property
    def apart(self) -> Grid:
        """Every cell by itself, for parameters that differ from cell to cell."""
        alone = slice(None)
        return Grid(self.x, alone, self.x, self.T, alone, self.x, self.t_x, alone, self.T, False)

    def _pairs(self, times: Array) -> tuple[Array, Array, NDArray[np.intp]]:
        levels, of = self.levels
        codes, distinct = pd.factorize(times)
        key, _, pair = counted(of * len(distinct) + codes, len(levels) * len(distinct), None, True)
        level, time = np.divmod(key, len(distinct))
        return levels[level], distinct[time], pair


@dataclass(frozen=True)
class Mixture:
    """A likelihood of the form f(x) × (stay(x, T) × keep(x, T) + leave(x, t_x)), each factor computed where it varies.

    Attributes
    ----------
    grid : Grid
    log_level : array, shape of grid.levels
    log_stay, keep : arrays, shape of grid.age
        `keep` lies between 0 and 1; where it is below 1, `leave` counts something that belongs to after T.
    log_leave : array, shape of grid.last
    d_level, d_stay, d_leave : arrays of shape (k, …)
        Derivatives of log_level, of stay × keep divided by stay, and of log_leave, in each parameter.
    """

    grid: Grid
    log_level: Array
    log_stay: Array
    keep: Array | float
    log_leave: Array
    d_level: Array
    d_stay: Array
    d_leave: Array

    @cached_property
    def _joined(self) -> tuple[Array, Array, Array]:
        """By cell: log of (keep + leave/stay), and the shares of stay and of leave in stay × keep + leave."""
        log_odds = self.log_leave[self.grid.last_of] - self.log_stay[self.grid.age_of]
        keep = self.keep if isinstance(self.keep, float) else self.keep[self.grid.age_of]
        if log_odds.max() > _LARGEST_EXPONENT:
            shift = np.maximum(log_odds - _LARGEST_EXPONENT, 0.0)
            scale = np.exp(-shift)
            odds = np.exp(log_odds - shift)
            total = keep * scale + odds
            return np.log(total) + shift, scale / total, odds / total
        odds = np.exp(log_odds)
        total = keep + odds
        return np.log(total), 1.0 / total, odds / total

    def by_cell(self) -> tuple[Array, Array]:
        """Log-likelihood of each cell, shape (cells,), and its gradient, (k, cells)."""
        grid = self.grid
        value, stay, leave = self._joined
        gradient = (
            self.d_level[:, grid.level_of] + stay * self.d_stay[:, grid.age_of] + leave * self.d_leave[:, grid.last_of]
        )
        return self.log_level[grid.level_of] + self.log_stay[grid.age_of] + value, gradient

    def total(self, cells: Cells) -> tuple[float, Array]:
        """Log-likelihood of all customers in `cells`, whose grid this is about, and its gradient, shape (k,)."""
        grid, count = self.grid, cells.count
        value, stay, leave = self._joined
        at_level, at_age = cells.sums
        gradient = (
            self.d_level @ at_level
            + self.d_stay @ grid.by_age(stay * count)
            + self.d_leave @ grid.by_last(leave * count)
        )
        return float(self.log_level @ at_level + self.log_stay @ at_age + value @ count), gradient

    def curvature(self, cells: Cells, nearby: Sequence[tuple[Mixture, Mixture]], width: float) -> Array:
        """Second derivatives of the log-likelihood of all customers, shape (k, k).

        Only the factors are differenced, on their grid; the cells, which are many more, are passed once.

        Parameters
        ----------
        cells : Cells
            Whose grid this is about.
        nearby : sequence of k pairs of mixtures
            With the first, second, … parameter `width` above and below those of this one.
        """
        grid, count = self.grid, cells.count
        _, stay, leave = self._joined
        (at_level, _), at_age, at_last = cells.sums, grid.by_age(stay * count), grid.by_last(leave * count)
        never = np.isneginf(self.log_leave)

        def slopes(near: Mixture) -> Array:
            with np.errstate(invalid="ignore"):
                grown = np.exp(np.where(never, 0.0, near.log_leave - self.log_leave))
            stayed = np.exp(near.log_stay - self.log_stay) * near.d_stay
            return near.d_level @ at_level + stayed @ at_age + (grown * near.d_leave) @ at_last

        second = np.array([slopes(above) - slopes(below) for above, below in nearby]) / (2.0 * width)
        # the squares of each cell's gradient, stay × d_stay + leave × d_leave, multiplied out
        second -= (self.d_stay * grid.by_age(stay * stay * count)) @ self.d_stay.T
        second -= (self.d_leave * grid.by_last(leave * leave * count)) @ self.d_leave.T
        second -= 2.0 * (grid.spread(stay * leave * count, self.d_stay) @ self.d_leave.T)
        return (second + second.T) / 2

    def in_logs(self, params: Array) -> Mixture:
        """The same with derivatives in the logarithms of the parameters, which are floats."""
        each = params[:, None]
        return replace(self, d_level=each * self.d_level, d_stay=each * self.d_stay, d_leave=each * self.d_leave)


# exp of it is finite, with room for a sum
_LARGEST_EXPONENT = 700.0
# A Newton step in log parameters that ends, in double precision, where it was meant to.
_SHORT_STEP = 1e-5

# Times are whole numbers of one of these parts of the unit in most data: whole units, or days counted in weeks.
_PARTS = (1.0, DAYS_PER_WEEK)
_LARGEST_CODE = 2**31
# Floats above it are whole whatever they hold, and soon too large for an integer.
_LARGEST_WHOLE = 2.0**53
_LARGEST_KEY = 2**62
# A table of so many counts is cheaper than sorting even where most of them stay 0.
_SMALL_TABLE = 1 << 22
# Rows a pass works on at a time, so that its temporaries stay in the processor's cache.
_BLOCK = 1 << 15


@dataclass(frozen=True)
class _Coding:
    """How a column is written as whole numbers from 0 to `size` − 1 in the order of its values."""

    size: int
    lowest: int = 0
    parts: float = 1.0
    rank: NDArray[np.int64] | None = None
    table: Array | None = None

    def codes(self, column: Array, rows: slice, dtype: np.dtype) -> NDArray:
        if self.rank is not None:
            return self.rank[rows].astype(dtype)
        whole = column[rows] if self.parts == 1.0 else np.rint(column[rows] * self.parts)
        return whole.astype(dtype, copy=False) - dtype.type(self.lowest)

    def values(self, code: NDArray[np.int64]) -> Array:
        return (code + self.lowest) / self.parts if self.table is None else self.table[code]


@dataclass
class _Range:
    """The lowest and the highest value of a column, and whether all are whole."""

    low: float = math.inf
    high: float = -math.inf
    whole: bool = True

    def widen(self, part: Array) -> None:
        # unlike min and max, these hand on a missing value
        self.low, self.high = float(np.minimum(self.low, part.min())), float(np.maximum(self.high, part.max()))
        self.whole = self.whole and bool((part == np.floor(part)).all())


def _coding(column: Array, found: _Range) -> _Coding:
    low, high = found.low, found.high
    for parts in _PARTS:
        if (
            (high - low) * parts < _LARGEST_CODE
            and max(-low, high) * parts < _LARGEST_WHOLE
            and (found.whole if parts == 1.0 else _in_parts(column, parts))
        ):
            lowest = round(low * parts)
            return _Coding(round(high * parts) - lowest + 1, lowest, parts)
    code, distinct = pd.factorize(column)
    order = np.argsort(distinct)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return _Coding(len(order), rank=rank[code], table=distinct[order])


def _in_parts(column: Array, parts: float) -> bool:
    for start in range(0, len(column), _BLOCK):
        part = column[start : start + _BLOCK]
        if not (part == np.rint(part * parts) / parts).all():
            return False
    return True


def _increasing(key: NDArray[np.int64]) -> bool:
    return bool((key[1:_BLOCK] > key[: _BLOCK - 1][: len(key) - 1]).all() and (key[1:] > key[:-1]).all())


def counted(
    key: NDArray[np.int64], size: int, weights: ArrayLike | None, index: bool
) -> tuple[NDArray[np.int64], Array, NDArray[np.intp] | None]:
    """Distinct keys in order, how often (or with what weight) each occurs, and the one of each row if wanted."""
    if size <= max(4 * len(key), min(32 * len(key), _SMALL_TABLE), 1 << 16):
        count = np.bincount(key, weights=weights, minlength=size)
        distinct = np.flatnonzero(count > 0)
        of = None
        if index:
            place = np.empty(size, dtype=np.intp)
            place[distinct] = np.arange(len(distinct))
            of = place[key]
        return distinct, count[distinct].astype(float), of
    if weights is None and not index:
        # half as wide, they are sorted in little more than half the time
        distinct, count = np.unique(key.astype(np.uint32) if size <= 2**32 else key, return_counts=True)
        return distinct.astype(np.int64), count.astype(float), None
    code, found = pd.factorize(key)
    order = np.argsort(found)
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    of = rank[code]
    return found[order], np.bincount(of, weights=weights).astype(float), of if index else None


def checked_histories(frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> tuple[Array, Array, Array]:
    """The three columns as arrays of floats, one row a customer; raises ValueError on an impossible history."""
    columns = _columns(frequency, recency, T)
    _ranges(columns)
    _check_rows(columns)
    return columns


def _columns(frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> tuple[Array, Array, Array]:
    x, t_x, age = (np.asarray(v, dtype=float) for v in (frequency, recency, T))
    if not x.shape == t_x.shape == age.shape or x.ndim != 1:
        try:
            x, t_x, age = (np.atleast_1d(v).ravel() for v in np.broadcast_arrays(x, t_x, age))
        except ValueError as error:
            raise ValueError(
                f"purchase data: frequency has {x.size}, recency {t_x.size} and T {age.size} values; give each one a customer"
            ) from error
    if len(x) == 0:
        raise ValueError("purchase data: no customer; give one row a customer")
    return x, t_x, age


def _ranges(columns: tuple[Array, Array, Array]) -> tuple[_Range, _Range, _Range]:
    """The range of each column; raises ValueError where a value is missing, below 0, or no whole number of purchases."""
    ranges = _Range(), _Range(), _Range()
    for start in range(0, len(columns[0]), _BLOCK):
        parts = [v[start : start + _BLOCK] for v in columns]
        for found, part in zip(ranges, parts, strict=True):
            found.widen(part)
        x, t_x, age = ranges
        # a missing value fails every comparison, and is not whole
        if not (x.whole and x.low >= 0 and t_x.low >= 0 and x.high < np.inf > t_x.high and age.high < np.inf):
            _explain(*parts, start)
    return ranges


def _check_rows(columns: tuple[Array, Array, Array]) -> None:
    for start in range(0, len(columns[0]), _BLOCK):
        parts = [v[start : start + _BLOCK] for v in columns]
        if not _possible(*parts):
            _explain(*parts, start)


def _possible(x: Array, t_x: Array, age: Array) -> bool:
    return bool(((t_x <= age) & ((x == 0) == (t_x == 0))).all())


def _explain(x: Array, t_x: Array, age: Array, start: int) -> None:
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
                f"purchase data, row {start + row}: {what} (frequency={x[row]:g}, recency={t_x[row]:g}, T={age[row]:g})"
            )


def checked_weights(weights: ArrayLike | None, customers: int) -> Array | None:
    """Weights as an array of shape (customers,), or None; raises ValueError unless finite, not negative, not all 0."""
    if weights is None:
        return None
    weight = np.asarray(weights, dtype=float)
    if weight.shape != (customers,):
        raise ValueError(f"weights: {weight.size} weights for {customers} rows; give one a row")
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise ValueError("weights: every weight must be a number from 0 up, and one must be above 0")
    return weight


def checked_horizon(t: float, discount: float = 0.0, endless: bool = True) -> tuple[float, float]:
    """A horizon and a discount rate as floats.

    Parameters
    ----------
    t : float
        From 0 up; infinite only where `endless`, and then with a discount above 0.
    discount : float
        Continuous rate per unit of time, from 0 up.
    endless : bool

    Raises
    ------
    ValueError
        Otherwise: a missing or negative one would be worth 0 to one model, and less than nothing to another.
    """
    for value, what in ((t, "the horizon t"), (discount, "the discount rate")):
        # a missing value fails the comparison
        if not (isinstance(value, Real) or (isinstance(value, np.ndarray) and value.ndim == 0)) or not value >= 0:
            raise ValueError(f"expected_purchases: {what} must be one number from 0 up, not {value!r}")
    if np.isinf(discount):
        raise ValueError("expected_purchases: the discount rate must be finite")
    if np.isinf(t) and not endless:
        raise ValueError("future purchases: this needs a finite horizon t")
    if np.isinf(t) and discount == 0:
        raise ValueError("expected_purchases: an endless horizon needs a discount rate above 0")
    return float(t), float(discount)


def checked_counts(n_max: int, t: float) -> tuple[int, float]:
    """The largest number of a distribution of counts, and its horizon.

    Raises
    ------
    ValueError
        Unless `n_max` is a whole number from 0 up, and `t` a finite number from 0 up.
    """
    if not (isinstance(n_max, Real) and 0 <= n_max < np.inf and n_max == int(n_max)):
        raise ValueError(f"count_distribution: n_max must be a whole number from 0 up, not {n_max!r}")
    return int(n_max), checked_horizon(t, endless=False)[0]


def check_enough(name: str, nobs: float) -> None:
    """Raise ModelNotFitted for fewer than two customers, whether by rows or by their weights."""
    if nobs == 1:
        raise ModelNotFitted(f"{name}: one customer cannot show how customers differ; give at least two")
    if nobs < 2:
        raise ModelNotFitted(
            f"{name}: the customers, or their weights, add up to {nobs:.3g}, which cannot show how customers differ; "
            "they must add up to 2 at least (survey weights to the number of customers asked)"
        )


class PurchaseModel:
    """Base of the purchase models: holds the cells and finds the maximum of the likelihood.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases (whole numbers), time from the first to the last purchase, and time from the first
        purchase to the end of observation, in any one unit of time.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for (counts, or survey weights); rows of weight 0 are left out. The
        likelihood, `nobs` and the standard errors are those of the data with each row repeated that often, so
        survey weights should add up to the number of customers that were asked.

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
    known: ClassVar[dict[str, type[PurchaseModel]]] = {}

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "name" in vars(cls):
            PurchaseModel.known[cls.name] = cls

    def __init__(
        self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, weights: ArrayLike | None = None
    ) -> None:
        if weights is not None:
            frequency, recency, T = _columns(frequency, recency, T)
            weights = checked_weights(weights, len(frequency))
            used = weights > 0
            if not used.all():
                checked_histories(frequency, recency, T)
                frequency, recency, T, weights = (v[used] for v in (frequency, recency, T, weights))
        self.cells = Cells.of(frequency, recency, T, weights=weights, index=False)
        self.nobs = whole(self.cells.count.sum())

    @classmethod
    def without_data(cls, nobs: float, **settings: object) -> PurchaseModel:
        """A model that scores but holds no data, for results that come from a file.

        Parameters
        ----------
        nobs : float
            Customers that the fit used.
        **settings
            What :meth:`settings` returned.
        """
        model = cls.__new__(cls)
        model.nobs = whole(nobs)
        vars(model).update(settings)
        return model

    def settings(self) -> dict[str, object]:
        """What a model needs besides its parameters to score, as plain values for JSON; nothing for most."""
        return {}

    def __getattr__(self, name: str) -> object:
        if name == "cells":
            raise ModelNotFitted(f"{self.name}: loaded from JSON, it holds no data; make the model from data again")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @staticmethod
    def loglike_cells(params: Array, cells: Cells) -> tuple[Array, Array]:
        """Log-likelihood of each cell, shape (cells,), and its gradient in the parameters, (k, cells)."""
        raise NotImplementedError

    def loglike_total(self, params: Array, cells: Cells) -> tuple[float, Array]:
        """Log-likelihood of all customers in `cells` and its gradient, shape (k,)."""
        value, gradient = self.loglike_cells(params, cells)
        return float(value @ cells.count), gradient @ cells.count

    def start(self, cells: Cells) -> list[Array]:
        """Starting parameters on the natural clock, most plausible first."""
        raise NotImplementedError

    def loglike(self, params: ArrayLike) -> float:
        """Log-likelihood of the whole base at `params`, in the caller's unit of time."""
        return self.loglike_total(np.asarray(params, dtype=float), self.cells)[0]

    def score(self, params: ArrayLike) -> Array:
        """Exact gradient of `loglike`, shape (k,)."""
        return self.loglike_total(np.asarray(params, dtype=float), self.cells)[1]

    def fit(self) -> PurchaseResults:
        """Maximise the likelihood by quasi-Newton steps with exact gradients on log parameters.

        A large base is fitted on a sample first, whose estimates and curvature leave a few steps for the whole.

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
        check_enough(self.name, self.nobs)
        if not (cells.x > 0).any():
            raise ModelNotFitted(
                f"{self.name}: nobody bought twice, so the buying rate is at its boundary 0; watch for longer"
            )
        clock = float(cells.count @ cells.T) / self.nobs
        natural = cells.scaled(1.0 / clock)
        starts = [np.log(s) for s in self.start(natural)]
        fit = maximise_in_stages([self._objective(c) for c in _stages(natural)], starts)
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

    def _objective(self, cells: Cells) -> Objective:
        customers = float(cells.count.sum())

        def objective(log_params: Array) -> tuple[float, Array]:
            params = np.exp(log_params)
            value, gradient = self.loglike_total(params, cells)
            return -value / customers, -gradient * params / customers

        return objective


class MixtureModel(PurchaseModel):
    """Base of the models whose customers have either stayed, or left at their last purchase or since."""

    # (parameters, grid) -> the mixture; on Cells.apart parameters may be arrays with one entry a cell
    likelihood: ClassVar[Callable[[Sequence[Array | float], Grid], Mixture]]

    @classmethod
    def loglike_cells(cls, params: Array, cells: Cells) -> tuple[Array, Array]:
        """Log-likelihood of the purchase times by cell, and its gradient in the parameters."""
        return cls.likelihood(params, cells.grid).by_cell()

    @classmethod
    def loglike_total(cls, params: Array, cells: Cells) -> tuple[float, Array]:
        """Log-likelihood of the purchase times of all customers, and its gradient in the parameters."""
        return cls.likelihood(params, cells.grid).total(cells)

    def _objective(self, cells: Cells) -> Objective:
        return _MixtureObjective(self.likelihood, cells)


# Differences to both sides are good to eight digits at this width: standard errors do not depend on the machine.
_MIXTURE_WIDTH = 1e-5


class _MixtureObjective:
    """The mean negative log-likelihood of a mixture, with its curvature."""

    def __init__(self, likelihood: Callable[[Sequence[Array | float], Grid], Mixture], cells: Cells) -> None:
        self._likelihood, self._cells = likelihood, cells
        self._customers = float(cells.count.sum())
        self._latest: tuple[Array, Mixture] | None = None

    def _at(self, log_params: Array) -> Mixture:
        params = np.exp(log_params)
        return self._likelihood(params, self._cells.grid).in_logs(params)

    def __call__(self, log_params: Array) -> tuple[float, Array]:
        mixture = self._at(log_params)
        self._latest = log_params.copy(), mixture
        value, gradient = mixture.total(self._cells)
        return -value / self._customers, -gradient / self._customers

    def hessian(self, log_params: Array, width: float) -> Array:
        """Second derivatives, from factors `width` further to both sides in each direction."""
        at, mixture = self._latest or (None, None)
        if mixture is None or not np.array_equal(at, log_params):
            mixture = self._at(log_params)
        steps = width * np.eye(len(log_params))
        nearby = [(self._at(log_params + step), self._at(log_params - step)) for step in steps]
        return -mixture.curvature(self._cells, nearby, width) / self._customers


def quadrature_rule(nodes: int) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights on (0, 1)."""
    at, weight = leggauss(nodes)
    return 0.5 * (at + 1.0), 0.5 * weight


def negative_binomial(n: Array, shape: Array | float, scale: Array | float, t: Array | float) -> Array:
    """P(n purchases in t) at a rate λ ~ gamma(shape, scale), in the common shape of the four."""
    beyond = np.log1p(t / scale)
    with np.errstate(divide="ignore"):
        log_share = np.log(t) - np.log(scale) - beyond
    rising = special.gammaln(shape + n) - special.gammaln(shape) - special.gammaln(n + 1.0)
    return np.exp(rising - shape * beyond + np.where(n > 0, n * np.where(n > 0, log_share, 0.0), 0.0))


def whole(count: float) -> int | float:
    """A count as an int where it is one."""
    return int(count) if float(count).is_integer() else float(count)


# Sizes of the samples that come before the whole base: the smallest, and how much larger the next one is.
_SMALLEST_STAGE = 3_000
_STAGE_FACTOR = 12


def stage_sizes(customers: float) -> list[int]:
    """Sizes of the samples that a fit on `customers` goes through first, smallest first; none for a small base."""
    sizes, size = [], _SMALLEST_STAGE
    while size * 3 <= customers:
        sizes.append(size)
        size *= _STAGE_FACTOR
    return sizes


def _stages(cells: Cells) -> list[Cells]:
    # where most customers share few cells, a sample has nearly as many cells as the whole and gains nothing
    stages = [cells]
    for size in reversed(stage_sizes(float(cells.count.sum()))):
        if size * 2 <= len(cells.x):
            stages.insert(0, stages[0].thinned(size))
    return stages


@dataclass(frozen=True)
class Maximum:
    """Where an objective on log parameters is smallest, with its curvature there."""

    log_params: Array
    value: float
    gradient: Array
    hessian: Array
    log_covariance: Array

    @property
    def inner(self) -> bool:
        """True where the gradient is zero and the curvature positive in every direction."""
        return bool(np.isfinite(self.log_covariance).all() and np.abs(self.gradient).max() < 1e-7)


def maximise_in_stages(objectives: list[Objective], starts: list[Array]) -> Maximum:
    """Minimise the last of several objectives, each of which is close to the one before.

    Parameters
    ----------
    objectives : list of callables
        On growing samples, the whole last; see :func:`maximise`.
    starts : list of arrays of shape (k,)
        For the first.
    """
    best = maximise(objectives[0], starts)
    for objective in objectives[1:]:
        refined = _refined(objective, best)
        best = maximise(objective, [best.log_params, *starts]) if refined is None else refined
    return best


def maximise(objective: Objective, starts: list[Array]) -> Maximum:
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
        if best.inner:
            break
    assert best is not None
    return best


def _refined(objective: Objective, near: Maximum) -> Maximum | None:
    """The inner minimum next to that of a similar objective, by BFGS steps from its curvature; None without one."""
    if not near.inner:
        return None
    point, inverse = near.log_params, near.log_covariance
    value, gradient = objective(point)
    for _ in range(25):
        if np.abs(gradient).max() < 1e-7:
            found = _polished(objective, point, (value, gradient))
            return found if found.inner else None
        step = -inverse @ gradient
        if np.abs(step).max() > 1.0 or np.abs(point + step).max() > LOG_BOUND - 2.0:
            return None
        trial_value, trial_gradient = objective(point + step)
        change = trial_gradient - gradient
        along = float(change @ step)
        if not (trial_value <= value + 1e-12 * abs(value) and along > 0):
            return None
        left = np.eye(len(step)) - np.outer(step, change) / along
        inverse = left @ inverse @ left.T + np.outer(step, step) / along
        point, value, gradient = point + step, trial_value, trial_gradient
    return None


def _polished(objective: Objective, log_params: Array, known: tuple[float, Array] | None = None) -> Maximum:
    value, gradient = known or objective(log_params)
    hessian = _hessian(objective, log_params, gradient)
    for _ in range(4):
        if not _positive_definite(hessian) or np.abs(gradient).max() < 1e-12:
            break
        step = np.linalg.solve(hessian, gradient)
        if np.abs(step).max() > 0.5:
            break
        if np.abs(gradient).max() < 1e-7 and np.abs(step).max() < _SHORT_STEP:
            # what is left of the gradient is of the order of the square of the step: nothing to evaluate
            log_params, value = log_params - step, value - float(gradient @ step) / 2
            break
        trial = log_params - step
        trial_value, trial_gradient = objective(trial)
        if np.abs(trial_gradient).max() >= np.abs(gradient).max() or np.abs(trial).max() > LOG_BOUND:
            break
        log_params, value, gradient = trial, trial_value, trial_gradient
        if np.abs(step).max() < _SHORT_STEP:
            break  # so short a step leaves the curvature as it was
        hessian = _hessian(objective, log_params, gradient)
    covariance = np.linalg.inv(hessian) if _positive_definite(hessian) else np.full_like(hessian, np.nan)
    return Maximum(log_params, value, gradient, hessian, covariance)


def _hessian(objective: Objective, log_params: Array, gradient: Array, width: float = 1e-6) -> Array:
    if isinstance(objective, _MixtureObjective):
        return objective.hessian(log_params, _MIXTURE_WIDTH)
    # differences of an exact gradient: one step a parameter is good to about six digits
    steps = width * np.eye(len(log_params))
    hessian = np.array([(objective(log_params + step)[1] - gradient) / width for step in steps])
    return (hessian + hessian.T) / 2


def _positive_definite(matrix: Array) -> bool:
    return bool(np.isfinite(matrix).all() and np.linalg.eigvalsh(matrix).min() > 1e-10)


def judge(fit: Maximum, names: tuple[str, ...], nobs: float) -> Verdict:
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


class Estimates:
    """What every results object says of its estimates: it has `name`, `params`, `log_cov`, `llf`, `nobs` and `verdict`."""

    @property
    def _logged(self) -> NDArray[np.bool_]:
        """Which parameters are above 0 by their nature, shape (k,)."""
        return np.ones(len(self.params), dtype=bool)

    @property
    def _slopes(self) -> Array:
        """Derivative of each estimate in what `log_cov` is about."""
        return np.where(self._logged, self.params.to_numpy(), 1.0)

    @property
    def bse(self) -> pd.Series:
        """Standard errors of `params`; NaN where the maximum is not an inner one."""
        variance = np.where(np.diag(self.log_cov) > 0, np.diag(self.log_cov), np.nan)
        return pd.Series(self._slopes * np.sqrt(variance), index=self.params.index, name="std_err")

    def cov_params(self) -> pd.DataFrame:
        """Covariance of the estimates, shape (k, k)."""
        values = self.log_cov * np.outer(self._slopes, self._slopes)
        return pd.DataFrame(values, index=self.params.index, columns=self.params.index)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals, columns `low` and `high`, built on the log scale for parameters that must stay positive."""
        half = stats.norm.ppf(1 - alpha / 2) * self.bse / self._slopes
        logged = self._logged
        low = np.where(logged, self.params * np.exp(-half.where(logged, 0.0)), self.params - half)
        high = np.where(logged, self.params * np.exp(half.where(logged, 0.0)), self.params + half)
        return pd.DataFrame({"low": low, "high": high}, index=self.params.index)

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2 * len(self.params) - 2 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's criterion, customers being the observations."""
        return len(self.params) * float(np.log(self.nobs)) - 2 * self.llf

    def summary(self) -> pd.DataFrame:
        """One row a parameter: `parameter`, `estimate`, `std_err`, `low`, `high` (95 %)."""
        frame = pd.concat([self.params, self.bse, self.conf_int()], axis=1)
        return frame.rename_axis("parameter").reset_index()

    def _saved(self, settings: dict[str, object], unit: str) -> str:
        """The estimates as JSON text, with what else the model needs to score and the unit that it counts in."""
        return SavedFit(
            model=self.name,
            params=self.params,
            log_cov=self.log_cov,
            llf=self.llf,
            nobs=self.nobs,
            status=self.verdict.status,
            reason=self.verdict.reason,
            settings=settings,
            unit=unit,
        ).to_json()

    def with_params(self, params: ArrayLike) -> Self:
        """The same model at other parameters, for simulation from their sampling distribution."""
        return replace(
            self, params=pd.Series(np.asarray(params, dtype=float), index=self.params.index, name="estimate")
        )

    def draw_params(self, size: int, rng: np.random.Generator) -> Array:
        """Draw parameter sets, shape (size, k), from the normal approximation on the log scale."""
        if not np.isfinite(self.log_cov).all():
            raise ModelNotFitted(f"{self.name}: no covariance to draw parameters from ({self.verdict.reason})")
        root = np.linalg.cholesky(self.log_cov)
        values, logged = self.params.to_numpy(), self._logged
        centre = np.where(logged, np.log(np.where(logged, values, 1.0)), values)
        draws = centre + rng.standard_normal((size, len(values))) @ root.T
        return np.where(logged, np.exp(np.where(logged, draws, 0.0)), draws)


@dataclass(frozen=True)
class PurchaseResults(Estimates):
    """A fitted purchase model.

    Attributes
    ----------
    model : PurchaseModel
    params : Series of shape (k,)
        Estimates in the unit of time of the data.
    log_cov : array of shape (k, k)
        Covariance of the logarithms of the estimates, and of the estimates themselves where they may be negative
        (inverse observed information).
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
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def nobs(self) -> float:
        """Customers that the fit used."""
        return self.model.nobs

    def to_json(self, time_unit: str) -> str:
        """The fit as JSON text, without the data.

        Parameters
        ----------
        time_unit : str
            What times were counted in, such as "weeks".
        """
        return self._saved(self.model.settings(), time_unit)

    @classmethod
    def from_json(cls, text: str, time_unit: str | None = None) -> PurchaseResults:
        """Results that score as those that were written; their model holds no data.

        Parameters
        ----------
        text : str
            From :meth:`to_json` of any purchase model's results.
        time_unit : str, optional
            What the caller counts times in, to be sure that the file does too.

        Raises
        ------
        ValueError
            When the text is no fitted purchase model of a known version, is damaged, or in another unit of time.
        """
        saved = SavedFit.from_json(text, time_unit)
        model = PurchaseModel.known.get(saved.model)
        if model is None or not issubclass(model.results_class, cls):
            wanted = sorted(name for name, m in PurchaseModel.known.items() if issubclass(m.results_class, cls))
            raise ValueError(f"fitted model: {saved.model!r} is not one of {', '.join(wanted)}")
        loaded = _loaded(model, saved)
        if tuple(saved.params.index) != tuple(loaded.parameter_names):
            raise ValueError(
                f"fitted model: the file of {saved.model} has the parameters {', '.join(saved.params.index)} "
                f"instead of {', '.join(loaded.parameter_names)}; write it again"
            )
        verdict = Verdict(saved.status, saved.reason)
        results = model.results_class(loaded, saved.params, saved.log_cov, saved.llf, verdict)
        saved.check_positive(results._logged)
        return results

    def probability_alive(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Array:
        """Probability that a customer with this history is still one, shape (customers,)."""
        cells = Cells.of(frequency, recency, T)
        return self._alive_cells(cells)[cells.index]

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
            Horizon, in the data's unit of time; infinite only with a discount above 0.
        frequency, recency, T : array-like of shape (customers,)
        discount : float
            Continuous rate per unit of time; 0 counts purchases.

        Returns
        -------
        array of shape (customers,)

        Raises
        ------
        ValueError
            When `t` or `discount` is missing, negative or infinite, or an endless future is not discounted.
        """
        t, discount = checked_horizon(t, discount)
        cells = Cells.of(frequency, recency, T)
        alive = self._alive_cells(cells)
        x, age, pair = cells.age_pairs
        return (alive * self._purchases_if_alive(t, x, age, discount)[pair])[cells.index]

    def count_distribution(self, n_max: int, t: float, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Array:
        """P(X(T, T+t) = n | history) for n = 0 … n_max, shape (customers, n_max + 1).

        Parameters
        ----------
        n_max : int
            The largest number of purchases; what a row lacks to 1 is the probability of more.
        t : float
            Horizon, in the data's unit of time.
        frequency, recency, T : array-like of shape (customers,)

        Raises
        ------
        ValueError
            When `n_max` is no whole number from 0 up, or `t` no finite number from 0 up.
        """
        n_max, t = checked_counts(n_max, t)
        cells = Cells.of(frequency, recency, T)
        alive = self._alive_cells(cells)[:, None]
        x, age, pair = cells.age_pairs
        chances = alive * self._counts_if_alive(np.arange(n_max + 1.0), t, x, age)[pair]
        chances[:, 0] += 1.0 - alive[:, 0]
        return chances[cells.index]

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

        Raises
        ------
        ValueError
            When `t` is no finite number from 0 up.
        """
        t, _ = checked_horizon(t, endless=False)
        x, age = np.asarray(frequency, dtype=float), np.asarray(T, dtype=float)
        here = rng.random((size, len(x))) < self.probability_alive(frequency, recency, T)
        return self._future_if_alive(t, x, age, here, rng)

    def _alive_cells(self, cells: Cells) -> Array:
        raise NotImplementedError

    def _purchases_if_alive(self, t: float, x: Array, age: Array, discount: float) -> Array:
        raise NotImplementedError

    def _future_if_alive(
        self, t: float, x: Array, age: Array, here: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        raise NotImplementedError

    def _counts_if_alive(self, n: Array, t: float, x: Array, age: Array) -> Array:
        raise NotImplementedError(f"{self.model.name}: the distribution of counts is not available for this model")


def _loaded(model: type[PurchaseModel], saved: SavedFit) -> PurchaseModel:
    """A model without data; raises ValueError where its settings are not those that it writes itself."""
    try:
        loaded = model.without_data(saved.nobs, **saved.settings)
        kept = loaded.settings()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"fitted model: the settings of {saved.model} in the file are damaged; write it again"
        ) from error
    if set(kept) != set(saved.settings):
        named = ", ".join(sorted(set(kept) ^ set(saved.settings)))
        raise ValueError(
            f"fitted model: the settings of {saved.model} in the file lack or exceed: {named}; write it again"
        )
    return loaded


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
