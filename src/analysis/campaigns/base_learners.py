"""The models of a mean that the uplift learners are built on: scikit-learn's, solved in fewer passes where we know them.

Logistic regression, least squares and ridge regression, with or without a standard scaler before them, have one optimum
whatever the solver. It is found here on a design that is laid out once for all models of the same rows: logistic
regression by Newton's method, least squares and ridge from sums of squares and products. Models that leave out one fold
each start from the model of all rows, and take the fold's sums away from those of all rows. Any other estimator, and any
case where the sums would lose digits, goes to scikit-learn as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone, is_classifier
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Array = NDArray[np.float64]
Order = NDArray[np.intp]

BLOCK = 8192
"""Rows worked on at once: a block of a dozen features stays in a processor's second cache."""
PRECISION = 1e-10
"""How far, at most, a linear predictor may still be from that of the optimum (root mean square), where models are solved."""
REFRESH = 0.02
"""Move of the linear predictor beyond which second derivatives are computed anew; up to it each step gains two digits."""
GUESS = 1e-2
"""The same of a first guess from some of the rows."""
LIGHT = 0.1
"""Move of the linear predictor by leaving out a fold beyond which its model is fitted by itself."""
MOST_STEPS = 30
PILOT, PILOT_FEWEST = 8, 600
"""Every so manieth row gives a first guess, where there are at least so many rows a coefficient."""
MOST_FEATURES = 256
"""Second derivatives cost the square of the features; beyond so many the estimator's own solver is the better one."""
SINGULAR = 1e-8
"""Features whose correlation matrix has a smaller least eigenvalue than this share of the greatest are not solved by sums."""
TINY = np.finfo(float).tiny
CONSTANT = 1e-12
"""A feature whose variance is a smaller share than this of its mean square does not vary."""


def logistic() -> Pipeline:
    """Logistic regression on standardised features, by Newton's method, to nine digits."""
    return make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky", tol=1e-9))


