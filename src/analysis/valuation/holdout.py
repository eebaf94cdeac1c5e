"""The holdout: let every forecast see the past up to a day, and hold it against what came after.

Purchase models stand beside plain heuristics that need no model: "the same rate as before" and "the same count as
in the last stretch of the same length". The winner is the forecast with the smallest root mean squared error
over customers, whichever it is: squared error is smallest for a forecast of the mean, which is what adds up to the
base's total, whereas absolute error rewards forecasting zero for everyone who buys rarely. Both are shown.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.valuation.models import FittedModels, fit_models
from analysis.valuation.purchases import Array
from analysis.valuation.summary import DAYS_PER_WEEK, calibration_holdout

SAME_RATE = "same rate"
LAST_PERIOD = "last period"
HEURISTICS = (SAME_RATE, LAST_PERIOD)
_ENDS = ("difference", "low", "high")


@dataclass(frozen=True)
class Holdout:
    """What a holdout found.

    Attributes
    ----------
    frame : DataFrame
        The split, one row a customer, with one column `forecast: <name>` a forecast.
    models : FittedModels
        Fitted on the calibration period alone.
    scores : DataFrame
        One row a forecast: `forecast`, `kind` ("model" or "heuristic"), `mae`, `rmse`, `total`, `total_error`
        (share of the actual total), `spend_mae`, `best`; smallest RMSE first.
    best : str
        The forecast with the smallest RMSE.
    comparison : DataFrame
        One row a model against the best heuristic: `model`, `heuristic`, `rmse_difference` (model less heuristic,
        occasions a customer) with `rmse_low`, `rmse_high`, and the same for `mae` (bootstrap over customers, 95 %).
    actual : int
        Occasions in the holdout.
    weeks : float
    """

    frame: pd.DataFrame
    models: FittedModels
    scores: pd.DataFrame
    best: str
    comparison: pd.DataFrame
    actual: int
    weeks: float

    @property
    def best_kind(self) -> str:
        """ "model" or "heuristic"."""
        return str(self.scores.set_index("forecast").loc[self.best, "kind"])

    @property
    def best_model(self) -> str | None:
        """The purchase model with the smallest RMSE, if any could be fitted."""
        names = self.scores.loc[self.scores["kind"] == "model", "forecast"]
        return None if names.empty else str(names.iloc[0])

    @property
    def best_heuristic(self) -> str:
        """The heuristic with the smallest RMSE."""
        return str(self.scores.loc[self.scores["kind"] == "heuristic", "forecast"].iloc[0])

    def forecast(self, name: str) -> Array:
        """Forecast occasions a customer, shape (customers,)."""
        return self.frame[f"forecast: {name}"].to_numpy()


def same_rate(frequency: Array, T: Array, horizon: float, entry: str, window: float) -> Array:
    """Occasions in the next `horizon` at the customer's rate so far.

    Parameters
    ----------
    frequency, T : arrays of shape (customers,)
    horizon : float
        In the unit of T.
    entry : str
        "left_truncated": customers were there before, so the rate is all occasions over the whole `window`;
        otherwise repeat occasions over the customer's own age (0 for a customer of age 0).
    window : float
        Length of the observed period, in the unit of T.
    """
    if entry == "left_truncated":
        return (frequency + 1.0) / window * horizon
    return np.where(T > 0, frequency / np.where(T > 0, T, 1.0), 0.0) * horizon


def evaluate_holdout(
    split: pd.DataFrame,
    window_days: float,
    entry: str = "first_purchase",
    seed: int = 1,
    replications: int = 1000,
) -> Holdout:
    """Fit on the calibration, forecast the holdout, and score every forecast.

    Parameters
    ----------
    split : DataFrame
        From :func:`analysis.valuation.calibration_holdout`.
    window_days : float
        Days from the start of observation to the end of the calibration.
    entry : str
        The study's clock: "first_purchase", "registration" or "left_truncated".
    seed : int
    replications : int
        Bootstrap samples of customers.

    Raises
    ------
    ValueError
        When the calibration is shorter than the holdout.
    """
    days = float(split.attrs["holdout_days"])
    if window_days < days:
        raise ValueError(
            f"holdout: {days:g} days are held out and only {window_days:g} are left to learn from; shorten the holdout"
        )
    models = fit_models(split)
    frequency, age = split["frequency"].to_numpy(float), split["T"].to_numpy(float)
    recent = "recent_frequency" if entry == "left_truncated" else "recent_repeats"
    # purchases and money of the last period leave out the same first occasions
    recent_money = "recent_spend" if entry == "left_truncated" else "recent_repeat_spend"
    forecasts: dict[str, Array] = {
        name: results.expected_purchases(
            days / DAYS_PER_WEEK, frequency, split["recency"] / DAYS_PER_WEEK, age / DAYS_PER_WEEK
        )
        for name, results in models.purchases.items()
    }
    forecasts[SAME_RATE] = same_rate(frequency, age, days, entry, window_days)
    forecasts[LAST_PERIOD] = split[recent].to_numpy(float)
    named = {f"forecast: {name}": value for name, value in forecasts.items()}
    frame = split.assign(**named, last_period_spend=split[recent_money])
    actual = split["holdout_frequency"].to_numpy(float)
    spend = expected_spend(models, split)
    errors = pd.DataFrame({name: value - actual for name, value in forecasts.items()})
    scores = pd.DataFrame(
        {
            "forecast": name,
            "kind": "heuristic" if name in HEURISTICS else "model",
            "mae": errors[name].abs().mean(),
            "rmse": np.sqrt((errors[name] ** 2).mean()),
            "total": value.sum(),
            "total_error": value.sum() / actual.sum() - 1.0 if actual.sum() else np.nan,
            "spend_mae": np.abs(
                (split[recent_money] if name == LAST_PERIOD else value * spend) - split["holdout_spend"]
            ).mean(),
        }
        for name, value in forecasts.items()
    ).sort_values("rmse", ignore_index=True, kind="stable")
    best = str(scores["forecast"].iloc[0])
    scores["best"] = scores["forecast"] == best
    heuristic = str(scores.loc[scores["kind"] == "heuristic", "forecast"].iloc[0])
    comparison = _compare(errors, list(models.purchases), heuristic, seed, replications)
    return Holdout(frame, models, scores, best, comparison, int(actual.sum()), days / DAYS_PER_WEEK)


def earlier_holdouts(
    order_lines: ibis.Table,
    holdout: Holdout | None,
    observed_from: datetime.date,
    observed_to: datetime.date,
    entry: str = "first_purchase",
    most: int = 3,
) -> tuple[Holdout, ...]:
    """The same test at earlier days: each time models are fitted to what was known then, and the weeks after foretold.

    One stretch of weeks says little of how far forecasts of a whole base go astray, which a season or a trend decides;
    several say more.

    Parameters
    ----------
    order_lines : ibis.Table
        Or its :func:`analysis.valuation.purchase_days`.
    holdout : Holdout or None
        The test on the last weeks; without it there are no earlier ones.
    observed_from, observed_to : date
        First and last observed day.
    entry : str
        The study's clock.
    most : int
        How many at most, beside `holdout`.

    Returns
    -------
    tuple of Holdout, latest first
        As long as `holdout` each and one before the other, without overlap, as long as half of the observed period or more
        is left to learn from. Their `comparison` is not meant to be read.
    """
    if holdout is None:
        return ()
    days, found = round(holdout.weeks * DAYS_PER_WEEK), []
    observed = (observed_to - observed_from).days + 1
    for back in range(1, most + 1):
        end = observed_to - datetime.timedelta(days=back * days)
        known = observed - (back + 1) * days
        if known < max(observed / 2, days):
            break
        try:
            split = calibration_holdout(order_lines, end - datetime.timedelta(days=days), end)
        except ValueError:  # nobody had bought by then
            break
        test = evaluate_holdout(split, known, entry, replications=1)
        if not test.actual:
            break
        found.append(test)
    return tuple(found)


def expected_spend(models: FittedModels, summary: pd.DataFrame) -> Array:
    """Expected spend an occasion, shape (customers,): the spend model's, or where there is none the mean of all.

    Without a spend model each customer gets the base's mean over repeat occasions: no claim about a single one.
    """
    if models.spend is not None:
        return models.spend.expected_spend(summary["frequency"], summary["monetary_value"])
    return np.full(len(summary), mean_spend(summary))


def mean_spend(summary: pd.DataFrame) -> float:
    """Mean spend a repeat occasion over the whole base, money; NaN where nobody came back."""
    repeats = summary["frequency"].sum()
    return float((summary["frequency"] * summary["monetary_value"]).sum() / repeats) if repeats else float("nan")


def by_frequency(holdout: Holdout, top: int = 7, small_group: int = 1) -> pd.DataFrame:
    """Mean occasions in the holdout by repeat purchases before it, actual and forecast.

    Parameters
    ----------
    holdout : Holdout
    top : int
        Where most customers have at most `top` repeats the groups are 0, 1, …, `top` and more; otherwise they are
        sevenths of the customers.
    small_group : int
        Groups of fewer customers are merged with the one below.

    Returns
    -------
    DataFrame
        `group` (text such as "3" or "12–18"), `customers`, `actual`, and one column a forecast; lowest
        first.
    """
    frequency = holdout.frame["frequency"].to_numpy()
    if np.quantile(frequency, 0.75) <= top:
        return _by_group(holdout, np.minimum(frequency, top), frequency, small_group)
    return _by_group(holdout, _parts(frequency, 7), frequency, small_group)


def by_recency(holdout: Holdout, groups: int = 7, small_group: int = 1) -> pd.DataFrame:
    """Mean occasions in the holdout by weeks of silence before it, actual and forecast.

    Parameters
    ----------
    holdout : Holdout
    groups : int
        Groups of as many customers each as ties allow.
    small_group : int
        Groups of fewer customers are merged with the one below.

    Returns
    -------
    DataFrame
        As :func:`by_frequency`; `group` is the whole weeks since the last purchase, such as "3–7", fewest first.
    """
    silent = ((holdout.frame["T"] - holdout.frame["recency"]) // DAYS_PER_WEEK).to_numpy(int)
    return _by_group(holdout, _parts(silent, groups), silent, small_group)


def _parts(values: Array, parts: int) -> Array:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, parts + 1)[1:-1], method="inverted_cdf"))
    return np.searchsorted(edges, values, side="left")


def _by_group(holdout: Holdout, group: Array, measure: Array, small_group: int) -> pd.DataFrame:
    """Means by group of customers; labels are the range of `measure` in each."""
    columns = {f"forecast: {name}": name for name in holdout.scores["forecast"]}
    frame = holdout.frame.assign(group=_merged(group, small_group), measure=measure)
    grouped = frame.groupby("group")
    table = grouped[["holdout_frequency", *columns]].mean().rename(columns=columns | {"holdout_frequency": "actual"})
    low, high = grouped["measure"].min(), grouped["measure"].max()
    table.insert(0, "customers", grouped.size())
    labels = [str(a) if a == b else f"{a}–{b}" for a, b in zip(low, high, strict=True)]
    return table.reset_index(drop=True).assign(group=labels)[["group", *table.columns]]


def resamples(customers: int, replications: int, seed: int) -> Iterator[Array]:
    """Bootstrap samples of customers as counts of the rows, shape (customers,) each, so that none is materialised."""
    rng = np.random.default_rng(seed)
    for _ in range(replications):
        yield rng.multinomial(customers, np.full(customers, 1.0 / customers))


@dataclass(frozen=True)
class Ranking:
    """Customers in the order of a forecast, best first, with those that it cannot tell apart kept together.

    Attributes
    ----------
    order : array of shape (customers,)
    starts : array of shape (groups,)
        Where in `order` each group of equal forecasts begins.
    """

    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, forecast: ArrayLike) -> Ranking:
        """Rank by a forecast, shape (customers,)."""
        values = np.asarray(forecast, dtype=float)
        order = np.argsort(-values, kind="stable")
        return cls(order, np.flatnonzero(np.r_[True, np.diff(values[order]) != 0]))

    def captured(self, amount: Array, shares: ArrayLike, weights: Array | None = None) -> Array:
        """Share of an amount that the best-ranked `shares` of the customers bring, shape of `shares`.

        Customers with equal forecasts count as in a random order among themselves; NaN where the amount is zero.
        """
        weight = np.ones(len(self.order)) if weights is None else weights
        people = np.cumsum(np.add.reduceat(weight[self.order], self.starts))
        brought = np.cumsum(np.add.reduceat((weight * amount)[self.order], self.starts))
        at = np.interp(np.asarray(shares) * people[-1], np.r_[0.0, people], np.r_[0.0, brought])
        return at / brought[-1] if brought[-1] > 0 else np.full_like(at, np.nan)

    def ranks(self, weights: Array | None = None) -> Array:
        """Mid-rank of each customer, 0 for the best, shape (customers,)."""
        weight = np.ones(len(self.order)) if weights is None else weights
        size = np.add.reduceat(weight[self.order], self.starts)
        middle = np.cumsum(size) - size / 2.0
        ranks = np.empty(len(self.order))
        ranks[self.order] = np.repeat(middle, np.diff(np.r_[self.starts, len(self.order)]))
        return ranks


def _merged(group: Array, small_group: int) -> Array:
    """Number groups anew from 0, each of at least `small_group` members, merging from the top down."""
    numbers, counts = np.unique(group, return_counts=True)
    bounds, waiting = [], 0
    for number, count in zip(numbers[::-1], counts[::-1], strict=True):
        waiting += count
        if waiting >= small_group:
            bounds.append(number)
            waiting = 0
    bounds = bounds[:-1] if waiting and len(bounds) > 1 else bounds
    starts = np.sort(np.array(bounds, dtype=float))
    return np.maximum(np.searchsorted(starts, group, side="right") - 1, 0)


def _compare(errors: pd.DataFrame, models: list[str], heuristic: str, seed: int, replications: int) -> pd.DataFrame:
    n = len(errors)
    if not models or n < 2:
        return pd.DataFrame(columns=["model", "heuristic", *(f"{m}_{c}" for m in ("rmse", "mae") for c in _ENDS)])
    values = errors[[*models, heuristic]].to_numpy()
    parts = np.hstack([values**2, np.abs(values)])
    samples = np.array([sample @ parts / n for sample in resamples(n, replications, seed)])
    samples = np.vstack([parts.mean(axis=0), samples])
    split = values.shape[1]
    table: dict[str, object] = {"model": models, "heuristic": heuristic}
    for name, measure in (("rmse", np.sqrt(samples[:, :split])), ("mae", samples[:, split:])):
        difference = measure[:, :-1] - measure[:, -1:]
        low, high = np.quantile(difference[1:], [0.025, 0.975], axis=0)
        table |= dict(zip([f"{name}_{c}" for c in _ENDS], (difference[0], low, high), strict=True))
    return pd.DataFrame(table)
