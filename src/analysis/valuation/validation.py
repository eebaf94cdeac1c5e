"""The validation page: everything that a holdout says about the forecasts, without being asked.

Tracking over time, groups by frequency and recency, calibration, lift, coverage and money, each against naive
baselines: the same rate as before, and the last stretch repeated. Models are held to what they claim: futures are drawn
at the end of the calibration, with parameters drawn from their sampling distribution, and what came is looked up
in them.

Whether a customer is alive is never seen. A customer who bought in the holdout was alive, one who did not may be too, so the
share that bought is only a lower bound of the share alive. What can be checked is the probability that a
customer buys at least once in the holdout, and that is what is calibrated; P(alive) stands beside it.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.valuation.bg_cnbd_k import MBGCNBDk
from analysis.valuation.concentration import Estimate
from analysis.valuation.holdout import (
    HEURISTICS,
    LAST_PERIOD,
    Holdout,
    Ranking,
    by_recency,
    expected_spend,
    resamples,
)
from analysis.valuation.intervals import Z95, share_interval
from analysis.valuation.mbg_nbd import MBGNBD
from analysis.valuation.models import FittedModels
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import Array, PurchaseResults, expected_cumulative
from analysis.valuation.summary import DAYS_PER_WEEK, in_weeks, purchase_days

ACTUAL, PERFECT, EVERYBODY = "actual", "perfect foresight", "everybody alike"
LEVELS = (0.50, 0.80, 0.95)
_SHARES = np.arange(1, 11) / 10.0
_STEPS, _SMALL_STEP, _SINGULAR = 30, 1e-9, 1e12
_CHANCE = 0.05
# models in which a customer may leave after any purchase, the first one too
_LEAVE_ANY_TIME = (ParetoNBD.name, MBGNBD.name, MBGCNBDk.name)
_NEAREST = 1e-4  # to 0 and 1: a group of which no simulated future held a purchase still has a logit
_MOST = 10_000  # customers behind simulations and bootstrap samples; of a larger base every k-th
_REPEATS = 8  # futures at each drawn set of parameters


@dataclass(frozen=True)
class Futures:
    """Simulated holdouts of one model.

    Attributes
    ----------
    purchases, spend : arrays of shape (draws, customers)
        `spend` is money, undiscounted.
    rows : array of shape (customers,)
        Which rows of the split they stand for.
    stride : int
        One in `stride` customers of the base is simulated.
    """

    purchases: Array
    spend: Array
    rows: Array
    stride: int

    def total(self, of: Array) -> tuple[float, float]:
        """95 % prediction limits of the whole base's total of `purchases` or `spend`.

        Chance is independent between customers and parameters are shared, so the one grows with the root of the
        base and the other with the base itself.
        """
        sums = of.sum(axis=1, dtype=float).reshape(-1, _REPEATS)
        centre = sums.mean(axis=1, keepdims=True)
        drawn = centre * self.stride + (sums - centre) * np.sqrt(self.stride)
        return tuple(np.quantile(drawn, [0.025, 0.975]).tolist())


@dataclass(frozen=True)
class Validation:
    """What the holdout says about every forecast.

    Attributes
    ----------
    tracking : DataFrame
        `week` (weeks since the base's first purchase), `ends_on`, `phase` ("calibration" or "holdout"), `source` ("actual", or a
        forecast; plain rules only in the holdout), `purchases` in that week and `cumulative`, of a model from when each
        customer first came alone; `foreseen`: purchases of that week of the holdout as forecast from each customer's own
        past (plain rules, and models that were simulated; else null), which add up to the holdout's forecast.
    by_recency : DataFrame
        See :mod:`analysis.valuation.holdout`.
    returning : DataFrame
        Equal groups by the predicted probability of buying in the holdout, lowest first: `forecast`, `group`, `customers`,
        `predicted`, `alive` (mean P(alive), null for a model in which nobody leaves), `actual` (share who
        bought) with its 95 % Wilson interval `low`, `high`, and `inside` (the prediction lies in it).
    returning_scores : DataFrame
        `forecast`, `brier` (mean squared error of that probability; smaller is better) with `low`, `high`.
    lift : DataFrame
        `forecast`, `kind`, `share` (of customers, best first), `purchases` and `spend` (share of the holdout's that they
        brought), each with `_low`, `_high`.
    coverage : DataFrame
        Intervals of single customers: `forecast`, `what`, `level`, `claimed` (the share that the model itself
        expects inside; above `level`, since counts are whole and many are zero), `covered` with `low`, `high` (Wilson),
        `customers`.
    totals : DataFrame
        `forecast`, `what`, `expected`, `low`, `high` (95 % prediction), `actual`, `inside`.
    """

    tracking: pd.DataFrame
    by_recency: pd.DataFrame
    returning: pd.DataFrame
    returning_scores: pd.DataFrame
    lift: pd.DataFrame
    coverage: pd.DataFrame
    totals: pd.DataFrame


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities were right on average, and whether low ones were as low and high ones as high as they said.

    Attributes
    ----------
    customers, groups : int
    said, came : float
        Mean probability, and share to whom it happened.
    level : Estimate
        `said` − `came`, with what chance alone leaves open around it; 0 is right, above 0 too high.
    slope : Estimate
        Of the outcome's logit on the prediction's: 1 is right, below 1 the probabilities are too extreme, above 1 too
        cautious. NaN with a reason where the probabilities hardly differ.
    fit : float
        p-value of all groups having come as they said (chi-squared): catches groups that are off in between.
    """

    customers: int
    groups: int
    said: float
    came: float
    level: Estimate
    slope: Estimate
    fit: float

    @property
    def level_verdict(self) -> str:
        """ "right", "high" or "low", as far as chance lets it be told."""
        if self.level.low <= 0.0 <= self.level.high:
            return "right"
        return "high" if self.level.value > 0.0 else "low"

    @property
    def slope_verdict(self) -> str:
        """ "right", "extreme", "cautious", or "unknown" where the probabilities hardly differ."""
        if self.slope.low is None:
            return "unknown"
        if self.slope.low <= 1.0 <= self.slope.high:
            return "right"
        return "extreme" if self.slope.value < 1.0 else "cautious"

    @property
    def fits(self) -> bool:
        """Whether chance may explain how far the groups came from what was said."""
        return self.fit >= _CHANCE

    @property
    def held(self) -> bool:
        """Whether neither the level, nor the slope, nor the groups between them speak against the probabilities."""
        return self.level_verdict == "right" and self.slope_verdict in ("right", "unknown") and self.fits


