"""Acquisition: what the customers of each channel bring and cost, and what one more unit of money would do.

The average and the margin are two questions. By channel: the value of the customers it brought, to date and expected,
less what was spent on winning them. At the margin: how many more customers one per cent more spend brings, which only a
spend that was varied can show. Where it was not, or where it merely follows the number of customers won (a fixed price
for each), the answer is "not identified", with the reason.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from analysis.valuation.cohorts import period_of, read_periods
from analysis.valuation.concentration import Estimate
from analysis.valuation.purchases import Array
from analysis.valuation.summary import MARGIN, line_margin, purchase_days, within

UNKNOWN = "unknown"
OTHERS = "others"
AGE_DAYS = 28
_BOOTSTRAP_SIZE = 10_000  # customers a draw; larger channels are drawn at this size and the spread is scaled
_BLOCK = 100  # draws at once, to bound memory
_LEAST_PERIODS = 8
_LEAST_VARIATION = 0.05  # standard deviation of log spend within a channel
_FIXED_PRICE = 0.02  # the same of log spend a new customer, below which spend follows the number won


@dataclass(frozen=True)
class ChannelValue:
    """Value and cost by channel.

    Attributes
    ----------
    frame : DataFrame
        A row a channel, the best net value first: `channel`, `customers`, `buyers` (of them, those with a value),
        `existing_value`, `expected_value`, `value` (both), `cost`, `net`, `net_low`, `net_high` (95 %), `value_per_customer`,
        `cost_per_customer`, `reason` (why there is no interval; else empty). Money.
    outside : int
        Customers acquired when no acquisition cost is on record; they and their value are left out.
    cost_outside : float
        Acquisition cost of periods outside the observed ones; left out.
    """

    frame: pd.DataFrame
    outside: int
    cost_outside: float


@dataclass(frozen=True)
class SpendResponse:
    """How a count responds to spend.

    Attributes
    ----------
    elasticity : Estimate
        Per cent more of the count for one per cent more spend; "not identified: …" where the data cannot tell.
    identified : bool
    observations, channels : int
    count, spend : float
        Totals behind it.
    overdispersion : float
        Pearson's chi-square over its degrees of freedom; NaN where nothing was fitted.
    """

    elasticity: Estimate
    identified: bool
    observations: int
    channels: int
    count: float
    spend: float
    overdispersion: float

    def per_money(self, value: float = 1.0) -> Estimate:
        """What one more unit of money would bring: elasticity × count / spend × the value of one."""
        e = self.elasticity
        if not self.identified:
            return Estimate(math.nan, reason=e.reason)
        ends = [end * self.count / self.spend * value for end in (e.value, e.low, e.high)]
        return Estimate(ends[0], min(ends[1:]), max(ends[1:]))


def channel_value(
    customers: pd.DataFrame,
    value: pd.DataFrame,
    marketing_costs: pd.DataFrame,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    small_group: int = 10,
    draws: int = 1000,
    seed: int = 1,
) -> ChannelValue:
    """By channel: what its customers bring, to date and expected, less what winning them cost.

    The interval is a percentile bootstrap over the customers of the channel, whose number and cost are known: it says how
    much the value of other such customers would have varied. That the expected value comes from a model is not in it.

    Parameters
    ----------
    customers : DataFrame
        `customer_id`, `acquisition_channel` and, where it is known, `acquired_on`.
    value : DataFrame
        `customer_id`, `existing_value`, `residual_value` (money); customers without a row have bought nothing.
    marketing_costs : DataFrame
        The canonical table; rows with purpose `acquire` count.
    observed_from, observed_to : date
    small_group : int
        Channels with fewer customers are joined as `others`, with the next smallest where they are too few together.
    draws : int
    seed : int

    Raises
    ------
    ValueError
        No channel is known, no acquisition cost is on record, or a value is missing.
    """
    known = customers["acquisition_channel"] if "acquisition_channel" in customers else pd.Series(dtype="str")
    if not known.notna().any():
        raise ValueError("acquisition: no customer has an acquisition_channel; map it in the study")
    costs, cost_outside = _acquisition_costs(marketing_costs, observed_from, observed_to)
    frame = customers[["customer_id"]].assign(channel=known.fillna(UNKNOWN))
    keep = np.ones(len(frame), dtype=bool)
    if "acquired_on" in customers:
        day = pd.to_datetime(customers["acquired_on"])
        at = _numbers(day, costs.attrs["period"])
        keep = (at.isna() | at.between(costs["at"].min(), costs["at"].max())).to_numpy()
    frame = frame[keep].merge(value[["customer_id", "existing_value", "residual_value"]], how="left", on="customer_id")
    bought = frame["customer_id"].isin(value["customer_id"])
    money = frame[["existing_value", "residual_value"]]
    if money[bought].isna().any(axis=None):
        raise ValueError("acquisition: the value of some customers is not known; state a margin in the study")
    frame[["existing_value", "residual_value"]] = money.fillna(0.0)
    frame["bought"] = bought
    spent = costs.groupby("channel")["amount"].sum()
    merged = _merged_names(
        frame["channel"].value_counts().reindex(spent.index.union(frame["channel"].unique()), fill_value=0), small_group
    )
    frame["channel"] = frame["channel"].map(merged)
    spent = spent.groupby(merged.reindex(spent.index)).sum()
    rng = np.random.default_rng(seed)
    rows = [
        _channel_row(name, frame[frame["channel"] == name], float(spent.get(name, 0.0)), small_group, draws, rng)
        for name in sorted(set(merged))
    ]
    table = pd.DataFrame(rows).sort_values(["net", "channel"], ascending=[False, True], ignore_index=True)
    return ChannelValue(table, int((~keep).sum()), cost_outside)


def margin_by_age(
    order_lines: ibis.Table,
    customers: ibis.Table,
    observed_to: datetime.date,
    margin_rate: float | None = None,
) -> pd.DataFrame:
    """Margin per buying customer in every four weeks since the first purchase, by channel, of fully observed ages only.

    Parameters
    ----------
    order_lines, customers : ibis.Table
        The canonical tables, of one engine.
    observed_to : date
    margin_rate : float, optional

    Returns
    -------
    DataFrame
        `channel`, `age` (0 for the first 28 days), `customers` (observed for all of that age), `margin` (money per one of
        them), `cumulative` (sum of `margin` up to that age). Channels in which a margin is unknown are left out.
    """
    days = purchase_days(order_lines, observed_to)
    first = days.group_by("customer_id").aggregate(first_day=days.order_date.min())
    named = customers.select("customer_id", channel=customers.acquisition_channel.fill_null(UNKNOWN))
    joined = first.left_join(named, "customer_id")
    came = joined.select("customer_id", "first_day", channel=joined.channel.fill_null(UNKNOWN))
    full = (ibis.literal(observed_to).delta(came.first_day, unit="day") + 1).cast("int64") // AGE_DAYS
    came = came.mutate(full=full.cast("int64"))
    lengths = came.group_by(["channel", "full"]).aggregate(customers=came.count()).to_pyarrow().to_pandas()
    lines = within(order_lines, observed_to)
    priced = lines.select(
        "customer_id", "order_date", "is_return", margin=line_margin(lines, margin_rate).cast(MARGIN)
    ).join(came, "customer_id")
    age = ibis.greatest(priced.order_date.delta(priced.first_day, unit="day").cast("int64"), 0) // AGE_DAYS
    aged = priced.mutate(age=age.cast("int64"))
    aged = aged.filter(aged.age < aged.full)
    sums = (
        aged.group_by(["channel", "age"])
        .aggregate(margin=aged.margin.sum().cast("float64"), unknown=aged.margin.isnull().any())
        .to_pyarrow()
        .to_pandas()
    )
    rows = []
    for channel, part in lengths.sort_values("channel").groupby("channel"):
        own = sums[sums["channel"] == channel].set_index("age")
        if own["unknown"].any():
            continue
        ages = np.arange(int(part["full"].max()))
        watched = np.array([part.loc[part["full"] > age, "customers"].sum() for age in ages], dtype=float)
        each = own["margin"].reindex(ages).fillna(0.0).to_numpy() / watched
        rows.append(
            pd.DataFrame(
                {
                    "channel": channel,
                    "age": ages,
                    "customers": watched.astype("int64"),
                    "margin": each,
                    "cumulative": np.cumsum(each),
                }
            )
        )
    columns = ["channel", "age", "customers", "margin", "cumulative"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def payback(curve: pd.DataFrame, cost_per_buyer: float, least: int = 30) -> Estimate:
    """Days from the first purchase within which cumulative margin per buyer has reached what winning a buyer cost.

    Parameters
    ----------
    curve : DataFrame
        One channel of :func:`margin_by_age`.
    cost_per_buyer : float
        Money.
    least : int
        Ages that fewer customers have reached do not count.

    Returns
    -------
    Estimate
        Days, in steps of 28; NaN with the reason where it has not been reached. It has no interval: it is read off the past.
    """
    seen = curve[curve["customers"] >= least]
    if seen.empty:
        return Estimate(math.nan, reason=f"fewer than {least} customers have been observed for {AGE_DAYS} days")
    if cost_per_buyer <= 0.0:
        return Estimate(0.0, reason="winning them cost nothing")
    reached = np.flatnonzero(seen["cumulative"].to_numpy(float) >= cost_per_buyer)
    if not len(reached):
        return Estimate(math.nan, reason=f"not within the {AGE_DAYS * len(seen)} days observed so far")
    days = AGE_DAYS * (int(reached[0]) + 1)
    return Estimate(float(days), reason="it is read off the past, of customers observed long enough")


def new_customers(
    customers: pd.DataFrame,
    marketing_costs: pd.DataFrame,
    observed_from: datetime.date,
    observed_to: datetime.date,
) -> pd.DataFrame:
    """Customers won and money spent on winning them, by channel and whole observed period.

    Parameters
    ----------
    customers : DataFrame
        `acquisition_channel` and `acquired_on`.
    marketing_costs : DataFrame
    observed_from, observed_to : date

    Returns
    -------
    DataFrame
        `channel`, `period` (number), `count`, `spend` (money; 0 where nothing is on record). Only channels with spend.

    Raises
    ------
    ValueError
        Without channels and days of acquisition, or without acquisition costs.
    """
    if not {"acquisition_channel", "acquired_on"} <= set(customers.columns):
        raise ValueError("acquisition: customers need acquisition_channel and acquired_on; map them in the study")
    costs, _ = _acquisition_costs(marketing_costs, observed_from, observed_to, whole=True)
    at = _numbers(pd.to_datetime(customers["acquired_on"]), costs.attrs["period"])
    won = customers.assign(at=at).groupby(["acquisition_channel", "at"]).size()
    numbers = np.arange(costs["at"].min(), costs["at"].max() + 1)
    grid = pd.MultiIndex.from_product([sorted(costs["channel"].unique()), numbers], names=["channel", "period"])
    spend = costs.groupby(["channel", "at"])["amount"].sum().reindex(grid, fill_value=0.0)
    return pd.DataFrame(
        {"count": won.reindex(grid, fill_value=0).to_numpy(), "spend": spend.to_numpy()}, index=grid
    ).reset_index()


def spend_response(observed: pd.DataFrame, alpha: float = 0.05) -> SpendResponse:
    """Elasticity of a count in what was spent on it, over channels and periods.

    A Poisson pseudo-likelihood regression of the count on the logarithm of spend with an effect of each channel and one trend;
    standard errors are robust to overdispersion (HC1), the interval is Student's. It shows cause only as far as spend was
    not itself set by how many customers were expected, and misses what arrives in a later period.

    Parameters
    ----------
    observed : DataFrame
        `channel`, `period` (number), `count`, `spend` (money): for new customers from :func:`new_customers`; for keeping
        customers the count may be of those who bought again.
    alpha : float

    Returns
    -------
    SpendResponse
        Its elasticity is NaN and says "not identified: …" where spend does not vary, follows the count, or too few periods
        were observed.
    """
    used = observed[(observed["spend"] > 0) & (observed["count"] >= 0)]
    used = used.groupby("channel").filter(lambda part: len(part) > 1 and part["count"].sum() > 0) if len(used) else used
    channels = int(used["channel"].nunique())
    reason = _not_identified(used)
    if used.empty and (observed["spend"] > 0).any():
        reason = "nothing came in the periods with spend, or each channel had only one"
    fitted = None
    if not reason:
        design, count = _design(used), used["count"].to_numpy(float)
        freedom = len(used) - design.shape[1]
        fitted = sm.GLM(count, design, family=sm.families.Poisson()).fit(cov_type="HC1", maxiter=200)
        error = float(fitted.bse[-1])
        if not (fitted.converged and np.isfinite(error) and freedom > 0):
            reason = "the regression did not settle"
    if reason:
        missing = Estimate(math.nan, reason=f"not identified: {reason}")
        return SpendResponse(
            missing, False, len(used), channels, float(used["count"].sum()), float(used["spend"].sum()), math.nan
        )
    value = float(fitted.params[-1])
    half = float(stats.t.ppf(1 - alpha / 2, freedom)) * error
    return SpendResponse(
        Estimate(value, value - half, value + half),
        True,
        len(used),
        channels,
        float(count.sum()),
        float(used["spend"].sum()),
        float(fitted.pearson_chi2 / freedom),
    )


def at_the_margin(
    acquire: SpendResponse, new_value: float, retain: SpendResponse | None = None, kept_value: float | None = None
) -> pd.DataFrame:
    """What one more unit of money would bring, spent on winning and on keeping customers.

    Parameters
    ----------
    acquire : SpendResponse
        Of new customers.
    new_value : float
        Expected value of a new customer, money, before its acquisition cost.
    retain : SpendResponse, optional
        Of customers who bought again, in spend on keeping them.
    kept_value : float, optional
        What one of them is worth, money.

    Returns
    -------
    DataFrame
        `purpose`, `elasticity`, `return_per_money` with `low` and `high` (1 = the money comes back), `reason`.
    """
    rows = []
    for purpose, response, each in (("acquire", acquire, new_value), ("retain", retain, kept_value)):
        if response is None or each is None:
            found, elasticity = Estimate(math.nan, reason="not identified: what was spent on it is not known"), math.nan
        else:
            found, elasticity = response.per_money(each), response.elasticity.value
        rows.append(
            {
                "purpose": purpose,
                "elasticity": elasticity,
                "return_per_money": found.value,
                "low": math.nan if found.low is None else found.low,
                "high": math.nan if found.high is None else found.high,
                "reason": found.reason or "",
            }
        )
    return pd.DataFrame(rows)


def _acquisition_costs(
    marketing_costs: pd.DataFrame, observed_from: datetime.date, observed_to: datetime.date, whole: bool = False
) -> tuple[pd.DataFrame, float]:
    acquire = marketing_costs[marketing_costs["purpose"] == "acquire"]
    if acquire.empty:
        raise ValueError("acquisition: marketing_costs hold no amount with purpose acquire")
    period, number = read_periods(acquire["period"])
    first, last = period_of(observed_from, period), period_of(observed_to, period)
    if whole:
        first += period_of(observed_from - datetime.timedelta(days=1), period) == first
        last -= period_of(observed_to + datetime.timedelta(days=1), period) == last
    costs = pd.DataFrame(
        {"channel": acquire["channel"].to_numpy(), "at": number, "amount": acquire["amount"].astype(float)}
    )
    inside = costs["at"].between(first, last)
    if not inside.any():
        raise ValueError("acquisition: no acquisition cost falls into the observed periods")
    kept = costs[inside].reset_index(drop=True)
    kept.attrs["period"] = period
    return kept, float(costs.loc[~inside, "amount"].sum())


def _numbers(day: pd.Series, period: str) -> pd.Series:
    """Number of the period of each day as :func:`analysis.valuation.cohorts.period_of` counts; null where unknown."""
    if period == "year":
        return day.dt.year
    part = day.dt.month - 1 if period == "month" else day.dt.quarter - 1
    return day.dt.year * (12 if period == "month" else 4) + part


def _merged_names(sizes: pd.Series, small_group: int) -> pd.Series:
    small = (sizes > 0) & (sizes < small_group)
    while small.any() and sizes[small].sum() < small_group and not small[sizes > 0].all():
        small[sizes[(sizes > 0) & ~small].idxmin()] = True
    return pd.Series(np.where(small, OTHERS, sizes.index), index=sizes.index)


def _channel_row(
    name: str, part: pd.DataFrame, cost: float, small_group: int, draws: int, rng: np.random.Generator
) -> dict[str, object]:
    n, existing, expected = len(part), float(part["existing_value"].sum()), float(part["residual_value"].sum())
    value = (part["existing_value"] + part["residual_value"]).to_numpy(float)
    low, high, reason = math.nan, math.nan, ""
    if n == 0:
        reason = "nobody came through it"
    elif n < max(small_group, 2):
        reason = "too few customers to show how their value varies"
    else:
        sums = _bootstrap_sums(value, draws, rng)
        low, high = (float(end) - cost for end in np.quantile(sums, [0.025, 0.975]))
    return {
        "channel": name,
        "customers": n,
        "buyers": int(part["bought"].sum()),
        "existing_value": existing,
        "expected_value": expected,
        "value": existing + expected,
        "cost": cost,
        "net": existing + expected - cost,
        "net_low": low,
        "net_high": high,
        "value_per_customer": (existing + expected) / n if n else math.nan,
        "cost_per_customer": cost / n if n else math.nan,
        "reason": reason,
    }


def _bootstrap_sums(value: Array, draws: int, rng: np.random.Generator) -> Array:
    """Sums over resampled customers; a large channel is resampled at a smaller size m, the spread scaled by √(m/n)."""
    n = len(value)
    m = min(n, _BOOTSTRAP_SIZE)
    blocks = [min(_BLOCK, draws - done) for done in range(0, draws, _BLOCK)]
    means = np.concatenate([value[rng.integers(0, n, (block, m))].mean(axis=1) for block in blocks])
    return n * (value.mean() + (means - value.mean()) * math.sqrt(m / n))


def _design(used: pd.DataFrame) -> Array:
    channel = pd.get_dummies(used["channel"], dtype=float).to_numpy()
    period = used["period"].to_numpy(float)
    trend = (period - period.mean()) / max(float(period.std()), 1.0)
    return np.column_stack([channel, trend, np.log(used["spend"].to_numpy(float))])


def _not_identified(used: pd.DataFrame) -> str:
    if used.empty:
        return "nothing was spent in a period that was observed in full"
    if used["period"].nunique() < _LEAST_PERIODS:
        return f"fewer than {_LEAST_PERIODS} periods have both spend and a count"
    spend = np.log(used["spend"].astype(float))
    within = spend - spend.groupby(used["channel"]).transform("mean")
    if within.std() < _LEAST_VARIATION:
        return "spend hardly varies between periods"
    some = used[used["count"] > 0]
    price = np.log(some["spend"].astype(float) / some["count"])
    if (price - price.groupby(some["channel"]).transform("mean")).std() < _FIXED_PRICE:
        return "spend is a fixed price for each customer won, so it follows their number"
    design = _design(used)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return "spend only follows a trend that everything else may follow too"
    return ""
