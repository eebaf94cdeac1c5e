"""A hidden Markov model of purchase counts: customers move between states of activity that nobody sees.

The story: in each period a customer is in one of a few states, each with its own purchase rate; counts are Poisson, or, with
gamma-distributed rates within a state, negative binomial. From period to period the customer moves by a transition matrix.
It is the plain form of Netzer, Lattin & Srinivasan (2008), without their effects of marketing, and serves here as a check of
the stages by rule: it knows nothing of their thresholds.

Equal sequences contribute the same likelihood, so everything runs on distinct sequences and their counts, by exact forward and
backward recursions and expectation–maximisation. Standard errors come from the observed information, whose gradient is exact
(Fisher's identity: the score is the expected score of the complete data).

Sources: Netzer, O., Lattin, J. M. & Srinivasan, V. (2008). A hidden Markov model of customer relationship dynamics. Marketing
Science 27(2), 185–204. Baum, L. E., Petrie, T., Soules, G. & Weiss, N. (1970). A maximization technique occurring in the
statistical analysis of probabilistic functions of Markov chains. Annals of Mathematical Statistics 41(1), 164–171. Zucchini,
W., MacDonald, I. L. & Langrock, R. (2016). Hidden Markov Models for Time Series (2nd ed.), CRC Press, chapter 4.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from analysis.segmentation.agreement import rand_agreement
from analysis.segmentation.life_stage import STAGES
from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import share_interval
from analysis.valuation.nbd import NBD
from analysis.valuation.purchases import ModelNotFitted
from analysis.valuation.summary import purchase_days, to_frame

Array = NDArray[np.float64]
EMISSIONS = ("poisson", "negative_binomial")
NOT_YET = -1
_LEAST_RATE = 1e-8
# A probability below this is at its boundary: it is held there, and its interval is one-sided.
_BOUNDARY = 1e-5
_EM_STEPS = 15
# Customers behind a fit: more than enough for four states, and sequences of a large base are nearly all distinct.
_MOST = 50_000
# Log-rates and log-odds go no further: beyond it a state or a move is as good as never seen.
_FURTHEST = 18.0
_SIZE_BOUNDS = (np.log(0.02), np.log(1e4))


def period_counts(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    period_days: int = 91,
    *,
    left_truncated: bool = False,
    most: int = 12,
) -> pd.DataFrame:
    """Purchase days of each customer in each whole period, counted back from the last observed day, in the engine.

    Parameters
    ----------
    order_lines : Ibis table.
    observed_from, observed_to : the clock of the study.
    period_days : length of a period.
    left_truncated : customers were there all the time; otherwise a customer's periods begin after the first purchase, and one in
        which they first bought is left out, because a purchase in it was certain.
    most : periods at most, the latest ones.

    Returns
    -------
    Frame sorted by customer_id: customer_id and one column a period, ``p0`` (oldest), ``p1``, …, with counts, or −1 where the
    customer was not one yet. Customers without a whole period are left out.

    Raises
    ------
    ValueError
        The data hold fewer than two periods.
    """
    span = (observed_to - observed_from).days + 1
    periods = min(span // period_days, most)
    if periods < 2:
        raise ValueError(f"purchase counts: {span} days hold fewer than two periods of {period_days} days")
    days = purchase_days(order_lines, observed_to)
    end = ibis.literal(observed_to)
    ago = (end.delta(days.order_date, unit="day") / period_days).floor().cast("int64")
    dated = days.mutate(ago=ago)
    sums = {f"p{periods - 1 - k}": (dated.ago == k).cast("int64").sum() for k in reversed(range(periods))}
    wide = to_frame(
        dated.group_by(dated.customer_id.cast("string").name("customer_id")).aggregate(
            first_ago=dated.ago.max().cast("int64"), **sums
        )
    )
    columns = [f"p{k}" for k in range(periods)]
    if not left_truncated:
        early = periods - 1 - wide["first_ago"].to_numpy()
        counts = np.where(np.arange(periods)[None, :] <= early[:, None], NOT_YET, wide[columns].to_numpy())
        wide = wide.assign(**dict(zip(columns, counts.T, strict=True)))
        wide = wide[wide["p" + str(periods - 1)] != NOT_YET]
    return wide[["customer_id", *columns]].astype(dict.fromkeys(columns, "int64")).reset_index(drop=True)


@dataclass(frozen=True)
class Sequences:
    """Distinct sequences of counts, moved to the left so that all begin at period 0.

    Attributes
    ----------
    counts : (m, periods), −1 after the end.
    length : (m,), periods seen.
    weight : (m,), customers with this sequence.
    of : (customers,), the sequence of each.
    values, index : distinct counts, and where each period of each sequence finds its own (0 after the end).
    """

    counts: NDArray[np.int64]
    length: NDArray[np.int64]
    weight: Array
    of: NDArray[np.intp]
    values: Array
    index: NDArray[np.intp]

    @classmethod
    def of_counts(cls, counts: ArrayLike, weights: ArrayLike | None = None) -> Sequences:
        """Check and count sequences; see :class:`PurchaseHMM` for ``counts`` and ``weights``."""
        given = np.asarray(counts, dtype=float)
        if given.ndim != 2 or 0 in given.shape:
            raise ValueError("hidden Markov model: counts must have a row a customer and a column a period")
        given = np.where(np.isnan(given), NOT_YET, given)
        if ((given < NOT_YET) | (given != np.floor(given)) | ~np.isfinite(given)).any():
            raise ValueError(
                "hidden Markov model: counts must be whole numbers from 0 up, or -1 before a customer was one"
            )
        missing = given == NOT_YET
        if (missing[:, 1:] & ~missing[:, :-1]).any():
            raise ValueError("hidden Markov model: a count is missing after a customer's first period")
        if missing.all(axis=1).any():
            raise ValueError("hidden Markov model: a customer has no period at all; leave such rows out")
        begin = missing.sum(axis=1)
        place = np.arange(given.shape[1])[None, :] + begin[:, None]
        left = np.where(
            place < given.shape[1], np.take_along_axis(given, place.clip(max=given.shape[1] - 1), 1), NOT_YET
        )
        rows, of = np.unique(left.astype(np.int64), axis=0, return_inverse=True)
        of = of.ravel()
        weight = np.bincount(of, weights=None if weights is None else np.asarray(weights, dtype=float)).astype(float)
        values, index = np.unique(np.maximum(rows, 0), return_inverse=True)
        seen = (rows != NOT_YET).sum(axis=1)
        return cls(rows, seen, weight, of, values.astype(float), index.reshape(rows.shape))

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which periods were seen, shape of ``counts``."""
        return self.counts != NOT_YET


