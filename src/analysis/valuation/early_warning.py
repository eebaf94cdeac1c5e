"""Early warning: the best customers whose purchasing broke with their own habit, and what saving them is worth.

The story: a customer buys at their own rhythm. The gaps between purchases follow a gamma distribution with a shape k that
all share (1 when purchases come at random, more when they come regularly) and a rate that differs between customers by a
gamma distribution (r, α). Given a customer's own x gaps of total length t_x, the next gap divided by itself plus
α + t_x is beta(k, r + k x), so the probability that a customer who is still one stays silent for longer than they have
is known in closed form. A small one is a break with their own habit. Gaps are whole days: one of d days ended at any time
between d − 1 and d, and enters with its mean, and its mean logarithm, over that day; else frequent buyers look like clockwork.

Many customers are watched, so some breaks are chance. The probabilities of all watched customers are a mixture: even
where customers are still there, crowded near zero where they left. Fitted as a beta-uniform mixture it gives how
many alarms are false, and for each customer how likely they are still there.

The story is tested: :mod:`analysis.valuation.warning_replay` makes the same list on earlier days and counts who came back. Where
more did than the mixture allows, because customers buy in bursts, the replays' share takes its place
(:mod:`analysis.valuation.recalibration`), and all that follows from it: who is late, the days to act by, the money.

Sources: Chatfield, C. & Goodhardt, G. J. (1973). A consumer purchasing model with Erlang inter-purchase times. Journal of
the American Statistical Association 68, 828–835 (gamma gaps with gamma rates). Pounds, S. & Morris, S. W. (2003).
Estimating the occurrence of false positives and false negatives in microarray studies by approximating and partitioning
the empirical distribution of p-values. Bioinformatics 19(10), 1236–1242 (mixture). Benjamini, Y. & Hochberg, Y. (1995).
Controlling the false discovery rate. Journal of the Royal Statistical Society B 57, 289–300.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, special

from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import Z95
from analysis.valuation.purchases import Array, ModelNotFitted, maximise
from analysis.valuation.recalibration import Recalibration, Replay
from analysis.valuation.summary import in_weeks, purchase_days, to_frame

BROKE, DRIFTING, IN_RHYTHM = "broke", "drifting", "in rhythm"
_LEAST_WATCHED = 30
_RANDOM_DRAWS = 4000


@dataclass(frozen=True)
class Rhythm:
    """How customers' gaps between purchases vary, in days.

    Attributes
    ----------
    shape : float
        k, the regularity that all share: 1 at random, larger for habits.
    r, alpha : float
        Shape and rate (days) of the gamma distribution of rates over customers.
    customers : int
        Behind the fit.
    """

    shape: float
    r: float
    alpha: float
    customers: int

    def still_silent(self, silent: ArrayLike, gaps: ArrayLike, length: ArrayLike) -> Array:
        """Probability that a customer who is still one stays silent for longer, shape (customers,).

        Parameters
        ----------
        silent : array-like of shape (customers,)
            Days since the last purchase.
        gaps, length : array-like of shape (customers,)
            Gaps between their purchases, and the days these took together.
        """
        silent, gaps, length = (np.asarray(v, dtype=float) for v in (silent, gaps, length))
        return special.betaincc(self.shape, self.r + self.shape * gaps, silent / (silent + self.alpha + length))

    def longest(self, probability: float, gaps: ArrayLike, length: ArrayLike) -> Array:
        """The gap, in days, that only a share `probability` of a customer's own gaps exceeds, shape (customers,)."""
        gaps, length = (np.asarray(v, dtype=float) for v in (gaps, length))
        at = special.betainccinv(self.shape, self.r + self.shape * gaps, probability)
        return (self.alpha + length) * at / (1.0 - at)


