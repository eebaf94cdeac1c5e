"""From order lines to one row a customer, on the engine that holds the lines.

Everything is an Ibis expression over grouped tables: no window over all rows, no order line in pandas. Money
stays decimal until the last step, so that sums do not depend on the order in which rows are read.
"""

from __future__ import annotations

import datetime

import ibis
import pandas as pd

MONEY = "decimal(18, 4)"
MARGIN = "decimal(38, 8)"  # a decimal of 4 places times a rate of 4 places
DAYS_PER_WEEK = 7.0


def purchase_days(order_lines: ibis.Table, observed_to: datetime.date | None = None) -> ibis.Table:
    """One row a customer and occasion: a local day on which the customer's net spend was above zero.

    Parameters
    ----------
    order_lines : ibis.Table
        With `customer_id`, `order_date` (the day in the study's time zone) and `net_amount`.
    observed_to : date, optional
        Last day that counts.

    Returns
    -------
    ibis.Table
        `customer_id`, `order_date`, `spend` (decimal).
    """
    lines = within(order_lines, observed_to)
    days = lines.group_by(["customer_id", "order_date"]).aggregate(spend=lines.net_amount.cast(MONEY).sum())
    return days.filter(days.spend > 0)


def customer_summary(
    order_lines: ibis.Table, observed_to: datetime.date, margin_rate: float | None = None
) -> ibis.Table:
    """One row a customer with at least one purchase occasion, up to and including `observed_to`.

    Parameters
    ----------
    order_lines : ibis.Table
        The canonical table; `cost` is used where it is there.
    observed_to : date
        The last observed day; ages and days since the last purchase are counted to it, never to today.
    margin_rate : float, optional
        Margin as a share of net sales, for lines whose cost is unknown.

    Returns
    -------
    ibis.Table
        `customer_id`; `frequency` (occasions after the first); `recency` (days, first to last occasion); `T`
        (days, first occasion to `observed_to`); `monetary_value` (mean spend of the occasions after the first,
        0 where there are none, as in lifetimes); `recency_days` (days since the last occasion); `orders`
        (distinct orders that are not returns); `spend` (all net amounts, returns included); `margin` (net
        amount less cost where a line states its cost, otherwise `margin_rate` × net amount; null where any
        line of the customer allows neither). A returned line gives its cost back.

    Notes
    -----
    A customer whose every day nets to zero or less has never been on an occasion and has no row here:
    :func:`without_purchase` counts them and their money.
    """
    lines = within(order_lines, observed_to)
    days = purchase_days(order_lines, observed_to)
    clock = days.group_by("customer_id").aggregate(
        first_day=days.order_date.min(),
        last_day=days.order_date.max(),
        occasions=days.count(),
        repeat_spend=days.spend.sum() - days.spend.argmin(days.order_date),
    )
    priced = lines.mutate(line_margin=line_margin(lines, margin_rate).cast(MARGIN))
    money = priced.group_by("customer_id").aggregate(
        orders=priced.order_id.nunique(where=~priced.is_return),
        spend=priced.net_amount.cast(MONEY).sum(),
        margin=priced.line_margin.sum().cast(MARGIN),
        unknown=priced.line_margin.isnull().any(),
    )
    end = ibis.literal(observed_to)
    base = clock.join(money, "customer_id")
    frequency = (base.occasions - 1).cast("int64")
    return base.select(
        customer_id=base.customer_id.cast("string"),
        frequency=frequency,
        recency=base.last_day.delta(base.first_day, unit="day").cast("float64"),
        T=end.delta(base.first_day, unit="day").cast("float64"),
        monetary_value=ibis.ifelse(
            frequency > 0, base.repeat_spend.cast("float64") / frequency.nullif(0).cast("float64"), 0.0
        ),
        recency_days=end.delta(base.last_day, unit="day").cast("float64"),
        orders=base.orders.cast("int64"),
        spend=base.spend.cast("float64"),
        margin=ibis.ifelse(base.unknown, ibis.null("float64"), base.margin.cast("float64")),
    )


def without_purchase(order_lines: ibis.Table, observed_to: datetime.date) -> dict[str, float]:
    """Customers whom the summary leaves out because no day of theirs nets above zero.

    Returns
    -------
    dict
        `customers` (count) and `spend` (the sum of their net amounts, money).
    """
    lines = within(order_lines, observed_to)
    buyers = purchase_days(order_lines, observed_to).select("customer_id").distinct()
    rest = lines.anti_join(buyers, "customer_id")
    total = rest.aggregate(
        customers=rest.customer_id.nunique(), spend=rest.net_amount.cast(MONEY).sum().cast("float64")
    )
    row = total.to_pyarrow().to_pylist()[0]
    return {"customers": int(row["customers"]), "spend": float(row["spend"] or 0.0)}


