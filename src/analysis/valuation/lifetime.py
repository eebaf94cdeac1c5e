"""What each customer is worth: what they have brought, and what they are expected to bring.

Definitions, all in margin and not in sales:

* `existing_value`: margin up to the last observed day, undiscounted;
* `residual_value`: expected margin over the horizon from then on, each purchase discounted to the last observed
  day. Decisions about a customer look at this column: the past is spent whatever one does;
* `clv` = `existing_value` + `residual_value`: the customer's lifetime value, from the first observed purchase
  to the end of the horizon. What lifetimes, PyMC-Marketing and CLVTools call CLV is our `residual_value`;
* `clv_low`, `clv_high`: a 95 % prediction interval. The past is known, so all of its width is the future's;
* `profit`: existing margin less the cost of serving the customer's orders, where the study states that cost.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.valuation.concentration import Estimate
from analysis.valuation.holdout import (
    LAST_PERIOD,
    SAME_RATE,
    Holdout,
    expected_spend,
    same_rate,
)
from analysis.valuation.models import FittedModels
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import Array
from analysis.valuation.summary import DAYS_PER_WEEK

WEEKS_PER_YEAR = 365.25 / DAYS_PER_WEEK
_CHUNK = 20_000
_REPEATS = 8
_SMALLEST_GROUP = 30


@dataclass(frozen=True)
class CustomerValue:
    """The value of every customer and of the base.

    Attributes
    ----------
    frame : DataFrame
        The canonical `customer_value`, sorted by `customer_id`.
    forecast : str
        Where expected purchases come from: a model's or a heuristic's name.
    forecast_kind : str
        "model" or "heuristic".
    alive_model : str or None
        Where `probability_alive` comes from; None leaves it null.
    alive_reason : str
        Why it is null; empty otherwise.
    spend_model : bool
        True when expected spend comes from the gamma-gamma model, False when it is the base's mean.
    interval : str
        How intervals were made: "simulation" (futures drawn at parameters drawn from their sampling distribution),
        "holdout" (errors of the forecast in the holdout, carried over in proportion), or "none".
    margin : float or None
        Margin as a share of sales that the future is valued at.
    existing, residual, expected_sales : Estimate
        Totals over the base, money. `residual` is null without a margin. Their intervals combine the spread over
        customers with the total error that the forecast made in the holdout.
    miss : float or None
        That total error: forecast over actual spend in the holdout, less one.
    horizon_weeks : int
    """

    frame: pd.DataFrame
    forecast: str
    forecast_kind: str
    alive_model: str | None
    alive_reason: str
    spend_model: bool
    interval: str
    margin: float | None
    existing: Estimate
    residual: Estimate
    expected_sales: Estimate
    miss: float | None
    horizon_weeks: int

    @property
    def known(self) -> bool:
        """Whether there is anything to expect a value from."""
        return bool(np.isfinite(self.expected_sales.value))

    @property
    def headline(self) -> Estimate:
        """The base's total over the horizon: margin, or sales where no margin is known."""
        return self.expected_sales if self.margin is None else self.residual


def weekly_discount(annual_rate: float | None) -> float:
    """Continuous discount rate a week that equals an annual rate: ln(1 + annual) / weeks in a year.

    Raises
    ------
    ValueError
        For a rate of −100 % or less.
    """
    if annual_rate is None:
        return 0.0
    if annual_rate <= -1.0:
        raise ValueError(f"discount rate: {annual_rate:g} a year leaves nothing; write 0.10 for 10 %")
    return float(np.log1p(annual_rate) / WEEKS_PER_YEAR)


def margin_share(summary: pd.DataFrame, margin_rate: float | None) -> float | None:
    """Margin as a share of sales: the base's own where every customer's margin is known, else the stated rate."""
    margin, spend = summary.get("margin"), float(summary["spend"].sum())
    if margin is not None and margin.notna().all() and spend > 0:
        return float(margin.sum() / spend)
    return margin_rate


def mean_discount(discount: float, horizon: Array | float) -> Array | float:
    """Mean discount factor of purchases spread evenly over a horizon: (1 − exp(−δh)) / (δh)."""
    exponent = discount * np.asarray(horizon, dtype=float)
    safe = np.where(exponent > 0, exponent, 1.0)
    return np.where(exponent > 0, -np.expm1(-safe) / safe, 1.0)