@dataclass(frozen=True)
class Mixture:
    """Beta-uniform mixture of the probabilities of staying silent for longer.

    Attributes
    ----------
    uniform : float
        Weight of the even part.
    power : float
        a of the beta(a, 1) part.
    """

    uniform: float
    power: float

    @property
    def still_there(self) -> float:
        """The largest share of the watched customers that can still be there (Pounds & Morris 2003, eq. 5)."""
        return self.uniform + (1.0 - self.uniform) * self.power

    def probability_alive(self, p: ArrayLike) -> Array:
        """Probability of still being there given p, an upper bound, shape of `p`."""
        value = np.maximum(np.asarray(p, dtype=float), 1e-300)
        density = self.uniform + (1.0 - self.uniform) * self.power * value ** (self.power - 1.0)
        return np.clip(self.still_there / density, 0.0, 1.0)

    def silent_until(self, alive: float) -> float:
        """The p at which `probability_alive` falls to `alive`; 0 where it never does."""
        target = (self.still_there / alive - self.uniform) / ((1.0 - self.uniform) * self.power + 1e-300)
        if self.power >= 1.0 or target <= 0.0:
            return 0.0
        return float(np.exp(min(np.log(target) / (self.power - 1.0), 0.0)))


@dataclass(frozen=True)
class Watched:
    """The best customers with a rhythm, and how unusual their silence is.

    Attributes
    ----------
    frame : DataFrame
        `gaps` and `values` of those who are watched, one row a customer, `value_now` NaN where it was not given.
    p : array of shape (customers,)
        Probability that a customer who is still one stays silent for longer.
    stage : array of shape (customers,)
        "broke", "drifting" or "in rhythm".
    threshold : float
        The largest p that is an alarm; 0 where there is none.
    rhythm : Rhythm
    mixture : Mixture
    unwatched : DataFrame
        `values` of the best without a rhythm.
    """

    frame: pd.DataFrame
    p: Array
    stage: Array
    threshold: float
    rhythm: Rhythm
    mixture: Mixture
    unwatched: pd.DataFrame


@dataclass(frozen=True)
class EarlyWarning:
    """Who broke with their habit.

    Attributes
    ----------
    frame : DataFrame
        One row a watched customer, those who broke first and then most worth saving first; for export only: `customer_id`,
        `gaps`, `usual_gap` (days, mean of their own), `silent_days`, `overdue_probability` (the share of their own gaps that
        are shorter than the present one), `probability_alive` (from their habit, and from the replays where these show more),
        `probability_by_habit` (from their habit alone), `stage` ("broke" for an alarm,
        "drifting" where the silence is longer than most of their own gaps but may still be chance, "in rhythm"),
        `value_in_rhythm`, `value_now`, `value_at_risk` (money over the horizon), `act_by` (the day on which P(alive) falls to
        the threshold if they stay silent; the last observed day where that is past), `late` (it is below the threshold),
        `most_to_spend` (value at risk × probability of being saved − contact cost, at least 0; 0 for the late, who are more
        likely gone than not), `break_even` (the probability of being saved from which a contact pays).
    watched, alarms, drifting : int
    threshold : float
        Alarms are customers who would stay silent for longer with at most this probability.
    expected_false : Estimate
        Alarms among customers who are still there, expected; with replays, by these.
    false_share : float
        `expected_false` as a share of the alarms; 0 without an alarm.
    value_at_risk : Estimate
        Total over alarms and drifting customers, money, with the interval of what chance (who really left) makes of it.
    in_time, late : Estimate
        Its two parts: of those who can still be kept, and of those who are `late`.
    most_to_spend : float
        Total over those in time, money.
    saved : float
        The assumed probability that a contacted customer who would leave stays.
    rhythm : Rhythm
    mixture : Mixture
    observed_to : date
        The last observed day.
    best : int
        Customers among the best `top_share`, of whom those with a rhythm are watched.
    unwatched_at_risk : float
        Money over the horizon that the others would bring in rhythm and, by the model, will not; NaN where no model knows.
    least_gaps : int
        Gaps that a rhythm needs.
    replay : Replay or None
        The list on earlier days and what came after.
    replay_reason : str
        Why there is none; empty otherwise.
    """

    frame: pd.DataFrame
    watched: int
    alarms: int
    drifting: int
    threshold: float
    expected_false: Estimate
    false_share: float
    value_at_risk: Estimate
    in_time: Estimate
    late: Estimate
    most_to_spend: float
    saved: float
    rhythm: Rhythm
    mixture: Mixture
    observed_to: datetime.date
    best: int
    unwatched_at_risk: float
    least_gaps: int
    replay: Replay | None = None
    replay_reason: str = ""


