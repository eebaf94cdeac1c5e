"""The BG/CNBD-k and MBG/CNBD-k models: habitual shoppers, whose purchases come at regular intervals.

The story is that of the BG/NBD (or, where a customer may leave after the first purchase too, of the MBG/NBD), but
the time between purchases is Erlang-k instead of exponential: a customer passes k stages at their own rate λ and
buys at the end of the k-th. The larger k, the more regular the purchases; k = 1 is the (M)BG/NBD. A regular
shopper who is overdue gives themselves away sooner, so P(alive) falls faster.

What is exact: the likelihood, P(alive), expected purchases, the distribution of counts and the simulated futures. Who
is alive at T has passed j = 0 … k − 1 stages since their last purchase, and given j all of these are finite or
fast-falling sums of positive terms. Only discounting takes a quadrature over time.

Sources: Platzer, M. & Reutterer, T. (2016). Ticking away the moments: timing regularity helps to better predict
customer activity. Marketing Science 35(5), 779–799, for the idea and how regularity matters. Reutterer, T., Platzer,
M. & Schröder, N. (2021). Leveraging purchase regularity for predicting customer behavior the easy way. International
Journal of Research in Marketing 38(1), 194–215, for these models.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from analysis.valuation.purchases import (
    Array,
    Cells,
    PurchaseModel,
    PurchaseResults,
    checked_histories,
    checked_horizon,
    checked_weights,
    quadrature_rule,
)

# The search for k goes no further: beyond it, intervals vary by less than 30 % and the models hardly differ.
LARGEST_K = 12
_NODES, _WEIGHTS = quadrature_rule(16)
# Numbers in a block of the sum over stages, so that its temporaries stay small.
_BLOCK = 1 << 20
_MOST_STAGES = 1e7


def _stage_weights(r: float, alpha: float, k: int, cells: Cells) -> tuple[Array, Array]:
    """Weight of having passed j stages since the last purchase, alive, relative to j = 0: (k, cells).

    (c)_j / j! (τ/(α+T))^j with c = r + k x and τ = T − t_x; also its logarithmic derivative in c.
    """
    c = r + k * cells.x
    share = (cells.T - cells.t_x) / (alpha + cells.T)
    weight, slope = np.ones((k, len(c))), np.zeros((k, len(c)))
    for j in range(1, k):
        weight[j] = weight[j - 1] * share * ((c + j - 1.0) / j)
        slope[j] = slope[j - 1] + 1.0 / (c + j - 1.0)
    return weight, slope


def draw_lives(
    params: Sequence[float], k: int, at_once: bool, cells: Cells, rng: np.random.Generator, size: int
) -> tuple[Array, Array, Array]:
    """Customers who are still there, drawn given their histories; with k = 1 those of (M)BG/NBD.

    Parameters
    ----------
    params : r, alpha, a, b
    k : int
        Stages from one purchase to the next.
    at_once : bool
        Whether a customer may leave after the first purchase.
    cells : Cells
        With the cell of every customer.

    Returns
    -------
    rate, leave, passed : arrays of shape (size, customers)
        Rate of stages, probability of leaving after a purchase, and stages passed since the last one.
    """
    r, alpha, a, b = params
    weight = _stage_weights(r, alpha, k, cells)[0]
    reached = np.cumsum(weight / weight.sum(axis=0), axis=0)[:-1, cells.index]
    x, age = cells.x[cells.index], cells.T[cells.index]
    passed = (rng.random((size, len(x)))[None] > reached[:, None, :]).sum(axis=0)
    rate = rng.gamma(r + k * x + passed) / (alpha + age)
    leave = np.clip(rng.beta(a, b + x + at_once, size=rate.shape), 1e-15, 1.0)
    return rate, leave, passed


def _log_leaving(r: float, alpha: float, a: float, b: float, k: int, at_once: bool, cells: Cells) -> Array:
    """log odds of having left at the last purchase against being alive in stage j = 0."""
    if at_once:
        share = np.log(a) - np.log(b + cells.x)
    else:
        share = np.where(cells.x > 0, np.log(a) - np.log(b + np.maximum(cells.x, 1.0) - 1.0), -np.inf)
    return share + (r + k * cells.x) * np.log1p((cells.T - cells.t_x) / (alpha + cells.t_x))


def _expected_count(shape: Array, scale: Array, a: float, b: Array, passed: Array, t: Array, k: int) -> Array:
    """Expected purchases in the next `t` of a customer known to be one who has passed `passed` stages, shape (rows,).

    The stages passed in t are negative binomial (λ ~ gamma(shape, scale)); with N purchases' worth of stages a
    customer with p ~ beta(a, b) makes Σ over n < N of E[(1 − p)^n] of them.
    """
    result = np.zeros(len(shape))
    share = t / (scale + t)
    # a rate that is exceeded once in 10^15, and the most stages that it can bring
    fastest = special.gammainccinv(shape, 1e-15) * t / scale
    most = np.ceil(fastest + 9.0 * np.sqrt(fastest) + 40.0)
    if most.max() > _MOST_STAGES:
        raise ValueError(
            f"expected purchases: a horizon of {t.max():g} would hold more than {_MOST_STAGES:g} purchases of some "
            "customer; give a shorter one"
        )
    most = most.astype(np.int64)
    order = np.argsort(most)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * most[order[stop]] <= _BLOCK:
            stop += 1
        rows = order[start:stop]
        start = stop
        if most[rows[-1]] == 0 or not (t[rows] > 0).any():
            continue
        stages = np.arange(most[rows[-1]] + 1.0)
        c, z = shape[rows, None], np.maximum(share[rows, None], 1e-300)
        step = np.log((c + stages[:-1]) / stages[1:]) + np.log(z)
        log_pmf = (
            np.concatenate([np.zeros_like(c), np.cumsum(step, axis=1)], axis=1) - c * np.log1p(t / scale)[rows, None]
        )
        bought = ((stages + passed[rows, None]) // k).astype(np.int64)
        n = np.arange(float(bought.max()))
        lasting = (b[rows, None] + n) / (a + b[rows, None] + n)
        stays = np.concatenate([np.ones_like(c), np.cumprod(lasting, axis=1)], axis=1)[:, : len(n)]
        made = np.concatenate([np.zeros_like(c), np.cumsum(stays, axis=1)], axis=1)
        result[rows] = (np.exp(log_pmf) * np.take_along_axis(made, bought, axis=1)).sum(axis=1)
    return np.where(t > 0, result, 0.0)


class BGCNBDkResults(PurchaseResults):
    """A fitted (M)BG/CNBD-k model: parameters r, alpha (time), a, b, and the whole number `k`.

    α belongs to the rate of stages: the mean time between purchases of a customer with rate λ is k/λ.
    """

    model: BGCNBDk

    @property
    def k(self) -> int:
        """Stages between two purchases; 1 is purely random timing."""
        return self.model.k

    @property
    def profile(self) -> pd.Series | None:
        """Log-likelihood by k, as far as the search went; None where k was given."""
        return self.model.profile

    @property
    def aic(self) -> float:
        """Akaike's criterion; k counts as a parameter where it was estimated."""
        return super().aic + 2 * self.model.k_estimated

    @property
    def bic(self) -> float:
        """Schwarz's criterion; k counts as a parameter where it was estimated."""
        return super().bic + float(np.log(self.model.nobs)) * self.model.k_estimated

    def summary(self) -> pd.DataFrame:
        """One row a parameter, as for other models, and one for `k`, a whole number that has no interval."""
        rows = super().summary()
        last = pd.DataFrame({"parameter": ["k"], "estimate": [float(self.k)]})
        return pd.concat([rows, last], ignore_index=True).reindex(columns=rows.columns)

    def _parts(self) -> tuple[float, float, float, float, int, bool]:
        return (*self.params.to_numpy(), self.model.k, self.model.at_once)

    def _alive_cells(self, cells: Cells) -> Array:
        r, alpha, a, b, k, at_once = self._parts()
        stays = np.log(_stage_weights(r, alpha, k, cells)[0].sum(axis=0))
        return special.expit(stays - _log_leaving(r, alpha, a, b, k, at_once, cells))

    def expected_purchases(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        discount: float = 0.0,
    ) -> Array:
        """Expected purchases in the next `t` given the history, each discounted by exp(−discount × time).

        Exact for discount 0. With a discount, e^(−δt) M(t) + δ ∫ e^(−δs) M(s) ds over the expected numbers M(s), by
        16 Gauss–Legendre nodes in time.

        Parameters
        ----------
        t : float
            Horizon, in the data's unit of time; finite.
        frequency, recency, T : array-like of shape (customers,)
        discount : float
            Continuous rate per unit of time.

        Returns
        -------
        array of shape (customers,)
        """
        if t == np.inf:
            raise ValueError("expected_purchases: this model has no endless horizon; give a finite one")
        t, discount = checked_horizon(t, discount)
        r, alpha, a, b, k, at_once = self._parts()
        cells = Cells.of(frequency, recency, T)
        weight = _stage_weights(r, alpha, k, cells)[0]
        weight /= weight.sum(axis=0)
        # what comes depends on the last purchase only through the stages passed since, which `weight` holds
        level, watched, pair = cells.age_pairs
        passed = np.repeat(np.arange(float(k)), len(level))
        x, age = np.tile(level, k), np.tile(watched, k)

        def expected(horizon: float) -> Array:
            rows = _expected_count(
                r + k * x + passed, alpha + age, a, b + x + at_once, passed, np.full_like(x, horizon), k
            )
            return (weight * rows.reshape(k, -1)[:, pair]).sum(axis=0)

        total = np.exp(-discount * t) * expected(t)
        if discount > 0.0:
            for node, share in zip(_NODES, _WEIGHTS, strict=True):
                total += discount * t * share * np.exp(-discount * t * node) * expected(t * node)
        return (self._alive_cells(cells) * total)[cells.index]

    def expected_repeats(self, t: ArrayLike) -> Array:
        """E[X(t)] of a customer who has just made the first purchase, shape of `t`; exact."""
        r, alpha, a, b, k, at_once = self._parts()
        time = np.atleast_1d(np.asarray(t, dtype=float))
        one = np.ones_like(time)
        value = _expected_count(r * one, alpha * one, a, (b + at_once) * one, 0.0 * one, time, k)
        value = value * (b / (a + b) if at_once else 1.0)
        return value if np.ndim(t) else value[0]

    def purchase_pmf(self, n: ArrayLike, t: float) -> Array:
        """P(X(t) = n): probability that a new customer makes n repeat purchases in `t`, shape of `n`; exact."""
        r, alpha, a, b, k, at_once = self._parts()
        count = np.asarray(n, dtype=float)
        share = t / (alpha + t)
        stage = k * count[..., None] + np.arange(float(k))
        log_stage = (
            special.gammaln(r + stage)
            - special.gammaln(r)
            - special.gammaln(stage + 1.0)
            + r * np.log1p(-share)
            + special.xlogy(stage, share)
        )
        kept = special.betaln(a, b + count + at_once) - special.betaln(a, b)
        stays = np.exp(kept) * np.exp(log_stage).sum(axis=-1)
        chances = np.maximum(count - 1.0 + at_once, 0.0)
        leaves = np.exp(special.betaln(a + 1.0, b + chances) - special.betaln(a, b))
        reaches = np.where(count > 0, special.betainc(np.maximum(k * count, 1.0), r, share), float(at_once))
        return stays + leaves * reaches

    def simulate_future(
        self,
        t: float,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        rng: np.random.Generator,
        size: int = 1,
    ) -> tuple[Array, Array]:
        """Draw futures of length `t`: purchases and time spent as a customer, each (size, customers)."""
        t, _ = checked_horizon(t, endless=False)
        *params, k, at_once = self._parts()
        cells = Cells.of(frequency, recency, T)
        alive = rng.random((size, len(cells.index))) < self._alive_cells(cells)[cells.index]
        rate, leave, passed = draw_lives(params, k, at_once, cells, rng, size)
        stages = rng.poisson(rate * t)
        last = rng.geometric(leave)
        possible = (stages + passed) // k
        leaves = alive & (last <= possible)
        bought = np.where(alive, np.minimum(last, possible), 0).astype(float)
        # given how many stages fall within t, their moments are spread evenly over it
        final = np.where(leaves, k * last - passed, 1)
        moment = t * rng.beta(final, np.where(leaves, stages - final + 1, 1))
        return bought, np.where(alive, np.where(leaves, moment, float(t)), 0.0)