class HurdleRegressor(RegressorMixin, BaseEstimator):
    """Mean of an outcome that is often exactly zero: chance that it is not, times its mean when it is not.

    Parameters
    ----------
    occurrence : classifier of "not zero"; logistic regression by default.
    amount : regressor of what is not zero; least squares by default. Its predictions are held within the amounts seen.

    Source: Cragg (1971), Econometrica 39:829 (two-part model).
    """

    def __init__(self, occurrence: BaseEstimator | None = None, amount: BaseEstimator | None = None) -> None:
        self.occurrence = occurrence
        self.amount = amount

    def fit(self, X: ArrayLike, y: ArrayLike) -> HurdleRegressor:
        """Fit both parts; X : shape (n, k), y : shape (n,)."""
        rows, y = Rows(np.asarray(X, dtype=float)), np.asarray(y, dtype=float)
        some = y != 0
        amount = fit_mean(self._parts()[1], rows.chosen(np.flatnonzero(some)), y[some]) if some.any() else None
        return self._fitted(fit_mean(self._parts()[0], rows, some.astype(float)), amount, y[some])

    def _parts(self) -> tuple[BaseEstimator, BaseEstimator]:
        occurrence = logistic() if self.occurrence is None else self.occurrence
        return occurrence, LinearRegression() if self.amount is None else self.amount

    def _fitted(self, occurrence: Fitted, amount: Fitted | None, amounts: Array) -> HurdleRegressor:
        self.occurrence_, self.amount_ = occurrence, amount
        self.limits_ = (amounts.min(), amounts.max()) if len(amounts) else (0.0, 0.0)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Expected outcome, shape (n,)."""
        rows = X if isinstance(X, Rows) else np.asarray(X, dtype=float)
        if self.amount_ is None:
            return np.zeros(len(rows))
        return mean_of(self.occurrence_, rows) * np.clip(mean_of(self.amount_, rows), *self.limits_)


def default_model(y: ArrayLike) -> BaseEstimator:
    """Logistic regression for an outcome of 0 and 1, the hurdle where a tenth or more is zero, else least squares."""
    y = np.asarray(y, dtype=float)
    if _is_binary(y):
        return logistic()
    return HurdleRegressor() if (y == 0).mean() >= 0.1 else LinearRegression()


class Rows:
    """Some rows of the features, in an order that keeps together what is fitted together.

    Parameters
    ----------
    x : shape (n, k). order : the rows of ``x`` that are meant, in that order; all of them by default.
    """

    def __init__(self, x: Array, order: Order | None = None, within: tuple[Rows, slice] | None = None) -> None:
        self.x = x
        self.order = order
        self._within = within

    def __len__(self) -> int:
        return len(self.x) if self.order is None else len(self.order)

    @cached_property
    def centre(self) -> Array:
        """Shape (k,): what is taken off the features so that sums of squares keep their digits."""
        if self._within is not None:
            return self._within[0].centre
        return self.x.T.mean(axis=1) if len(self.x) else np.zeros(self.x.shape[1])

    @cached_property
    def design(self) -> Array:
        """Shape (k + 1, rows): ones, then the centred features; of neighbouring rows a view."""
        if self._within is not None:
            return self._within[0].design[:, self._within[1]]
        found = np.empty((self.x.shape[1] + 1, len(self)))
        found[0] = 1.0
        if self.order is None or not self.x.flags.f_contiguous:
            np.subtract(self.features.T, self.centre[:, None], out=found[1:])
            return found
        for column, middle, into in zip(self.x.T, self.centre, found[1:], strict=True):
            # "clip" spares numpy a buffer; no place is out of bounds.
            np.take(column, self.order, out=into, mode="clip")
            into -= middle
        return found

    @property
    def features(self) -> Array:
        """Shape (rows, k), as they came."""
        return self.x if self.order is None else self.x[self.order]

    def part(self, start: int, stop: int) -> Rows:
        """Neighbouring rows, sharing the design."""
        order = np.arange(start, stop) if self.order is None else self.order[start:stop]
        return Rows(self.x, order, (self, slice(start, stop)))

    def chosen(self, places: Order) -> Rows:
        """The rows at ``places`` of these."""
        return Rows(self.x, places if self.order is None else self.order[places])


@dataclass(frozen=True)
class LinearMean:
    """A fitted mean: linear in the features, or logistic in what is.

    Attributes
    ----------
    intercept, coef : of the features, coef of shape (k,).
    logistic : whether the mean is the logistic function of the linear predictor.
    """

    intercept: float
    coef: Array
    logistic: bool

    def predict(self, X: Array | Rows) -> Array:
        """Mean, shape (n,)."""
        if isinstance(X, Rows):
            found = np.concatenate([[self.intercept + X.centre @ self.coef], self.coef]) @ X.design
        else:
            found = X @ self.coef + self.intercept
        if self.logistic:
            found *= 0.5
            np.tanh(found, out=found)
            found += 1.0
            found *= 0.5
        return found


Fitted = BaseEstimator | LinearMean


def fit_mean(model: BaseEstimator, rows: Rows, y: Array, weight: Array | None = None) -> Fitted:
    """Fit the mean of ``y`` on rows; a constant where the outcome is one, which classifiers refuse.

    Parameters
    ----------
    model : scikit-learn estimator, left as it is. y, weight : shape (rows,).
    """
    if len(y) and np.ptp(y) == 0:
        return DummyRegressor().fit(np.zeros((len(y), 1)), y)
    known = _known(model, y, rows, weight is not None)
    found = None if known is None else _solved(known, rows, (0, len(y)), y, weight)
    return _by_scikit_learn(model, rows, y, weight) if found is None else _linear_mean(known, rows, found[0])


def fit_without(model: BaseEstimator, rows: Rows, bounds: Sequence[int], y: Array) -> list[Fitted]:
    """Fit the mean of ``y`` without each of the folds.

    Parameters
    ----------
    model : scikit-learn estimator. rows : in order of their folds. bounds : shape (folds + 1,), where each fold begins, and
    the end. y : shape (rows,).
    """
    folds = list(pairwise(bounds))
    if type(model) is HurdleRegressor:
        some = y != 0
        inner = np.concatenate([[0], np.cumsum(some)])[np.asarray(bounds)]
        occurrence, amount = model._parts()
        chances = fit_without(occurrence, rows, bounds, some.astype(float))
        left = [np.delete(y[some], np.s_[start:stop]) for start, stop in pairwise(inner)]
        if all(map(len, left)):
            sizes = fit_without(amount, rows.chosen(np.flatnonzero(some)), inner, y[some])
            parts = zip(chances, sizes, left, strict=True)
            return [clone(model)._fitted(*part) for part in parts]
    known = _known(model, y, rows, False)
    if known is not None and all(np.ptp(np.delete(y, np.s_[start:stop])) > 0 for start, stop in folds):
        found = _solved(known, rows, bounds, y, without=True)
        if found is not None:
            return [_linear_mean(known, rows, each) for each in found]
    found = []
    for start, stop in folds:
        others = np.r_[0:start, stop : len(y)]
        found.append(fit_mean(model, rows.chosen(others), y[others]))
    return found


def mean_of(fitted: Fitted, rows: Array | Rows) -> Array:
    """What a fitted model says of rows, shape (rows,); of a classifier, the chance of the second class."""
    if isinstance(fitted, (LinearMean, HurdleRegressor)):
        return fitted.predict(rows)
    x = rows.features if isinstance(rows, Rows) else rows
    return fitted.predict_proba(x)[:, 1] if is_classifier(fitted) else fitted.predict(x)


def _by_scikit_learn(model: BaseEstimator, rows: Rows, y: Array, weight: Array | None) -> BaseEstimator:
    """A fitted copy; rows in the order they came in, for estimators to which it matters."""
    x = rows.features
    if rows.order is not None and (np.diff(rows.order) < 0).any():
        place = np.argsort(rows.order)
        x, y, weight = x[place], y[place], None if weight is None else weight[place]
    if weight is None:
        return clone(model).fit(x, y)
    name = f"{model.steps[-1][0]}__sample_weight" if isinstance(model, Pipeline) else "sample_weight"
    return clone(model).fit(x, y, **{name: weight})


# -- which models we know ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """What decides the optimum: the loss, the weight of the squared coefficients, whether they are of scaled features."""

    logistic: bool
    penalty: float
    scaled: bool


FREE = {
    LinearRegression: {"copy_X", "tol", "n_jobs"},
    Ridge: {"alpha", "copy_X", "tol", "max_iter", "solver", "random_state"},
    LogisticRegression: {"C", "tol", "max_iter", "solver", "random_state", "n_jobs", "verbose"},
    StandardScaler: {"copy"},
}
"""Settings that do not change what is minimised, or that are read here."""
SMOOTH = {"lbfgs", "newton-cg", "newton-cholesky"}
"""Solvers that leave the intercept free and stop at the optimum, not before it."""


def _is_binary(y: Array) -> bool:
    return bool((y * y == y).all())


def _known(model: BaseEstimator, y: Array, rows: Rows, weighted: bool) -> _Known | None:
    """What ``model`` minimises, where it is a model that is solved here."""
    steps = [step for _, step in model.steps] if type(model) is Pipeline and model.memory is None else [model]
    last, scaled = steps[-1], len(steps) == 2 and type(steps[0]) is StandardScaler
    if len(steps) != 1 + scaled or rows.x.shape[1] > MOST_FEATURES or not all(map(_is_plain, steps)):
        return None
    if type(last) is LogisticRegression:
        solved = last.solver in SMOOTH and last.max_iter >= 100 and 0 < last.C < np.inf
        return _Known(True, 1 / last.C, scaled) if solved and not weighted and _is_binary(y) else None
    if type(last) is Ridge:
        plain = np.ndim(last.alpha) == 0 and not (scaled and weighted)
        return _Known(False, float(last.alpha), scaled) if plain else None
    return _Known(False, 0.0, scaled)


def _is_plain(step: BaseEstimator) -> bool:
    """Whether an estimator is one of those in :data:`FREE`, and all else that it was told is what it takes for granted."""
    return type(step) in FREE and all(getattr(step, name) == value for name, value in _usual(type(step)).items())


@cache
def _usual(kind: type[BaseEstimator]) -> dict[str, object]:
    """What an estimator takes for granted where it decides the optimum."""
    return {name: value for name, value in kind().get_params(deep=False).items() if name not in FREE[kind]}


def _linear_mean(known: _Known, rows: Rows, found: Array) -> LinearMean:
    return LinearMean(float(found[0] - rows.centre @ found[1:]), found[1:], known.logistic)


def _solved(
    known: _Known, rows: Rows, bounds: Sequence[int], y: Array, weight: Array | None = None, without: bool = False
) -> list[Array] | None:
    """Coefficients of the design, of all rows or without each fold; None where scikit-learn should be asked."""
    if known.logistic:
        return _logistic(known, rows.design, bounds, y, without)
    squares, products = _moments(rows.design, bounds, y, weight)
    all_squares, all_products = squares.sum(axis=0), products.sum(axis=0)
    if not without:
        sums = [(all_squares, all_products)]
    else:
        sums = zip(all_squares - squares, all_products - products, strict=True)
    found = [_least_squares(known, *each) for each in sums]
    return None if any(each is None for each in found) else found


# -- least squares and ridge from sums ---------------------------------------------------------------------------------


def _blocks(start: int, stop: int) -> list[slice]:
    return [slice(at, min(at + BLOCK, stop)) for at in range(start, stop, BLOCK)]


def _moments(design: Array, bounds: Sequence[int], y: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """For each fold the weighted sums of squares and products of the design, and of its products with the outcome."""
    size, folds = len(design), len(bounds) - 1
    squares, products = np.zeros((folds, size, size)), np.zeros((folds, size))
    for k in range(folds):
        for block in _blocks(bounds[k], bounds[k + 1]):
            z, target = design[:, block], y[block]
            if weight is not None:
                root = np.sqrt(weight[block])
                z, target = z * root, target * root
            squares[k] += z @ z.T
            products[k] += z @ target
    return squares, products


def _least_squares(known: _Known, squares: Array, products: Array) -> Array | None:
    """Coefficients of the design; None where features are so nearly dependent that sums lose too many digits."""
    total = squares[0, 0]
    if not total > 0:
        return None
    mean = squares[0, 1:] / total
    spread = squares[1:, 1:] - total * np.outer(mean, mean)
    variation = np.diagonal(spread)
    still = variation <= CONSTANT * np.diagonal(squares)[1:]
    unit = np.sqrt(np.where(still, 1.0, variation))
    matrix = spread / np.outer(unit, unit)
    # What does not vary gets no coefficient, as from scikit-learn.
    matrix[still], matrix[:, still] = 0.0, 0.0
    matrix[still, still] = 1.0
    target = np.where(still, 0.0, products[1:] - mean * products[0]) / unit
    matrix[np.diag_indices_from(matrix)] += known.penalty / (total if known.scaled else unit**2)
    values, vectors = np.linalg.eigh(matrix)
    if len(values) and not values[0] > SINGULAR * values[-1]:
        return None
    coef = vectors @ (vectors.T @ target / values) / unit
    return np.concatenate([[products[0] / total - mean @ coef], coef])


# -- logistic regression by Newton's method ----------------------------------------------------------------------------


def _spread(design: Array, bounds: Sequence[int]) -> tuple[Array, Array]:
    """For each fold the sums and the sums of squares of the rows of the design."""
    parts = [design[:, start:stop] for start, stop in pairwise(bounds)]
    return np.array([z @ z[0] for z in parts]), np.array([np.vecdot(z, z) for z in parts])


def _penalised(known: _Known, sums: Array, squares: Array) -> Array:
    """Weight of each squared coefficient of the design: that of a scaled feature is the coefficient times its spread."""
    found = np.ones(len(sums))
    if known.scaled:
        total = sums[0]
        variance = squares / total - (sums / total) ** 2
        found = np.where(variance <= CONSTANT * squares / total, 1.0, variance)
    found[0] = 0.0
    return found


def _slopes(design: Array, signs: Array, coefs: Array) -> Array:
    """Gradient of the loss for each of several coefficient vectors, shape (models, k + 1).

    With signs s of 1 and −1 for the outcome, a customer's residual is (tanh(η / 2) − s) / 2.
    """
    found, half = np.zeros(coefs.shape), 0.5 * coefs
    for block in _blocks(0, design.shape[1]):
        z = design[:, block]
        residual = half @ z
        np.tanh(residual, out=residual)
        residual -= signs[block]
        found += residual @ z.T
    return 0.5 * found


def _curvature(design: Array, signs: Array, coef: Array) -> tuple[Array, Array]:
    """Gradient and second derivatives of the loss; the weight of a customer is (1 − tanh²(η / 2)) / 4."""
    slope, curve = np.zeros(len(coef)), np.zeros((len(coef), len(coef)))
    for block in _blocks(0, design.shape[1]):
        z = design[:, block]
        bent = np.tanh((0.5 * coef) @ z)
        slope += z @ (bent - signs[block])
        bent *= bent
        np.subtract(1.0, bent, out=bent)
        z = z * np.sqrt(bent, out=bent)
        curve += z @ z.T
    return 0.5 * slope, 0.25 * curve


def _newton(design: Array, signs: Array, penalty: Array, precision: float) -> Array | None:
    """Penalised logistic regression by Newton's steps from nothing; None where they do not come to rest.

    Parameters
    ----------
    design : shape (k + 1, n). signs : shape (n,), 1 or −1. penalty : shape (k + 1,), weight of each squared coefficient.
    precision : how far the linear predictor may still be from that of the optimum (root mean square).
    """
    coef, moved, before = np.zeros(len(design)), np.inf, np.inf
    for _ in range(MOST_STEPS):
        if moved > REFRESH:
            slope, curve = _curvature(design, signs, coef)
            weight, moved = curve[0, 0], 0.0
            curve[np.diag_indices_from(curve)] += penalty
        else:
            slope = _slopes(design, signs, coef[None])[0]
        step, size = _step(curve, slope + penalty * coef, weight)
        if not size < before:
            return None
        coef, moved, before = coef - step, moved + size, size
        if moved * size < precision:
            return coef
    return None


def _step(curve: Array, slope: Array, weight: float) -> tuple[Array, float]:
    """Newton's step, and how far it moves the linear predictor (root mean square); infinite where there is none."""
    try:
        step = np.linalg.solve(curve, slope)
    except np.linalg.LinAlgError:
        return slope, np.inf
    gain = float(slope @ step)
    return step, math.sqrt(gain / weight) if weight > 0 and gain >= 0 else math.inf


