"""Acquisition cohorts: customers grouped by when they first bought, and what became of each group.

A cohort is everybody whose first purchase occasion fell into one calendar period (month, quarter or year); its age
is the number of periods since then, 0 for the period of the first purchase. Only whole observed periods count: what
happened in a period that was observed in part is left out, and what has not happened yet is blank, never zero. A period
that lacks at most a twentieth of its days, at the start or the end of the data, counts as whole: data from the first
Monday of a year on would otherwise cost a whole quarter of newcomers. Its figures are then too low by about that much,
and `Cohorts` says how many days are missing.

Source: Fader, P. S., Hardie, B. G. S. & Ross, M. (2022). The Customer-Base Audit. Wharton School Press.
"""

from __future__ import annotations

import calendar
import datetime
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import share_interval
from analysis.valuation.summary import MARGIN, MONEY, line_margin, purchase_days, within

PERIODS = {"month": 12, "quarter": 4, "year": 1}  # how many in a year
NEARLY_WHOLE = 0.05  # share of its days that a period may lack at an end of the data and count
_MOST_PERIODS = 15  # rows that a heat map can show on a phone
_MEASURES = ("active_share", "spend", "margin")
_MONTHS = {name.lower(): k for names in (calendar.month_name, calendar.month_abbr) for k, name in enumerate(names) if k}
_WRITTEN = (
    ("month", re.compile(r"(?P<year>\d{4})[-/. ]?(?P<part>0[1-9]|1[0-2])(-01)?")),
    ("month", re.compile(r"(?P<part>0?[1-9]|1[0-2])[/.](?P<year>\d{4})")),
    ("month", re.compile(r"(?P<part>[a-z]+)\.?[ -]?(?P<year>\d{4})")),
    ("quarter", re.compile(r"(?P<year>\d{4})[-/. ]?q(?P<part>[1-4])")),
    ("quarter", re.compile(r"q(?P<part>[1-4])[-/. ]?(?P<year>\d{4})")),
    ("year", re.compile(r"(?P<year>\d{4})(?P<part>)")),
)


def period_of(day: datetime.date, period: str) -> int:
    """Number of the calendar period that holds a day, counted from the year 0."""
    months = 12 // PERIODS[period]
    return day.year * PERIODS[period] + (day.month - 1) // months


