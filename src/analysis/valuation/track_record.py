"""The track record: how the forecasts of the last run turned out so far.

The last run stated, customer by customer, how many purchases and how much margin its horizon would bring. Since then some
of that horizon has passed. Expected to date is what was forecast, in proportion to the time that passed, which is a little too low
for a base that is leaving, since those purchases come early. Only customers who are still in the data are judged: one whose id has
changed is not one who stayed away.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd

from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import Z95, share_interval
from analysis.valuation.purchases import Array
from analysis.valuation.summary import DAYS_PER_WEEK, MONEY, purchase_days, to_frame

LEAST_WEEKS = 4.0
_LEAST_PURCHASES = 30
# Some customers leave the data by right (deletion, merged accounts); where more are missing than this leaves, ids have changed.
_LEAST_PRESENT = 0.9
# Where nothing was counted, the exact 95 % upper limit of a Poisson mean: exp(−limit) is half of 5 %.
_NONE_CAME = float(-np.log(0.025))


@dataclass(frozen=True)
class TrackRecord:
    """Forecasts of the last run against what came.

    Attributes
    ----------
    reason : str
        Why nothing can be said yet; empty otherwise. The tables are empty then.
    as_of : date
        The last observed day of the last run.
    weeks : float
        That have passed since, at most the horizon.
    horizon_weeks : float
    customers, newcomers : int
        Customers of the last run who are judged, and those who came since: they are in no forecast.
    expected, actual : float
        Purchases to date.
    ratio : Estimate
        Actual purchases for each one expected, with a 95 % interval over customers.
    value_ratio : Estimate
        The same for margin; without an interval, and with the reason, where it cannot be had.
    by_group : DataFrame
        Equal groups by expected purchases, best first: `group`, `customers`, `expected`, `actual` (a customer), `ratio` with
        `low`, `high`.
    coverage : Estimate
        Share of customers whose value lies within `clv_low` to `clv_high`; with the reason where the horizon is not over.
    missing : int
        Customers of the last run without a purchase up to `as_of` in the present data: nothing is said of them.
    """

    reason: str
    as_of: datetime.date
    weeks: float
    horizon_weeks: float
    customers: int
    newcomers: int
    expected: float
    actual: float
    ratio: Estimate
    value_ratio: Estimate
    by_group: pd.DataFrame
    coverage: Estimate
    missing: int = 0

    @property
    def judged(self) -> bool:
        """Whether anything can be said."""
        return not self.reason


def since(
    order_lines: ibis.Table, as_of: datetime.date, until: datetime.date, annual_discount: float = 0.0
) -> pd.DataFrame:
    """What every customer has done after a day, one row a customer with an order line.

    Parameters
    ----------
    order_lines : ibis.Table
    as_of, until : date
        After the first, up to and including the second.
    annual_discount : float
        A rate a year; spend is discounted to `as_of` by it.

    Returns
    -------
    DataFrame, sorted by `customer_id`
        `customer_id`, `known` (had an occasion by `as_of`), `purchases` (occasions since), `spend` (all net amounts since,
        returns included, discounted).
    """
    days = purchase_days(order_lines, until)
    bought = days.group_by(days.customer_id.cast("string").name("customer_id")).aggregate(
        known=(days.order_date <= ibis.literal(as_of)).any(),
        purchases=(days.order_date > ibis.literal(as_of)).cast("int64").sum(),
    )
    late = order_lines.filter(
        (order_lines.order_date > ibis.literal(as_of)) & (order_lines.order_date <= ibis.literal(until))
    )
    years = late.order_date.delta(ibis.literal(as_of), unit="day").cast("float64") / 365.25
    amount = late.net_amount.cast(MONEY).cast("float64") * (-np.log1p(annual_discount) * years).exp()
    spent = late.group_by(late.customer_id.cast("string").name("customer_id")).aggregate(spend=amount.sum())
    joined = bought.left_join(spent, "customer_id")
    return to_frame(joined.select("customer_id", "known", "purchases", spend=joined.spend.fill_null(0.0)))


def track_record(
    value: pd.DataFrame,
    order_lines: ibis.Table,
    *,
    as_of: datetime.date,
    observed_to: datetime.date,
    horizon_weeks: float,
    margin: float | None = None,
    annual_discount: float = 0.0,
    small_group: int = 10,
    currencies: tuple[str | None, str | None] = (None, None),
) -> TrackRecord:
    """Hold the last run's `customer_value` against what came since.

    Parameters
    ----------
    value : DataFrame
        The last run's: `customer_id`, `expected_purchases`, `residual_value`, `existing_value`, `clv_low`, `clv_high`.
    order_lines : ibis.Table
        The present ones.
    as_of : date
        The last observed day of the last run.
    observed_to : date
        The present one.
    horizon_weeks : float
        Of the last run.
    margin : float, optional
        Margin as a share of sales; without it values are not judged.
    annual_discount : float
        The last run's.
    small_group : int
        Least customers in a group.
    currencies : pair of str, optional
        Of the last run and of the present data; money is not judged where both are known and differ.

    Returns
    -------
    TrackRecord
        With `reason` where nothing can be said: less than four weeks, fewer than 30 purchases expected, nothing known, or
        fewer than 90 % of the customers still in the data.
    """
    elapsed = (observed_to - as_of).days / DAYS_PER_WEEK
    weeks = min(elapsed, float(horizon_weeks))
    until = min(observed_to, as_of + datetime.timedelta(days=int(horizon_weeks * DAYS_PER_WEEK)))
    known = value[value["expected_purchases"].notna()].sort_values("customer_id", ignore_index=True)
    reason = ""
    if elapsed < LEAST_WEEKS:
        reason = (
            f"{max(elapsed, 0.0):.1f} weeks have passed since the last run’s data ended; {LEAST_WEEKS:g} are needed"
        )
    elif known.empty:
        reason = "the last run expected nothing: nobody had come back by then"
    if reason:
        return _nothing(reason, as_of, weeks, horizon_weeks, len(known))
    found = since(order_lines, as_of, until, annual_discount)
    present = known["customer_id"].isin(found.loc[found["known"], "customer_id"])
    of, known = len(known), known[present]
    missing = of - len(known)
    expected = known["expected_purchases"].to_numpy(float) * weeks / horizon_weeks
    if len(known) < _LEAST_PRESENT * of:
        reason = (
            f"{missing:,} of {of:,} customers of that edition are not in the data up to {as_of}: "
            "their ids, or the key that hides them, have changed"
        )
    elif expected.sum() < _LEAST_PURCHASES:
        reason = f"{expected.sum():.1f} purchases were expected so far; {_LEAST_PURCHASES} are needed"
    if reason:
        return _nothing(reason, as_of, weeks, horizon_weeks, len(known), float(expected.sum()), missing)
    came = known[["customer_id"]].merge(found, on="customer_id")
    actual, spend = came["purchases"].to_numpy(float), came["spend"].to_numpy(float)
    newcomers = int((~found["known"] & (found["purchases"] > 0)).sum())
    no_money = _no_money(margin, currencies)
    return TrackRecord(
        reason="",
        as_of=as_of,
        weeks=weeks,
        horizon_weeks=horizon_weeks,
        customers=len(known),
        newcomers=newcomers,
        expected=float(expected.sum()),
        actual=float(actual.sum()),
        ratio=_ratio(actual, expected),
        value_ratio=_value_ratio(known, spend, weeks / horizon_weeks, margin, no_money),
        by_group=_by_group(expected, actual, small_group),
        coverage=_coverage(known, spend, margin, no_money, elapsed, horizon_weeks),
        missing=missing,
    )


def _nothing(
    reason: str,
    as_of: datetime.date,
    weeks: float,
    horizon_weeks: float,
    customers: int,
    expected: float = 0.0,
    missing: int = 0,
) -> TrackRecord:
    empty = pd.DataFrame(columns=["group", "customers", "expected", "actual", "ratio", "low", "high"])
    no = Estimate(float("nan"), reason=reason)
    since_then = reason, as_of, max(weeks, 0.0), horizon_weeks, customers, 0, expected, 0.0
    return TrackRecord(*since_then, no, no, empty, no, missing)


def _no_money(margin: float | None, currencies: tuple[str | None, str | None]) -> str:
    """Why money cannot be judged; empty where it can."""
    then, now = currencies
    if then and now and then != now:
        return f"that edition counted in {then}, the study counts in {now} now"
    return "the study states neither costs nor a margin" if margin is None else ""


def _ratio(actual: Array, expected: Array, purchases: float | None = None) -> Estimate:
    """Actual for each one expected, with the delta method's interval over customers.

    Where nothing came, customers show no spread although chance has: the interval is the exact one of a Poisson count,
    of `purchases` expected where the two count something else.
    """
    total = float(expected.sum())
    if not total > 0:
        return Estimate(float("nan"), reason="nothing was expected")
    ratio = float(actual.sum()) / total
    if not actual.any():
        return Estimate(0.0, 0.0, _NONE_CAME / (total if purchases is None else purchases))
    if len(actual) < 2:
        return Estimate(ratio, reason="one customer shows no spread")
    half = float(Z95 * np.std(actual - ratio * expected, ddof=1) * np.sqrt(len(actual)) / total)
    return Estimate(ratio, max(ratio - half, 0.0), ratio + half)


def _value_ratio(known: pd.DataFrame, spend: Array, passed: float, margin: float | None, no_money: str) -> Estimate:
    if no_money:
        return Estimate(float("nan"), reason=no_money)
    if known["residual_value"].isna().any():
        return Estimate(float("nan"), reason="the study states neither costs nor a margin")
    purchases = float(known["expected_purchases"].sum()) * passed
    return _ratio(spend * margin, known["residual_value"].to_numpy(float) * passed, purchases)


def _by_group(expected: Array, actual: Array, small_group: int) -> pd.DataFrame:
    count = max(1, min(10, len(expected) // max(small_group, 1)))
    order = np.argsort(-expected, kind="stable")
    rows = []
    for g, rows_of in enumerate(np.array_split(order, count), start=1):
        found = _ratio(actual[rows_of], expected[rows_of])
        rows.append(
            {
                "group": g,
                "customers": len(rows_of),
                "expected": expected[rows_of].mean(),
                "actual": actual[rows_of].mean(),
                "ratio": found.value,
                "low": found.low,
                "high": found.high,
            }
        )
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def _coverage(
    known: pd.DataFrame, spend: Array, margin: float | None, no_money: str, elapsed: float, horizon_weeks: float
) -> Estimate:
    if no_money and margin is not None:
        return Estimate(float("nan"), reason=no_money)
    if margin is None or known[["clv_low", "clv_high", "existing_value"]].isna().any(axis=None):
        return Estimate(float("nan"), reason="the last run gave no intervals of value")
    if elapsed < horizon_weeks:
        return Estimate(
            float("nan"), reason=f"the intervals hold for {horizon_weeks:g} weeks, of which {elapsed:.1f} have passed"
        )
    reached = known["existing_value"].to_numpy(float) + spend * margin
    near = 1e-9 * np.abs(reached) + 1e-9
    inside = int(((reached >= known["clv_low"] - near) & (reached <= known["clv_high"] + near)).sum())
    low, high = share_interval(inside, len(known))
    return Estimate(inside / len(known), float(low), float(high))