def choose_forecast(models: FittedModels, holdout: Holdout | None, entry: str) -> str:
    """The forecast that values the base: the holdout's winner, as long as it can be fitted on the whole period.

    Without a holdout the model with the highest likelihood is taken, and where customers are older than the data
    (`entry` "left_truncated"), or no model fits, the customer's own rate so far.
    """
    if holdout is not None:
        for name in holdout.scores["forecast"]:
            if name in models.purchases or name in (SAME_RATE, LAST_PERIOD):
                return str(name)
    if models.purchases and entry != "left_truncated":
        return max(models.purchases, key=lambda name: models.purchases[name].llf)
    return SAME_RATE


def customer_value(
    summary: pd.DataFrame,
    models: FittedModels,
    holdout: Holdout | None,
    *,
    horizon_weeks: int,
    observed_from: datetime.date,
    observed_to: datetime.date,
    entry: str = "first_purchase",
    recent: pd.DataFrame | None = None,
    margin_rate: float | None = None,
    discount_rate: float | None = None,
    cost_to_serve: float | None = None,
    draws: int = 400,
    seed: int = 1,
) -> CustomerValue:
    """Value every customer of the base.

    Parameters
    ----------
    summary : DataFrame
        The canonical `customer_summary` (times in days).
    models : FittedModels
        Fitted on `summary`.
    holdout : Holdout or None
        None where the observed period is too short for one.
    horizon_weeks : int
    observed_from, observed_to : date
        First and last observed day.
    entry : str
        The study's clock. With "left_truncated" the age of a customer is a lower bound and a probability of being
        alive would be an artefact: it stays null.
    recent : DataFrame, optional
        From :func:`analysis.valuation.recent_activity`, over a stretch as long as the holdout; needed when "last
        period" may be the winner.
    margin_rate, discount_rate : float, optional
        Margin as a share of sales; discount a year. Without a margin, values are null.
    cost_to_serve : float, optional
        Cost of one order, money.
    draws : int
        Simulated futures a customer.
    seed : int

    Returns
    -------
    CustomerValue
    """
    base = summary.sort_values("customer_id", ignore_index=True)
    window_days = (observed_to - observed_from).days + 1
    name = choose_forecast(models, holdout, entry)
    discount = weekly_discount(discount_rate)
    share = margin_share(base, margin_rate)
    spend = expected_spend(models, base)
    alive_model, alive_reason = _alive_source(models, entry)
    alive = models.purchases[alive_model].probability_alive(*_weeks(base)) if alive_model else None

    if name in models.purchases:
        results = models.purchases[name]
        purchases = results.expected_purchases(horizon_weeks, *_weeks(base))
        discounted = results.expected_purchases(horizon_weeks, *_weeks(base), discount=discount)
        sales = discounted * spend
        low, high, spread = _simulated(base, models, name, horizon_weeks, discount, spend, draws, seed)
        # where a purchase is less likely than 1 in 40 the limits are both zero and would leave the mean outside
        low, high = np.minimum(low, sales), np.maximum(high, sales)
        interval = "simulation"
    else:
        purchases = _heuristic(name, base, recent, holdout, horizon_weeks, window_days, entry)
        sales = purchases * spend * mean_discount(discount, horizon_weeks)
        low, high, spread = _from_holdout_errors(sales, name, holdout, horizon_weeks)
        interval = "none" if holdout is None else "holdout"
    if not (base["frequency"] > 0).any():
        # nobody came back: a forecast of zero for all of them would be a claim, and there is no evidence for it
        purchases, sales, low, high = (np.full(len(base), np.nan) for _ in range(4))
    miss = None if holdout is None else spend_miss(holdout, name)

    known = base["margin"] if "margin" in base else pd.Series(np.nan, index=base.index)
    factor = np.nan if share is None else share
    existing = known.to_numpy(float)
    residual = sales * factor
    frame = pd.DataFrame(
        {
            "customer_id": base["customer_id"],
            "probability_alive": np.nan if alive is None else alive,
            "expected_purchases": purchases,
            "expected_spend": spend,
            "clv": existing + residual,
            "clv_low": existing + low * factor,
            "clv_high": existing + high * factor,
            "existing_value": existing,
            "residual_value": residual,
        }
    )
    if cost_to_serve is not None:
        frame["profit"] = existing - cost_to_serve * base["orders"].to_numpy(float)
    expected_sales = _total(float(sales.sum()), spread, miss)
    return CustomerValue(
        frame=frame,
        forecast=name,
        forecast_kind="model" if name in models.purchases else "heuristic",
        alive_model=alive_model,
        alive_reason=alive_reason,
        spend_model=models.spend is not None,
        interval=interval,
        margin=share,
        existing=Estimate(float(existing.sum()), reason="it is the past, counted and not estimated")
        if np.isfinite(existing).all()
        else Estimate(float("nan"), reason="the study states neither costs nor a margin"),
        residual=_scaled(expected_sales, share),
        expected_sales=expected_sales,
        miss=miss,
        horizon_weeks=horizon_weeks,
    )