class BGCNBDk(PurchaseModel):
    """BG/CNBD-k purchase model.

    Parameters
    ----------
    frequency, recency, T : array-like of shape (customers,)
        Repeat purchases; first to last purchase; first purchase to the end of observation.
    weights : array-like of shape (customers,), optional
        How many customers each row stands for.
    litt : array-like of shape (customers,), optional
        Sum of the logarithms of the times between a customer's purchases, in the unit of `recency`; 0 where frequency
        is 0. For a given k it changes neither estimates nor forecasts, only the constant of the likelihood. It is
        needed to estimate k, and to compare the likelihood with that of other models: without it, and with k
        above 1, `llf`, `aic` and `bic` are NaN, and `loglike` lacks that constant.
    k : int, optional
        Stages between purchases, from 1; estimated by likelihood where it is not given.

    Notes
    -----
    `llf` is the log density of the purchase times of every customer and of the silence after the last one, as
    in the other purchase models, and may be compared with theirs. The standard errors take k as known.

    Examples
    --------
    >>> results = BGCNBDk([2, 0, 1, 4], [30.4, 0, 1.7, 31.0], [38.9, 38.9, 38.9, 36.0], k=2).fit()
    >>> results.k, list(results.params.index)
    (2, ['r', 'alpha', 'a', 'b'])
    """

    name: ClassVar[str] = "BG/CNBD-k"
    parameter_names: ClassVar[tuple[str, ...]] = ("r", "alpha", "a", "b")
    time_parameters: ClassVar[tuple[str, ...]] = ("alpha",)
    results_class: ClassVar[type[PurchaseResults]] = BGCNBDkResults
    at_once: ClassVar[bool] = False
    k: int | None
    k_estimated: bool = False
    profile: pd.Series | None = None

    def __init__(
        self,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        litt: ArrayLike | None = None,
        k: int | None = None,
    ) -> None:
        if k is not None and (k != int(k) or k < 1):
            raise ValueError(f"{self.name}: k must be a whole number from 1 up, not {k}")
        if k is None and litt is None:
            raise ValueError(
                f"{self.name}: estimating k needs litt, the sum of the logs of the times between purchases; give it or k"
            )
        super().__init__(frequency, recency, T, weights=weights)
        self.k = None if k is None else int(k)
        self._log_intervals = None if litt is None else _total_litt(litt, frequency, recency, T, weights)

    @classmethod
    def without_data(cls, nobs: float, **settings: object) -> BGCNBDk:
        """A model that scores but holds no data, from what :meth:`settings` returned; raises ValueError for a wrong k."""
        k = settings.get("k")
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"{cls.name}: k must be a whole number from 1 up, not {k!r}")
        return super().without_data(nobs, **settings)

    def settings(self) -> dict[str, object]:
        """`k`, and whether it was estimated."""
        return {"k": self.k, "k_estimated": self.k_estimated}

    def fit(self) -> PurchaseResults:
        """Maximise the likelihood; where k was not given, for k = 1, 2, … until it falls.

        Returns
        -------
        BGCNBDkResults
            Its `model` carries the chosen `k` and the likelihoods that were compared (`profile`).

        Raises
        ------
        ModelNotFitted
            With fewer than two customers, or no repeat purchase.
        """
        if self.k is not None:
            fitted = super().fit()
            known = self.k == 1 or self._log_intervals is not None
            return replace(fitted, llf=self.loglike(fitted.params) if known else float("nan"))
        tried: dict[int, PurchaseResults] = {}
        for k in range(1, LARGEST_K + 1):
            model = copy.copy(self)
            model.k, model.k_estimated = k, True
            tried[k] = model.fit()
            if k > 1 and tried[k].llf < tried[k - 1].llf:
                break
        best = tried[max(tried, key=lambda k: tried[k].llf)]
        best.model.profile = pd.Series({k: fitted.llf for k, fitted in tried.items()}, name="llf").rename_axis("k")
        return best

    def loglike(self, params: ArrayLike) -> float:
        """Log-likelihood of the whole base at `params`, in the caller's unit of time."""
        constant = 0.0 if self._log_intervals is None else (self._stages - 1) * self._log_intervals
        return super().loglike(params) + constant

    @property
    def _stages(self) -> int:
        if self.k is None:
            raise ValueError(f"{self.name}: k is not set; fit the model or give k")
        return self.k

    def start(self, cells: Cells) -> list[Array]:
        """Starts whose mean rate of stages is near the observed one."""
        exposure = float(cells.count @ cells.T) / float(cells.count @ cells.x) / self._stages
        return [
            np.array([r, r * exposure * 0.7, a, b]) for r, a, b in ((0.7, 0.8, 2.5), (1.5, 0.1, 2.0), (4.0, 1.0, 10.0))
        ]

    def loglike_cells(self, params: Array, cells: Cells) -> tuple[Array, Array]:
        """Log-likelihood by cell but for (k − 1) × litt, and its gradient in (r, α, a, b)."""
        r, alpha, a, b = params
        k, at_once, x = self._stages, self.at_once, cells.x
        weight, slope = _stage_weights(r, alpha, k, cells)
        odds_alive = weight.sum(axis=0)
        log_alive, log_gone = np.log(odds_alive), _log_leaving(r, alpha, a, b, k, at_once, cells)
        gone = special.expit(log_gone - log_alive)
        alive = (1.0 - gone) / odds_alive
        c, chances = r + k * x, x + at_once
        log_end = np.log(alpha + cells.T)
        value = (
            special.gammaln(c)
            - special.gammaln(r)
            - x * special.gammaln(float(k))
            + r * np.log(alpha)
            - c * log_end
            + special.betaln(a, b + chances)
            - special.betaln(a, b)
            + np.logaddexp(log_alive, log_gone)
        )
        lost = special.digamma(a + b) - special.digamma(a + b + chances)
        gradient = np.stack(
            [
                special.digamma(c)
                - special.digamma(r)
                + np.log(alpha)
                - log_end
                + alive * (weight * slope).sum(axis=0)
                + gone * np.log1p((cells.T - cells.t_x) / (alpha + cells.t_x)),
                r / alpha
                - c * ((1.0 - gone) / (alpha + cells.T) + gone / (alpha + cells.t_x))
                - alive * (weight * np.arange(float(k))[:, None]).sum(axis=0) / (alpha + cells.T),
                lost + gone / a,
                lost + special.digamma(b + chances) - special.digamma(b) - gone / (b + np.maximum(chances - 1.0, 0.0)),
            ]
        )
        return value, gradient