def purchase_gaps(order_lines: ibis.Table, observed_to: datetime.date) -> pd.DataFrame:
    """Every customer's gaps between purchase occasions, one row a customer.

    Returns
    -------
    DataFrame, sorted by `customer_id`
        `customer_id`, `gaps` (count), `length` (their total, half a day off each, days), `log_gap` (sum of the logarithms of
        gaps, each averaged over its last day), `silent_days` (days since the last occasion).
    """
    days = purchase_days(order_lines, observed_to)
    own = ibis.window(group_by="customer_id", order_by="order_date")
    dated = days.mutate(gap=days.order_date.delta(days.order_date.lag().over(own), unit="day").cast("float64"))
    # the mean of ln u for u between d − 1 and d; the day of a gap of 1 begins at 0, where u ln u is 0
    before = ibis.greatest(dated.gap - 1.0, 1.0)
    mean_log = dated.gap * dated.gap.ln() - (dated.gap - 1.0) * before.ln() - 1.0
    # as decimals, so that sums do not depend on the order in which rows are read
    dated = dated.mutate(gap=dated.gap - 0.5, mean_log=mean_log.cast("decimal(18, 10)"))
    end = ibis.literal(observed_to)
    grouped = dated.group_by(dated.customer_id.cast("string").name("customer_id")).aggregate(
        gaps=dated.gap.count().cast("int64"),
        length=dated.gap.sum().fill_null(0.0),
        log_gap=dated.mean_log.sum().cast("float64").fill_null(0.0),
        last_day=dated.order_date.max(),
    )
    silent = end.delta(grouped.last_day, unit="day").cast("float64")
    return to_frame(grouped.mutate(silent_days=silent).drop("last_day"))


def fit_rhythm(gaps: pd.DataFrame) -> Rhythm:
    """Fit the rhythm by maximum likelihood of the completed gaps.

    Parameters
    ----------
    gaps : DataFrame
        `gaps`, `length`, `log_gap` of customers with at least two gaps.

    Raises
    ------
    ModelNotFitted
        With fewer than 30 customers.
    """
    if len(gaps) < _LEAST_WATCHED:
        raise ModelNotFitted(
            f"early warning: {len(gaps)} customers with a rhythm are too few to learn one from ({_LEAST_WATCHED} needed); "
            "a longer history would show more of them"
        )
    n, total, logs = (gaps[c].to_numpy(float) for c in ("gaps", "length", "log_gap"))
    unit = float(total.sum() / n.sum())
    total, logs = total / unit, logs - n * np.log(unit)

    def objective(log_params: Array) -> tuple[float, Array]:
        k, r, alpha = np.exp(log_params)
        end = alpha + total
        value = (
            (k - 1.0) * logs
            - n * special.gammaln(k)
            + special.gammaln(r + k * n)
            - special.gammaln(r)
            + r * np.log(alpha)
            - (r + k * n) * np.log(end)
        )
        rising = special.digamma(r + k * n)
        gradient = np.stack(
            [
                k * (logs - n * special.digamma(k) + n * rising - n * np.log(end)),
                r * (rising - special.digamma(r) + np.log(alpha) - np.log(end)),
                alpha * (r / alpha - (r + k * n) / end),
            ]
        )
        return -float(value.mean()), -gradient.mean(axis=1)

    fit = maximise(objective, [np.log([k, r, r / k]) for k, r in ((1.0, 1.5), (2.0, 3.0))])
    k, r, alpha = np.exp(fit.log_params)
    return Rhythm(float(k), float(r), float(alpha * unit), len(gaps))


def fit_mixture(p: ArrayLike) -> Mixture:
    """Fit the beta-uniform mixture to the watched customers' probabilities by maximum likelihood."""
    value = np.clip(np.asarray(p, dtype=float), 1e-12, 1.0)
    logs = np.log(value)

    def loss(z: Array) -> float:
        uniform, power = special.expit(z)
        return -float(np.log(uniform + (1.0 - uniform) * power * np.exp((power - 1.0) * logs)).mean())

    starts = [special.logit([u, a]) for u in (0.5, 0.95) for a in (0.1, 0.5)]
    fits = [optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(-12.0, 12.0)] * 2) for start in starts]
    uniform, power = special.expit(min(fits, key=lambda fit: fit.fun).x)
    return Mixture(float(uniform), float(power))


