"""Figures of targeting: profit against budget, policies side by side, gains, rates by decile, coupons, weeks.

Frames in, figures out; a title says the finding.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.campaigns.policy import PolicyComparison
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

BLUE, ORANGE, GREEN, PLUM, GREY = theme.PALETTE[:5]


def _title(figure: Figure, text: str) -> None:
    np.ravel(figure.axes)[0].set_title(text)


def _rows(ax: Axes, labels: list[str]) -> np.ndarray:
    places = np.arange(len(labels))[::-1]
    ax.set_yticks(places, labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    return places


def profit_by_budget(curve: pd.DataFrame, fmt: Formatter, budget: float | None = None, advised: bool = True) -> Figure:
    """Measured profit at each budget of the list that chooses customers one by one, with its band, and what the estimates
    promise (dashed).

    Parameters
    ----------
    curve : from :func:`analysis.campaigns.targeting.profit_curve`. budget : what may be spent, marked if given.
    advised : whether choosing one by one is what is recommended; if not, the title says whose curve it is.
    """
    fig, ax = theme.new_figure(height=4.4)
    ax.axhline(0, color=theme.QUIET, linewidth=1)
    ax.fill_between(
        curve["budget"], curve["band_low"], curve["band_high"], color=BLUE, alpha=0.16, linewidth=0, label="its band"
    )
    ax.plot(curve["budget"], curve["profit"], color=BLUE, label="as measured")
    ax.plot(curve["budget"], curve["expected"], color=ORANGE, linestyle="--", label="as estimated")
    if budget is not None:
        ax.axvline(budget, color=theme.INK, linewidth=1.2, linestyle=":", label="budget")
    ax.set_xlim(0, max(float(curve["budget"].max()), 1e-9))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.tick_params(axis="x", pad=9)  # clear of the lowest amount on the other axis
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(fmt.axis("money"))
    ax.set_xlabel("Spent on contacts and offers, best customers first")
    ax.set_ylabel("Incremental profit")
    fig.legend(loc="outside lower center", ncols=4, columnspacing=1.2, handlelength=1.6)
    best = curve.loc[curve["profit"].idxmax()]
    if best["band_low"] > 0:
        text = f"Most profit measured, {fmt.money(best['profit'])}, at a budget of {fmt.money(best['budget'])}"
    elif (curve["band_low"] > 0).any():
        first = curve[curve["band_low"] > 0].iloc[-1]
        text = f"Profit is clear up to a budget of {fmt.money(first['budget'])}"
    else:
        text = "At no budget is the profit clearly above zero"
    _title(fig, text if advised else f"Chosen one by one: {text[0].lower()}{text[1:]}")
    return fig


def policy_dots(comparison: PolicyComparison, labels: dict[str, str], fmt: Formatter) -> Figure:
    """Profit a customer of every policy over nobody with its interval; the recommended one in orange.

    Parameters
    ----------
    labels : words for the policies' names; those without keep their own.
    """
    table = comparison.table
    fig, ax = theme.new_figure(height=2.0 + 0.52 * len(table), grid="x")
    y = _rows(ax, [labels.get(name, name) for name in table["policy"]])
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    colours = np.where(table["policy"] == comparison.recommended, ORANGE, BLUE)
    ax.hlines(y, table["low"], table["high"], color=colours, linewidth=2.4)
    ax.scatter(table["value"], y, color=colours, s=46, zorder=3)
    ax.xaxis.set_major_formatter(fmt.axis("money"))
    ax.set_xlabel(
        f"Incremental profit a customer\n(line: {fmt.share(comparison.confidence, 0)} interval; orange: what to do)"
    )
    name = labels.get(comparison.recommended, comparison.recommended)
    titles = {
        "policy": "Choosing customer by customer beats every simpler way",
        "rule": f"A simple rule is enough: {name}",
        "arm": f"Treat all alike: {name}; choosing customers is not proved to bring more",
        "nobody": "No way of contacting customers clearly pays; leave them alone",
    }
    _title(fig, titles[comparison.kind])
    return fig


def gains_chart(gains: pd.DataFrame, fmt: Formatter) -> Figure:
    """Share of all responses reached against share of customers mailed, best scores first, beside mailing at random."""
    fig, ax = theme.new_figure(height=4.4, grid="both")
    x, start = np.r_[0, gains["depth"]], [0.0]
    ax.fill_between(
        x, np.r_[start, gains["gain_low"]], np.r_[start, gains["gain_high"]], color=BLUE, alpha=0.18, linewidth=0
    )
    ax.plot(x, np.r_[start, gains["gain"]], "o-", color=BLUE, label="by score, with interval")
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="at random")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(fmt.axis("share"))
    ax.set_xlabel("Customers mailed, highest propensity first")
    ax.set_ylabel("Responses reached (not effects)")
    ax.legend(loc="lower right")
    row = gains.loc[(gains["depth"] - 0.2).abs().idxmin()]
    clear = row["gain_low"] > row["depth"]
    text = f"The best {fmt.share(row['depth'], 0)} hold {fmt.share(row['gain'], 0)} of the responses, caused or not"
    _title(fig, text if clear else "The score does not clearly find those who respond")
    return fig


def coupon_profit(
    margins: pd.DataFrame, labels: dict[str, str], fmt: Formatter, contact_cost: float | None = 0.0
) -> Figure:
    """What each coupon takes off and what it leaves after goods, coupon and contact, a customer sent it.

    Parameters
    ----------
    margins, contact_cost : from :class:`analysis.campaigns.coupons.Coupons`. labels : words for the arms' names.
    """
    fig, ax = theme.new_figure(height=2.5 + 0.72 * len(margins), grid="x")
    y = _rows(ax, [labels.get(name, name) for name in margins["arm"]])
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    ax.barh(y + 0.16, -margins["given"], height=0.28, color=GREY, label="taken off by the coupon")
    ax.hlines(y - 0.16, margins["low"], margins["high"], color=BLUE, linewidth=2.4)
    ax.plot(margins["profit"], y - 0.16, "o", color=BLUE, label="profit left, with interval")
    ax.xaxis.set_major_formatter(fmt.axis("money"))
    before = "" if contact_cost is not None else ",\nbefore the cost of the contact, which is unknown"
    ax.set_xlabel(f"Money a customer who was sent the coupon{before}")
    fig.legend(loc="outside lower center", ncols=2)
    pays, loses = margins[margins["low"] > 0], margins[margins["high"] < 0]
    names = [labels.get(name, name) for name in (pays if len(pays) else loses)["arm"]]
    if len(pays):
        text = "After its face value a coupon pays: " + ", ".join(names)
    else:
        text = "After their face value coupons lose money: " + ", ".join(names) if names else "No coupon clearly pays"
    _title(fig, text if contact_cost is not None else f"{text} (contact not counted)")
    return fig


def effect_by_week(weekly: pd.DataFrame, campaign_weeks: int, fmt: Formatter) -> Figure:
    """Effect of one arm in each week (bars) and added up (line with interval); the shaded weeks are the campaign's.

    Parameters
    ----------
    weekly : from :func:`analysis.campaigns.coupons.weekly_effects`.
    """
    fig, (top, low) = theme.new_figure(height=5.6, nrows=2, sharex=True)
    week, last = weekly["week"], weekly.iloc[-1]
    for ax in (top, low):
        ax.axvspan(0.5, campaign_weeks + 0.5, color=theme.GRID, alpha=0.6, zorder=0)
        ax.axhline(0, color=theme.QUIET, linewidth=1)
        ax.yaxis.set_major_formatter(fmt.axis("money"))
    top.bar(week, weekly["effect"], color=np.where(weekly["effect"] < 0, ORANGE, BLUE), width=0.7)
    top.vlines(week, weekly["low"], weekly["high"], color=theme.INK, linewidth=1.6)
    low.fill_between(week, weekly["cumulative_low"], weekly["cumulative_high"], color=BLUE, alpha=0.16, linewidth=0)
    low.plot(week, weekly["cumulative"], "o-", color=BLUE)
    top.set_ylabel("Effect in the week")
    low.set_ylabel("Added up")
    low.set_xticks(week)
    low.set_xlabel("Week after the start (shaded: the campaign)\nmoney a customer, with interval")
    end = weekly[weekly["week"] == min(campaign_weeks, int(week.max()))].iloc[0]
    if end["cumulative_low"] <= 0:
        text = "Sales did not clearly rise in the weeks of the campaign"
    elif last["cumulative_low"] > 0:
        text = f"The gain lasts: {fmt.money(last['cumulative'])} a customer after {int(week.max())} weeks"
    else:
        text = f"Of {fmt.money(end['cumulative'])} a customer gained by the end, nothing is sure {int(week.max())} weeks on"
    _title(fig, text)
    return fig


def promised_and_brought(table: pd.DataFrame, labels: dict[str, str], fmt: Formatter, title: str) -> Figure:
    """Profit a contacted customer that the last list promised (hollow), and what contacting brought, with its interval.

    Parameters
    ----------
    table : of :class:`analysis.campaigns.list_record.ListRecord`. labels : words for its groups.
    """
    fig, ax = theme.new_figure(height=2.5 + 0.7 * len(table), grid="x")
    y = _rows(ax, [labels[group] for group in table["group"]])
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    ax.hlines(y - 0.1, table["low"], table["high"], color=BLUE, linewidth=2.4)
    ax.plot(table["brought"], y - 0.1, "o", color=BLUE, label="brought, with interval")
    ax.plot(table["promised"], y + 0.14, "o", color=ORANGE, markerfacecolor="none", label="promised")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(fmt.axis("money"))
    ax.set_xlabel("Profit a contacted customer, after costs")
    fig.legend(loc="outside lower center", ncols=2)
    _title(fig, title)
    return fig