def weekly_purchases(
    order_lines: ibis.Table, calibration_end: datetime.date, observed_to: datetime.date
) -> pd.DataFrame:
    """Repeat purchases of the customers known by `calibration_end`, week by week.

    Parameters
    ----------
    order_lines : ibis.Table
    calibration_end, observed_to : date

    Returns
    -------
    DataFrame
        `ends_on`, `phase`, `moment` (weeks since the day of the base's first purchase, that day included) and
        `purchases`. Weeks end on `calibration_end` and every seven days from it, so the first and the last may be
        shorter; one row each, empty weeks included.

    Raises
    ------
    ValueError
        When the holdout would be empty, or nobody bought before it.
    """
    if observed_to <= calibration_end:
        raise ValueError(f"tracking: calibration_end {calibration_end} is not before observed_to {observed_to}")
    days = purchase_days(order_lines, observed_to)
    first = days.group_by("customer_id").aggregate(first_day=days.order_date.min())
    dated = days.join(first.filter(first.first_day <= calibration_end), "customer_id")
    counts = dated.group_by("order_date").aggregate(purchases=(dated.order_date > dated.first_day).cast("int64").sum())
    daily = counts.order_by("order_date").to_pyarrow().to_pandas()
    if daily.empty:
        raise ValueError(f"tracking: nobody bought on or before {calibration_end}; choose a shorter holdout")
    day = pd.to_datetime(daily["order_date"])
    cut, end, start = pd.Timestamp(calibration_end), pd.Timestamp(observed_to), day.iloc[0]
    before = -(-((cut - start).days + 1) // 7)
    after = -(-(end - cut).days // 7)
    number = np.arange(1 - before, after + 1)
    ends = np.minimum(cut + pd.to_timedelta(7 * number, unit="D"), end)
    week = -(-(day - cut).dt.days // 7)
    purchases = np.bincount(week - number[0], weights=daily["purchases"], minlength=len(number))
    return pd.DataFrame(
        {
            "ends_on": ends,
            "phase": np.where(number > 0, "holdout", "calibration"),
            "moment": ((ends - start).days + 1) / DAYS_PER_WEEK,
            "purchases": purchases.astype(int),
        }
    )


def validate(
    holdout: Holdout,
    weekly: pd.DataFrame,
    *,
    names: Sequence[str] | None = None,
    draws: int = 400,
    replications: int = 200,
    small_group: int = 10,
    seed: int = 1,
) -> Validation:
    """Make the validation page of a holdout.

    Parameters
    ----------
    holdout : Holdout
        From :func:`analysis.valuation.evaluate_holdout`.
    weekly : DataFrame
        From :func:`weekly_purchases`, split at the same day.
    names : sequence of str, optional
        Models to simulate for calibration and coverage; all that could be fitted by default.
    draws : int
        Simulated holdouts a customer.
    replications : int
        Bootstrap samples of customers.
    small_group : int
        Groups of fewer customers are merged.
    seed : int

    Raises
    ------
    ValueError
        When `weekly` was not split where the holdout was.
    """
    known = int(holdout.frame["frequency"].sum())
    if int(weekly.loc[weekly["phase"] == "calibration", "purchases"].sum()) != known:
        raise ValueError(
            "validation: weekly purchases and holdout do not share their calibration; split both at one day"
        )
    returning, scores, coverage, totals = [], [], [], []
    names = list(holdout.models.purchases if names is None else names)
    for name in names:
        futures = simulate_holdout(holdout.models, name, holdout.frame, holdout.weeks, draws, seed)
        groups, errors = _returning(holdout, name, futures, small_group)
        returning.append(groups)
        scores.append((name, errors))
        coverage.append(_coverage(holdout, name, futures))
        totals.append(_totals(holdout, name, futures))
    part = holdout.frame.iloc[:: _stride(len(holdout.frame))]
    bought = (part["holdout_frequency"] > 0).to_numpy(float)
    scores += [
        (EVERYBODY, (bought.mean() - bought) ** 2),
        (LAST_PERIOD, ((part[f"forecast: {LAST_PERIOD}"] > 0).to_numpy(float) - bought) ** 2),
    ]
    return Validation(
        tracking=_tracking(holdout, weekly, names),
        by_recency=by_recency(holdout, small_group=small_group),
        returning=_stacked(returning),
        returning_scores=_brier(scores, replications, seed),
        lift=_lift(holdout, replications, seed),
        coverage=_stacked(coverage),
        totals=_stacked(totals),
    )


def calibration(groups: pd.DataFrame) -> Calibration:
    """Judge predicted probabilities by groups of customers: their level and their slope apart, each with its error.

    Parameters
    ----------
    groups : DataFrame
        `customers`, `predicted`, `actual`: one forecast's rows of `Validation.returning`.

    Raises
    ------
    ValueError
        Without a group.

    Notes
    -----
    A mean of groups hides simulation noise, which logits of single customers would not. Variances are those of binomial
    counts at the predicted probabilities, which are a little too large for a group whose members differ. Source: Cox,
    D. R. (1958). Two further applications of a model for binary regression. Biometrika 45(3/4), 562–565.
    """
    if groups.empty:
        raise ValueError("calibration: no group of customers to judge")
    n, came = (groups[column].to_numpy(float) for column in ("customers", "actual"))
    said = np.clip(groups["predicted"].to_numpy(float), _NEAREST, 1.0 - _NEAREST)
    variance = n * said * (1.0 - said)
    gap = float((n * (groups["predicted"].to_numpy(float) - came)).sum() / n.sum())
    half = float(Z95 * np.sqrt(variance.sum()) / n.sum())
    return Calibration(
        customers=int(n.sum()),
        groups=len(groups),
        said=float(np.average(groups["predicted"], weights=n)),
        came=float(np.average(came, weights=n)),
        level=Estimate(gap, gap - half, gap + half),
        slope=_slope(n, said, came),
        fit=float(stats.chi2.sf(((n * (came - said)) ** 2 / variance).sum(), len(n))),
    )


def _slope(n: Array, said: Array, came: Array) -> Estimate:
    logit, bought = special.logit(said), np.rint(n * came)
    none = Estimate(np.nan, reason="the probabilities, or what came of them, differ too little between groups")
    if len(n) < 3 or np.ptp(logit) < 0.1 or not 0 < bought.sum() < n.sum():
        return none
    # Newton's steps from "as predicted"; a general fit refuses groups that came exactly as said
    design, beta = np.column_stack([np.ones(len(n)), logit]), np.array([0.0, 1.0])
    for _ in range(_STEPS):
        mean = special.expit(design @ beta)
        information = (design.T * (n * mean * (1.0 - mean))) @ design
        if np.linalg.cond(information) > _SINGULAR:
            return none
        step = np.linalg.solve(information, design.T @ (bought - n * mean))
        beta = beta + step
        if np.abs(step).max() < _SMALL_STEP:
            break
    else:
        return none
    slope, error = float(beta[1]), float(np.sqrt(np.linalg.inv(information)[1, 1]))
    if error > 1.0:  # an interval of 4 in width tells nothing
        return none
    return Estimate(slope, slope - Z95 * error, slope + Z95 * error)


def share_active(
    models: FittedModels, name: str, summary: pd.DataFrame, draws: int = 40, seed: int = 1
) -> tuple[Estimate, dict[str, float]]:
    """Share of customers who are still active, with a range that also holds what other models of leaving say.

    Parameters
    ----------
    models : FittedModels
        Fitted on `summary`.
    name : str
        The model whose share it is.
    summary : DataFrame
        `frequency`, `recency`, `T` (days), one row a customer.
    draws : int
        Sets of parameters.
    seed : int

    Returns
    -------
    share : Estimate
        The mean of each one's probability. Its limits hold the 95 % limits of every usable model in which customers
        leave: how well parameters are known, and chance in who left. BG/NBD is left out of them unless it is `name`: in it
        nobody without a repeat purchase can have left.
    by_model : dict
        The share by each of those models.

    Notes
    -----
    Parameters alone leave a percentage point or so open; which model it is, several. Nobody sees who left, so the data
    choose between models only by how customers buy.
    """
    usable = {other: fit for other, fit in models.purchases.items() if fit.model.can_leave}
    rivals = {other: fit for other, fit in usable.items() if other in (name, *_LEAVE_ANY_TIME)}
    history = in_weeks(summary)
    shares, ends = {}, []
    for other, results in rivals.items():
        chance = results.probability_alive(*history)
        shares[other] = float(chance.mean())
        drawn = results.draw_params(draws, np.random.default_rng(seed))
        means = [results.with_params(params).probability_alive(*history).mean() for params in drawn]
        variance = np.var(means, ddof=1) + (chance * (1.0 - chance)).sum() / len(chance) ** 2
        ends += [shares[other] + side * Z95 * float(np.sqrt(variance)) for side in (-1.0, 1.0)]
    return Estimate(shares[name], max(min(ends), 0.0), min(max(ends), 1.0)), shares


def incremental(found: Validation, source: str, weeks: int = 4) -> pd.DataFrame:
    """Purchases a week, actual and expected, as means of some weeks each, counted from the start of the holdout both ways.

    Parameters
    ----------
    found : Validation
    source : str
        A forecast of `found.tracking`. In the holdout a model that was simulated is taken as it foresaw from each customer's
        past; before, from when each first came.
    weeks : int
        Weeks in a mean; what is left over at either end is dropped.

    Returns
    -------
    DataFrame
        `phase`, `ends_on` (of the last week), `actual`, `expected` (null for a plain rule before the holdout) and `miss`
        (expected / actual − 1; null where nothing came), oldest first.
    """
    columns = ["ends_on", "phase", "purchases"]
    table = found.tracking.loc[found.tracking["source"] == ACTUAL, columns].rename(columns={"purchases": "actual"})
    drawn = found.tracking[found.tracking["source"] == source].set_index("ends_on")
    expected = drawn["foreseen"].fillna(drawn["purchases"])
    table["expected"] = table["ends_on"].map(expected)
    held_out = (table["phase"] == "holdout").to_numpy()
    # the first week of the holdout is 0, the last before it is −1
    block = (np.arange(len(table)) - int((~held_out).sum())) // weeks
    whole = pd.Series(block).map(pd.Series(block).value_counts()).to_numpy() == weeks
    grouped = table[whole].groupby(block[whole])
    means = grouped[["actual", "expected"]].mean()
    means.insert(0, "phase", grouped["phase"].first())
    means.insert(1, "ends_on", grouped["ends_on"].max())
    means["miss"] = means["expected"] / means["actual"].where(means["actual"] > 0) - 1.0
    return means.reset_index(drop=True)


def returning_groups(
    holdout: Holdout, name: str, draws: int = 400, small_group: int = 10, seed: int = 1
) -> pd.DataFrame:
    """Equal groups by one model's probability of buying in the holdout: that probability, and the share who bought.

    Parameters
    ----------
    holdout : Holdout
    name : str
        A purchase model that was fitted in it.
    draws, small_group, seed : int
        As for :func:`validate`.

    Returns
    -------
    DataFrame
        As `Validation.returning`.
    """
    futures = simulate_holdout(holdout.models, name, holdout.frame, holdout.weeks, draws, seed)
    return _returning(holdout, name, futures, small_group)[0]


def simulate_holdout(
    models: FittedModels, name: str, split: pd.DataFrame, weeks: float, draws: int = 400, seed: int = 1
) -> Futures:
    """Draw holdouts for the customers of a split, at parameters drawn from their sampling distribution.

    Parameters
    ----------
    models : FittedModels
        Fitted on the calibration.
    name : str
        A model of `models.purchases`.
    split : DataFrame
        `frequency`, `recency`, `T` (days), `monetary_value`. Of more than 10,000 customers every k-th is drawn.
    weeks : float
        Length of the holdout.
    draws : int
        Futures a customer, rounded up to sets of eight that share parameters.
    seed : int
    """
    stride = _stride(len(split))
    part, rng, sets = split.iloc[::stride], np.random.default_rng(seed), max(2, -(-draws // _REPEATS))
    x, mean = part["frequency"].to_numpy(float), part["monetary_value"].to_numpy(float)
    t_x, age = (part[column].to_numpy(float) / DAYS_PER_WEEK for column in ("recency", "T"))
    results, spend = models.purchases[name], models.spend
    each = expected_spend(models, part)
    params = results.draw_params(sets, rng)
    spend_params = None if spend is None else spend.draw_params(sets, rng)
    purchases, money = (np.empty((sets * _REPEATS, len(part)), dtype=np.float32) for _ in range(2))
    for k in range(sets):
        rows = slice(k * _REPEATS, (k + 1) * _REPEATS)
        bought, _ = results.with_params(params[k]).simulate_future(weeks, x, t_x, age, rng, size=_REPEATS)
        purchases[rows] = bought
        if spend is None:
            money[rows] = bought * each
        else:
            money[rows] = spend.with_params(spend_params[k]).simulate_spend(bought, x, mean, rng)
    return Futures(purchases, money, np.arange(len(split))[::stride], stride)


def _stride(customers: int) -> int:
    return max(1, -(-customers // _MOST))


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _tracking(holdout: Holdout, weekly: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    moment, age = weekly["moment"].to_numpy(), holdout.frame["T"].to_numpy(float) / DAYS_PER_WEEK
    length = np.diff(moment, prepend=0.0)
    held_out = (weekly["phase"] == "holdout").to_numpy()
    frame = weekly.rename(columns={"moment": "week"}).drop(columns="purchases")
    parts = [frame.assign(source=ACTUAL, purchases=weekly["purchases"].astype(float), foreseen=np.nan)]
    for name, results in holdout.models.purchases.items():
        expected = expected_cumulative(results, age, moment)
        foreseen = np.full(len(frame), np.nan)
        if name in names:
            foreseen[held_out] = _foreseen(results, holdout.frame, np.cumsum(length[held_out]))
        parts.append(frame.assign(source=name, purchases=np.diff(expected, prepend=0.0), foreseen=foreseen))
    totals = holdout.scores.set_index("forecast")["total"]
    seen = weekly.loc[~held_out, "purchases"].sum()
    for name in HEURISTICS:
        evenly = totals[name] * length[held_out] / length[held_out].sum()
        parts.append(frame[held_out].assign(source=name, purchases=evenly, foreseen=evenly))
    for part in parts:
        part["cumulative"] = part["purchases"].cumsum() + (seen if part["source"].iloc[0] in HEURISTICS else 0.0)
    return pd.concat(parts, ignore_index=True)


def _foreseen(results: PurchaseResults, split: pd.DataFrame, ends: Array) -> Array:
    """Purchases of the base in each week that ends so many weeks after the split, given each customer's past."""
    frequency, *times = (split[column].to_numpy(float) for column in ("frequency", "recency", "T"))
    weeks = [time / DAYS_PER_WEEK for time in times]
    totals = [results.expected_purchases(float(end), frequency, *weeks).sum() for end in ends]
    return np.diff(totals, prepend=0.0)


def _equal_groups(values: Array, small_group: int) -> Array:
    """Ten groups of equal size by value, lowest 0; fewer where a group would be smaller than `small_group`."""
    count = max(1, min(10, len(values) // max(small_group, 1)))
    rank = np.empty(len(values), dtype=int)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank * count // len(values)


def _returning(holdout: Holdout, name: str, futures: Futures, small_group: int) -> tuple[pd.DataFrame, Array]:
    part, results = holdout.frame.iloc[futures.rows], holdout.models.purchases[name]
    any_purchase = futures.purchases > 0
    bought = (part["holdout_frequency"] > 0).to_numpy(float)
    weeks = (part[column] / DAYS_PER_WEEK for column in ("recency", "T"))
    alive = results.probability_alive(part["frequency"], *weeks) if results.model.can_leave else np.nan
    # groups come from one half of the futures and predictions from the other: else chance would sort itself to the ends
    frame = pd.DataFrame(
        {
            "group": _equal_groups(any_purchase[::2].mean(axis=0), small_group) + 1,
            "predicted": any_purchase[1::2].mean(axis=0),
            "alive": alive,
            "bought": bought,
        }
    )
    grouped = frame.groupby("group")
    table = grouped[["predicted", "alive", "bought"]].mean().rename(columns={"bought": "actual"})
    table.insert(0, "customers", grouped.size())
    table["low"], table["high"] = share_interval(grouped["bought"].sum(), table["customers"])
    table["inside"] = (table["low"] <= table["predicted"]) & (table["predicted"] <= table["high"])
    table = table.reset_index()
    table.insert(0, "forecast", name)
    return table, (any_purchase.mean(axis=0) - bought) ** 2


def _brier(scores: list[tuple[str, Array]], replications: int, seed: int) -> pd.DataFrame:
    errors = np.array([error for _, error in scores]).T
    drawn = np.array([sample @ errors / len(errors) for sample in resamples(len(errors), replications, seed)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    frame = pd.DataFrame({"forecast": [n for n, _ in scores], "brier": errors.mean(axis=0), "low": low, "high": high})
    return frame.sort_values("brier", ignore_index=True, kind="stable")


def _coverage(holdout: Holdout, name: str, futures: Futures) -> pd.DataFrame:
    part, rows = holdout.frame.iloc[futures.rows], []
    for what, drawn, column in (
        ("purchases", futures.purchases, "holdout_frequency"),
        ("spend", futures.spend, "holdout_spend"),
    ):
        if not np.isfinite(drawn).all():
            continue
        actual = part[column].to_numpy(float)
        for level in LEVELS:
            tail = (1.0 - level) / 2.0
            low, upper, one_sided = np.quantile(drawn, [tail, 1.0 - tail, level], axis=0)
            high = np.where(low > 0, upper, one_sided)
            inside = int(((low <= actual) & (actual <= high)).sum())
            ends = share_interval(inside, len(part))
            rows.append(
                {
                    "forecast": name,
                    "what": what,
                    "level": level,
                    "claimed": float(((low <= drawn) & (drawn <= high)).mean()),
                    "covered": inside / len(part),
                    "low": float(ends[0]),
                    "high": float(ends[1]),
                    "customers": len(part),
                }
            )
    return pd.DataFrame(rows)


def _totals(holdout: Holdout, name: str, futures: Futures) -> pd.DataFrame:
    forecast, spend, rows = holdout.forecast(name), expected_spend(holdout.models, holdout.frame), []
    for what, drawn, expected, column in (
        ("purchases", futures.purchases, forecast.sum(), "holdout_frequency"),
        ("spend", futures.spend, (forecast * spend).sum(), "holdout_spend"),
    ):
        if not np.isfinite(expected):
            continue
        low, high = futures.total(drawn)
        actual = float(holdout.frame[column].sum())
        rows.append(
            {
                "forecast": name,
                "what": what,
                "expected": float(expected),
                "low": low,
                "high": high,
                "actual": actual,
                "inside": low <= actual <= high,
            }
        )
    return pd.DataFrame(rows)


def spend_forecasts(holdout: Holdout) -> dict[str, Array]:
    """Every forecast of the holdout in money a customer, undiscounted; a forecast without an amount is left out.

    A model's or a rate's purchases are worth the expected spend of the customer; repeating the last period repeats
    what was spent in it.
    """
    each = expected_spend(holdout.models, holdout.frame)
    money = {
        name: holdout.frame["last_period_spend"].to_numpy(float)
        if name == LAST_PERIOD
        else holdout.forecast(name) * each
        for name in holdout.scores["forecast"]
    }
    return {name: amount for name, amount in money.items() if np.isfinite(amount).all()}


def _lift(holdout: Holdout, replications: int, seed: int) -> pd.DataFrame:
    part = holdout.frame.iloc[:: _stride(len(holdout.frame))]
    amounts = {
        name: part[f"holdout_{column}"].to_numpy(float)
        for name, column in (("purchases", "frequency"), ("spend", "spend"))
    }
    kinds = holdout.scores.set_index("forecast")["kind"].to_dict() | {PERFECT: "bound"}
    rankings = {
        (name, what): Ranking.of(amounts[what] if name == PERFECT else part[f"forecast: {name}"])
        for name in kinds
        for what in amounts
    }
    drawn: dict[tuple[str, str], list[Array]] = {key: [] for key in rankings}
    for sample in resamples(len(part), replications, seed):
        for key, ranking in rankings.items():
            drawn[key].append(ranking.captured(amounts[key[1]], _SHARES, sample.astype(float)))
    frames = []
    for name, kind in kinds.items():
        frame = pd.DataFrame({"forecast": name, "kind": kind, "share": _SHARES})
        for what, amount in amounts.items():
            low, high = np.quantile(drawn[name, what], [0.025, 0.975], axis=0)
            frame = frame.assign(
                **{what: rankings[name, what].captured(amount, _SHARES), f"{what}_low": low, f"{what}_high": high}
            )
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