@dataclass(frozen=True)
class Parameters:
    """initial (states,), transition (states, states), rate (states,) a period, size (states,) of the gamma mixing or None."""

    initial: Array
    transition: Array
    rate: Array
    size: Array | None

    def log_pmf(self, values: Array) -> Array:
        """Log-probability of counts in each state, shape (values, states)."""
        y, rate = values[:, None], self.rate[None, :]
        if self.size is None:
            return special.xlogy(y, rate) - rate - special.gammaln(y + 1.0)
        size = self.size[None, :]
        choose = special.gammaln(size + y) - special.gammaln(size) - special.gammaln(y + 1.0)
        return choose + size * np.log(size / (size + rate)) + special.xlogy(y, rate / (size + rate))

    def ordered(self) -> Parameters:
        """States from the lowest rate up."""
        order = np.argsort(self.rate, kind="stable")
        size = None if self.size is None else self.size[order]
        return Parameters(self.initial[order], self.transition[np.ix_(order, order)], self.rate[order], size)


@dataclass(frozen=True)
class _Expected:
    """What the counts say of the states.

    Attributes
    ----------
    loglike : (m,). first : (states,), expected customers in the first period. moves : (states, states), expected, in all.
    by_value : (values, states), expected customer-periods with each count. filtered : (m, states), in the last period.
    """

    loglike: Array
    first: Array
    moves: Array
    by_value: Array
    filtered: Array