class MBGCNBDk(BGCNBDk):
    """MBG/CNBD-k purchase model: as :class:`BGCNBDk`, but a customer may leave after the first purchase too."""

    name: ClassVar[str] = "MBG/CNBD-k"
    at_once: ClassVar[bool] = True


def _total_litt(
    litt: ArrayLike, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, weights: ArrayLike | None
) -> float:
    x, t_x, _ = checked_histories(frequency, recency, T)
    logs = np.atleast_1d(np.asarray(litt, dtype=float))
    if logs.shape != x.shape:
        raise ValueError(f"litt: {logs.size} values for {x.size} customers; give one a customer")
    # x intervals that add up to t_x have the largest product when they are equal
    some = np.maximum(x, 1.0)
    bound = np.where(x > 0, x * np.log(np.where(x > 0, t_x, 1.0) / some), 0.0)
    slack = 1e-6 * (1.0 + np.abs(bound))
    wrong = ~(logs <= bound + slack) | ~np.isfinite(logs) | ((x <= 1) & (np.abs(logs - bound) > slack))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"litt, row {row}: {logs[row]:g} cannot be the sum of the logs of {x[row]:g} intervals that add up to "
            f"{t_x[row]:g}; use the unit of recency and merge purchases of one moment"
        )
    weight = checked_weights(weights, len(x))
    return float(logs.sum() if weight is None else logs @ weight)
