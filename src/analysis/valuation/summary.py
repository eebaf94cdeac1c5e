"""From order lines to one row a customer, on the engine that holds the lines.

Everything is an Ibis expression over grouped tables: no window over all rows, no order line in pandas. Money
stays decimal until the last step, so that sums do not depend on the order in which rows are read.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

import ibis
import pandas as pd
from numpy.typing import NDArray

MONEY = "decimal(18, 4)"
MARGIN = "decimal(38, 8)"  # a decimal of 4 places times a rate of 4 places
RATE = "decimal(10, 4)"
# A sum of money that is exact on every engine even times a rate: Spark rounds what would need more than 38 digits.
SUMMED = "decimal(26, 4)"
DAYS_PER_WEEK = 7.0


def purchase_days(order_lines: ibis.Table, observed_to: datetime.date | None = None) -> ibis.Table:
    """One row a customer and occasion: a local day on which the customer's net spend was above zero.

    Parameters
    ----------
    order_lines : ibis.Table
        With `customer_id`, `order_date` (the day in the study's time zone) and `net_amount`; or a table that this
        function returned, to which only `observed_to` is then applied. So whoever needs the days several times
        keeps them once, ``days = purchase_days(order_lines).cache()``, and hands them on in place of the lines.
    observed_to : date, optional
        Last day that counts.

    Returns
    -------
    ibis.Table
        `customer_id`, `order_date`, `spend` (decimal).
    """
    if are_purchase_days(order_lines):
        return _until(order_lines, observed_to)
    lines = within(order_lines, observed_to)
    days = lines.group_by(["customer_id", "order_date"]).aggregate(spend=lines.net_amount.cast(MONEY).sum())
    return days.filter(days.spend > 0)


def are_purchase_days(table: ibis.Table) -> bool:
    """Whether a table is what :func:`purchase_days` returns, rather than order lines."""
    return set(table.columns) == {"customer_id", "order_date", "spend"}


def customer_summary(
    order_lines: ibis.Table,
    observed_to: datetime.date,
    margin_rate: float | None = None,
    columns: Sequence[str] | None = None,
) -> ibis.Table:
    """One row a customer with at least one purchase occasion, up to and including `observed_to`.

    Parameters
    ----------
    order_lines : ibis.Table
        The canonical table; `cost` is used where it is there. Its :func:`purchase_days` will do where `columns` asks
        for none of `orders`, `spend` and `margin`.
    observed_to : date
        The last observed day; ages and days since the last purchase are counted to it, never to today.
    margin_rate : float, optional
        Margin as a share of net sales, for lines whose cost is unknown.
    columns : sequence of str, optional
        Only these beside `customer_id`, in this order, and only the work that they need: what a purchase model takes,
        `frequency`, `recency`, `T` and `monetary_value`, costs about half of the whole.

    Returns
    -------
    ibis.Table
        `customer_id`; `frequency` (occasions after the first); `recency` (days, first to last occasion); `T`
        (days, first occasion to `observed_to`); `monetary_value` (mean spend of the occasions after the first,
        0 where there are none, as in lifetimes); `recency_days` (days since the last occasion); `orders`
        (distinct orders that are not returns); `spend` (all net amounts, returns included); `margin` (net
        amount less cost where a line states its cost, otherwise `margin_rate` × net amount; null where any
        line of the customer allows neither). A returned line gives its cost back.

    Raises
    ------
    ValueError
        When `columns` names one that is not among these, or `order_lines` hold too little for it.

    Notes
    -----
    A customer whose every day nets to zero or less has never been on an occasion and has no row here:
    :func:`without_purchase` counts them and their money.
    """
    made = _summary_columns(observed_to)
    wanted = ["customer_id", *(name for name in (made if columns is None else columns) if name != "customer_id")]
    unknown = [name for name in wanted if name not in made]
    if unknown:
        raise ValueError(f"customer summary: no column {', '.join(unknown)}; there are {', '.join(made)}")
    if {"spend", "margin"}.intersection(wanted):
        base = _by_customer(within(order_lines, observed_to), margin_rate)
    else:
        base = _histories(purchase_days(order_lines, observed_to))
    if "orders" in wanted:
        base = base.left_join(_order_counts(within(order_lines, observed_to)), "customer_id")
    return base.select(**{name: made[name] for name in wanted})


def _summary_columns(observed_to: datetime.date) -> dict[str, Callable[[ibis.Table], ibis.Value]]:
    """How each column of the summary is made of a customer's days and sums."""
    end = ibis.literal(observed_to)
    return {
        "customer_id": lambda t: t.customer_id.cast("string"),
        "frequency": lambda t: (t.occasions - 1).cast("int64"),
        "recency": lambda t: t.last_day.delta(t.first_day, unit="day").cast("float64"),
        "T": lambda t: end.delta(t.first_day, unit="day").cast("float64"),
        # without an occasion after the first, their spend is 0
        "monetary_value": lambda t: t.repeat_spend.cast("float64") / ibis.greatest(t.occasions - 1, 1).cast("float64"),
        "recency_days": lambda t: end.delta(t.last_day, unit="day").cast("float64"),
        "orders": lambda t: t.orders.fill_null(0).cast("int64"),
        "spend": lambda t: t.spend.cast("float64"),
        "margin": lambda t: t.margin.cast("float64"),
    }


def _histories(days: ibis.Table) -> ibis.Table:
    """One row a customer with an occasion: `first_day`, `last_day`, `occasions` and `repeat_spend`."""
    return days.group_by("customer_id").aggregate(
        first_day=days.order_date.min(),
        last_day=days.order_date.max(),
        occasions=days.count(),
        repeat_spend=days.spend.sum() - days.spend.argmin(days.order_date),
    )


def _by_customer(lines: ibis.Table, margin_rate: float | None) -> ibis.Table:
    """One row a customer with an occasion: `first_day`, `last_day`, `occasions`, `repeat_spend`, `spend` and `margin`."""
    spend = lines.net_amount.cast(MONEY)
    sums = {"spend": spend.sum()}
    if "cost" in lines.columns:
        cost = lines.cost.cast(MONEY)
        sums["cost"] = ibis.ifelse(lines.is_return, -cost, cost).sum()
        if margin_rate is None:
            sums["unknown"] = cost.isnull().any()
        else:
            sums["without_cost"] = spend.sum(where=cost.isnull())
    # Lines are grouped once, and only their days by customer: the second grouping meets far fewer rows.
    days = lines.group_by(["customer_id", "order_date"]).aggregate(**sums)
    days = days.mutate(bought_on=ibis.ifelse(days.spend > 0, days.order_date, ibis.null("date")))
    # What is rare is summed apart: a condition on every row of a sum costs more than the sum.
    totals = {name: days[name].sum() for name in ("cost", "without_cost") if name in sums}
    if "unknown" in sums:
        totals["unknown"] = days.unknown.any()
    found = days.group_by("customer_id").aggregate(
        first_day=days.bought_on.min(),
        last_day=days.bought_on.max(),
        occasions=days.bought_on.count(),
        spend=days.spend.sum(),
        other_spend=days.spend.sum(where=days.bought_on.isnull()),
        first_spend=days.spend.argmin(days.bought_on, where=days.bought_on.notnull()),
        **totals,
    )
    found = found.filter(found.occasions > 0)
    return found.select(
        "customer_id",
        "first_day",
        "last_day",
        "occasions",
        "spend",
        repeat_spend=found.spend - found.other_spend.fill_null(0) - found.first_spend,
        margin=_margin_of_sums(found, margin_rate),
    )


def _margin_of_sums(sums: ibis.Table, margin_rate: float | None) -> ibis.Value:
    """What :func:`line_margin` adds up to, from the sums of its parts, as exactly and at a fraction of the work."""
    if "cost" not in sums.columns:
        return ibis.null(MARGIN) if margin_rate is None else _at_rate(sums.spend, margin_rate).cast(MARGIN)
    by_cost = sums.spend - sums.cost.fill_null(0)
    if margin_rate is None:
        return ibis.ifelse(sums.unknown, ibis.null(MARGIN), by_cost.cast(MARGIN))
    rest = sums.without_cost.fill_null(0)
    return ((by_cost - rest).cast(SUMMED) + _at_rate(rest, margin_rate)).cast(MARGIN)


def _at_rate(spend: ibis.Value, margin_rate: float) -> ibis.Value:
    # of a wide decimal: the product of two narrow ones overflows on DuckDB for amounts that the narrow one can hold
    return spend.cast(SUMMED) * ibis.literal(f"{margin_rate:.4f}").cast(RATE)


def _order_counts(lines: ibis.Table) -> ibis.Table:
    """`orders`: how many different orders with a line that is no return each customer has; an order may span days."""
    sold = lines.filter(~lines.is_return).select("customer_id", "order_id").distinct()
    return sold.group_by("customer_id").aggregate(orders=sold.order_id.count())


def without_purchase(order_lines: ibis.Table, observed_to: datetime.date) -> dict[str, float]:
    """Customers whom the summary leaves out because no day of theirs nets above zero.

    Returns
    -------
    dict
        `customers` (count) and `spend` (the sum of their net amounts, money).
    """
    lines = within(order_lines, observed_to)
    days = lines.group_by(["customer_id", "order_date"]).aggregate(spend=lines.net_amount.cast(MONEY).sum())
    people = days.group_by("customer_id").aggregate(best=days.spend.max(), spend=days.spend.sum())
    rest = people.filter(people.best.isnull() | (people.best <= 0))
    total = rest.aggregate(customers=rest.count(), spend=rest.spend.sum().cast("float64"))
    row = total.to_pyarrow().to_pylist()[0]
    return {"customers": int(row["customers"]), "spend": float(row["spend"] or 0.0)}


def calibration_holdout(
    order_lines: ibis.Table, calibration_end: datetime.date, observed_to: datetime.date
) -> pd.DataFrame:
    """Split every customer's history at a day: what a model may see, and what it has to foresee.

    Parameters
    ----------
    order_lines : ibis.Table
        Or its :func:`purchase_days`.
    calibration_end : date
        Last day that a model sees.
    observed_to : date
        Last day of the holdout; must be later.

    Returns
    -------
    DataFrame, one row a customer with an occasion by `calibration_end`, sorted by `customer_id`
        `customer_id`; `frequency`, `recency`, `T`, `monetary_value` as in :func:`customer_summary`, and `litt` as in
        :func:`purchase_timing`, seen from `calibration_end`; `recent_frequency` and `recent_spend` (occasions, and their
        spend, in the last stretch of the calibration that is as long as the holdout); `recent_repeats` and
        `recent_repeat_spend` (the same without the very first occasion); `holdout_frequency` and `holdout_spend` (occasions
        and their spend after `calibration_end`). Times in days. `frame.attrs["holdout_days"]` is the length of the holdout.

    Raises
    ------
    ValueError
        When the holdout would be empty, or nobody bought before it.
    """
    holdout_days = (observed_to - calibration_end).days
    if holdout_days <= 0:
        raise ValueError(f"holdout: calibration_end {calibration_end} is not before observed_to {observed_to}")
    days = _with_log_gap(purchase_days(order_lines, observed_to))
    late_from = calibration_end - datetime.timedelta(days=holdout_days)
    seen = days.order_date <= ibis.literal(calibration_end)
    recent = seen & (days.order_date > ibis.literal(late_from))

    def money(amount: ibis.Value) -> ibis.Value:
        return amount.cast("float64").fill_null(0.0)

    split = days.group_by("customer_id").aggregate(
        first_day=days.order_date.min(),
        last_day=days.order_date.max(where=seen),
        occasions=days.count(where=seen),
        seen_spend=days.spend.sum(where=seen),
        first_spend=days.spend.argmin(days.order_date),
        litt=money(days.log_gap.sum(where=seen)),
        recent_frequency=days.count(where=recent),
        recent_spend=days.spend.sum(where=recent),
        holdout_frequency=days.count(where=~seen),
        holdout_spend=money(days.spend.sum(where=~seen)),
    )
    split = split.filter(split.occasions > 0)
    # The first occasion is seen, and is the only one that repeats nothing.
    frequency = split.occasions - 1
    first_is_recent = split.first_day > ibis.literal(late_from)
    # subtracted as decimals, so that one who bought only once leaves exactly nothing
    repeat_spend = ibis.ifelse(first_is_recent, split.recent_spend - split.first_spend, split.recent_spend)
    frame = to_frame(
        split.select(
            customer_id=split.customer_id.cast("string"),
            frequency=frequency.cast("int64"),
            recency=split.last_day.delta(split.first_day, unit="day").cast("float64"),
            T=ibis.literal(calibration_end).delta(split.first_day, unit="day").cast("float64"),
            monetary_value=money((split.seen_spend - split.first_spend).cast("float64") / frequency.nullif(0)),
            litt=split.litt,
            recent_frequency=split.recent_frequency,
            recent_repeats=(split.recent_frequency - first_is_recent.ifelse(1, 0)).cast("int64"),
            recent_spend=money(split.recent_spend),
            recent_repeat_spend=money(repeat_spend),
            holdout_frequency=split.holdout_frequency,
            holdout_spend=split.holdout_spend,
        )
    )
    if frame.empty:
        raise ValueError(f"holdout: nobody bought on or before {calibration_end}; choose a shorter holdout")
    frame.attrs["holdout_days"] = holdout_days
    return frame


def purchase_timing(order_lines: ibis.Table, observed_to: datetime.date) -> pd.DataFrame:
    """How regular each customer's purchases were: what a model of regular timing needs beside the summary.

    Parameters
    ----------
    order_lines : ibis.Table
        Or its :func:`purchase_days`.
    observed_to : date
        Last day that counts.

    Returns
    -------
    DataFrame, one row a customer with an occasion, sorted by `customer_id`
        `customer_id`; `litt`, the sum of the logarithms of the times between occasions, in days (0 where there was one).
    """
    days = _with_log_gap(purchase_days(order_lines, observed_to))
    summed = days.group_by("customer_id").aggregate(litt=days.log_gap.sum())
    return to_frame(
        summed.select(customer_id=summed.customer_id.cast("string"), litt=summed.litt.cast("float64").fill_null(0.0))
    )


def _with_log_gap(days: ibis.Table) -> ibis.Table:
    """Occasions with the logarithm of the days since the customer's last one (decimal); null for the first."""
    own = ibis.window(group_by="customer_id", order_by="order_date")
    gap = days.order_date.delta(days.order_date.lag().over(own), unit="day")
    # As decimals, so that sums do not depend on the order in which rows are read.
    return days.mutate(log_gap=gap.cast("float64").ln().cast("decimal(18, 10)"))


def recent_activity(order_lines: ibis.Table, observed_to: datetime.date, days: int) -> pd.DataFrame:
    """Occasions in the last `days` days of observation, one row a customer who had one.

    Parameters
    ----------
    order_lines : ibis.Table
        Or its :func:`purchase_days`.
    observed_to : date
        Last day that counts.
    days : int

    Returns
    -------
    DataFrame
        `customer_id`; `recent_frequency` (occasions); `recent_repeats` (those after the customer's first).
    """
    since = ibis.literal(observed_to - datetime.timedelta(days=days))
    occasions = purchase_days(order_lines, observed_to)
    counted = occasions.group_by("customer_id").aggregate(
        first_day=occasions.order_date.min(), recent_frequency=occasions.count(where=occasions.order_date > since)
    )
    late = counted.filter(counted.recent_frequency > 0)
    return to_frame(
        late.select(
            customer_id=late.customer_id.cast("string"),
            recent_frequency=late.recent_frequency,
            recent_repeats=(late.recent_frequency - ibis.ifelse(late.first_day > since, 1, 0)).cast("int64"),
        )
    )


def to_frame(table: ibis.Table) -> pd.DataFrame:
    """A table of one row a customer as a frame sorted by `customer_id`, so that sums do not depend on the engine."""
    return table.to_pyarrow().to_pandas().sort_values("customer_id", ignore_index=True)


def in_weeks(summary: pd.DataFrame) -> tuple[NDArray, NDArray, NDArray]:
    """`frequency`, `recency` and `T` of a summary (days), times in weeks, each of shape (customers,)."""
    times = (summary[name].to_numpy(float) / DAYS_PER_WEEK for name in ("recency", "T"))
    return (summary["frequency"].to_numpy(float), *times)


def within(order_lines: ibis.Table, observed_to: datetime.date | None) -> ibis.Table:
    """Order lines up to a day; raises ValueError for a table of purchase days, which hold too little."""
    if are_purchase_days(order_lines):
        raise ValueError("order lines: this needs the lines themselves; purchase_days has left out orders and returns")
    return _until(order_lines, observed_to)


def _until(table: ibis.Table, observed_to: datetime.date | None) -> ibis.Table:
    return table if observed_to is None else table.filter(table.order_date <= ibis.literal(observed_to))


def line_margin(lines: ibis.Table, margin_rate: float | None) -> ibis.Value:
    """Margin of every line: net amount less cost where it is stated (a return gives it back), else at the rate; or null."""
    sold = lines.net_amount.cast(MONEY)
    by_rate = None if margin_rate is None else _at_rate(sold, margin_rate)
    if "cost" not in lines.columns:
        return ibis.null(MARGIN) if by_rate is None else by_rate
    cost = lines.cost.cast(MONEY)
    by_cost = sold - ibis.ifelse(lines.is_return, -cost, cost)
    return by_cost if by_rate is None else ibis.coalesce(by_cost.cast(MARGIN), by_rate.cast(MARGIN))