def _forward_backward(p: Parameters, data: Sequences) -> _Expected:
    """Exact posterior of the states; periods after the end of a sequence count as certain and change nothing.

    Arrays run over periods, then states, then sequences, so that the longest axis is contiguous.
    """
    m, periods = data.counts.shape
    states, seen = len(p.rate), data.seen.T
    log_table = p.log_pmf(data.values)
    top = log_table.max(axis=1)
    table = np.exp(log_table - top[:, None]).T
    index = data.index.T
    emitted = np.where(seen[:, None, :], table[:, index].swapaxes(0, 1), 1.0)
    forward, scale = np.empty((periods, states, m)), np.empty((periods, m))
    ahead = np.repeat(p.initial[:, None], m, axis=1)
    for t in range(periods):
        forward[t] = ahead * emitted[t]
        scale[t] = forward[t].sum(axis=0)
        forward[t] /= scale[t]
        ahead = p.transition.T @ forward[t]
    loglike = np.log(scale).sum(axis=0) + np.where(seen, top[index], 0.0).sum(axis=0)
    backward, moves = np.ones((states, m)), np.zeros((states, states))
    posterior = np.empty_like(forward)
    posterior[-1] = forward[-1]
    counted = data.weight * seen
    for t in range(periods - 1, 0, -1):
        reached = emitted[t] * backward / scale[t]
        moves += forward[t - 1] @ (reached * counted[t]).T
        backward = p.transition @ reached
        posterior[t - 1] = forward[t - 1] * backward
    moves *= p.transition
    place, size = index.ravel(), len(data.values)
    by_value = [np.bincount(place, (posterior[:, s] * counted).ravel(), size) for s in range(states)]
    last = forward[data.length - 1, :, np.arange(m)]
    return _Expected(loglike, posterior[0] @ data.weight, moves, np.stack(by_value, axis=1), last)


def _maximised(expected: _Expected, data: Sequences, before: Parameters) -> Parameters:
    first = expected.first
    left = expected.moves.sum(axis=1, keepdims=True)
    # A state that nobody is ever in keeps its row, so that it stays a distribution.
    transition = np.where(left > 0, expected.moves / np.where(left > 0, left, 1.0), before.transition)
    spent = expected.by_value.sum(axis=0)
    rate = np.where(spent > 0, data.values @ expected.by_value / np.where(spent > 0, spent, 1.0), before.rate)
    rate = np.maximum(rate, _LEAST_RATE)
    size = before.size
    if size is not None:
        size = np.array([_best_size(data.values, w, r) for w, r in zip(expected.by_value.T, rate, strict=True)])
    return Parameters(first / first.sum(), transition, rate, size)


def _best_size(values: Array, weight: Array, rate: float) -> float:
    """The shape of the gamma mixing at which counts with this mean are likeliest."""

    def lost(log_size: float) -> float:
        size = np.exp(log_size)
        grown = special.gammaln(size + values) - special.gammaln(size)
        return -float(weight @ (grown + size * np.log(size / (size + rate)) - values * np.log(size + rate)))

    return float(np.exp(optimize.minimize_scalar(lost, bounds=_SIZE_BOUNDS, method="bounded").x))