def watch(
    gaps: pd.DataFrame,
    values: pd.DataFrame,
    *,
    top_share: float = 0.20,
    least_gaps: int = 8,
    false_share: float = 0.10,
    overdue: float = 0.80,
) -> Watched:
    """Find the best customers who have a rhythm, and how unusual their silence is; see :func:`early_warning`."""
    values = values.assign(value_now=values.get("value_now", np.nan))
    frame = gaps[gaps["gaps"] >= least_gaps].merge(values, on="customer_id", validate="one_to_one")
    # the rhythm is learnt from all who have one: the best alone would make an unusual base look usual
    rhythm = fit_rhythm(frame)
    worth = values["value_in_rhythm"]
    least = worth.nlargest(max(1, round(top_share * len(values)))).min() if worth.notna().any() else np.nan
    best = values[(worth >= least) & (worth > 0)]
    frame = frame[frame["customer_id"].isin(best["customer_id"])].reset_index(drop=True)
    if len(frame) < _LEAST_WATCHED:
        raise ModelNotFitted(
            f"early warning: {len(frame)} of the best customers have a rhythm, {_LEAST_WATCHED} are needed to tell a break "
            "from chance; watch for longer or take a larger share"
        )
    p = rhythm.still_silent(frame["silent_days"], frame["gaps"], frame["length"])
    threshold = _benjamini_hochberg(p, false_share)
    stage = np.where(p <= threshold, BROKE, np.where(p <= 1.0 - overdue, DRIFTING, IN_RHYTHM))
    unwatched = best[~best["customer_id"].isin(frame["customer_id"])]
    return Watched(frame, p, stage, threshold, rhythm, fit_mixture(p), unwatched)