def spend_miss(holdout: Holdout, name: str) -> float | None:
    """Total error of a forecast's spend in the holdout: forecast over actual, less one; None where nobody bought."""
    actual = float(holdout.frame["holdout_spend"].sum())
    forecast = holdout.forecast(name) * expected_spend(holdout.models, holdout.frame)
    return float(forecast.sum() / actual - 1.0) if actual > 0 else None


def value_groups(value: CustomerValue, groups: int = 10, small_group: int = 10) -> pd.DataFrame:
    """The base cut into equal groups by what customers are expected to bring, best first.

    Parameters
    ----------
    value : CustomerValue
    groups : int
        Tenths by default; fewer where a group would hold fewer than `small_group` customers.
    small_group : int

    Returns
    -------
    DataFrame
        `group` (1 = best), `customers`, and means a customer: `probability_alive`, `expected_purchases`,
        `existing_value`, `residual_value`, `clv`; `residual_share` and `existing_share` of the base's totals;
        `expected_sales` a customer, undiscounted.
    """
    frame = value.frame.assign(expected_sales=value.frame["expected_purchases"] * value.frame["expected_spend"])
    key = "residual_value" if frame["residual_value"].notna().all() else "expected_sales"
    count = max(1, min(groups, len(frame) // max(small_group, 1)))
    ranked = frame.sort_values([key, "customer_id"], ascending=[False, True], ignore_index=True)
    grouped = ranked.groupby(np.arange(len(ranked)) * count // len(ranked) + 1)
    means = [
        "probability_alive",
        "expected_purchases",
        "expected_sales",
        "existing_value",
        "residual_value",
        "clv",
    ]
    table = grouped[means].mean().rename_axis("group").reset_index()
    table.insert(1, "customers", grouped.size().to_numpy())
    for source, share in (("existing_value", "existing_share"), (key, "residual_share")):
        total = frame[source].sum()
        table[share] = grouped[source].sum().to_numpy() / total if total else np.nan
    return table


def _weeks(base: pd.DataFrame) -> tuple[Array, Array, Array]:
    return (
        base["frequency"].to_numpy(float),
        base["recency"].to_numpy(float) / DAYS_PER_WEEK,
        base["T"].to_numpy(float) / DAYS_PER_WEEK,
    )


def _alive_source(models: FittedModels, entry: str) -> tuple[str | None, str]:
    if entry == "left_truncated":
        return None, "customers were there before the data begin, so their age is unknown"
    leaving = [name for name, results in models.purchases.items() if results.model.can_leave]
    if not leaving:
        return None, "no model of how customers leave could be fitted"
    # under BG/NBD everybody without a repeat purchase is alive for certain, so it comes second
    return (ParetoNBD.name if ParetoNBD.name in leaving else leaving[0]), ""


def _heuristic(
    name: str,
    base: pd.DataFrame,
    recent: pd.DataFrame | None,
    holdout: Holdout | None,
    horizon_weeks: int,
    window_days: float,
    entry: str,
) -> Array:
    if name == LAST_PERIOD and holdout is not None:
        if recent is None:
            raise ValueError("customer_value: 'last period' won the holdout; give recent, the counts of that period")
        column = "recent_frequency" if entry == "left_truncated" else "recent_repeats"
        counts = recent.set_index("customer_id")[column].reindex(base["customer_id"]).fillna(0.0)
        return counts.to_numpy(float) * horizon_weeks / holdout.weeks
    horizon_days = horizon_weeks * DAYS_PER_WEEK
    return same_rate(base["frequency"].to_numpy(float), base["T"].to_numpy(float), horizon_days, entry, window_days)


def _simulated(
    base: pd.DataFrame,
    models: FittedModels,
    name: str,
    horizon: int,
    discount: float,
    mean_spend: Array,
    draws: int,
    seed: int,
) -> tuple[Array, Array, float]:
    """95 % prediction limits of discounted sales a customer, and the relative spread of their total.

    Parameters are drawn from their sampling distribution; at each set, futures are drawn for every customer:
    whether they are still one, how long they stay, how often they buy, what they spend. When purchases fall
    within the time a customer stays enters by its mean discount factor.
    """
    results = models.purchases[name]
    sets = max(1, draws // _REPEATS)
    rng = np.random.default_rng(seed)
    purchase_params = results.draw_params(sets, rng)
    spend_params = models.spend.draw_params(sets, rng) if models.spend is not None else None
    x, t_x, age = _weeks(base)
    mean = base["monetary_value"].to_numpy(float)
    low, high = np.empty(len(base)), np.empty(len(base))
    totals = np.zeros(sets * _REPEATS)
    for start in range(0, len(base), _CHUNK):
        rows = slice(start, start + _CHUNK)
        drawn = []
        for k in range(sets):
            at = results.with_params(purchase_params[k])
            bought, active = at.simulate_future(horizon, x[rows], t_x[rows], age[rows], rng, size=_REPEATS)
            if spend_params is None:
                money = bought * mean_spend[rows]
            else:
                money = models.spend.with_params(spend_params[k]).simulate_spend(bought, x[rows], mean[rows], rng)
            drawn.append((money * mean_discount(discount, active)).astype(np.float32))
        futures = np.concatenate(drawn)
        low[rows], high[rows] = np.quantile(futures, [0.025, 0.975], axis=0)
        totals += futures.sum(axis=1, dtype=float)
    return low, high, float(totals.std(ddof=1) / totals.mean()) if totals.mean() > 0 else float("nan")


def _from_holdout_errors(sales: Array, name: str, holdout: Holdout | None, horizon: int) -> tuple[Array, Array, float]:
    """95 % limits of sales a customer from the errors that the forecast made in the holdout, and their spread.

    Customers of the holdout are grouped by what was forecast for them (at least 30 a group); the 2.5 % and
    97.5 % points of a group's errors (actual less forecast spend) are carried over in proportion to the length
    of the horizon. That is wide where errors even out over time and right where they persist.
    """
    missing = np.full(len(sales), np.nan)
    if holdout is None:
        return missing, missing, float("nan")
    forecast = holdout.forecast(name) * expected_spend(holdout.models, holdout.frame)
    actual = holdout.frame["holdout_spend"].to_numpy(float)
    if len(forecast) < _SMALLEST_GROUP or not np.isfinite(forecast).all():
        return missing, missing, float("nan")
    groups = max(1, min(10, len(forecast) // _SMALLEST_GROUP))
    edges = np.unique(np.quantile(forecast, np.linspace(0, 1, groups + 1)[1:-1]))
    group = np.searchsorted(edges, forecast, side="left")
    limits = np.array(
        [
            np.quantile((actual - forecast)[group == g], [0.025, 0.975]) if (group == g).any() else [np.nan, np.nan]
            for g in range(len(edges) + 1)
        ]
    )
    stretch = horizon / holdout.weeks
    mine = limits[np.searchsorted(edges, sales / stretch, side="left")] * stretch
    spread = np.std(actual - forecast, ddof=1) * np.sqrt(len(actual)) / forecast.sum() if forecast.sum() > 0 else np.nan
    return np.clip(sales + mine[:, 0], 0.0, sales), sales + np.maximum(mine[:, 1], 0.0), float(spread)


def _total(value: float, spread: float, miss: float | None) -> Estimate:
    if not np.isfinite(value):
        return Estimate(value, reason="nobody has come back yet, so there is nothing to expect a value from")
    if not np.isfinite(spread):
        return Estimate(value, reason="the observed period is too short, or the base too small, to test the forecast")
    half = 1.959964 * value * float(np.hypot(spread, miss or 0.0))
    return Estimate(value, max(value - half, 0.0), value + half)


def _scaled(estimate: Estimate, share: float | None) -> Estimate:
    if share is None:
        return Estimate(float("nan"), reason="the study states neither costs nor a margin")
    ends = [None if end is None else end * share for end in (estimate.low, estimate.high)]
    return Estimate(estimate.value * share, *ends, estimate.reason)
