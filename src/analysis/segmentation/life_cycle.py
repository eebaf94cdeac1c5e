"""Life-cycle stages as probabilities: how likely each customer is in each stage, and how many are.

A customer has *ended* with probability 1 − P(alive). Given that they have not:

* with a habit (watched for at least ``formation_days``, and at least one purchase day counted in the two halves of
  :func:`analysis.segmentation.purchase_habit`) they are in *decline* when the recent rate is below ``decline_ratio`` times
  their own earlier one;
* otherwise, with at most ``trial_purchases`` purchase days, they are *exploring*;
* otherwise, when they are younger than ``formation_days``, or the recent rate is above ``rise_ratio`` times the earlier one,
  their relationship is *forming*, and else it is *stable*.

Given their number, each purchase of a Poisson buyer falls into the recent one of two equally long halves with probability
q = recent rate / (recent + earlier rate). Over customers q has a beta distribution, learnt from the base, so a
customer's own is beta with their counts added, and whether the rate fell or rose by a ratio is a tail of it. Where nobody
changes the beta distribution closes around one half, and chance is not taken for decline.

Sources: Dwyer, Schurr & Oh (1987), Journal of Marketing 51(2), for the stages; the thresholds are this project's. Skellam, J. G.
(1948). A probability distribution derived from the binomial distribution by regarding the probability of success as
variable between the sets of trials. Journal of the Royal Statistical Society B 10, 257–261, for the beta-binomial.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from analysis.segmentation.life_stage import STAGES, StageRules, fallen_silent
from analysis.valuation.models import PURCHASE_MODELS
from analysis.valuation.purchases import ModelNotFitted, PurchaseResults
from analysis.valuation.summary import DAYS_PER_WEEK

Array = NDArray[np.float64]
NOT_IDENTIFIED = "not_identified"
# Weak prior of the beta distribution: mean of q within 0.27–0.73 and concentration within 0.2–500 for 95 in 100 bases.
_PRIOR_CENTRE, _PRIOR_SPREAD = np.array([0.0, np.log(10.0)]), np.array([0.5, 2.0])
_BOUNDS = ((-4.0, 4.0), (np.log(0.05), np.log(1e6)))
# Customers drawn one by one behind an interval; of a larger base every k-th, the sum scaled up.
_MOST = 20_000
# Parameter sets behind an interval; several bases are drawn from each.
_SETS = 50


@dataclass(frozen=True)
class HabitChange:
    """How the recent share q of purchases varies over customers: beta(a, b).

    Attributes
    ----------
    a, b : parameters; large ones mean that hardly anybody's rate changed.
    covariance : of (logit of the mean, log of a + b), shape (2, 2).
    customers : with a habit, behind the fit (sum of weights).
    """

    a: float
    b: float
    covariance: Array
    customers: float

    def below(self, ratio: float, earlier: ArrayLike, recent: ArrayLike) -> Array:
        """Posterior probability that the recent rate is below ``ratio`` times the earlier one, shape (n,)."""
        earlier, recent = np.asarray(earlier, dtype=float), np.asarray(recent, dtype=float)
        return special.betainc(self.a + recent, self.b + earlier, ratio / (1.0 + ratio))

    def above(self, ratio: float, earlier: ArrayLike, recent: ArrayLike) -> Array:
        """Posterior probability that the recent rate is above ``ratio`` times the earlier one, shape (n,)."""
        earlier, recent = np.asarray(earlier, dtype=float), np.asarray(recent, dtype=float)
        return special.betainc(self.b + earlier, self.a + recent, 1.0 / (1.0 + ratio))

    def draw(self, size: int, rng: np.random.Generator) -> list[HabitChange]:
        """Parameter sets from the normal approximation on the scale of ``covariance``."""
        centre = np.array([np.log(self.a / self.b), np.log(self.a + self.b)])
        draws = centre + rng.standard_normal((size, 2)) @ np.linalg.cholesky(self.covariance).T
        draws = np.clip(draws, *np.array(_BOUNDS).T)
        return [replace(self, a=a, b=b) for a, b in map(_shapes, draws)]


def _shapes(point: ArrayLike) -> tuple[float, float]:
    mean, total = special.expit(point[0]), np.exp(point[1])
    return float(mean * total), float((1.0 - mean) * total)


def fit_habit_change(earlier: ArrayLike, recent: ArrayLike, weights: ArrayLike | None = None) -> HabitChange:
    """Learn how much purchase rates change between two windows of equal length, by penalised maximum likelihood.

    Parameters
    ----------
    earlier, recent : shape (n,), purchase days in each window.
    weights : shape (n,), how much each customer counts, such as P(alive); 1 by default.

    Returns
    -------
    HabitChange
        The weak prior itself where nobody bought in either window.

    Raises
    ------
    ValueError
        A count that is missing, negative or not whole.
    """
    earlier, recent = np.asarray(earlier, dtype=float), np.asarray(recent, dtype=float)
    both = np.concatenate([earlier, recent])
    if not (np.isfinite(both).all() and (both >= 0).all() and (both == np.floor(both)).all()):
        raise ValueError("habit change: purchase days in each window must be whole numbers from 0 up")
    weight = np.ones(len(earlier)) if weights is None else np.asarray(weights, dtype=float)
    bought = (earlier + recent > 0) & (weight > 0)
    cells, of = np.unique(np.stack([recent, earlier], axis=1)[bought], axis=0, return_inverse=True)
    count = np.bincount(of.ravel(), weights=weight[bought], minlength=len(cells)).astype(float)

    def objective(point: Array) -> tuple[float, Array]:
        (a, b), mean = _shapes(point), special.expit(point[0])
        shift = (point - _PRIOR_CENTRE) / _PRIOR_SPREAD
        k, m = cells[:, 0], cells[:, 1]
        value = count @ (special.betaln(a + k, b + m) - special.betaln(a, b)) - 0.5 * shift @ shift
        shared = special.digamma(a + b) - special.digamma(a + b + k + m)
        d_a = count @ (special.digamma(a + k) - special.digamma(a) + shared)
        d_b = count @ (special.digamma(b + m) - special.digamma(b) + shared)
        gradient = np.array([(a + b) * mean * (1 - mean) * (d_a - d_b), a * d_a + b * d_b]) - shift / _PRIOR_SPREAD
        return -value, -gradient

    found = optimize.minimize(objective, _PRIOR_CENTRE, jac=True, method="L-BFGS-B", bounds=_BOUNDS)
    hessian = np.array([objective(found.x + h)[1] - objective(found.x - h)[1] for h in 1e-4 * np.eye(2)]) / 2e-4
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    # Where the likelihood bends the wrong way the prior's own curvature is all that is known.
    values = np.maximum(values, 1.0 / _PRIOR_SPREAD.max() ** 2)
    return HabitChange(*_shapes(found.x), (vectors / values) @ vectors.T, float(count.sum()))


def fit_alive(
    frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, *, left_truncated: bool = False
) -> tuple[PurchaseResults | None, str]:
    """The first purchase model that tells who is alive and that these customers can carry.

    Parameters
    ----------
    frequency, recency, T : shape (n,), as in ``customer_summary``, times in days.
    left_truncated : customers existed before they were watched: then no model is fitted.

    Returns
    -------
    The results (times in weeks) or None, and the code of why there is none: ``left_truncated``, ``no_model`` or empty.
    """
    if left_truncated:
        return None, "left_truncated"
    weeks = [np.asarray(v, dtype=float) / DAYS_PER_WEEK for v in (recency, T)]
    for model in PURCHASE_MODELS:
        if not model.can_leave:
            continue
        try:
            results = model(frequency, *weeks).fit()
        except ModelNotFitted:
            continue
        if results.verdict.usable:
            return results, ""
    return None, "no_model"


@dataclass(frozen=True)
class StageProbabilities:
    """How likely each customer is in each stage.

    Attributes
    ----------
    customers : customer_id, one column a stage of ``stages`` (0 to 1, adding up to 1), life_stage (the most probable;
        null where that is ``not_identified``) and certainty (its probability).
    stages : the stages that this clock can tell, in the order of life; a left-truncated one has ``not_identified`` in place of
        exploration and formation.
    change : how rates change over the base.
    ended_from : ``model`` (from P(alive)), ``silence`` (by the rule of long silences, 0 or 1) or ``mixed``.
    evidence : what the probabilities were made of, one row a customer: alive, earlier, recent, habit, few, young.
    decline_ratio, rise_ratio : what counts as a fall and a rise.
    """

    customers: pd.DataFrame
    stages: tuple[str, ...]
    change: HabitChange
    ended_from: str
    evidence: pd.DataFrame
    decline_ratio: float
    rise_ratio: float

    @property
    def expected(self) -> pd.Series:
        """Expected number of customers by stage."""
        return self.customers[list(self.stages)].sum()


def stage_probabilities(
    customers: pd.DataFrame,
    rules: StageRules | None = None,
    *,
    left_truncated: bool = False,
    span_days: int = 0,
) -> StageProbabilities:
    """The probability of each life-cycle stage, customer by customer; see the head of this module for what they are.

    Parameters
    ----------
    customers : frame of :func:`analysis.segmentation.stage_inputs`; probability_alive may be null, and then
        :func:`analysis.segmentation.life_stage.fallen_silent` decides whether a relationship has ended.
    rules : thresholds.
    left_truncated : the clock of the study.
    span_days : length of observation in days, needed when left-truncated.

    Raises
    ------
    ValueError
        No customer, a probability outside 0 to 1, a ratio out of range, or a left-truncated base without ``span_days``.
    """
    if len(customers) == 0:
        raise ValueError("stage probabilities: no customer; give one row a customer")
    rules = rules or StageRules()
    if not (0 < rules.decline_ratio < 1 < rules.rise_ratio):
        raise ValueError("stage probabilities: decline_ratio must be between 0 and 1, and rise_ratio above 1")
    if left_truncated and span_days <= 0:
        raise ValueError("stage probabilities: a left-truncated base needs span_days, the length of observation")
    evidence, ended_from = _evidence(customers.reset_index(drop=True), rules, left_truncated, span_days)
    learnt = evidence["habit"].to_numpy()
    change = fit_habit_change(*(evidence.loc[learnt, c] for c in ("earlier", "recent", "alive")))
    stages = (NOT_IDENTIFIED, "stability", "decline", "ended") if left_truncated else STAGES
    cells = _Cells.of_evidence(evidence)
    chances = pd.DataFrame(_chances(cells, change, rules.decline_ratio, rules.rise_ratio, stages), columns=list(stages))
    likeliest = pd.Series(np.array(stages, dtype=object)[_last_argmax(chances.to_numpy())])
    frame = pd.concat([customers[["customer_id"]].reset_index(drop=True), chances], axis=1)
    frame["life_stage"] = likeliest.mask(likeliest == NOT_IDENTIFIED).astype("str")
    frame["certainty"] = chances.max(axis=1)
    return StageProbabilities(frame, stages, change, ended_from, evidence, rules.decline_ratio, rules.rise_ratio)


def _evidence(
    customers: pd.DataFrame, rules: StageRules, left_truncated: bool, span_days: int
) -> tuple[pd.DataFrame, str]:
    alive = (
        customers["probability_alive"].astype(float)
        if "probability_alive" in customers
        else pd.Series(np.nan, index=customers.index)
    )
    if ((alive < 0) | (alive > 1)).any():
        raise ValueError("stage probabilities: a probability of being alive is outside 0 to 1")
    unknown = alive.isna()
    if unknown.any():
        silent = fallen_silent(customers, rules, left_truncated, span_days)
        alive = alive.mask(unknown, 1.0 - silent.astype(float))
    young = (customers["T"].astype(float) < rules.formation_days) & (not left_truncated)
    watched = customers["earlier"] + customers["recent"] > 0
    evidence = pd.DataFrame(
        {
            "alive": alive,
            "earlier": customers["earlier"].astype(float),
            "recent": customers["recent"].astype(float),
            "habit": watched & ~young,
            "few": customers["purchase_days"] <= rules.trial_purchases,
            "young": young,
        }
    )
    return evidence, "silence" if unknown.all() else "mixed" if unknown.any() else "model"


@dataclass(frozen=True)
class _Cells:
    """Evidence as arrays; the counts of each customer are found in distinct pairs, so that their tails are taken once."""

    alive: Array
    habit: NDArray[np.bool_]
    few: NDArray[np.bool_]
    young: NDArray[np.bool_]
    pairs: Array
    of: NDArray[np.intp]

    @classmethod
    def of_evidence(cls, evidence: pd.DataFrame) -> _Cells:
        pairs, of = np.unique(evidence[["earlier", "recent"]].to_numpy(float), axis=0, return_inverse=True)
        return cls(*(evidence[c].to_numpy() for c in ("alive", "habit", "few", "young")), pairs, of.ravel())


def _chances(
    cells: _Cells,
    change: HabitChange,
    decline_ratio: float,
    rise_ratio: float,
    stages: tuple[str, ...],
    alive: Array | None = None,
) -> Array:
    """Probabilities, shape (n, len(stages)); with ``alive`` in place of the given chance of being a customer still."""
    alive = cells.alive if alive is None else alive
    falls = np.where(cells.habit, change.below(decline_ratio, *cells.pairs.T)[cells.of], 0.0)
    rises = np.where(cells.habit, change.above(rise_ratio, *cells.pairs.T)[cells.of], cells.young.astype(float))
    # A rise excludes a fall, so both together are at most 1, but for rounding.
    left, formed = 1.0 - falls, np.minimum(rises, 1.0 - falls)
    columns = {"ended": 1.0 - alive, "decline": alive * falls}
    columns["exploration"] = columns[NOT_IDENTIFIED] = np.where(cells.few, alive * left, 0.0)
    columns["formation"] = np.where(cells.few, 0.0, alive * formed)
    settled = left - formed if "formation" in stages else left
    columns["stability"] = np.where(cells.few, 0.0, alive * settled)
    return np.stack([columns[stage] for stage in stages], axis=1)


def _last_argmax(chances: Array) -> NDArray[np.intp]:
    """Where two stages are equally likely, the later one: overlooking an end costs more than looking twice."""
    return chances.shape[1] - 1 - chances[:, ::-1].argmax(axis=1)


def expected_stages(
    found: StageProbabilities,
    alive_model: PurchaseResults | None = None,
    history: pd.DataFrame | None = None,
    *,
    draws: int = 400,
    alpha: float = 0.05,
    seed: int = 1,
) -> pd.DataFrame:
    """How many customers are in each stage: the expected number, with an interval for the true one.

    The interval holds what chance makes of the probabilities (each customer is in one stage), how well the base shows how rates
    change, and, with ``alive_model``, how well its parameters are known.

    Parameters
    ----------
    found : result of :func:`stage_probabilities`.
    alive_model : the model that the probabilities of being alive come from, fitted on times in weeks.
    history : frequency, recency, T (days), one row a customer in the order of ``found``; needed with ``alive_model``.
    draws : drawn bases behind the interval.
    alpha : 1 − the level of the interval.
    seed : of the draws.

    Returns
    -------
    One row a stage: life_stage, expected, low, high (customers), likeliest (how many have it as most probable stage), share,
    share_low, share_high (of customers). low and high are NaN for *ended* where a rule decided it: a rule has no interval.
    """
    customers, rng = len(found.customers), np.random.default_rng(seed)
    rows = np.linspace(0, customers - 1, min(customers, _MOST)).astype(int)
    cells, scale = _Cells.of_evidence(found.evidence.iloc[rows]), customers / len(rows)
    sets = min(draws, _SETS)
    changes, alive = found.change.draw(sets, rng), _alive_draws(alive_model, history, rows, sets, rng)
    totals = np.empty((draws, len(found.stages)))
    for k in range(sets):
        given = None if alive is None else alive[k]
        chances = _chances(cells, changes[k], found.decline_ratio, found.rise_ratio, found.stages, given)
        for d in range(k, draws, sets):
            totals[d] = _count_drawn(chances, scale, rng)
    low, high = np.quantile(totals, [alpha / 2, 1 - alpha / 2], axis=0, method="nearest")
    stage = found.customers["life_stage"].astype(object).where(found.customers["life_stage"].notna(), NOT_IDENTIFIED)
    table = pd.DataFrame({"life_stage": list(found.stages), "expected": found.expected.to_numpy()})
    table = table.assign(low=low, high=high)
    by_rule = table["life_stage"].eq("ended") & (found.ended_from == "silence")
    table.loc[by_rule, ["low", "high"]] = np.nan
    table["likeliest"] = [int((stage == s).sum()) for s in found.stages]
    for share, of in (("share", "expected"), ("share_low", "low"), ("share_high", "high")):
        table[share] = table[of] / customers
    return table


def _alive_draws(
    model: PurchaseResults | None,
    history: pd.DataFrame | None,
    rows: NDArray[np.intp],
    sets: int,
    rng: np.random.Generator,
) -> list[Array] | None:
    if model is None:
        return None
    if history is None:
        raise ValueError("expected stages: with alive_model, give history (frequency, recency, T in days)")
    part = history.iloc[rows]
    columns = part["frequency"], part["recency"] / DAYS_PER_WEEK, part["T"] / DAYS_PER_WEEK
    return [model.with_params(p).probability_alive(*columns) for p in model.draw_params(sets, rng)]


def _count_drawn(chances: Array, scale: float, rng: np.random.Generator) -> Array:
    """Customers by stage when everybody is put in one at random; each drawn customer stands for ``scale`` of them."""
    if scale == 1.0:
        stage = (rng.random(len(chances))[:, None] > np.cumsum(chances, axis=1)[:, :-1]).sum(axis=1)
        return np.bincount(stage, minlength=chances.shape[1]).astype(float)
    mean = scale * chances.sum(axis=0)
    spread = np.sqrt(scale * (chances * (1.0 - chances)).sum(axis=0))
    return np.maximum(mean + spread * rng.standard_normal(len(mean)), 0.0)