class PurchaseHMM:
    """Hidden Markov model of purchase counts.

    Parameters
    ----------
    counts : array-like of shape (customers, periods)
        Purchases in each period, oldest first; −1 (or NaN) in the periods before a customer was one.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for.
    states : int
        From 1 up.
    emission : {"poisson", "negative_binomial"}
        The second lets rates within a state vary by a gamma distribution, anew in each period.

    Raises
    ------
    ValueError
        Counts that are not whole or missing in the middle, an unknown emission, or states below 1.

    Examples
    --------
    >>> fit = PurchaseHMM([[0, 0, 1], [4, 3, 5], [4, 5, 0], [0, 0, 0]], states=2).fit()
    >>> bool(fit.rates[0] < fit.rates[1])
    True
    """

    def __init__(
        self, counts: ArrayLike, weights: ArrayLike | None = None, *, states: int = 3, emission: str = "poisson"
    ) -> None:
        if emission not in EMISSIONS:
            raise ValueError(f"hidden Markov model: unknown emission '{emission}'; use {' or '.join(EMISSIONS)}")
        if states < 1:
            raise ValueError("hidden Markov model: at least one state is needed")
        self.data = Sequences.of_counts(counts, weights)
        self.states, self.emission = states, emission
        self.nobs = float(self.data.weight.sum())

    def loglike(self, parameters: Parameters) -> float:
        """Log-likelihood of all customers."""
        return float(self.data.weight @ _forward_backward(parameters, self.data).loglike)

    def fit(self, *, starts: int = 5, random_state: int = 0, most_steps: int = 500) -> HMMResults:
        """Maximise the likelihood: expectation–maximisation from several random starts, the best carried to the end.

        Expectation–maximisation finds the right hill and then creeps; quasi-Newton steps with the exact gradient climb it.

        Parameters
        ----------
        starts : how many.
        random_state : seed of the starts.
        most_steps : quasi-Newton steps of the best start.

        Raises
        ------
        ValueError
            Fewer than two customers, nobody who bought in any period, or fewer than two periods for more than one state.
        """
        data = self.data
        if self.nobs < 2 or len(data.of) < 2:
            raise ValueError("hidden Markov model: one customer cannot show how customers move; give at least two")
        if not (data.values > 0).any():
            raise ValueError("hidden Markov model: nobody bought in any period, so there are no states to tell apart")
        if self.states > 1 and data.length.max() < 2:
            raise ValueError("hidden Markov model: moves need at least two periods of somebody")
        rng = np.random.default_rng(random_state)
        tried = [self._climb(self._start(rng), _EM_STEPS) for _ in range(starts)]
        best, settled = self._finish(max(tried, key=lambda t: t[1])[0], most_steps)
        best = best.ordered()
        covariance, free = _information(best, data)
        llf = self.loglike(best)
        return HMMResults(
            self.states, self.emission, best, llf, self.nobs, settled, covariance, free, self._visits(best)
        )

    def _start(self, rng: np.random.Generator) -> Parameters:
        data, s = self.data, self.states
        average = np.where(data.seen, data.counts, 0).sum(axis=1) / data.length
        order = np.argsort(average)
        reached = np.cumsum(data.weight[order]) / data.weight.sum()
        cuts = np.searchsorted(reached, (np.arange(s) + rng.uniform(0.2, 0.8, s)) / s).clip(max=len(order) - 1)
        rate = np.maximum(average[order][cuts], 0.02 * average.max()) * np.exp(rng.normal(0.0, 0.3, s))
        stay = rng.uniform(0.6, 0.95)
        transition = np.full((s, s), (1.0 - stay) / max(s - 1, 1))
        np.fill_diagonal(transition, stay if s > 1 else 1.0)
        size = np.full(s, 2.0) if self.emission == "negative_binomial" else None
        return Parameters(rng.dirichlet(np.full(s, 5.0)), transition, np.sort(rate), size)

    def _climb(self, point: Parameters, steps: int) -> tuple[Parameters, float]:
        for _ in range(steps):
            expected = _forward_backward(point, self.data)
            point = _maximised(expected, self.data, point)
        return point, self.loglike(point)

    def _finish(self, point: Parameters, steps: int) -> tuple[Parameters, bool]:
        """Quasi-Newton steps on logs of rates and log-odds; where they lead nowhere better the point stays."""
        free = [np.arange(self.states) != row.argmax() for _, row in _rows(point)]
        start = np.maximum(_packed(point, free), -_FURTHEST)
        bounds = [(-_FURTHEST, _FURTHEST)] * len(start)
        if point.size is not None:
            bounds[self.states : 2 * self.states] = [_SIZE_BOUNDS] * self.states

        def objective(packed: Array) -> tuple[float, Array]:
            at = _unpacked(packed, point, free)
            value, score = _score(at, self.data, free)
            return -value / self.nobs, -score / self.nobs

        options = {"maxiter": steps, "ftol": 1e-12, "gtol": 1e-6}
        found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        better = _unpacked(found.x, point, free)
        settled = bool(np.abs(_inward(found.jac, found.x, bounds)).max() < 1e-4)
        return (better, settled) if -found.fun * self.nobs >= self.loglike(point) - 1e-6 else (point, False)

    def _visits(self, p: Parameters) -> Array:
        """Expected customer-periods in each state, initial ones first and then those that were left again: (2, states)."""
        expected = _forward_backward(p, self.data)
        return np.stack([np.full(len(p.rate), self.nobs), expected.moves.sum(axis=1)])