def period_start(number: int, period: str) -> datetime.date:
    """First day of a period by its number; the inverse of :func:`period_of`."""
    year, part = divmod(int(number), PERIODS[period])
    return datetime.date(year, 1 + part * (12 // PERIODS[period]), 1)


def period_column(day: ibis.ir.DateValue, period: str) -> ibis.ir.IntegerValue:
    """:func:`period_of` for a column, on any engine."""
    year = day.year().cast("int64")
    if period == "year":
        return year
    part = day.month() if period == "month" else day.quarter()
    return year * PERIODS[period] + (part.cast("int64") - 1)


def whole_periods(
    observed_from: datetime.date, observed_to: datetime.date, period: str, tolerance: float = 0.0
) -> tuple[int, int]:
    """First and last period that lie within the observed days; the first is the larger where there is none.

    Parameters
    ----------
    observed_from, observed_to : date
    period : {"month", "quarter", "year"}
    tolerance : float
        Share of its days that a period may lack.
    """
    first, last = period_of(observed_from, period), period_of(observed_to, period)

    def unseen(number: int) -> float:
        start, end = period_start(number, period), period_start(number + 1, period)
        return sum(_missing(start, end, observed_from, observed_to)) / (end - start).days

    if unseen(first) > tolerance:
        first += 1
    if unseen(last) > tolerance:
        last -= 1
    return first, last


def _missing(
    start: datetime.date, end: datetime.date, observed_from: datetime.date, observed_to: datetime.date
) -> tuple[int, int]:
    """Days from `start` to before `end` that lie before and after the observed ones."""
    return max((observed_from - start).days, 0), max((end - observed_to).days - 1, 0)


def read_periods(written: Iterable[str]) -> tuple[str, NDArray[np.int64]]:
    """Read the periods of marketing costs as companies write them: 2024-03, Mar 2024, 03/2024, 2024-Q1, Q1 2024, 2024.

    Returns
    -------
    period : {"month", "quarter", "year"}
    numbers : array of shape (n,), as :func:`period_of` counts them

    Raises
    ------
    ValueError
        A period that cannot be read, or months beside quarters or years.
    """
    kinds, numbers = [], []
    for text in written:
        kind, number = _read_period(str(text))
        kinds.append(kind)
        numbers.append(number)
    if len(set(kinds)) > 1:
        raise ValueError(
            f"marketing_costs.period: {' and '.join(sorted(set(kinds)))}s are mixed; write all of one length"
        )
    return (kinds[0] if kinds else "month"), np.array(numbers, dtype=np.int64)


def _read_period(text: str) -> tuple[str, int]:
    for kind, pattern in _WRITTEN:
        found = pattern.fullmatch(text.strip().lower())
        if not found:
            continue
        part = found["part"]
        if part.isalpha() and part not in _MONTHS:
            continue
        within = _MONTHS.get(part) or int(part or 1)
        return kind, int(found["year"]) * PERIODS[kind] + within - 1
    raise ValueError(
        f"marketing_costs.period: '{text}' cannot be read; write 2024-03 for a month, 2024-Q1 for a quarter, 2024 for a year"
    )


@dataclass(frozen=True)
class Cohorts:
    """What became of customers by when they first bought.

    Attributes
    ----------
    period : {"month", "quarter", "year"}
    frame : DataFrame
        One row a cohort and observed age, sorted: `cohort` (first day of its period), `age` (periods), `customers`
        (of the cohort), `active` (customers with an occasion at that age), `active_share` with `active_low` and
        `active_high` (95 %, Wilson), `spend` and `margin` (money per customer of the cohort in that period, returns
        included; margin is null where it is not known).
    left_out : int
        Customers who came in a period that was observed in part.
    missing : (int, int)
        Days that the first and the last period lack although they count as whole.
    """

    period: str
    frame: pd.DataFrame
    left_out: int
    missing: tuple[int, int] = (0, 0)

    def table(self, measure: str = "active_share", small_group: int = 1) -> pd.DataFrame:
        """Cohort × age, NaN where not yet observed.

        Parameters
        ----------
        measure : {"active_share", "spend", "margin"}
        small_group : int
            Cohorts with fewer customers are blank, as is money that fewer active customers have spent.

        Raises
        ------
        ValueError
            For another measure.
        """
        if measure not in _MEASURES:
            raise ValueError(f"cohorts: unknown measure '{measure}'; use one of {', '.join(_MEASURES)}")
        shown = self.frame["customers"] >= small_group
        if measure != "active_share":
            shown &= (self.frame["active"] == 0) | (self.frame["active"] >= small_group)
        kept = self.frame.assign(shown=self.frame[measure].where(shown))
        return kept.pivot(index="cohort", columns="age", values="shown")

    def sizes(self) -> pd.Series:
        """Customers by cohort."""
        return self.frame.groupby("cohort")["customers"].first()

    def by_age(self, alpha: float = 0.05) -> pd.DataFrame:
        """All cohorts that were observed at an age, together.

        Returns
        -------
        DataFrame
            `age`, `cohorts`, `customers`, `active_share`, `low`, `high`. The interval takes the cohorts as drawn from such
            cohorts where there are five or more (their differences count), and otherwise the customers alone.
        """
        rows = []
        for age, part in self.frame.groupby("age"):
            rows.append({"age": age, "cohorts": len(part)} | _pooled(part, alpha))
        return pd.DataFrame(rows)

    def retention(self, age: int = 1) -> Estimate:
        """Share of customers active `age` periods after their first purchase, over all cohorts observed so far."""
        at = self.by_age().set_index("age")
        if age not in at.index:
            return Estimate(
                math.nan,
                reason=f"no cohort has been observed for {age} whole {self.period}{'' if age == 1 else 's'} after its own",
            )
        row = at.loc[age]
        return Estimate(float(row["active_share"]), float(row["low"]), float(row["high"]))


def cohorts(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    entry: str = "first_purchase",
    period: str | None = None,
    margin_rate: float | None = None,
) -> Cohorts:
    """Follow every cohort of customers through the periods that were observed whole, or but for a twentieth of their days.

    Parameters
    ----------
    order_lines : ibis.Table
        The canonical table.
    observed_from, observed_to : date
        First and last observed day.
    entry : str
        The study's clock.
    period : {"month", "quarter", "year"}, optional
        Chosen by the span where it is not given: the shortest that gives at most 15 cohorts.
    margin_rate : float, optional
        Margin as a share of net sales for lines whose cost is unknown.

    Raises
    ------
    ValueError
        A left-truncated panel, fewer than two whole periods, or nobody who came within them.
    """
    if entry == "left_truncated":
        raise ValueError(
            "cohorts: customers were there before the data begin, so nobody knows when they came; "
            "cohorts need data from the first purchase on"
        )
    if period is not None and period not in PERIODS:
        raise ValueError(f"cohorts: unknown period '{period}'; use one of {', '.join(PERIODS)}")
    period = period or _choose(observed_from, observed_to)
    first, last = whole_periods(observed_from, observed_to, period, NEARLY_WHOLE)
    if last <= first:
        raise ValueError(
            f"cohorts: {(observed_to - observed_from).days + 1} days hold fewer than two whole {period}s; "
            "observe for longer or choose a shorter period"
        )
    sizes, cells = _count(order_lines, observed_to, period, last, margin_rate)
    inside = sizes["cohort"].between(first, last)
    left_out = int(sizes.loc[~inside, "customers"].sum())
    sizes = sizes[inside]
    if sizes.empty:
        raise ValueError(f"cohorts: nobody's first purchase falls into a whole {period} of the data")
    grid = sizes.merge(pd.DataFrame({"age": np.arange(last - first + 1)}), how="cross")
    grid = grid[grid["cohort"] + grid["age"] <= last]
    frame = grid.merge(cells, on=["cohort", "age"], how="left").sort_values(["cohort", "age"], ignore_index=True)
    frame["active"] = frame["active"].fillna(0).astype("int64")
    frame["spend"] = frame["spend"].fillna(0.0) / frame["customers"]
    frame["margin"] = frame["margin"].where(frame["unknown"].notna(), 0.0) / frame["customers"]
    frame["active_share"] = frame["active"] / frame["customers"]
    frame["active_low"], frame["active_high"] = share_interval(frame["active"], frame["customers"])
    frame["cohort"] = pd.to_datetime([period_start(number, period) for number in frame["cohort"]])
    columns = ["cohort", "age", "customers", "active", "active_share", "active_low", "active_high", "spend", "margin"]
    start, end = period_start(first, period), period_start(last + 1, period)
    return Cohorts(period, frame[columns], left_out, _missing(start, end, observed_from, observed_to))


def _choose(observed_from: datetime.date, observed_to: datetime.date) -> str:
    for period in PERIODS:
        first, last = whole_periods(observed_from, observed_to, period, NEARLY_WHOLE)
        if last - first + 1 <= _MOST_PERIODS:
            return period
    return "year"


def _count(
    order_lines: ibis.Table, observed_to: datetime.date, period: str, last: int, margin_rate: float | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Customers a cohort, and what each cohort did at each age; money before a first occasion counts at age 0."""
    days = purchase_days(order_lines, observed_to)
    first_days = days.group_by("customer_id").aggregate(first_day=days.order_date.min())
    came = first_days.select("customer_id", cohort=period_column(first_days.first_day, period))
    sizes = came.group_by("cohort").aggregate(customers=came.count())
    lines = within(order_lines, observed_to)
    priced = lines.select(
        "customer_id",
        at=period_column(lines.order_date, period),
        spend=lines.net_amount.cast(MONEY),
        margin=line_margin(lines, margin_rate).cast(MARGIN),
    )
    money = priced.group_by(["customer_id", "at"]).aggregate(
        spend=priced.spend.sum(),
        margin=priced.margin.sum().cast(MARGIN),
        unknown=priced.margin.isnull().any(),
    )
    bought = days.select("customer_id", at=period_column(days.order_date, period)).distinct().mutate(bought=1)
    joined = money.left_join(bought, ["customer_id", "at"]).select(
        "customer_id", "at", "spend", "margin", "unknown", "bought"
    )
    dated = joined.filter(joined["at"] <= last).join(came, "customer_id")
    aged = dated.mutate(age=ibis.greatest(dated["at"] - dated.cohort, 0))
    cells = aged.group_by(["cohort", "age"]).aggregate(
        active=aged.bought.fill_null(0).sum().cast("int64"),
        spend=aged.spend.sum().cast("float64"),
        margin=aged.margin.sum().cast("float64"),
        unknown=aged.unknown.any(),
    )
    found = cells.to_pyarrow().to_pandas()
    found["margin"] = found["margin"].where(~found["unknown"].astype(bool))
    return sizes.to_pyarrow().to_pandas(), found


def _pooled(part: pd.DataFrame, alpha: float) -> dict[str, float]:
    customers, active = part["customers"].to_numpy(float), part["active"].to_numpy(float)
    n = customers.sum()
    share = active.sum() / n
    low, high = (float(end) for end in share_interval(active.sum(), n, alpha))
    if len(part) >= 5 and 0.0 < share < 1.0:
        deviations = active - share * customers
        error = np.sqrt(len(part) / (len(part) - 1) * np.square(deviations).sum()) / n
        half = float(stats.t.ppf(1 - alpha / 2, len(part) - 1)) * error / (share * (1 - share))
        ends = [1 / (1 + np.exp(-(np.log(share / (1 - share)) + way * half))) for way in (-1, 1)]
        low, high = min(low, ends[0]), max(high, ends[1])
    return {"customers": int(n), "active_share": share, "low": low, "high": high}
