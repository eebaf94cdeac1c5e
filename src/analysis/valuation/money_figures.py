"""The figures of profit, cohorts, the audit, equity, acquisition and potential: frames in, Figure out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import INK, PALETTE, QUIET, new_figure
from analysis.valuation.acquisition import ChannelValue
from analysis.valuation.audit import Audit
from analysis.valuation.cohorts import Cohorts
from analysis.valuation.equity import CustomerEquity
from analysis.valuation.potential import GrowthValue
from analysis.valuation.profit import WhaleCurve

_BLUES = LinearSegmentedColormap.from_list("quiet to hero", ["#eef4f8", "#8fbcd4", PALETTE[0], "#063c55"])
_LIGHT_TEXT_ABOVE = 0.45
_MOST_COLUMNS = {"active_share": 12}  # numbers side by side that have room; fewer of money
PERIOD_WORDS = {
    "year": "year",
    "52_weeks": "52 weeks",
    "half_year": "26 weeks",
    "quarter": "13 weeks",
    "four_weeks": "4 weeks",
}
_COMPONENT_WORDS = {
    "new": "new",
    "won_back": "won back",
    "grown": "grown",
    "flat": "flat",
    "shrunk": "shrunk",
    "lost": "lost",
    "returns_only": "returns only",
    "others": "others",
}
_DRIVER_WORDS = {
    "retention": "Retention 1% better",
    "margin": "Margin 1% better",
    "discount_rate": "Discount rate 1% lower",
    "acquisition_cost": "Acquisition cost 1% lower",
}


def whale(found: WhaleCurve, fmt: Formatter, customers: str = "customers") -> Figure:
    """Cumulative profit over customers, the most profitable first, with its peak and what is lost after it.

    Parameters
    ----------
    found : WhaleCurve
    fmt : Formatter
    customers : str
        What the study calls its customers.
    """
    fig, ax = new_figure(height=4.4, grid="both")
    share, profit = found.curve["customers_share"].to_numpy(), found.curve["profit"].to_numpy()
    peak, at = float(profit.max()), found.peak_at
    ax.axhline(found.total, color=QUIET, linewidth=1.2, linestyle="--")
    ax.fill_between(share, profit, 0, color=PALETTE[0], alpha=0.10, linewidth=0)
    ax.plot(share, profit, color=PALETTE[0])
    after = share >= at
    ax.plot(share[after], profit[after], color=PALETTE[1])
    ax.plot([at], [peak], "o", color=PALETTE[1], markersize=8)
    inside = 0.15 < at < 0.75
    ax.annotate(
        f"peak {fmt.money(peak)}",
        (at, peak),
        xytext=(0, 9),
        textcoords="offset points",
        ha="center" if inside else "right" if at >= 0.75 else "left",
        color=INK,
    )
    top = max(peak, found.total, 0.0)
    bottom = min(0.0, float(profit.min()))
    ax.set(xlim=(0, 1), ylim=(bottom * 1.05, (top or -bottom * 0.1) * 1.16))
    if peak - found.total > 0.04 * (top - bottom):
        words = f"total {fmt.money(found.total)}"
        ax.text(0.98, found.total - 0.03 * (top - bottom), words, ha="right", va="top", color=QUIET)
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.yaxis.set_major_formatter(fmt.axis("money"))
    ax.set(xlabel=f"Share of {customers}, most profitable first", ylabel="Profit, added up")
    ax.set_title(whale_title(found, fmt, customers))
    return fig


def whale_title(found: WhaleCurve, fmt: Formatter, customers: str = "customers") -> str:
    """The finding of :func:`whale` in one line."""
    if found.losses == 0.0:
        return f"No {customers} cost more than they bring"
    losers = fmt.share(found.unprofitable.value, 0 if found.unprofitable.value >= 0.01 else None)
    if not np.isfinite(found.destroyed.value):
        return f"All {customers} together bring no profit"
    return f"{losers} of {customers} lose {fmt.share(found.destroyed.value)} of what the others earn"


def cohort_heat_map(
    found: Cohorts, fmt: Formatter, measure: str = "active_share", small_group: int = 10, customers: str = "customers"
) -> Figure:
    """Cohort × age; what has not been observed yet, and what too few customers would show, stays blank.

    Where there are more ages than numbers have room, every second, third, … is left out, so that each one drawn has its number.

    Parameters
    ----------
    found : Cohorts
    fmt : Formatter
    measure : {"active_share", "spend", "margin"}
    small_group : int
    customers : str
    """
    table = found.table(measure, small_group)
    if measure == "active_share":
        table = table.drop(columns=0)  # everybody bought at age 0
    table = table.dropna(how="all").dropna(how="all", axis=1)
    table = table.iloc[:, :: max(1, -(-table.shape[1] // _MOST_COLUMNS.get(measure, 8)))]
    fig, ax = new_figure(height=max(3.3, 1.5 + 0.36 * len(table)), grid="none")
    ax.set_title(cohort_title(found, fmt, measure, customers))
    values = table.to_numpy(float)
    if values.size:
        known = values[np.isfinite(values)]
        # numbers are printed, so the colours may start half-way between nothing and the least
        low, high = min(known.min() / 2.0, known.min()), max(known.max(), 1e-12)
        ax.imshow(values, cmap=_BLUES, vmin=low, vmax=high, aspect="auto")
        unit = "share" if measure == "active_share" else "money"
        short = fmt.axis(unit)
        size = 13 if values.shape[1] <= 8 else 11
        for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
            value = values[row, column]
            written = fmt.share(value, 0) if unit == "share" else short(float(f"{value:.2g}"))
            dark = (value - low) / (high - low) > _LIGHT_TEXT_ABOVE
            ax.text(column, row, written, ha="center", va="center", color="white" if dark else INK, fontsize=size)
        ax.set_xticks(range(values.shape[1]), [str(age) for age in table.columns])
        ax.set_yticks(range(len(table)), [_cohort_name(day, found.period, fmt) for day in table.index])
    ax.set(xlabel=f"{found.period.capitalize()}s since the first purchase", ylabel="First purchase in")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return fig


def cohort_title(found: Cohorts, fmt: Formatter, measure: str = "active_share", customers: str = "customers") -> str:
    """The finding of :func:`cohort_heat_map` in one line."""
    if measure == "active_share":
        at = found.retention(1)
        if not np.isfinite(at.value):
            return f"No group of new {customers} has been observed for long enough"
        return f"{fmt.share(at.value, 0)} of new {customers} buy again in the next {found.period}"
    age0, age1 = (found.frame[found.frame["age"] == age] for age in (0, 1))
    pair = age1.merge(age0, on="cohort", suffixes=("", "_first"))
    first = float((pair[f"{measure}_first"] * pair["customers"]).sum())
    kept = float((pair[measure] * pair["customers"]).sum()) / first if first > 0 else np.nan
    if not np.isfinite(kept):
        return f"{measure.capitalize()} per customer since the first purchase"
    return f"In their second {found.period}, new {customers} bring {fmt.share(kept, 0)} of the first one’s {measure}"


def _cohort_name(day: pd.Timestamp, period: str, fmt: Formatter) -> str:
    if period == "year":
        return str(day.year)
    return f"Q{day.quarter} {day.year}" if period == "quarter" else fmt.axis("date")(_days(day))


def _days(day: pd.Timestamp) -> float:
    return (day - pd.Timestamp("1970-01-01")).days  # Matplotlib's own count of days


def waterfall(found: Audit, fmt: Formatter, small_group: int = 10, customers: str = "customers") -> Figure:
    """The bridge from last period's money to this period's, with the number of customers behind each step.

    Parameters
    ----------
    found : Audit
    fmt : Formatter
    small_group : int
    customers : str
    """
    table = found.shown(small_group)
    table = table[table["change"] != 0].reset_index(drop=True)
    steps = table["change"].astype(float).to_numpy()
    start, end = float(found.previous), float(found.current)
    height = 2.0 + 0.48 * (len(table) + 2)
    fig, ax = new_figure(height=height, grid="x")
    before = start + np.concatenate([[0.0], np.cumsum(steps)[:-1]]) if len(steps) else np.zeros(0)
    period = PERIOD_WORDS[found.period]
    steps_named = (_named(row, found.won_back_known) for row in table.itertuples())
    names = [f"{period} before", *steps_named, f"last {period}"]
    at = np.arange(len(names))
    ax.barh(at[[0, -1]], [start, end], color=PALETTE[4], height=0.62)
    colours = [PALETTE[0] if step >= 0 else PALETTE[1] for step in steps]
    # an edge of its own colour keeps the smallest step visible
    ax.barh(at[1:-1], steps, left=before, color=colours, edgecolor=colours, linewidth=1.2, height=0.62)
    edges = np.concatenate([before, before + steps, [start, end, 0.0]])
    span = edges.max() - edges.min() or 1.0
    signed = [fmt.money(start), *(f"{'+' if s > 0 else ''}{fmt.money(s)}" for s in steps), fmt.money(end)]
    right = [start, *np.maximum(before, before + steps), end]
    for row, (text, x) in enumerate(zip(signed, right, strict=True)):
        ax.text(max(x, 0.0) + 0.015 * span, row, text, va="center", ha="left", color=INK, fontsize=12)
    ax.set_yticks(at, names)
    ax.invert_yaxis()
    ax.set_xlim(min(edges.min(), 0.0), edges.max() + 0.3 * span)
    ax.xaxis.set_major_formatter(fmt.axis("money"))
    ax.locator_params(axis="x", nbins=5)
    what = "Margin" if found.measure == "margin" else "Sales"
    ax.set_xlabel(f"{what}; in brackets, {customers}")
    ax.set_title(waterfall_title(found, fmt, customers))
    return fig


def _named(row, won_back_known: bool) -> str:
    words = _COMPONENT_WORDS[row.component]
    if row.component == "new" and not won_back_known:
        words = "new or won back"
    return f"{words} ({row.customers:,})"


def waterfall_title(found: Audit, fmt: Formatter, customers: str = "customers") -> str:
    """The finding of :func:`waterfall` in one line."""
    what = "Margin" if found.measure == "margin" else "Sales"
    start, end = float(found.previous), float(found.current)
    new = float(found.change("new") + found.change("won_back"))
    kept = float(sum(found.change(name) for name in ("grown", "flat", "shrunk")))
    lost = float(found.change("lost"))
    came = "new" if found.won_back_known and not found.change("won_back") else "new or won-back"
    parts = {f"{came} {customers}": new, f"{customers} who stayed": kept, f"lost {customers}": lost}
    rose = end >= start
    cause = (max if rose else min)(parts, key=parts.get)
    if start <= 0:
        return f"{what} came to {fmt.money(end)}, most of the change from {cause}"
    moved = fmt.share(abs(end / start - 1.0), 0)
    return f"{what} {'rose' if rose else 'fell'} by {moved}, most of all through {cause}"


def equity_elasticities(found: CustomerEquity, fmt: Formatter) -> Figure:
    """By how many per cent customer equity grows when each driver is 1 % better, with intervals.

    Parameters
    ----------
    found : CustomerEquity
    fmt : Formatter
    """
    table = found.elasticities.dropna(subset="elasticity").sort_values("elasticity", ignore_index=True)
    fig, ax = new_figure(height=2.0 + 0.5 * max(len(table), 1), grid="x")
    at = np.arange(len(table))
    share = table["elasticity"].to_numpy(float) / 100.0
    low, high = table["low"].to_numpy(float) / 100.0, table["high"].to_numpy(float) / 100.0
    colours = [PALETTE[0] if row == len(table) - 1 else PALETTE[4] for row in at]
    ax.barh(at, share, color=colours, height=0.6)
    ax.errorbar(share, at, xerr=[share - low, high - share], fmt="none", ecolor=INK, elinewidth=1.4, capsize=3)
    reach = max(high.max(), 0.0) if len(table) else 0.01
    for row in at:
        ax.text(max(high[row], 0.0) + 0.02 * reach, row, fmt.share(share[row], 2), va="center", color=INK)
    ax.set_yticks(at, [_DRIVER_WORDS[name] for name in table["driver"]])
    ax.set_xlim(min(0.0, low.min() if len(table) else 0.0), reach * 1.2)
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("Change in customer equity")
    if len(table):
        best = table.iloc[-1]
        name = _DRIVER_WORDS[best["driver"]].lower()
        ax.set_title(f"Customer equity grows most with {name}: by {fmt.share(best['elasticity'] / 100.0, 2)}")
    else:
        ax.set_title("Customer equity is not above zero")
    return fig


def channels(found: ChannelValue, fmt: Formatter, customer: str = "customer") -> Figure:
    """What a customer of each channel brings, less what winning one cost, with intervals.

    Parameters
    ----------
    found : ChannelValue
    fmt : Formatter
    customer : str
        What the study calls one.
    """
    table = found.frame[found.frame["customers"] > 0].iloc[::-1].reset_index(drop=True)
    each = table[["net", "net_low", "net_high"]].div(table["customers"], axis=0)
    order = each["net"].sort_values(kind="stable").index
    table, each = table.loc[order].reset_index(drop=True), each.loc[order].reset_index(drop=True)
    fig, ax = new_figure(height=1.9 + 0.5 * max(len(table), 1), grid="x")
    at = np.arange(len(table))
    ax.barh(at, each["net"], color=PALETTE[0], height=0.6)
    known = each["net_low"].notna().to_numpy()
    error = [each["net"] - each["net_low"], each["net_high"] - each["net"]]
    ax.errorbar(
        each["net"][known],
        at[known],
        xerr=[side[known] for side in error],
        fmt="none",
        ecolor=INK,
        elinewidth=1.4,
        capsize=3,
    )
    ends = each[["net", "net_high"]].max(axis=1).to_numpy(float)
    reach = max(float(ends.max()), 0.0) if len(table) else 1.0
    for row in at:
        ax.text(max(ends[row], 0.0) + 0.02 * reach, row, fmt.money(each["net"][row]), va="center", color=INK)
    ax.set_yticks(at, table["channel"])
    floor = min(0.0, float(each.min(axis=None))) if len(table) else 0.0
    ax.set_xlim(floor * 1.05, (reach or -floor * 0.1) * 1.25)
    ax.xaxis.set_major_formatter(fmt.axis("money"))
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel(f"Value per {customer} less acquisition cost")
    if len(table):
        ax.set_title(
            f"A {customer} won by {table['channel'].iloc[-1]} brings most: {fmt.money(each['net'].iloc[-1])} after cost"
        )
    return fig


def growth_groups(
    found: GrowthValue,
    fmt: Formatter,
    horizon_weeks: int,
    groups: int = 10,
    small_group: int = 10,
    customers: str = "customers",
) -> Figure:
    """Growth potential per customer, by groups of equal size ranked by it.

    Parameters
    ----------
    found : GrowthValue
    fmt : Formatter
    horizon_weeks : int
    groups, small_group : int
        Fewer groups where one would hold fewer than `small_group` customers.
    customers : str
    """
    value = np.sort(found.frame["growth_value"].dropna().to_numpy(float))[::-1]
    count = max(1, min(groups, len(value) // max(small_group, 1)))
    group = np.arange(len(value)) * count // max(len(value), 1)
    means = np.bincount(group, weights=value, minlength=count) / np.maximum(np.bincount(group, minlength=count), 1)
    fig, ax = new_figure(height=4.2)
    ax.bar(np.arange(count), means, width=0.7, color=[PALETTE[2]] + [PALETTE[4]] * (count - 1))
    ax.set_xticks(range(count), [str(k + 1) for k in range(count)])
    ax.yaxis.set_major_formatter(fmt.axis("money"))
    ax.set(
        xlabel=f"{customers.capitalize()} in {count} equal groups, most room first",
        ylabel=f"Potential, {fmt.weeks(horizon_weeks)}, mean",
    )
    total = value.sum()
    if total > 0 and count > 1:
        share = value[group == 0].sum() / total
        ax.set_title(f"{fmt.share(share, 0)} of the room to grow lies with {fmt.share(1 / count, 0)} of {customers}")
    else:
        ax.set_title(f"Room to grow: {fmt.money(total)} in {fmt.weeks(horizon_weeks)}")
    return fig
