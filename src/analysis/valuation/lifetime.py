"""What each customer is worth: what they have brought, and what they are expected to bring.

Definitions, all in margin and not in sales:

* `existing_value`: margin up to the last observed day, undiscounted;
* `residual_value`: expected margin over the horizon from then on, each purchase discounted to the last observed
  day. Decisions about a customer look at this column: the past is spent whatever one does;
* `clv` = `existing_value` + `residual_value`: the customer's lifetime value, from the first observed purchase
  to the end of the horizon. What lifetimes, PyMC-Marketing and CLVTools call CLV is our `residual_value`;
* `clv_low`, `clv_high`: a 95 % prediction interval. The past is known, so all of its width is the future's;

Profit so far is counted in :mod:`analysis.valuation.profit`, growth potential in :mod:`analysis.valuation.potential`.

The base's totals (purchases, sales, margin) have 95 % prediction intervals too: they are meant to hold what the base will
really do, not its expectation. They put together three things: what customers do by chance, how well the parameters
are known, and the part of the forecast's total error in the holdout, and in the same test at earlier days, that these two
do not explain (root mean square). A forecast that was off by no more than chance keeps the interval of its model, so chance is
not counted twice; one that was off by more is taken to be off again by as much, either way, over the horizon, however much
longer that is than the tests. `make coverage` shows how often they hold.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.valuation.concentration import Estimate
from analysis.valuation.holdout import (
    HEURISTICS,
    LAST_PERIOD,
    SAME_RATE,
    Holdout,
    expected_spend,
    same_rate,
)
from analysis.valuation.intervals import Z95
from analysis.valuation.models import FittedModels
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import Array, PurchaseResults
from analysis.valuation.spend import GammaGammaResults
from analysis.valuation.summary import DAYS_PER_WEEK, in_weeks

WEEKS_PER_YEAR = 365.25 / DAYS_PER_WEEK
_CHUNK = 20_000
_REPEATS = 8  # futures at each drawn set of parameters
_FUTURES = 20  # a customer, behind the variance of the base's total
_STEP = 1e-3  # of a standard error, for derivatives
_SMALLEST_GROUP = 30
_TEST_GROUPS = 10
_TEST_CUSTOMERS = 4_000  # that represent the base where a test's chance is measured


@dataclass(frozen=True)
class Doubt:
    """By how much forecasts went astray in tests, beyond what chance and well-known parameters explain.

    Attributes
    ----------
    purchases, sales : float
        Of the base's totals, as a share of what is foreseen: root mean square over the tests.
    between : float
        Of a group's sales beside the total's, as a share, for a group that is expected to bring as much as the mean or
        more: root mean square over the groups of all tests. NaN where too few customers were tested.
    tests : DataFrame
        A row a test, earliest first: `origin` (last day known), `until`, `forecast`, `foreseen` and `came` (purchases),
        `miss` (what came, relative to what was foreseen, less 1), `beyond` (its part beyond chance).
    """

    purchases: float
    sales: float
    between: float
    tests: pd.DataFrame

    def of_groups(self, mean: Array) -> Array:
        """That of the sales of groups that are expected to bring `mean` a customer, as a share, shape of `mean`.

        Where little is expected, a share of it means little too: beside the total's, a group's own part grows, like
        that of chance, with the root of what is expected less. It grows no smaller for those who bring the most.
        """
        if not np.isfinite(self.between):
            return np.full(np.shape(mean), self.sales)
        return np.hypot(self.sales, self.between * np.sqrt(_scarce(mean)))


def _scarce(mean: Array) -> Array:
    """How many times less than the mean over equal groups is expected of each, at least 1."""
    return np.maximum(np.mean(mean) / np.where(mean > 0, mean, np.inf), 1.0) if len(mean) else mean


@dataclass(frozen=True)
class CustomerValue:
    """The value of every customer and of the base.

    Attributes
    ----------
    frame : DataFrame
        The canonical `customer_value` without profit and potential, sorted by `customer_id`.
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
    purchases : Estimate
        Total expected purchases of the base over the horizon, with a 95 % prediction interval.
    existing, residual, expected_sales : Estimate
        Totals over the base, money. `residual` is null without a margin.
    purchases_doubt, sales_doubt : float or None
        The share of purchases and of sales by which forecasts were missed in the tests, beyond what chance explains, and
        which widens the totals' intervals; None without a holdout.
    horizon_weeks : int
    doubt : Doubt or None
        The same, with that of groups and the tests behind it.
    """

    frame: pd.DataFrame
    forecast: str
    forecast_kind: str
    alive_model: str | None
    alive_reason: str
    spend_model: bool
    interval: str
    margin: float | None
    purchases: Estimate
    existing: Estimate
    residual: Estimate
    expected_sales: Estimate
    purchases_doubt: float | None
    sales_doubt: float | None
    horizon_weeks: int
    doubt: Doubt | None = None

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
        For a rate below 0, or one that is no number.
    """
    if annual_rate is None:
        return 0.0
    if not 0.0 <= annual_rate < np.inf:
        raise ValueError(f"discount rate: {annual_rate!r} a year is no rate from 0 up; write 0.10 for 10 %")
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
    """The forecast that values the base.

    The holdout decides between models and plain rules. Where a model wins, or nothing could be held out, the model with
    the smallest AIC is taken: the likelihood of the whole period tells models apart that a few held-out weeks do not.
    Where customers are older than the data (`entry` "left_truncated") the likelihoods rest on ages that nobody knows, so
    the holdout's winner is taken, as long as it can be fitted, and without a holdout the customer's own rate so far.
    """
    truncated = entry == "left_truncated"
    if models.purchases and not truncated and (holdout is None or holdout.best_kind == "model"):
        return min(models.purchases, key=lambda name: models.purchases[name].aic)
    if holdout is not None:
        for name in holdout.scores["forecast"]:
            if name in models.purchases or name in HEURISTICS:
                return str(name)
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
    draws: int = 400,
    seed: int = 1,
    earlier: Sequence[Holdout] = (),
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
    draws : int
        Simulated futures a customer.
    seed : int
    earlier : sequence of Holdout
        From :func:`analysis.valuation.earlier_holdouts`: tests that say, beside `holdout`, how far totals go astray.

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
    alive = models.purchases[alive_model].probability_alive(*in_weeks(base)) if alive_model else None

    if name in models.purchases:
        results = models.purchases[name]
        purchases = results.expected_purchases(horizon_weeks, *in_weeks(base))
        discounted = results.expected_purchases(horizon_weeks, *in_weeks(base), discount=discount)
        sales = discounted * spend
        low, high = _simulated(base, models, name, horizon_weeks, discount, spend, draws, seed)
        # where a purchase is less likely than 1 in 20 the limits are both zero and would leave the mean outside
        low, high = np.minimum(low, sales), np.maximum(high, sales)
        interval = "simulation"
    else:
        purchases = _heuristic(name, base, recent, holdout, horizon_weeks, window_days, entry)
        sales = purchases * spend * mean_discount(discount, horizon_weeks)
        low, high = _from_holdout_errors(sales, name, holdout, horizon_weeks)
        interval = "none" if holdout is None else "holdout"
    if not (base["frequency"] > 0).any():
        # nobody came back: a forecast of zero for all of them would be a claim, and there is no evidence for it
        purchases, sales, low, high = (np.full(len(base), np.nan) for _ in range(4))
    spread = _spread(base, models, name, holdout, horizon_weeks, seed)[:, 0]
    doubt = None if holdout is None else _doubt((holdout, *earlier), name, seed, observed_to)
    missed = (None, None) if doubt is None else (doubt.purchases, doubt.sales)

    if share is None or not np.isfinite(low).any():
        interval = "none"
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
            "clv_low": existing + np.minimum(low * factor, high * factor),
            "clv_high": existing + np.maximum(low * factor, high * factor),
            "existing_value": existing,
            "residual_value": residual,
        }
    )
    expected_sales = _total(float(sales.sum()), spread[1], missed[1])
    return CustomerValue(
        frame=frame,
        forecast=name,
        forecast_kind="model" if name in models.purchases else "heuristic",
        alive_model=alive_model,
        alive_reason=alive_reason,
        spend_model=models.spend is not None,
        interval=interval,
        margin=share,
        purchases=_total(float(purchases.sum()), spread[0], missed[0]),
        existing=Estimate(float(existing.sum()), reason="it is the past, counted and not estimated")
        if np.isfinite(existing).all()
        else Estimate(float("nan"), reason="the study states neither costs nor a margin"),
        residual=_scaled(expected_sales, share),
        expected_sales=expected_sales,
        purchases_doubt=missed[0],
        sales_doubt=missed[1],
        horizon_weeks=horizon_weeks,
        doubt=doubt,
    )


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
    key = _worth(value.frame).name
    count = max(1, min(groups, len(frame) // max(small_group, 1)))
    grouped = frame.groupby(best_first(frame[key], frame["customer_id"], count) + 1)
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


def _worth(frame: pd.DataFrame) -> pd.Series:
    """What customers are ranked by: `residual_value`, or `expected_sales` where no margin is known."""
    if frame["residual_value"].notna().all():
        return frame["residual_value"]
    return (frame["expected_purchases"] * frame["expected_spend"]).rename("expected_sales")


def best_first(amount: Array, customer_id: pd.Series, count: int) -> Array:
    """Number, from 0, of the group of each customer when all are cut into `count` groups of equal size, largest amount first."""
    order = np.lexsort((customer_id.to_numpy(str), -np.nan_to_num(np.asarray(amount, float))))
    group = np.empty(len(order), np.int64)
    group[order] = np.arange(len(order)) * count // max(len(order), 1)
    return group


def with_group_limits(
    groups: pd.DataFrame,
    value: CustomerValue,
    summary: pd.DataFrame,
    models: FittedModels,
    holdout: Holdout | None,
    seed: int = 1,
) -> pd.DataFrame:
    """Value groups with the limits between which a group's mean is expected to end.

    Parameters
    ----------
    groups : DataFrame
        From :func:`value_groups`.
    value, summary, models, holdout
        As :func:`customer_value` took and gave them.

    Returns
    -------
    DataFrame
        `groups` with `group_low` and `group_high`: 95 % prediction limits of the mean a customer of `residual_value`, or of
        `expected_sales` where no margin is known. They hold what the base's interval holds, group by group: chance, how well
        parameters are known, the doubt about the base's total, and by how much groups were missed beside it, all of them
        together (see :class:`Doubt`): the one miss of one group says next to nothing of its next. Without `holdout` the
        doubt is left out. NaN where a plain rule could not be tested, or foresees nothing for a whole group.
    """
    count, base = len(groups), summary.sort_values("customer_id", ignore_index=True)
    mean = groups["expected_sales" if value.margin is None else "residual_value"].to_numpy(float)
    group = best_first(_worth(value.frame), base["customer_id"], count)
    spread = _spread(base, models, value.forecast, holdout, value.horizon_weeks, seed, group)[1, :count]
    known = holdout is not None and value.doubt is not None
    half = Z95 * np.abs(mean) * np.hypot(spread, value.doubt.of_groups(np.abs(mean)) if known else 0.0)
    # what is bought is not below 0, so money is not beyond 0 on the other side of what is expected
    low, high = (mean + side * half for side in (-1.0, 1.0))
    return groups.assign(
        group_low=np.where(mean > 0, np.maximum(low, 0.0), low),
        group_high=np.where(mean < 0, np.minimum(high, 0.0), high),
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
) -> tuple[Array, Array]:
    """95 % prediction limits of discounted sales a customer.

    Parameters are drawn from their sampling distribution; at each set, futures are drawn for every customer:
    whether they are still one, how long they stay, how often they buy, what they spend. When purchases fall
    within the time a customer stays enters by its mean discount factor. Where the lower limit is zero, no future lies
    below it, so all of the 5 % that the interval leaves out lie above.
    """
    results = models.purchases[name]
    sets = max(1, draws // _REPEATS)
    rng = np.random.default_rng(seed)
    purchase_params = results.draw_params(sets, rng)
    spend_params = models.spend.draw_params(sets, rng) if models.spend is not None else None
    x, t_x, age = in_weeks(base)
    mean = base["monetary_value"].to_numpy(float)
    low, high = np.empty(len(base)), np.empty(len(base))
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
        low[rows], upper, one_sided = np.quantile(np.concatenate(drawn), [0.025, 0.975, 0.95], axis=0)
        high[rows] = np.where(low[rows] > 0, upper, one_sided)
    return low, high


def _from_holdout_errors(sales: Array, name: str, holdout: Holdout | None, horizon: int) -> tuple[Array, Array]:
    """95 % limits of sales a customer from the errors that the forecast made in the holdout.

    Customers of the holdout are grouped by what was forecast for them (at least 30 a group); the 2.5 % and
    97.5 % points of a group's errors (actual less forecast spend) are carried over in proportion to the length
    of the horizon. That is wide where errors even out over time and right where they persist.
    """
    missing = np.full(len(sales), np.nan)
    if holdout is None:
        return missing, missing
    forecast = holdout.forecast(name) * expected_spend(holdout.models, holdout.frame)
    actual = holdout.frame["holdout_spend"].to_numpy(float)
    if len(forecast) < _SMALLEST_GROUP or not np.isfinite(forecast).all():
        return missing, missing
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
    return np.clip(sales + mine[:, 0], 0.0, sales), sales + np.maximum(mine[:, 1], 0.0)


def _spread(
    base: pd.DataFrame,
    models: FittedModels,
    name: str,
    holdout: Holdout | None,
    horizon: float,
    seed: int,
    group: Array | None = None,
    most: int = _CHUNK,
) -> Array:
    """Standard deviation, as a share, of purchases and of sales around a forecast: by group, then of the total.

    For a model it is the model's own: what customers do by chance (variances over futures drawn at the estimates, which
    add up because customers are independent) and how well the parameters are known (delta method on the log scale). A
    base of more than `most` is represented by every k-th customer, so that the cost does not grow with it. Discounting
    changes both the sum and its deviation, so their ratio is taken without.
    For a plain rule it is what the errors over customers in the holdout say; NaN without one.
    `group` numbers the groups of `base` from 0; all are one group without it. Shape (2, groups + 1).
    """
    group = np.zeros(len(base), np.int64) if group is None else group
    count = int(group.max()) + 1
    if name not in models.purchases:
        return np.concatenate([_spread_of_errors(holdout, name, groups) for groups in (count, 1)], axis=1)
    stride = -(-len(base) // most)
    part, results, rng = base.iloc[::stride], models.purchases[name], np.random.default_rng(seed)
    group = group[::stride]
    weeks, spend = in_weeks(part), expected_spend(models, part)
    bought, _ = results.simulate_future(horizon, *weeks, rng, size=_FUTURES)
    if models.spend is None:
        money = bought * spend
    else:
        money = models.spend.simulate_spend(bought, weeks[0], part["monetary_value"].to_numpy(float), rng)
    by_chance = _sums(group, count, bought.var(axis=0, ddof=1), money.var(axis=0, ddof=1))

    def sums(counted: Array, each: Array) -> Array:
        return _sums(group, count, counted, counted * each)

    expected = results.expected_purchases(horizon, *weeks)
    slopes = [
        sums(up.expected_purchases(horizon, *weeks) - down.expected_purchases(horizon, *weeks), spend)
        for up, down in _nearby(results)
    ]
    for up, down in _nearby(models.spend) if models.spend is not None else ():
        each = [at.expected_spend(part["frequency"], part["monetary_value"]) for at in (up, down)]
        slopes.append(sums(expected, each[0]) - sums(expected, each[1]))
        slopes[-1][0] = 0.0  # what they spend changes nothing in how often they buy
    by_parameters = np.square(_with_total(np.array(slopes))).sum(axis=0) / (2 * _STEP) ** 2
    total = _with_total(sums(expected, spend))
    return np.sqrt(_with_total(by_chance) / stride + by_parameters) / np.where(total > 0, total, np.nan)


def _with_total(by_group: Array) -> Array:
    """Sums by group and, last, over all groups."""
    return np.concatenate([by_group, by_group.sum(axis=-1, keepdims=True)], axis=-1)


def _nearby(results: PurchaseResults | GammaGammaResults) -> Iterator[tuple]:
    """The same fit a small step up and down along each independent direction of its parameters' sampling distribution."""
    for direction in np.linalg.cholesky(results.log_cov).T:
        yield tuple(results.with_params(results.params * np.exp(way * _STEP * direction)) for way in (1, -1))


def _sums(group: Array, count: int, *columns: Array) -> Array:
    """Sums of `columns` by group, shape (columns, count)."""
    return np.array([np.bincount(group, column, count) for column in columns])


def _spread_of_errors(holdout: Holdout | None, name: str, count: int = 1) -> Array:
    if holdout is None or len(holdout.frame) < _SMALLEST_GROUP * count:
        return np.full((2, count), np.nan)
    forecast, actual = _tested(holdout, name)
    group = best_first(forecast[1], holdout.frame["customer_id"], count)
    people, totals = np.bincount(group, minlength=count), _sums(group, count, *forecast)
    errors = actual - forecast
    variance = _sums(group, count, *errors**2) - _sums(group, count, *errors) ** 2 / people
    return np.sqrt(variance * people / np.maximum(people - 1, 1)) / np.where(totals > 0, totals, np.nan)


def _tested(holdout: Holdout, name: str) -> tuple[Array, Array]:
    """Purchases and sales a customer in the holdout, forecast and actual: each of shape (2, customers)."""
    bought = holdout.forecast(name)
    forecast = np.array([bought, bought * expected_spend(holdout.models, holdout.frame)])
    return forecast, holdout.frame[["holdout_frequency", "holdout_spend"]].to_numpy(float).T


def _doubt(tests: Sequence[Holdout], name: str, seed: int, observed_to: datetime.date) -> Doubt:
    """What `tests`, latest first and one after the other up to `observed_to`, say of a forecast's errors beyond chance.

    Squared, a miss beyond chance is the squared miss less the variance that chance gives it, and no less than 0. The mean
    square over the tests is that of the total. A group's own miss is what is left of it after the total's; divided by how
    much of it its size explains (:func:`_scarce`), its square less that of chance is averaged over all groups of all tests.
    """
    beyond, own, rows = [], [], []
    until = observed_to
    for test in tests:
        # a forecast that could not be tested is taken to miss as the best that could
        used = name if name in set(test.scores["forecast"]) else test.best
        ratio, chance, scarce = _misses(test, used, seed)
        beyond.append(np.maximum((ratio[:, -1] - 1.0) ** 2 - chance[:, -1] ** 2, 0.0))
        aside = (ratio[1, :-1] / ratio[1, -1] - 1.0) ** 2 - chance[1, :-1] ** 2
        own.append(aside / scarce)
        foreseen, came = float(test.forecast(used).sum()), float(test.actual)
        origin = until - datetime.timedelta(days=round(test.weeks * DAYS_PER_WEEK))
        rows.append((origin, until, used, foreseen, came, ratio[0, -1] - 1.0, float(np.sqrt(beyond[-1][0]))))
        until = origin
    total = np.sqrt(np.mean(np.nan_to_num(beyond), axis=0))
    pooled = np.concatenate(own)
    pooled = pooled[np.isfinite(pooled)]
    between = float(np.sqrt(max(pooled.mean(), 0.0))) if len(pooled) else float("nan")
    columns = ["origin", "until", "forecast", "foreseen", "came", "miss", "beyond"]
    return Doubt(*total.tolist(), between, pd.DataFrame(rows[::-1], columns=columns))


def _misses(test: Holdout, name: str, seed: int) -> tuple[Array, Array, Array]:
    """What came for each unit foreseen, and its standard deviation by chance: purchases and sales, by group and in all, each
    of shape (2, groups + 1); and how many times less than the mean was expected of each group. Groups are equal, ranked by
    the forecast, of `_SMALLEST_GROUP` customers at least; one has no group beside the total.
    """
    count = max(1, min(_TEST_GROUPS, len(test.frame) // _SMALLEST_GROUP))
    each = _tested(test, name)
    group = best_first(each[0][1], test.frame["customer_id"], count)
    forecast, actual = (_with_total(_sums(group, count, *side)) for side in each)
    ratio = actual / np.where(forecast > 0, forecast, np.nan)
    chance = _spread(test.frame, test.models, name, test, test.weeks, seed, group, most=_TEST_CUSTOMERS)
    return ratio, np.nan_to_num(chance), _scarce(forecast[1, :-1] / np.bincount(group, minlength=count))


def _total(value: float, spread: float, doubt: float | None) -> Estimate:
    if not np.isfinite(value):
        return Estimate(value, reason="nobody has come back yet, so there is nothing to expect a value from")
    if not np.isfinite(spread):
        return Estimate(value, reason="the observed period is too short, or the base too small, to test the forecast")
    half = Z95 * value * float(np.hypot(spread, doubt or 0.0))
    return Estimate(value, max(value - half, 0.0), value + half)


def _scaled(estimate: Estimate, share: float | None) -> Estimate:
    if share is None:
        return Estimate(float("nan"), reason="the study states neither costs nor a margin")
    if estimate.low is None or estimate.high is None:
        return Estimate(estimate.value * share, reason=estimate.reason)
    # a margin below 0 turns the ends round
    return Estimate(estimate.value * share, *sorted((estimate.low * share, estimate.high * share)), estimate.reason)
