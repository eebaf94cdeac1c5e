"""The track record: how the forecasts of the last run turned out so far.

The last run stated, customer by customer, how many purchases and how much margin its horizon would bring. Since then some
of that horizon has passed. Expected to date is what was forecast for the time that passed: from the model where its results are at
hand, else in proportion to time, which is a little too low for a base that is leaving, since those purchases come early.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd

from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import share_interval
from analysis.valuation.purchases import Array, PurchaseResults
from analysis.valuation.summary import DAYS_PER_WEEK, MONEY, purchase_days, to_frame

_Z = 1.959964
LEAST_WEEKS = 4.0
_LEAST_PURCHASES = 30


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
        Customers of the last run, and those who came since: they are in no forecast.
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
    results: PurchaseResults | None = None,
    summary: pd.DataFrame | None = None,
    small_group: int = 10,
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
    results, summary : PurchaseResults and DataFrame, optional
        The last run's model (weeks) and `customer_summary` (days): expected to date is then the model's own.
    small_group : int
        Least customers in a group.

    Returns
    -------
    TrackRecord
        With `reason` where it is too early: less than four weeks, fewer than 30 purchases expected, or nothing known.
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
    expected = np.zeros(0) if reason else _expected(known, weeks, horizon_weeks, results, summary)
    if not reason and expected.sum() < _LEAST_PURCHASES:
        reason = f"{expected.sum():.1f} purchases were expected so far; {_LEAST_PURCHASES} are needed"
    if reason:
        empty = pd.DataFrame(columns=["group", "customers", "expected", "actual", "ratio", "low", "high"])
        nothing = Estimate(float("nan"), reason=reason)
        total = float(expected.sum())
        return TrackRecord(
            reason, as_of, max(weeks, 0.0), horizon_weeks, len(known), 0, total, 0.0, nothing, nothing, empty, nothing
        )
    found = since(order_lines, as_of, until, annual_discount)
    mine = known[["customer_id"]].merge(found, on="customer_id", how="left")
    actual = mine["purchases"].fillna(0).to_numpy(float)
    spend = mine["spend"].fillna(0.0).to_numpy(float)
    newcomers = int((~found["known"] & (found["purchases"] > 0)).sum())
    over = elapsed >= horizon_weeks
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
        value_ratio=_value_ratio(known, spend, expected, margin),
        by_group=_by_group(expected, actual, small_group),
        coverage=_coverage(known, spend, margin, over, weeks, horizon_weeks),
    )


def _expected(
    known: pd.DataFrame,
    weeks: float,
    horizon_weeks: float,
    results: PurchaseResults | None,
    summary: pd.DataFrame | None,
) -> Array:
    stated = known["expected_purchases"].to_numpy(float)
    if results is None or summary is None:
        return stated * weeks / horizon_weeks
    base = summary.set_index("customer_id").reindex(known["customer_id"])
    if base["T"].isna().any():
        raise ValueError("track record: a customer of the last run is not in its summary; give both from one run")
    history = base["frequency"], base["recency"] / DAYS_PER_WEEK, base["T"] / DAYS_PER_WEEK
    # the share of the horizon's purchases that the model puts into the time passed, of what was stated
    whole = results.expected_purchases(horizon_weeks, *history)
    part = results.expected_purchases(weeks, *history)
    return stated * np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), weeks / horizon_weeks)


def _ratio(actual: Array, expected: Array) -> Estimate:
    """Actual for each one expected, with the delta method's interval over customers."""
    total = float(expected.sum())
    if not total > 0:
        return Estimate(float("nan"), reason="nothing was expected")
    ratio = float(actual.sum()) / total
    if len(actual) < 2:
        return Estimate(ratio, reason="one customer shows no spread")
    half = float(_Z * np.std(actual - ratio * expected, ddof=1) * np.sqrt(len(actual)) / total)
    return Estimate(ratio, max(ratio - half, 0.0), ratio + half)


def _value_ratio(known: pd.DataFrame, spend: Array, expected: Array, margin: float | None) -> Estimate:
    if margin is None or known["residual_value"].isna().any():
        return Estimate(float("nan"), reason="the study states neither costs nor a margin")
    stated = known["expected_purchases"].to_numpy(float)
    share = np.where(stated > 0, expected / np.where(stated > 0, stated, 1.0), 0.0)
    return _ratio(spend * margin, known["residual_value"].to_numpy(float) * share)


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
    known: pd.DataFrame, spend: Array, margin: float | None, over: bool, weeks: float, horizon_weeks: float
) -> Estimate:
    if margin is None or known[["clv_low", "clv_high", "existing_value"]].isna().any(axis=None):
        return Estimate(float("nan"), reason="the last run gave no intervals of value")
    if not over:
        return Estimate(
            float("nan"), reason=f"the intervals hold for {horizon_weeks:g} weeks, of which {weeks:.1f} have passed"
        )
    reached = known["existing_value"].to_numpy(float) + spend * margin
    near = 1e-9 * np.abs(reached) + 1e-9
    inside = int(((reached >= known["clv_low"] - near) & (reached <= known["clv_high"] + near)).sum())
    low, high = share_interval(inside, len(known))
    return Estimate(inside / len(known), float(low), float(high))