def early_warning(
    gaps: pd.DataFrame,
    values: pd.DataFrame,
    observed_to: datetime.date,
    *,
    saved: float,
    contact_cost: float = 0.0,
    top_share: float = 0.20,
    least_gaps: int = 8,
    false_share: float = 0.10,
    overdue: float = 0.80,
    alive_threshold: float = 0.50,
    seed: int = 1,
    replay: Replay | None = None,
) -> EarlyWarning:
    """Find the best customers who broke with their habit, and what it is worth to save them.

    Parameters
    ----------
    gaps : DataFrame
        From :func:`purchase_gaps`.
    values : DataFrame
        `customer_id`, `value_in_rhythm` (money over the horizon if they were in rhythm) and, where a model knows, `value_now`
        (as they stand): see :func:`values_in_rhythm`. Without `value_now` a customer is now worth `value_in_rhythm` ×
        P(alive), from their habit alone.
    observed_to : date
    saved : float
        Assumed probability that a customer who would leave stays because of a contact; the data do not hold it.
    contact_cost : float
        Money a contact.
    top_share : float
        The share of all customers that is watched, by `value_in_rhythm`, so that nobody drops out for being silent.
    least_gaps : int
        Gaps that a rhythm needs, at least 2. With few, those who happened to be silent are chosen, and chance alone makes
        more than the stated share of alarms (twice as many at 4 to 7 gaps, as stated from 8 on).
    false_share : float
        Share of false alarms that is tolerated (Benjamini–Hochberg).
    overdue : float
        Share of a customer's own gaps that the silence must exceed for them to be drifting.
    alive_threshold : float
        P(alive) below which it is more likely too late than not.
    seed : int
        Of the interval of the value at risk.
    replay : Replay, optional
        From :func:`analysis.valuation.warning_replay.replay_warnings`. P(alive) is then at least what it shows, and
        `value_now` at least `value_in_rhythm` × the share of their rhythm that such customers went on buying; without a
        model it is that share, as those who come back often buy less.

    Raises
    ------
    ModelNotFitted
        With fewer than 30 customers whose gaps show a rhythm.
    ValueError
        For a share or probability outside (0, 1), or a negative cost.
    """
    for what, share in (("saved", saved), ("top_share", top_share), ("false_share", false_share), ("overdue", overdue)):
        if not 0.0 < share <= 1.0:
            raise ValueError(f"early warning: {what} must lie above 0 and not above 1, not {share:g}")
    if not 0.0 < alive_threshold < 1.0 or contact_cost < 0.0 or least_gaps < 2:
        raise ValueError(
            "early warning: alive_threshold lies between 0 and 1, contact_cost is not negative, least_gaps is at least 2"
        )
    found = watch(gaps, values, top_share=top_share, least_gaps=least_gaps, false_share=false_share, overdue=overdue)
    learned = None if replay is None else replay.learned
    frame, by_habit = found.frame, found.mixture.probability_alive(found.p)
    alive = by_habit if learned is None else np.maximum(by_habit, learned.there(found.p))
    now = _value_now(found, alive, learned)
    at_risk = np.maximum(frame["value_in_rhythm"] - now, 0.0)
    until = found.mixture.silent_until(alive_threshold)
    if learned is not None:
        until = min(until, learned.there.reached(alive_threshold))
    late = alive < alive_threshold
    table = pd.DataFrame(
        {
            "customer_id": frame["customer_id"],
            "gaps": frame["gaps"],
            "usual_gap": frame["length"] / frame["gaps"] + 0.5,
            "silent_days": frame["silent_days"],
            "overdue_probability": 1.0 - found.p,
            "probability_alive": alive,
            "probability_by_habit": by_habit,
            "stage": pd.Categorical(found.stage, [BROKE, DRIFTING, IN_RHYTHM], ordered=True),
            "value_in_rhythm": frame["value_in_rhythm"],
            "value_now": now,
            "value_at_risk": at_risk,
            "act_by": _act_by(found.rhythm, frame, observed_to, until),
            "late": late,
            "most_to_spend": np.where(late, 0.0, np.maximum(at_risk * saved - contact_cost, 0.0)),
            "break_even": np.where(at_risk > contact_cost, contact_cost / np.where(at_risk > 0, at_risk, 1.0), 1.0),
        }
    )
    order = ["stage", "most_to_spend", "value_at_risk", "customer_id"]
    table = table.sort_values(order, ascending=[True, False, False, True], ignore_index=True)
    alarms = int((found.stage == BROKE).sum())
    false = _false_alarms(found, alive[found.stage == BROKE], replayed=learned is not None)
    act_on = table[table["stage"] != IN_RHYTHM]
    return EarlyWarning(
        frame=table.astype({"stage": str}),
        watched=len(frame),
        alarms=alarms,
        drifting=len(act_on) - alarms,
        threshold=found.threshold,
        expected_false=false,
        false_share=false.value / alarms if alarms else 0.0,
        value_at_risk=_at_risk(act_on, seed),
        in_time=_at_risk(act_on[~act_on["late"]], seed),
        late=_at_risk(act_on[act_on["late"]], seed),
        most_to_spend=float(act_on["most_to_spend"].sum()),
        saved=saved,
        rhythm=found.rhythm,
        mixture=found.mixture,
        observed_to=observed_to,
        best=len(frame) + len(found.unwatched),
        unwatched_at_risk=_no_longer_expected(found.unwatched),
        least_gaps=least_gaps,
        replay=replay,
    )