def _rows(p: Parameters) -> list[tuple[str, Array]]:
    return [("initial", p.initial), *[(f"transition {i}", row) for i, row in enumerate(p.transition)]]


def _unpacked(point: Array, p: Parameters, free_of: list[NDArray[np.bool_]]) -> Parameters:
    """Parameters from logs of rates (and sizes) and log-odds of the free probabilities against the largest of their row."""
    s, at = len(p.rate), len(p.rate)
    rate, size = np.exp(point[:s]), p.size
    if size is not None:
        size, at = np.exp(point[s : 2 * s]), 2 * s
    rows = []
    for (_, row), free in zip(_rows(p), free_of, strict=True):
        odds = np.zeros(s)
        odds[free] = np.exp(point[at : at + free.sum()])
        odds[row.argmax()] = 1.0
        at += int(free.sum())
        rows.append(odds / odds.sum())
    return Parameters(rows[0], np.stack(rows[1:]), rate, size)


def _inward(gradient: Array, point: Array, bounds: Sequence[tuple[float, float]]) -> Array:
    """The gradient without what pushes against a bound."""
    low, high = np.array(bounds).T
    stuck = ((point <= low) & (gradient > 0)) | ((point >= high) & (gradient < 0))
    return np.where(stuck, 0.0, gradient)


def _packed(p: Parameters, free_of: list[NDArray[np.bool_]]) -> Array:
    parts = [np.log(p.rate)] + ([] if p.size is None else [np.log(p.size)])
    parts += [
        np.log(np.maximum(row[free], 1e-300) / row.max()) for (_, row), free in zip(_rows(p), free_of, strict=True)
    ]
    return np.concatenate(parts)


def _score(p: Parameters, data: Sequences, free_of: list[NDArray[np.bool_]]) -> tuple[float, Array]:
    """Log-likelihood and its gradient in the packed parameters, by Fisher's identity."""
    e = _forward_backward(p, data)
    y, spent = data.values @ e.by_value, e.by_value.sum(axis=0)
    if p.size is None:
        parts = [y - p.rate * spent]
    else:
        grown, r = data.values[:, None] + p.size, p.size
        parts = [(y - p.rate * spent) * r / (r + p.rate)]
        inside = special.digamma(grown) - special.digamma(r) + np.log(r / (r + p.rate)) + 1 - grown / (r + p.rate)
        parts.append(r * (inside * e.by_value).sum(axis=0))
    counted = [e.first, *e.moves]
    for (_, row), free, n in zip(_rows(p), free_of, counted, strict=True):
        parts.append((n - n.sum() * row)[free])
    return float(data.weight @ e.loglike), np.concatenate(parts)


def _information(p: Parameters, data: Sequences) -> tuple[Array, list[NDArray[np.bool_]]]:
    """Covariance of the packed parameters (NaN where the likelihood is flat), and which probabilities of each row are free."""
    free_of = []
    for _, row in _rows(p):
        free = row > _BOUNDARY
        free[row.argmax()] = False
        free_of.append(free)
    point, step = _packed(p, free_of), 1e-4

    def score(at: Array) -> Array:
        return _score(_unpacked(at, p, free_of), data, free_of)[1]

    rows = [(score(point + h) - score(point - h)) / (2 * step) for h in step * np.eye(len(point))]
    information = -(np.array(rows) + np.array(rows).T) / 2
    # A rate or size at the end of its range has no curvature; the others keep theirs.
    inner = np.ones(len(point), dtype=bool)
    s = len(p.rate)
    inner[:s] = p.rate > 1e-6
    if p.size is not None:
        inner[s : 2 * s] = (np.log(p.size) > _SIZE_BOUNDS[0] + 0.1) & (np.log(p.size) < _SIZE_BOUNDS[1] - 0.1)
    covariance = np.full_like(information, np.nan)
    part = information[np.ix_(inner, inner)]
    if np.isfinite(part).all() and np.linalg.eigvalsh(part).min() > 1e-8:
        covariance[np.ix_(inner, inner)] = np.linalg.inv(part)
    return covariance, free_of


