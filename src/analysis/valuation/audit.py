"""The customer-base audit: how last period's customers and their money became this period's.

Two periods of the same length end at the last observed day. A customer buys in a period who has an occasion in it
(a day of net spend above zero). By that, everybody is exactly one of:

* new: buys this period, and never before it;
* won back: buys this period, not in the last, but before it;
* kept, who buys in both and has grown, shrunk or stayed flat in the money that is bridged;
* lost: bought last period and not in this one;
* returns only: has money in one of the periods, such as a late return, and an occasion in neither.

Money of the last period + the changes of all of them = money of this period, exactly; customers likewise.

Source: Fader, P. S., Hardie, B. G. S. & Ross, M. (2022). The Customer-Base Audit. Wharton School Press.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal

import ibis
import pandas as pd

from analysis.valuation.summary import MARGIN, MONEY, line_margin, purchase_days, within

COMPONENTS = ("new", "won_back", "grown", "flat", "shrunk", "lost", "returns_only")
PERIOD_DAYS = {
    "52_weeks": 364,
    "half_year": 182,
    "quarter": 91,
    "four_weeks": 28,
}  # whole weeks, so that weekdays are the same


@dataclass(frozen=True)
class Audit:
    """The bridge from last period to this one.

    Attributes
    ----------
    measure : {"margin", "spend"}
        The money that is bridged.
    period : {"year", "52_weeks", "half_year", "quarter", "four_weeks"}
    previous_from, current_from, observed_to : date
        First days of both periods and the last day.
    bridge : DataFrame
        One row a component, in the order of `COMPONENTS`: `component`, `customers`, `customer_change`, `previous`,
        `current`, `change` (money, exact decimals).
    periods : DataFrame
        `previous` and `current` as rows: `customers`, `orders` (of anybody, without returns), `spend`, `margin`,
        `orders_per_customer`, `spend_per_order`, `margin_share` (of spend); money as floats.
    won_back_known : bool
        False where the data hold too little before the last period, of customers who may have bought then: the won
        back are then counted among the new.
    cautions : tuple of str
        What cannot be known, a clause each.
    """

    measure: str
    period: str
    previous_from: datetime.date
    current_from: datetime.date
    observed_to: datetime.date
    bridge: pd.DataFrame
    periods: pd.DataFrame
    won_back_known: bool
    cautions: tuple[str, ...]

    @property
    def previous(self) -> Decimal:
        """Money of the last period."""
        return sum(self.bridge["previous"], Decimal(0))

    @property
    def current(self) -> Decimal:
        """Money of this period."""
        return sum(self.bridge["current"], Decimal(0))

    def change(self, component: str) -> Decimal:
        """What a component added to the money, negative where it took away."""
        return self.bridge.set_index("component")["change"][component]

    @property
    def interval_reason(self) -> str:
        """Why the bridge has no interval."""
        return "it is the past, counted and not estimated"

    def shown(self, small_group: int) -> pd.DataFrame:
        """The bridge for people: components of fewer than `small_group` customers, and none, joined as `others`.

        The next smallest joins them where they are too few together, so that no total tells them apart.
        """
        table = self.bridge[self.bridge["customers"] > 0]
        small = table["customers"] < small_group
        while small.any() and table.loc[small, "customers"].sum() < small_group and not small.all():
            small[table.loc[~small, "customers"].idxmin()] = True
        kept = table[~small]
        if not small.any():
            return kept.reset_index(drop=True)
        sums = table.loc[small].drop(columns="component").sum()
        return pd.concat([kept, pd.DataFrame([{"component": "others"} | sums.to_dict()])], ignore_index=True)


def audit_period(observed_from: datetime.date, observed_to: datetime.date) -> str:
    """The longest period that the data hold twice.

    Raises
    ------
    ValueError
        Where not even four weeks fit twice.
    """
    days = (observed_to - observed_from).days + 1
    if _starts("year", observed_to)[0] >= observed_from:
        return "year"
    for period, length in PERIOD_DAYS.items():
        if days >= 2 * length:
            return period
    raise ValueError(f"audit: two periods of four weeks need 56 days, and the data hold {days}; observe for longer")


def customer_base_audit(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    entry: str = "first_purchase",
    period: str | None = None,
    measure: str | None = None,
    margin_rate: float | None = None,
) -> Audit:
    """Bridge last period's customers and money to this period's.

    Parameters
    ----------
    order_lines : ibis.Table
        The canonical table.
    observed_from, observed_to : date
        First and last observed day.
    entry : str
        The study's clock; with "left_truncated" customers may have bought before the data begin.
    period : {"year", "52_weeks", "half_year", "quarter", "four_weeks"}, optional
        The longest that the data hold twice where it is not given.
    measure : {"margin", "spend"}, optional
        Margin where it is known of every line, else spend.
    margin_rate : float, optional
        Margin as a share of net sales for lines whose cost is unknown.

    Raises
    ------
    ValueError
        Data too short for two periods, nobody who bought in them, or margin asked for where it is unknown.
    """
    if period is None:
        period = audit_period(observed_from, observed_to)
    elif period not in ("year", *PERIOD_DAYS):
        raise ValueError(f"audit: unknown period '{period}'; use one of year, {', '.join(PERIOD_DAYS)}")
    if measure not in (None, "margin", "spend"):
        raise ValueError(f"audit: unknown measure '{measure}'; use margin or spend")
    previous_from, current_from = _starts(period, observed_to)
    if previous_from < observed_from:
        raise ValueError(
            f"audit: two periods of a {period.replace('_', ' ')} begin on {previous_from}, before the data do "
            f"({observed_from}); choose a shorter period"
        )
    customers = _by_customer(order_lines, observed_to, previous_from, current_from, margin_rate)
    totals = customers.aggregate(
        unknown=customers.unknown.cast("int64").sum(),
        buyers=(customers.in_previous | customers.in_current).cast("int64").sum(),
        **{
            f"{which}_{what}": (
                customers[f"in_{which}"].cast("int64") if what == "customers" else customers[f"{which}_{what}"]
            ).sum()
            for which in ("previous", "current")
            for what in ("customers", "orders", "spend", "margin")
        },
    )
    row = totals.to_pyarrow().to_pylist()[0]
    if not row["buyers"]:
        raise ValueError("audit: nobody bought in either period")
    if measure == "margin" and row["unknown"]:
        raise ValueError("audit: the margin of some lines is unknown; state a margin in the study or bridge spend")
    measure = measure or ("spend" if row["unknown"] else "margin")
    known, cautions = _cautions(observed_from, previous_from, current_from, entry, period)
    return Audit(
        measure=measure,
        period=period,
        previous_from=previous_from,
        current_from=current_from,
        observed_to=observed_to,
        bridge=_bridge(customers, measure, known),
        periods=_periods(row),
        won_back_known=known,
        cautions=cautions,
    )


def _starts(period: str, observed_to: datetime.date) -> tuple[datetime.date, datetime.date]:
    after = observed_to + datetime.timedelta(days=1)
    if period == "year":
        years = pd.DateOffset(years=1)
        return (pd.Timestamp(after) - 2 * years).date(), (pd.Timestamp(after) - years).date()
    length = datetime.timedelta(days=PERIOD_DAYS[period])
    return after - 2 * length, after - length


def _by_customer(
    order_lines: ibis.Table,
    observed_to: datetime.date,
    previous_from: datetime.date,
    current_from: datetime.date,
    margin_rate: float | None,
) -> ibis.Table:
    """One row a customer: in which periods they bought, and their money in both."""
    days = purchase_days(order_lines, observed_to)
    first, second = ibis.literal(previous_from), ibis.literal(current_from)
    bought = days.group_by("customer_id").aggregate(
        before=(days.order_date < first).any(),
        in_previous=((days.order_date >= first) & (days.order_date < second)).any(),
        in_current=(days.order_date >= second).any(),
    )
    lines = within(order_lines, observed_to).filter(lambda t: t.order_date >= first)
    priced = lines.select(
        "customer_id",
        "order_id",
        "is_return",
        current=lines.order_date >= second,
        spend=lines.net_amount.cast(MONEY),
        margin=line_margin(lines, margin_rate).cast(MARGIN),
    )

    def money(name: str, condition: ibis.ir.BooleanValue) -> ibis.ir.Scalar:
        dtype = MONEY if name == "spend" else MARGIN
        return ibis.ifelse(condition, priced[name], ibis.literal(0).cast(dtype)).cast(dtype).sum().cast(MARGIN)

    which = {"previous": ~priced.current, "current": priced.current}
    summed = priced.group_by("customer_id").aggregate(
        unknown=priced.margin.isnull().any(),
        **{f"{k}_orders": priced.order_id.nunique(where=c & ~priced.is_return) for k, c in which.items()},
        **{f"{k}_{name}": money(name, c) for k, c in which.items() for name in ("spend", "margin")},
    )
    joined = summed.left_join(bought, "customer_id")
    return joined.select(
        *[joined[name] for name in summed.columns],
        **{name: joined[name].fill_null(False) for name in ("before", "in_previous", "in_current")},
    )


def _bridge(customers: ibis.Table, measure: str, won_back_known: bool) -> pd.DataFrame:
    previous, current = customers[f"previous_{measure}"], customers[f"current_{measure}"]
    both = customers.in_previous & customers.in_current
    component = ibis.cases(
        (both & (current > previous), "grown"),
        (both & (current < previous), "shrunk"),
        (both, "flat"),
        (customers.in_previous, "lost"),
        (customers.in_current & customers.before, "won_back" if won_back_known else "new"),
        (customers.in_current, "new"),
        else_="returns_only",
    )
    classed = customers.select(component=component, previous=previous, current=current)
    summed = classed.group_by("component").aggregate(
        customers=classed.count(), previous=classed.previous.sum(), current=classed.current.sum()
    )
    found = {row["component"]: row for row in summed.to_pyarrow().to_pylist()}
    rows = []
    for name in COMPONENTS:
        row = found.get(name, {"customers": 0, "previous": Decimal(0), "current": Decimal(0)})
        step = {"new": 1, "won_back": 1, "lost": -1}.get(name, 0)
        rows.append(
            {
                "component": name,
                "customers": int(row["customers"]),
                "customer_change": step * int(row["customers"]),
                "previous": row["previous"],
                "current": row["current"],
                "change": row["current"] - row["previous"],
            }
        )
    return pd.DataFrame(rows)


def _periods(row: dict) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            what: {which: float(row[f"{which}_{what}"] or 0) for which in ("previous", "current")}
            for what in ("customers", "orders", "spend", "margin")
        }
    )
    if row["unknown"]:
        frame["margin"] = float("nan")
    frame["orders_per_customer"] = frame["orders"] / frame["customers"].where(frame["customers"] > 0)
    frame["spend_per_order"] = frame["spend"] / frame["orders"].where(frame["orders"] > 0)
    frame["margin_share"] = frame["margin"] / frame["spend"].where(frame["spend"] > 0)
    return frame.astype({"customers": "int64", "orders": "int64"})


def _days(number: int) -> str:
    return "a day" if number == 1 else f"{number} days"


def _cautions(
    observed_from: datetime.date,
    previous_from: datetime.date,
    current_from: datetime.date,
    entry: str,
    period: str,
) -> tuple[bool, tuple[str, ...]]:
    before, length = (previous_from - observed_from).days, (current_from - previous_from).days
    known, cautions = True, []
    if entry == "left_truncated":
        if before < length // 2:
            known = False
            cautions.append(
                f"the data begin {'with' if before == 0 else f'{_days(before)} before'} the earlier period, so customers who "
                "were won back cannot be told from new ones"
            )
        else:
            cautions.append(
                f"the data begin {_days(before)} before the earlier period: whoever last bought earlier than that counts as "
                "new, not as won back"
            )
    if period not in ("year", "52_weeks"):
        cautions.append("the periods are shorter than a year, so seasons are part of every change")
    return known, tuple(cautions)
