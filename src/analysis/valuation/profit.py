"""Profit per customer, and the whale curve: how much of it the best bring and the worst take away.

The profit of a customer so far, undiscounted: margin (sales less cost of goods, returns already taken off) less what
serving cost (per order, per return and per line, where these are known) less what keeping cost: their contacts in
campaigns, and their part of what else was spent on keeping customers. What winning them cost is not in it; that is
compared with what they bring by channel (:mod:`analysis.valuation.acquisition`), and stands beside the total in
`acquisition_cost`, so that nobody takes profit so far for all that is left.

Source: Kaplan, R. S. & Narayanan, V. G. (2001). Measuring and managing customer profitability. Journal of Cost
Management 15(5), 5–15.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from analysis.valuation.cohorts import period_column, period_of, read_periods
from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import share_interval
from analysis.valuation.purchases import Array
from analysis.valuation.summary import MARGIN, MONEY, purchase_days, to_frame, within

NOT_CONTACTED = ("control", "untargeted")


@dataclass(frozen=True)
class CustomerProfit:
    """Profit of every customer so far, money, undiscounted.

    Attributes
    ----------
    frame : DataFrame
        Sorted by `customer_id`: `margin`, `cost_to_serve`, `contact_cost`, `retention_cost`, `profit` (margin less the
        three costs; null where the margin is not known).
    total : Estimate
    unknown : int
        Customers whose margin is not known.
    unspread : float
        What is in nobody's profit: spent on keeping customers in periods in which nobody bought, or on contacts of people
        who have not bought.
    assumptions : tuple of str
        What the figures take for granted, a clause each.
    acquisition_cost : float
        What winning customers cost in the observed periods, money; in nobody's profit. Zero where none is on record.
    """

    frame: pd.DataFrame
    total: Estimate
    unknown: int
    unspread: float
    assumptions: tuple[str, ...]
    acquisition_cost: float = 0.0


@dataclass(frozen=True)
class WhaleCurve:
    """Cumulative profit over customers, the most profitable first.

    Attributes
    ----------
    customers : int
    total : float
        Profit of all, money.
    peak : Estimate
        Profit of all customers with a profit, as a share of the total; above 1 where others make a loss.
    unprofitable : Estimate
        Share of customers who make a loss.
    destroyed : Estimate
        Their losses as a share of the profits of the others.
    losses : float
        Their losses, money, not negative.
    curve : DataFrame
        At 101 points: `customers_share` (most profitable first), `profit` (cumulative, money).
    """

    customers: int
    total: float
    peak: Estimate
    unprofitable: Estimate
    destroyed: Estimate
    losses: float
    curve: pd.DataFrame

    @property
    def peak_at(self) -> float:
        """Share of customers, best first, at which cumulative profit is highest."""
        return float(self.curve["customers_share"].iloc[int(self.curve["profit"].to_numpy().argmax())])


def service_counts(order_lines: ibis.Table, observed_to: datetime.date) -> pd.DataFrame:
    """What had to be handled for each customer with a line up to `observed_to`.

    Returns
    -------
    DataFrame, sorted by `customer_id`
        `orders` (distinct orders that are not returns), `lines` (of sales), `returns` (distinct orders with a
        returned line).
    """
    lines = within(order_lines, observed_to)
    counted = lines.group_by(lines.customer_id.cast("string").name("customer_id")).aggregate(
        orders=lines.order_id.nunique(where=~lines.is_return).cast("int64"),
        lines=(~lines.is_return).cast("int64").sum(),
        returns=lines.order_id.nunique(where=lines.is_return).cast("int64"),
    )
    return to_frame(counted)


def contact_costs(
    contacts: ibis.Table, campaigns: pd.DataFrame, observed_to: datetime.date, contact_cost: float | None = None
) -> pd.DataFrame:
    """What contacting each customer in campaigns cost up to `observed_to`.

    Parameters
    ----------
    contacts : ibis.Table
        The canonical table. Control groups, the untargeted, and contacts without a date were not contacted.
    campaigns : DataFrame
        `campaign_id` and, where it is known, `cost_per_contact` (money).
    observed_to : date
    contact_cost : float, optional
        For campaigns that do not state their own.

    Returns
    -------
    DataFrame, one row a contacted customer, sorted by `customer_id`
        `contacts`, `contact_cost` (money), `unpriced` (contacts whose cost nobody knows; in the cost with 0).
    """
    own = campaigns["cost_per_contact"] if "cost_per_contact" in campaigns else pd.Series(None, index=campaigns.index)
    prices = {
        str(campaign): contact_cost if pd.isna(price) else float(price)
        for campaign, price in zip(campaigns["campaign_id"], own, strict=True)
    }
    known = [(campaign, f"{price:.4f}") for campaign, price in prices.items() if price is not None]
    made = contacts.filter(contacts.arm.notin(NOT_CONTACTED))
    if "contacted_on" in made.columns:
        made = made.filter(made.contacted_on <= ibis.literal(observed_to))
    if known:
        price = made.campaign_id.cast("string").cases(*known, else_=ibis.null("string")).cast(MONEY)
    else:
        price = ibis.null(MONEY)
    priced = made.select(customer_id=made.customer_id.cast("string"), price=price)
    summed = priced.group_by("customer_id").aggregate(
        contacts=priced.count().cast("int64"),
        contact_cost=priced.price.fill_null(0).cast(MONEY).sum().cast("float64"),
        unpriced=priced.price.isnull().cast("int64").sum(),
    )
    return to_frame(summed)


def retention_costs(
    order_lines: ibis.Table,
    marketing_costs: pd.DataFrame,
    observed_from: datetime.date,
    observed_to: datetime.date,
    already_charged: float = 0.0,
) -> tuple[pd.DataFrame, float]:
    """Spread what was spent on keeping customers: each period's amount in equal parts over those who bought in it.

    Nobody knows for whom it was spent, so equal parts are an assumption.

    Parameters
    ----------
    order_lines : ibis.Table
    marketing_costs : DataFrame
        The canonical table; rows with purpose `retain` in periods that touch the observed ones count.
    observed_from, observed_to : date
    already_charged : float
        Contact costs that are charged to the contacted themselves: they are usually in these books too, so they are
        taken off in proportion, down to zero.

    Returns
    -------
    frame : DataFrame
        One row a customer, sorted by `customer_id`: `retention_cost` (money).
    unspread : float
        Amount of the periods in which nobody bought.
    """
    period, amounts = _spent(marketing_costs, "retain", observed_from, observed_to)
    spent = float(amounts.sum())
    if spent <= 0.0:
        return pd.DataFrame({"customer_id": pd.Series(dtype="str"), "retention_cost": pd.Series(dtype=float)}), 0.0
    amounts *= max(0.0, 1.0 - already_charged / spent)
    days = purchase_days(order_lines, observed_to)
    bought = days.select(
        customer_id=days.customer_id.cast("string"), at=period_column(days.order_date, period)
    ).distinct()
    buyers = bought.group_by("at").aggregate(buyers=bought.count()).to_pyarrow().to_pandas()
    buyers = buyers.set_index("at")["buyers"].astype(float)
    parts = (amounts / buyers.reindex(amounts.index)).dropna()
    unspread = float(amounts[~amounts.index.isin(parts.index)].sum())
    if parts.empty:
        return pd.DataFrame({"customer_id": pd.Series(dtype="str"), "retention_cost": pd.Series(dtype=float)}), unspread
    part = bought["at"].cases(*[(int(at), f"{amount:.8f}") for at, amount in parts.items()], else_="0").cast(MARGIN)
    charged = bought.select("customer_id", part=part)
    return to_frame(
        charged.group_by("customer_id").aggregate(retention_cost=charged.part.sum().cast("float64"))
    ), unspread


def acquisition_costs(marketing_costs: pd.DataFrame, observed_from: datetime.date, observed_to: datetime.date) -> float:
    """What was spent on winning customers, money: rows with purpose `acquire` in periods that touch the observed ones."""
    return float(_spent(marketing_costs, "acquire", observed_from, observed_to)[1].sum())


def _spent(
    marketing_costs: pd.DataFrame, purpose: str, observed_from: datetime.date, observed_to: datetime.date
) -> tuple[str, pd.Series]:
    """Length of the periods, and what was spent for a purpose in each one that touches the observed days."""
    rows = marketing_costs[marketing_costs["purpose"] == purpose]
    period, number = read_periods(rows["period"])
    inside = (number >= period_of(observed_from, period)) & (number <= period_of(observed_to, period))
    return period, rows["amount"].astype(float)[inside].groupby(number[inside]).sum()


def customer_profit(
    summary: pd.DataFrame,
    counts: pd.DataFrame | None = None,
    *,
    cost_to_serve: float | None = None,
    cost_per_return: float | None = None,
    cost_per_line: float | None = None,
    contacts: pd.DataFrame | None = None,
    retention: tuple[pd.DataFrame, float] | None = None,
    acquisition_cost: float = 0.0,
) -> CustomerProfit:
    """Profit of every customer of the summary so far.

    Parameters
    ----------
    summary : DataFrame
        The canonical `customer_summary` with `orders` and `margin`.
    counts : DataFrame, optional
        From :func:`service_counts`; needed for a cost per return or per line.
    cost_to_serve, cost_per_return, cost_per_line : float, optional
        Cost of one order, one return, one line of a sale, money.
    contacts : DataFrame, optional
        From :func:`contact_costs`.
    retention : (DataFrame, float), optional
        From :func:`retention_costs`.
    acquisition_cost : float
        From :func:`acquisition_costs`; told, and not taken off.

    Raises
    ------
    ValueError
        No customer, no margin for any, a negative cost, or a cost per return or line without counts.
    """
    if summary.empty:
        raise ValueError("profit: no customer; give one row a customer")
    base = summary.sort_values("customer_id", ignore_index=True)
    margin = base["margin"].to_numpy(float) if "margin" in base else np.full(len(base), np.nan)
    if not np.isfinite(margin).any():
        raise ValueError("profit: no margin is known; state costs of lines or a margin in the study")
    rates = {"orders": cost_to_serve, "returns": cost_per_return, "lines": cost_per_line}
    if any(rate is not None and not rate >= 0.0 for rate in rates.values()):
        raise ValueError("profit: a cost of an order, return or line is negative or missing")
    if counts is None and (cost_per_return is not None or cost_per_line is not None):
        raise ValueError("profit: a cost per return or per line needs counts (service_counts)")
    assumptions = []
    serve = np.zeros(len(base))
    for what, rate in rates.items():
        if rate is not None:
            serve += rate * _aligned(base, base if what == "orders" else counts, what)
            assumptions.append(f"each of a customer's {what} costs the same to handle")
    if cost_to_serve is None and cost_per_return is None and cost_per_line is None:
        assumptions.append("serving a customer costs nothing, because the study states no cost of an order")
    contacted = _aligned(base, contacts, "contact_cost")
    strangers = 0.0 if contacts is None else float(contacts["contact_cost"].sum() - contacted.sum())
    if contacts is not None and contacts["unpriced"].sum():
        assumptions.append(f"{int(contacts['unpriced'].sum())} contacts of unknown cost cost nothing")
    shared, unspread = retention if retention is not None else (None, 0.0)
    kept = _aligned(base, shared, "retention_cost")
    if kept.any():
        assumptions.append(
            "what else was spent on keeping customers is shared equally by those who bought in the period"
        )
    profit = margin - serve - contacted - kept
    frame = pd.DataFrame(
        {
            "customer_id": base["customer_id"],
            "margin": margin,
            "cost_to_serve": serve,
            "contact_cost": contacted,
            "retention_cost": kept,
            "profit": profit,
        }
    )
    known = np.isfinite(profit)
    reason = "it is the past, counted and not estimated"
    total = Estimate(
        float(profit[known].sum()), reason=reason if known.all() else f"{reason}; some margins are unknown"
    )
    return CustomerProfit(
        frame, total, int((~known).sum()), unspread + max(strangers, 0.0), tuple(assumptions), acquisition_cost
    )


def whale_curve(profit: ArrayLike, alpha: float = 0.05) -> WhaleCurve:
    """Rank customers by profit and add it up.

    The intervals take the customers as a sample of such customers (delta method on the log of ratios; Wilson's for the
    share). A short period makes the curve steeper than it will stay: a customer who returned one large order last month is
    not for ever unprofitable.

    Parameters
    ----------
    profit : array-like of shape (customers,)
        Money, any sign.
    alpha : float
        1 − the level of the intervals.

    Raises
    ------
    ValueError
        Fewer than two customers, a profit missing, or not one that differs from zero.
    """
    value = np.sort(np.asarray(profit, dtype=float))[::-1]
    n = len(value)
    if n < 2 or not np.isfinite(value).all():
        raise ValueError(
            "whale curve: needs at least two customers, each with a profit; leave out those of unknown margin"
        )
    if not value.any():
        raise ValueError("whale curve: nobody brought or cost anything")
    total, gains, losses = float(value.sum()), np.maximum(value, 0.0), np.maximum(-value, 0.0)
    losers = int((value < 0).sum())
    low, high = share_interval(losers, n, alpha)
    cumulative = np.concatenate([[0.0], np.cumsum(value)])
    at = np.linspace(0.0, 1.0, 101)
    return WhaleCurve(
        customers=n,
        total=total,
        peak=_peak(gains, losses, total, alpha),
        unprofitable=Estimate(losers / n, float(low), float(high)),
        destroyed=_ratio(losses, gains, alpha, "nobody brought a profit"),
        losses=float(losses.sum()),
        curve=pd.DataFrame({"customers_share": at, "profit": np.interp(at, np.linspace(0.0, 1.0, n + 1), cumulative)}),
    )


def _aligned(base: pd.DataFrame, given: pd.DataFrame | None, column: str) -> Array:
    if given is None:
        return np.zeros(len(base))
    values = given.set_index("customer_id")[column].reindex(base["customer_id"])
    return values.astype(float).fillna(0.0).to_numpy()


def _peak(gains: Array, losses: Array, total: float, alpha: float) -> Estimate:
    """All gains over the total: 1 + losses / total, so its interval is that of the ratio, moved up by one."""
    if total <= 0.0:
        return Estimate(math.nan, reason="all customers together bring no profit")
    above = _ratio(losses, gains - losses, alpha, "all customers together bring no profit")
    return Estimate(
        float(gains.sum()) / total,
        None if above.low is None else 1.0 + above.low,
        None if above.high is None else 1.0 + above.high,
        above.reason,
    )


def _ratio(above: Array, below: Array, alpha: float, nothing: str) -> Estimate:
    """Ratio of two sums over customers, with the delta method on its logarithm."""
    n, a, b = len(above), float(above.mean()), float(below.mean())
    if b <= 0.0:
        return Estimate(math.nan, reason=nothing)
    if a == 0.0:
        return Estimate(0.0, reason="no customer makes a loss, so there is nothing to vary")
    z = float(stats.norm.ppf(1 - alpha / 2))
    if b < 2.0 * z * below.std() / math.sqrt(n):
        return Estimate(a / b, reason="profit varies so much between customers that the ratio could be anything")
    error = float((above / a - below / b).std()) / math.sqrt(n)
    if error == 0.0:
        return Estimate(a / b, reason="customers do not differ enough to show how it varies")
    return Estimate(a / b, a / b * math.exp(-z * error), a / b * math.exp(z * error))