@dataclass(frozen=True)
class HMMResults:
    """A fitted hidden Markov model; states are numbered from the lowest purchase rate up.

    Attributes
    ----------
    states, emission : of the model.
    parameters : initial, transition, rate, size.
    llf : log-likelihood.
    nobs : customers.
    settled : whether the search came to rest.
    """

    states: int
    emission: str
    parameters: Parameters
    llf: float
    nobs: float
    settled: bool
    _covariance: Array
    _free: list[NDArray[np.bool_]]
    _visits: Array

    @property
    def rates(self) -> Array:
        """Purchases a period in each state, shape (states,)."""
        return self.parameters.rate

    @property
    def transition(self) -> Array:
        """Probability of moving from state (row) to state (column) in a period, shape (states, states)."""
        return self.parameters.transition

    @property
    def initial(self) -> Array:
        """Shares of the states in a customer's first period, shape (states,)."""
        return self.parameters.initial

    @property
    def _names(self) -> list[str]:
        numbers = range(1, self.states + 1)
        names = [f"rate[{i}]" for i in numbers]
        names += [] if self.parameters.size is None else [f"size[{i}]" for i in numbers]
        return names + [f"initial[{i}]" for i in numbers] + [f"transition[{i},{j}]" for i in numbers for j in numbers]

    @property
    def params(self) -> pd.Series:
        """All parameters by name."""
        p = self.parameters
        parts = [p.rate, *([] if p.size is None else [p.size]), p.initial, p.transition.ravel()]
        return pd.Series(np.concatenate(parts), index=self._names, name="estimate")

    @property
    def free_parameters(self) -> int:
        """Parameters that were estimated: each distribution has one fewer than states."""
        s = self.states
        return s * (1 if self.parameters.size is None else 2) + (s - 1) * (s + 1)

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2 * self.free_parameters - 2 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's criterion, customers being the observations."""
        return self.free_parameters * float(np.log(self.nobs)) - 2 * self.llf

    @property
    def bse(self) -> pd.Series:
        """Standard errors of ``params``; NaN at a boundary."""
        s, p = self.states, self.parameters
        log_parts = [p.rate] + ([] if p.size is None else [p.size])
        head = s * len(log_parts)
        errors = [np.concatenate(log_parts) * np.sqrt(np.diag(self._covariance)[:head])]
        at = head
        for (_, row), free in zip(_rows(p), self._free, strict=True):
            k = int(free.sum())
            cov = self._covariance[at : at + k, at : at + k]
            slope = -np.outer(row, row[free])
            slope[free, np.arange(k)] += row[free]
            error = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", slope, cov, slope), 0.0)) if k else np.zeros(s)
            error[~free & (np.arange(s) != row.argmax())] = np.nan
            if not k:
                error[:] = np.nan
            errors.append(error)
            at += k
        return pd.Series(np.concatenate(errors), index=self._names, name="std_err")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals, columns low and high: on the log scale for rates, Wilson's for probabilities.

        Wilson's interval is that of a share counted on p (1 − p) / se² customers, as many as carry the same information (Korn
        & Graubard 1998, Survey Methodology 24(2), for shares whose sample size is not a count). A probability at its boundary
        has the limit 1 − alpha^(1/n), n being how often its state was left, as if that had been seen.
        """
        value, se = self.params.to_numpy(), self.bse.to_numpy()
        positive = ~self.params.index.str.contains("initial|transition")
        half = stats.norm.ppf(1 - alpha / 2) * se / value.clip(_LEAST_RATE)
        with np.errstate(divide="ignore", invalid="ignore"):
            informed = np.where(positive | ~(se > 0), np.nan, value * (1 - value) / se**2)
            reach = 1 - alpha ** (1 / self._left)
        low, high = share_interval(value * np.nan_to_num(informed), np.nan_to_num(informed), alpha)
        low, high = np.where(positive, value * np.exp(-half), low), np.where(positive, value * np.exp(half), high)
        at_edge = ~positive & ~(se > 0) & (self._left > 0)
        low = np.where(at_edge, np.where(value < 0.5, 0.0, np.maximum(value - reach, 0.0)), low)
        high = np.where(at_edge, np.where(value < 0.5, np.maximum(value, reach), 1.0), high)
        return pd.DataFrame({"low": low, "high": high}, index=self.params.index)

    @property
    def _left(self) -> Array:
        """How often the state of each probability was left, 0 for the other parameters, in the order of ``params``."""
        head = self.states * (1 if self.parameters.size is None else 2)
        return np.concatenate([np.zeros(head), self._visits[0], np.repeat(self._visits[1], self.states)])

    def summary(self) -> pd.DataFrame:
        """One row a parameter: parameter, estimate, std_err, low, high (95 %)."""
        frame = pd.concat([self.params, self.bse, self.conf_int()], axis=1)
        return frame.rename_axis("parameter").reset_index()

    def loglike_rows(self, counts: ArrayLike) -> Array:
        """Log-probability of each row of counts, shape (customers,)."""
        data = Sequences.of_counts(counts)
        return _forward_backward(self.parameters, data).loglike[data.of]

    def predict_proba(self, counts: ArrayLike) -> Array:
        """Probability of each state in the last period, given the counts up to it, shape (customers, states)."""
        data = Sequences.of_counts(counts)
        return _forward_backward(self.parameters, data).filtered[data.of]

    def predict(self, counts: ArrayLike) -> NDArray[np.int64]:
        """The most probable state in the last period, 0 for the lowest rate, shape (customers,)."""
        return self.predict_proba(counts).argmax(axis=1)

    def decode(self, counts: ArrayLike) -> NDArray[np.int64]:
        """The most probable path of states (Viterbi), shape of ``counts``; −1 before a customer was one."""
        data = Sequences.of_counts(counts)
        m, periods = data.counts.shape
        with np.errstate(divide="ignore"):
            moves, first = np.log(self.transition), np.log(self.initial)
        emitted = np.where(data.seen[:, :, None], self.parameters.log_pmf(data.values)[data.index], 0.0)
        # After the end of a sequence nobody moves, so that the path is that of its own periods.
        score, back = first + emitted[:, 0], np.zeros((m, periods, self.states), dtype=np.int64)
        for t in range(1, periods):
            options = score[:, :, None] + moves
            back[:, t] = options.argmax(axis=1)
            moved = options.max(axis=1) + emitted[:, t]
            ended = ~data.seen[:, t]
            back[ended, t] = np.arange(self.states)
            score = np.where(ended[:, None], score, moved)
        path = np.empty((m, periods), dtype=np.int64)
        path[:, -1] = score.argmax(axis=1)
        for t in range(periods - 1, 0, -1):
            path[:, t - 1] = back[np.arange(m), t, path[:, t]]
        right = np.full_like(path, NOT_YET)
        for length in np.unique(data.length):
            rows = data.length == length
            right[rows, periods - length :] = path[rows, :length]
        return right[data.of]

    def next_counts(self, counts: ArrayLike, values: ArrayLike) -> Array:
        """Log-probability of a next period's count, given the counts so far, shape (customers,)."""
        ahead = self.predict_proba(counts) @ self.transition
        with np.errstate(divide="ignore"):
            return special.logsumexp(np.log(ahead) + self.parameters.log_pmf(np.asarray(values, dtype=float)), axis=1)