def calibration_holdout(
    order_lines: ibis.Table, calibration_end: datetime.date, observed_to: datetime.date
) -> pd.DataFrame:
    """Split every customer's history at a day: what a model may see, and what it has to foresee.

    Parameters
    ----------
    order_lines : ibis.Table
    calibration_end : date
        Last day that a model sees.
    observed_to : date
        Last day of the holdout; must be later.

    Returns
    -------
    DataFrame, one row a customer with an occasion by `calibration_end`, sorted by `customer_id`
        `customer_id`; `frequency`, `recency`, `T`, `monetary_value` as in :func:`customer_summary`, and `litt` as in
        :func:`purchase_timing`, seen from `calibration_end`; `recent_frequency` and `recent_spend` (occasions, and their
        spend, in the last stretch of the calibration that is as long as the holdout); `recent_repeats` (the same without the
        very first occasion); `holdout_frequency` and `holdout_spend` (occasions and their spend after
        `calibration_end`). Times in days. `frame.attrs["holdout_days"]` is the length of the holdout.

    Raises
    ------
    ValueError
        When the holdout would be empty, or nobody bought before it.
    """
    holdout_days = (observed_to - calibration_end).days
    if holdout_days <= 0:
        raise ValueError(f"holdout: calibration_end {calibration_end} is not before observed_to {observed_to}")
    days = _with_log_gap(purchase_days(order_lines, observed_to))
    first = days.group_by("customer_id").aggregate(first_day=days.order_date.min())
    dated = days.join(first.filter(first.first_day <= calibration_end), "customer_id")
    seen = dated.order_date <= calibration_end
    recent = seen & (dated.order_date > calibration_end - datetime.timedelta(days=holdout_days))
    repeat = dated.order_date > dated.first_day
    nothing = ibis.literal(0).cast(MONEY)

    def count(condition: ibis.ir.BooleanValue) -> ibis.ir.IntegerScalar:
        return condition.cast("int64").sum()

    def money(condition: ibis.ir.BooleanValue) -> ibis.ir.Scalar:
        return ibis.ifelse(condition, dated.spend, nothing).sum().cast("float64")

    split = dated.group_by(dated.customer_id.cast("string").name("customer_id")).aggregate(
        first_day=dated.first_day.min(),
        last_day=dated.order_date.max(where=seen),
        frequency=count(seen & repeat),
        repeat_spend=money(seen & repeat),
        litt=dated.log_gap.sum(where=seen).cast("float64").fill_null(0.0),
        recent_frequency=count(recent),
        recent_repeats=count(recent & repeat),
        recent_spend=money(recent),
        holdout_frequency=count(~seen),
        holdout_spend=money(~seen),
    )
    frame = to_frame(split)
    if frame.empty:
        raise ValueError(f"holdout: nobody bought on or before {calibration_end}; choose a shorter holdout")
    first_day, last_day = pd.to_datetime(frame.pop("first_day")), pd.to_datetime(frame.pop("last_day"))
    repeat_spend = frame.pop("repeat_spend")
    frame.insert(2, "recency", (last_day - first_day).dt.days.astype(float))
    frame.insert(3, "T", (pd.Timestamp(calibration_end) - first_day).dt.days.astype(float))
    frame.insert(4, "monetary_value", (repeat_spend / frame["frequency"].where(frame["frequency"] > 0)).fillna(0.0))
    frame.attrs["holdout_days"] = holdout_days
    return frame


def purchase_timing(order_lines: ibis.Table, observed_to: datetime.date) -> pd.DataFrame:
    """How regular each customer's purchases were: what a model of regular timing needs beside the summary.

    Returns
    -------
    DataFrame, one row a customer with an occasion, sorted by `customer_id`
        `customer_id`; `litt`, the sum of the logarithms of the times between occasions, in days (0 where there was one).
    """
    days = _with_log_gap(purchase_days(order_lines, observed_to))
    return to_frame(
        days.group_by(days.customer_id.cast("string").name("customer_id")).aggregate(
            litt=days.log_gap.sum().cast("float64").fill_null(0.0)
        )
    )


def _with_log_gap(days: ibis.Table) -> ibis.Table:
    """Occasions with the logarithm of the days since the customer's last one (decimal); null for the first."""
    own = ibis.window(group_by="customer_id", order_by="order_date")
    gap = days.order_date.delta(days.order_date.lag().over(own), unit="day")
    # As decimals, so that sums do not depend on the order in which rows are read.
    return days.mutate(log_gap=gap.cast("float64").ln().cast("decimal(18, 10)"))


def recent_activity(order_lines: ibis.Table, observed_to: datetime.date, days: int) -> pd.DataFrame:
    """Occasions in the last `days` days of observation, one row a customer who had one.

    Returns
    -------
    DataFrame
        `customer_id`; `recent_frequency` (occasions); `recent_repeats` (those after the customer's first).
    """
    occasions = purchase_days(order_lines, observed_to)
    first = occasions.group_by("customer_id").aggregate(first_day=occasions.order_date.min())
    dated = occasions.join(first, "customer_id")
    late = dated.filter(dated.order_date > ibis.literal(observed_to - datetime.timedelta(days=days)))
    counted = late.group_by(late.customer_id.cast("string").name("customer_id")).aggregate(
        recent_frequency=late.count(), recent_repeats=(late.order_date > late.first_day).cast("int64").sum()
    )
    return to_frame(counted)


def to_frame(table: ibis.Table) -> pd.DataFrame:
    """A table of one row a customer as a frame sorted by `customer_id`, so that sums do not depend on the engine."""
    return table.to_pyarrow().to_pandas().sort_values("customer_id", ignore_index=True)


def within(order_lines: ibis.Table, observed_to: datetime.date | None) -> ibis.Table:
    if observed_to is None:
        return order_lines
    return order_lines.filter(order_lines.order_date <= ibis.literal(observed_to))


def line_margin(lines: ibis.Table, margin_rate: float | None) -> ibis.Value:
    sold = lines.net_amount.cast(MONEY)
    by_rate = None if margin_rate is None else sold * ibis.literal(f"{margin_rate:.4f}").cast("decimal(10, 4)")
    if "cost" not in lines.columns:
        return ibis.null(MARGIN) if by_rate is None else by_rate
    cost = lines.cost.cast(MONEY)
    by_cost = sold - ibis.ifelse(lines.is_return, -cost, cost)
    return by_cost if by_rate is None else ibis.coalesce(by_cost.cast(MARGIN), by_rate.cast(MARGIN))
