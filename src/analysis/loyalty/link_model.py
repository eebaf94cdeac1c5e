"""What satisfaction does to buying and to leaving: a purchase model from the survey on, given the past before it.

A respondent is a customer who buys at random at a rate of their own until they leave, unseen, at a hazard of their own
(Pareto/NBD: Schmittlein, Morrison & Colombo 1987, Management Science 33). Both move with satisfaction. A survey sees it
once, and it fades towards the average in both directions of time: k periods away from the survey, somebody z standard
deviations above the mean is expected to be ρ^k z above it. So in the k-th period after the window opens (k = 0, 1, …)

    rate    λ exp(controls + level of the period + γ ρ^k z)
    hazard  μ exp(controls + δ ρ^k z)

and in the k-th period before it (k = 1, 2, …) the same without levels. Purchases of a period answer to the satisfaction
at its beginning, so k = 0 is the period right after the survey, and past purchases are themselves marked by the
satisfaction that went before them.

With λ ~ gamma(r, α) and μ ~ gamma(s, β), a respondent with x purchases in the effective time A of the past, and a
customer through the effective time B, enters the window with λ ~ gamma(r + x, α + A) and μ ~ gamma(s, β + B). What is
maximised is the likelihood of what follows, given that past (FH: Fader & Hardie 2005, A note on deriving the Pareto/NBD
model, eq. 15, with rates that move); the past itself is not modelled, so it need not follow the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy import optimize, special
from scipy.linalg import solve_triangular
from scipy.stats import norm

from .moments import Array
from .path_model import EstimationError

RATE, HAZARD = "rate", "hazard"
_NODES, _WEIGHTS = (lambda rule: ((rule[0] + 1) / 2, rule[1] / 2))(leggauss(6))
_SHAPES = ("log r", "log alpha", "log s", "log beta")
# Log units of a shape parameter beyond which the data no longer say anything of it.
_BOUND = 8.0
_STEP = 1e-4
# Controls' coefficients are drawn gently to 0, as normal with this spread: a group in which nobody left has an estimate too.
_CONTROL_SPREAD = 1.0


@dataclass(frozen=True)
class Histories:
    """Purchases of n responses around the day on which the window opens, in periods of equal length.

    Attributes
    ----------
    score : (n,) standardised satisfaction at the survey.
    past : (n,) repeat purchases before the survey. past_time : (n, P) periods watched of each of the P before the window,
        the nearest first, without what lies between answer and window. tenure : (n, P) the same with it: the time as a
        customer.
    counts, time : (n, Q) purchases, and periods watched, in each of the Q periods from the window on.
    last : (n,) when the last purchase came, in periods from the window's opening; 0 without one.
    level : (n, Q) number of the level of buying that each period has, −1 where it is not watched.
    rate, hazard : (n, p) and (n, q) controls. weight : (n,) mean 1. cluster : (n,) number of the customer.
    """

    score: Array
    past: Array
    past_time: Array
    tenure: Array
    counts: Array
    time: Array
    last: Array
    level: NDArray[np.int64]
    rate: Array
    hazard: Array
    weight: Array
    cluster: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True)
class LinkResults:
    """A fitted link.

    Attributes
    ----------
    params : Series
        "log r" … "log beta", "rate: score", "hazard: score" (log-change by a standard deviation of the score), the
        controls' coefficients and the levels of buying.
    covariance : DataFrame
        Robust against a wrong model and against customers who answered twice (sandwich, by customer).
    persistence : float
        ρ, of satisfaction from one period to the next.
    llf : float
        Log-likelihood. nobs, customers : responses, and who gave them.
    influence : array of shape (responses, k)
        Each response's share in the error of the estimates.
    """

    params: pd.Series
    covariance: pd.DataFrame
    persistence: float
    llf: float
    nobs: int
    customers: int
    influence: Array

    @property
    def bse(self) -> pd.Series:
        """Standard errors."""
        return pd.Series(np.sqrt(np.diag(self.covariance)), index=self.params.index, name="bse")

    def conf_int(self, confidence: float = 0.95) -> pd.DataFrame:
        """Limits of every parameter: columns low, high."""
        reach = norm.ppf((1 + confidence) / 2) * self.bse
        return pd.DataFrame({"low": self.params - reach, "high": self.params + reach})

    @property
    def effects(self) -> Array:
        """Log-change of rate and of hazard by a standard deviation of the score, shape (2,)."""
        return self.params[list(EFFECTS)].to_numpy()

    @property
    def effect_covariance(self) -> Array:
        """Covariance of :attr:`effects`, (2, 2)."""
        return self.covariance.loc[list(EFFECTS), list(EFFECTS)].to_numpy()


EFFECTS = (f"{RATE}: score", f"{HAZARD}: score")


class CustomerLink:
    """The link between satisfaction, buying and leaving.

    Parameters
    ----------
    histories : Histories
    persistence : float
        ρ, share of a customer's distance from the mean satisfaction that is left after a period.
    persistence_error : float
        Standard error of ρ, carried into the covariance.
    names : names of the controls of rate and hazard, two sequences.

    Raises
    ------
    EstimationError
        If nobody bought after the survey, or the score is the same for everybody.
    """

    def __init__(
        self,
        histories: Histories,
        persistence: float,
        persistence_error: float = 0.0,
        names: tuple[Sequence[str], Sequence[str]] = ((), ()),
    ) -> None:
        if not 0 < persistence <= 1:
            raise EstimationError(f"persistence={persistence}: satisfaction keeps a share above 0 and up to 1 a period")
        if np.ptp(histories.score) == 0:
            raise EstimationError("satisfaction is the same for everybody: nothing can be told from it")
        if not histories.counts.any():
            raise EstimationError("nobody bought after the survey: nothing can be told about what follows it")
        self.histories, self.persistence, self.persistence_error = histories, persistence, persistence_error
        levels = histories.level.max() + 1
        self.names = [*_SHAPES, *EFFECTS, *(f"{RATE}: {n}" for n in names[0]), *(f"{HAZARD}: {n}" for n in names[1])]
        # The first level is that of the mean rate, which alpha already sets.
        self.names += [f"level {k}" for k in range(1, levels)]
        self._split = np.cumsum([4, 2, histories.rate.shape[1], histories.hazard.shape[1]])

    def _fading(self, rho: float) -> tuple[Array, Array]:
        """ρ^k z in the periods before, (n, P), and from the window on, (n, Q)."""
        h = self.histories
        back, on = rho ** np.arange(1.0, h.past_time.shape[1] + 1), rho ** np.arange(float(h.time.shape[1]))
        return h.score[:, None] * back, h.score[:, None] * on

    @cached_property
    def _pieces(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, Array]:
        """Where a silent customer may have left: owner, period, beginning and width of every stretch within a period."""
        h = self.histories
        begin = np.clip(h.last[:, None] - np.arange(h.time.shape[1]), 0.0, h.time)
        owner, period = np.nonzero(h.time - begin > 1e-12)
        return owner, period, begin[owner, period], (h.time - begin)[owner, period]

    def loglike(self, params: Array, persistence: float | None = None) -> tuple[Array, Array]:
        """Log-likelihood of each response, (n,), and its gradient, (k, n), at the model's persistence or another one.

        Every term is a function of the effective times of buying and of leaving, which are linear in time within a period.
        """
        h, (back, on) = self.histories, self._fading(persistence or self.persistence)
        r, alpha, s, beta = np.exp(params[:4])
        gamma, delta = params[4:6]
        a, b, c = self._split[1:]
        rate = np.exp(h.rate @ params[a:b])[:, None]
        hazard = np.exp(h.hazard @ params[b:c])[:, None]
        levels = np.append(0.0, params[c:])[h.level] * (h.level >= 0)
        past = rate * h.past_time * np.exp(gamma * back)
        kept = hazard * h.tenure * np.exp(delta * back)
        buying, leaving = rate * np.exp(levels + gamma * on), hazard * np.exp(delta * on)
        owner, period, begin, width = self._pieces
        bought, left = buying * h.time, leaving * h.time
        shape, scale, edge = r + h.past, alpha + past.sum(axis=1), beta + kept.sum(axis=1)
        x = h.counts.sum(axis=1)
        power = shape + x

        # Leaving at a moment within a stretch: responses × nodes, kept flat by stretch.
        moment = begin[:, None] + width[:, None] * _NODES
        at_buying = _before(bought)[owner, period][:, None] + buying[owner, period][:, None] * moment
        at_leaving = _before(left)[owner, period][:, None] + leaving[owner, period][:, None] * moment
        p, q = scale[owner][:, None] + at_buying, edge[owner][:, None] + at_leaving
        log_left = (
            np.log(s * width * leaving[owner, period])[:, None]
            + np.log(_WEIGHTS)
            - power[owner][:, None] * np.log(p)
            - (s + 1) * np.log(q)
        )
        end_p, end_q = scale + bought.sum(axis=1), edge + left.sum(axis=1)
        log_stays = -power * np.log(end_p) - s * np.log(end_q)
        n = len(h)
        top = log_stays.copy()
        np.maximum.at(top, owner, log_left.max(axis=1))
        share = np.exp(log_left - top[owner][:, None])
        stays = np.exp(log_stays - top)
        total = stays + np.bincount(owner, share.sum(axis=1), n)
        share /= total[owner][:, None]
        stays = stays / total

        exponent = levels + gamma * on + np.log(rate)
        value = (
            special.gammaln(power)
            - special.gammaln(shape)
            + shape * np.log(scale)
            + s * np.log(edge)
            + (h.counts * exponent).sum(axis=1)
            + top
            + np.log(total)
        )

        # Means, over how it may have ended, of the derivatives in the two effective times and in what they are made of.
        def mean(of_end: Array, of_node: Array) -> Array:
            return stays * of_end + np.bincount(owner, (share * of_node).sum(axis=1), n)

        per_p, per_q = share / p, share / q
        in_p = self._by_cell(-power * stays / end_p, -power[owner][:, None] * per_p, moment) * buying
        in_q = self._by_cell(-s * stays / end_q, -(s + 1) * per_q, moment) * leaving
        has_left = 1 - stays
        # Leaving within a stretch answers to the hazard at that moment too.
        in_q[owner, period] += share.sum(axis=1)
        in_p += h.counts
        d_scale = shape / scale - power * (stays / end_p + np.bincount(owner, per_p.sum(axis=1), n))
        d_edge = s / edge - (s * stays / end_q + (s + 1) * np.bincount(owner, per_q.sum(axis=1), n))
        d_rate = d_scale * past.sum(axis=1) + in_p.sum(axis=1)
        d_hazard = d_edge * kept.sum(axis=1) + in_q.sum(axis=1)
        d_gamma = d_scale * (past * back).sum(axis=1) + (in_p * on).sum(axis=1)
        d_delta = d_edge * (kept * back).sum(axis=1) + (in_q * on).sum(axis=1)
        d_r = special.digamma(power) - special.digamma(shape) + np.log(scale) - mean(np.log(end_p), np.log(p))
        d_s = np.log(edge) + has_left / s - mean(np.log(end_q), np.log(q))
        by_level = np.zeros((len(params) - c + 1, n))
        seen, at = np.nonzero(h.level >= 0)
        by_level[h.level[seen, at], seen] = in_p[seen, at]
        rows = [r * d_r, alpha * d_scale, s * d_s, beta * d_edge, d_gamma, d_delta]
        return value, np.vstack([*rows, d_rate * h.rate.T, d_hazard * h.hazard.T, by_level[1:]])

    def _by_cell(self, at_end: Array, at_node: Array, moment: Array) -> Array:
        """Derivatives in the speed of each period from those in an effective time at its end and at its nodes, (n, Q)."""
        owner, period, *_ = self._pieces
        time = self.histories.time
        reached, within = np.zeros_like(time), np.zeros_like(time)
        reached[owner, period] = at_node.sum(axis=1)
        within[owner, period] = (at_node * moment).sum(axis=1)
        # A period counts in full for whoever left in a later one, or is there still.
        later = np.cumsum(reached[:, ::-1], axis=1)[:, ::-1] - reached
        return time * (at_end[:, None] + later) + within

    def fit(self) -> LinkResults:
        """Maximise the likelihood of what follows.

        Raises
        ------
        EstimationError
            If no maximum is found: too few respondents, or too few of them who bought.
        """
        n = len(self.histories)
        params, value = self._maximum()
        if not np.isfinite(value) or np.abs(params[4:6]).max() > 9.9:
            raise EstimationError(
                f"the link of {n} responses has no estimate: more respondents, or fewer controls, are needed"
            )
        inverse = self._inverse_hessian(params)
        influence = (inverse @ (self.loglike(params)[1] * self.histories.weight)).T
        covariance = clustered(influence, self.histories.cluster) + self._from_persistence(params, inverse)
        index = pd.Index(self.names)
        return LinkResults(
            params=pd.Series(params, index=index, name="estimate"),
            covariance=pd.DataFrame(covariance, index=index, columns=index),
            persistence=self.persistence,
            llf=-value * n,
            nobs=n,
            customers=int(self.histories.cluster.max()) + 1,
            influence=influence,
        )

    def _objective(self, params: Array, persistence: float | None = None) -> tuple[float, Array]:
        """What is minimised, and its gradient, (k,): a response's mean of −log-likelihood, and the pull on the controls."""
        n, weight = len(self.histories), self.histories.weight
        pull = np.zeros(len(params))
        pull[self._split[1] : self._split[3]] = params[self._split[1] : self._split[3]] / _CONTROL_SPREAD**2
        value, gradient = self.loglike(params, persistence)
        return (pull @ params / 2 - float(value @ weight)) / n, (pull - gradient @ weight) / n

    def _maximum(self) -> tuple[Array, float]:
        """Where the objective is least, (k,), and its value there.

        The search runs in units in which the information at the start is 1 in every direction (Berndt, Hall, Hall & Hausman
        1974, Ann. Econ. Soc. Meas. 3), which takes a tenth of the steps. A shape that runs away from there is sought within
        bounds from its bound on.
        """
        start, n, weight = self._start(), len(self.histories), self.histories.weight
        reach = np.append(np.full(4, _BOUND), np.full(len(start) - 4, 10.0))
        middle = np.append(start[:4], np.zeros(len(start) - 4))
        low, high = middle - reach, middle + reach
        gradient = self.loglike(start)[1]
        pull = np.full(len(start), 1e-3)
        pull[self._split[1] : self._split[3]] += 1 / (n * _CONTROL_SPREAD**2)
        root = np.linalg.cholesky((gradient * weight) @ gradient.T / n + np.diag(pull))

        def within(units: Array) -> Array:
            return np.clip(start + solve_triangular(root.T, units), low, high)

        def scaled(units: Array) -> tuple[float, Array]:
            params = within(units)
            value, slope = self._objective(params)
            inside = (params > low) & (params < high)
            return value, solve_triangular(root, slope * inside, lower=True)

        search = {"jac": True, "method": "L-BFGS-B", "options": {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-6}}
        found = optimize.minimize(scaled, np.zeros(len(start)), **search)
        params = within(found.x)
        if found.success and (params > low).all() and (params < high).all():
            return params, float(found.fun)
        found = optimize.minimize(self._objective, params, bounds=np.column_stack([low, high]), **search)
        return found.x, float(found.fun)

    def _start(self) -> Array:
        h = self.histories
        pace = (h.weight @ (h.past + 0.5)) / (h.weight @ (h.past_time.sum(axis=1) + 0.5))
        shapes = np.log([1.0, 1.0 / pace, 1.0, 10.0])
        return np.concatenate([shapes, np.zeros(len(self.names) - 4)])

    def _inverse_hessian(self, params: Array) -> Array:
        """Inverse of the second derivatives of the sum over responses, (k, k).

        A direction in which the likelihood is flat, as of a shape that runs away, is held where it is.
        """
        rows = []
        for j in range(len(params)):
            step = np.zeros(len(params))
            step[j] = _STEP
            rows.append((self._objective(params + step)[1] - self._objective(params - step)[1]) / (2 * _STEP))
        hessian = (np.array(rows) + np.array(rows).T) / 2 * len(self.histories)
        roots, directions = np.linalg.eigh(hessian)
        steep = roots > 1e-6 * roots.max()
        return (directions[:, steep] / roots[steep]) @ directions[:, steep].T

    def _from_persistence(self, params: Array, inverse: Array) -> Array:
        """What the error of the persistence adds to the covariance, (k, k): by the slope at which the maximum moves with it."""
        low, high = np.clip([self.persistence - _STEP, self.persistence + _STEP], _STEP, 1.0)
        change = self._objective(params, high)[1] - self._objective(params, low)[1]
        slope = -inverse @ change * len(self.histories) / (high - low)
        return self.persistence_error**2 * np.outer(slope, slope)


def clustered(influence: Array, groups: NDArray[np.int64]) -> Array:
    """Covariance of estimates from each row's share in their error, (rows, k), where rows of a group hang together: (k, k)."""
    count = int(groups.max()) + 1
    sums = np.stack([np.bincount(groups, column, count) for column in influence.T])
    return sums @ sums.T * count / max(count - 1, 1)


def _before(amounts: Array) -> Array:
    """Sum of the columns before each one, (n, Q)."""
    return np.cumsum(amounts, axis=1) - amounts