def _logistic(known: _Known, design: Array, bounds: Sequence[int], y: Array, without: bool) -> list[Array] | None:
    """Coefficients of logistic regressions of all rows, or without each fold; None where that takes more care."""
    signs, (sums, squares) = 2 * y - 1, _spread(design, bounds)
    penalty = known.penalty * _penalised(known, sums.sum(axis=0), squares.sum(axis=0))
    if without:
        seen = 1 - np.eye(len(sums))
        penalties = [_penalised(known, *each) for each in zip(seen @ sums, seen @ squares, strict=True)]
        return _from_a_guess(design, signs, bounds, penalty, seen, known.penalty * np.array(penalties))
    found = None
    if len(signs) >= PILOT_FEWEST * len(design):
        found = _from_a_guess(design, signs, bounds, penalty, np.ones((1, len(sums))), penalty[None])
    if found is None:
        alone = _newton(design, signs, penalty, PRECISION)
        found = None if alone is None else [alone]
    return found


def _from_a_guess(
    design: Array, signs: Array, bounds: Sequence[int], penalty: Array, seen: Array, penalties: Array
) -> list[Array] | None:
    """Coefficients of several models of nearly the same rows; None where one of them is far from the others.

    Some of the rows give a guess, all rows a step from there; every model goes on from that with the second derivatives of
    its own rows at the guess, corrected by how those of the some changed on the way. A fold weighs little, so that what is
    left to go is short, and each further pass brings digits at the price of a gradient.

    Parameters
    ----------
    design : shape (k + 1, n). signs : shape (n,). bounds : of the folds. penalty : shape (k + 1,), of a model of all rows.
    seen : shape (models, folds), 1 where a model sees a fold. penalties : shape (models, k + 1).
    """
    folds, sees = list(pairwise(bounds)), seen > 0
    every = PILOT if len(signs) >= PILOT_FEWEST * len(design) else 1
    few, few_signs = np.ascontiguousarray(design[:, ::every]), signs[::every]
    guess = _newton(few, few_signs, penalty / every, GUESS)
    if guess is None:
        return None
    parts = [_curvature(design[:, begin:stop], signs[begin:stop], guess) for begin, stop in folds]
    slope, curves = sum(part[0] for part in parts), np.array([part[1] for part in parts])
    start = guess - _step(curves.sum(axis=0) + np.diag(penalty), slope + penalty * guess, 1.0)[0]
    bent = _curvature(few, few_signs, start)[1] - _curvature(few, few_signs, guess)[1]
    curves += np.array([(stop - begin) / len(few_signs) for begin, stop in folds])[:, None, None] * bent
    curves = np.tensordot(seen, curves, 1)
    weights = curves[:, 0, 0].copy()
    curves += penalties[:, :, None] * np.eye(len(design))
    coefs, before, last, moves = np.tile(start, (len(sees), 1)), 1.0, None, None
    for turn in range(MOST_STEPS):
        slopes = penalties * coefs
        for k, (begin, stop) in enumerate(folds):
            # All start from the same place.
            at = coefs[sees[:, k]] if turn else coefs[:1]
            slopes[sees[:, k]] += _slopes(design[:, begin:stop], signs[begin:stop], at)
        steps, sizes = zip(*map(_step, curves, slopes, weights), strict=True)
        steps, size = np.array(steps), max(sizes)
        if size > LIGHT or not size < before:
            return None
        shared = 0.0
        if turn:
            # What a step repeats of the last is summed to its end (Anderson acceleration of depth one).
            turned = last - steps
            length = np.sum(np.matvec(curves, turned) * turned, axis=1)
            share = np.sum(slopes * turned, axis=1) / np.maximum(length, TINY)
            shared = share[:, None] * (moves - turned)
        last, moves = steps, steps + shared
        coefs = coefs - moves
        if size * size / before < PRECISION:
            return list(coefs)
        before = size
    return None