def values_in_rhythm(
    summary: pd.DataFrame,
    value: pd.DataFrame,
    results=None,
    *,
    horizon_weeks: float | None = None,
    margin: float = 1.0,
    discount: float = 0.0,
) -> pd.DataFrame:
    """What each customer would be worth in rhythm, and what they are worth as they stand.

    Parameters
    ----------
    summary : DataFrame
        The canonical `customer_summary` (days).
    value : DataFrame
        The canonical `customer_value`; `expected_spend` is used, or without `results` its `residual_value`.
    results : PurchaseResults, optional
        A model in which customers can leave, in weeks. "In rhythm" is the customer as they stood right after their last
        purchase. Without one, the forecast takes every habit to go on: `residual_value` is the value in rhythm (expected sales
        where no margin is known) and `value_now` is left out.
    horizon_weeks : float
        Needed with `results`.
    margin : float
        Margin as a share of sales; 1 values sales.
    discount : float
        Continuous rate a week.

    Returns
    -------
    DataFrame
        `customer_id`, `value_in_rhythm`, and with `results` `value_now`; money, discounted.

    Raises
    ------
    ValueError
        For a model in which nobody leaves, or no horizon beside a model.
    """
    base = summary.merge(value, on="customer_id", validate="one_to_one", suffixes=("", "_value"))
    if results is None:
        sales = base["expected_purchases"] * base["expected_spend"] * margin
        known = base["residual_value"].notna().all()
        return base[["customer_id"]].assign(value_in_rhythm=base["residual_value"] if known else sales)
    if not results.model.can_leave or horizon_weeks is None:
        raise ValueError("early warning: needs a model in which customers can leave, and its horizon")
    x, t_x, age = in_weeks(base)
    each = base["expected_spend"].to_numpy(float) * margin
    return base[["customer_id"]].assign(
        value_in_rhythm=results.expected_purchases(horizon_weeks, x, t_x, t_x, discount=discount) * each,
        value_now=results.expected_purchases(horizon_weeks, x, t_x, age, discount=discount) * each,
    )


def _benjamini_hochberg(p: Array, false_share: float) -> float:
    """The largest p that is still an alarm; 0 where there is none."""
    ordered = np.sort(p)
    passed = np.flatnonzero(ordered <= false_share * np.arange(1, len(p) + 1) / len(p))
    return float(ordered[passed[-1]]) if len(passed) else 0.0


def _no_longer_expected(unwatched: pd.DataFrame) -> float:
    """What a model no longer expects of customers without a rhythm, money."""
    if unwatched["value_now"].isna().any():
        return np.nan
    return float(np.maximum(unwatched["value_in_rhythm"] - unwatched["value_now"], 0.0).sum())


def _value_now(found: Watched, alive: Array, learned: Recalibration | None) -> pd.Series:
    """Money over the horizon of customers as they stand: a model's, the habit's, and what replays show of either."""
    rhythm, now = found.frame["value_in_rhythm"], found.frame["value_now"]
    if learned is None:
        return now.fillna(rhythm * alive)
    kept = rhythm * np.minimum(learned.kept(found.p), alive)
    return np.maximum(now, kept).fillna(kept)


def _false_alarms(found: Watched, alive: Array, replayed: bool) -> Estimate:
    """Alarms among those still there: `alive` holds their P(alive)."""
    alarms = len(alive)
    if not alarms:
        return Estimate(0.0, reason="there is no alarm")
    if replayed:
        expected, variance = float(alive.sum()), float((alive * (1.0 - alive)).sum())
    else:
        still_there = found.mixture.still_there * len(found.p)
        expected = min(still_there * found.threshold, float(alarms))
        variance = still_there * found.threshold * (1.0 - found.threshold)
    half = Z95 * np.sqrt(variance)
    return Estimate(expected, max(float(expected - half), 0.0), min(float(expected + half), float(alarms)))


def _at_risk(table: pd.DataFrame, seed: int) -> Estimate:
    total = float(table["value_at_risk"].sum())
    if table.empty:
        return Estimate(0.0, reason="there is nobody whose money it could be")
    full = table["value_in_rhythm"].to_numpy(float)
    gone = np.clip(table["value_at_risk"].to_numpy(float) / full, 0.0, 1.0)
    rng = np.random.default_rng(seed)
    drawn = [float(full @ (rng.random(len(full)) < gone)) for _ in range(_RANDOM_DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(total, min(float(low), total), max(float(high), total))


def _act_by(rhythm: Rhythm, frame: pd.DataFrame, observed_to: datetime.date, until: float) -> Array:
    """The day on which a customer who stays silent has come to the probability `until`, or `observed_to` where that is past.

    Where P(alive) never falls to the threshold, `until` is 0, and it is the day on which only one in a thousand of the
    customer's own gaps is longer.
    """
    longest = rhythm.longest(max(until, 1e-3), frame["gaps"], frame["length"])
    ahead = np.floor(longest - frame["silent_days"].to_numpy(float))
    return (pd.Timestamp(observed_to) + pd.to_timedelta(np.clip(ahead, 0, 36_500), unit="D")).date