def choose_states(
    counts: ArrayLike,
    states: Sequence[int] = (2, 3, 4),
    *,
    emission: str = "poisson",
    starts: int = 5,
    random_state: int = 0,
    most: int = _MOST,
) -> tuple[HMMResults, pd.DataFrame]:
    """Fit one model a number of states and keep the one with the smallest BIC.

    Parameters
    ----------
    counts, emission : as in :class:`PurchaseHMM`. states : numbers of states to try. starts, random_state : of each fit.
    most : customers behind the fits; of a larger base every k-th.

    Returns
    -------
    The results, and one row a number of states: states, llf, bic, settled, chosen.
    """
    part = _thinned(np.asarray(counts), most)
    fits = [
        PurchaseHMM(part, states=s, emission=emission).fit(starts=starts, random_state=random_state) for s in states
    ]
    best = min(fits, key=lambda f: f.bic)
    table = pd.DataFrame(
        [{"states": f.states, "llf": f.llf, "bic": f.bic, "settled": f.settled, "chosen": f is best} for f in fits]
    )
    return best, table


def _thinned(rows: NDArray, most: int) -> NDArray:
    """Rows at even distances, at most ``most``."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


@dataclass(frozen=True)
class HoldoutComparison:
    """The last period foretold by the hidden Markov model and by NBD.

    Attributes
    ----------
    customers : with a period before the last one (of a large base, every k-th).
    hmm, nbd : mean log-probability of the last period's counts a customer (higher is better).
    difference : hmm − nbd a customer, with an interval over customers.
    states : of the hidden Markov model.
    """

    customers: int
    hmm: float
    nbd: float
    difference: Estimate
    states: int


def holdout_against_nbd(
    counts: ArrayLike, fitted: HMMResults, *, starts: int = 5, random_state: int = 0
) -> HoldoutComparison:
    """Fit both models without the last period, and hold their forecasts of it against the counts.

    NBD (Ehrenberg 1959) is the story in which customers differ and nobody changes: given x purchases in n periods the next
    count is negative binomial with shape r + x and rate α + n.

    Parameters
    ----------
    counts : as in :class:`PurchaseHMM`, with at least three periods.
    fitted : says how many states and which emission; they are fitted again.

    Raises
    ------
    ValueError
        Too little for either model.
    """
    given = np.asarray(counts)
    used = _thinned(given[given[:, -2] != NOT_YET], _MOST) if given.shape[1] > 2 else given[:0]
    if len(used) < 30:
        raise ValueError(
            "holdout: fewer than 30 customers have a period before the last one, or there are only two periods"
        )
    past, last = used[:, :-1], used[:, -1].astype(float)
    again = PurchaseHMM(past, states=fitted.states, emission=fitted.emission).fit(
        starts=starts, random_state=random_state
    )
    x = np.where(past == NOT_YET, 0, past).sum(axis=1).astype(float)
    periods = (past != NOT_YET).sum(axis=1).astype(float)
    try:
        nbd = NBD(x, np.where(x > 0, periods, 0.0), periods).fit()
    except ModelNotFitted as error:
        raise ValueError(f"holdout: {error}") from error
    r, alpha = nbd.params.to_numpy()
    foretold = stats.nbinom.logpmf(last, r + x, (alpha + periods) / (alpha + periods + 1.0))
    by_hmm = again.next_counts(past, last)
    gap = by_hmm - foretold
    half = stats.norm.ppf(0.975) * gap.std(ddof=1) / np.sqrt(len(gap))
    mean = float(gap.mean())
    return HoldoutComparison(
        len(gap), float(by_hmm.mean()), float(foretold.mean()), Estimate(mean, mean - half, mean + half), again.states
    )


def state_agreement(
    states: ArrayLike, stages: ArrayLike, *, draws: int = 500, alpha: float = 0.05, seed: int = 1
) -> tuple[pd.DataFrame, Estimate]:
    """How far hidden states and life-cycle stages are the same grouping.

    Parameters
    ----------
    states : shape (n,), of :meth:`HMMResults.predict`. stages : shape (n,), null where not identified (left out).
    draws : bootstrap samples of customers. seed : of them.

    Returns
    -------
    Counts, a row a stage and a column a state (from 1); and the adjusted Rand index with its bootstrap interval, NaN with a reason
    where one side holds a single group.
    """
    stage = pd.Series(np.asarray(stages, dtype=object))
    known = stage.notna().to_numpy()
    table = pd.crosstab(stage[known], pd.Series(np.asarray(states) + 1)[known])
    named = [*[s for s in STAGES if s in table.index], *[s for s in table.index if s not in STAGES]]
    table = table.reindex(named).rename_axis(index="life_stage", columns="state")
    found = rand_agreement(np.asarray(states)[known], stage[known], draws, 1 - alpha, seed)
    if found.value is None:
        return table, Estimate(float("nan"), reason="one_group")
    return table, Estimate(found.value, found.low, found.high)
