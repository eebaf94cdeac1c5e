"""The figures of the valuation room: frames in, Figure out, with a title that says the finding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import INK, PALETTE, QUIET, new_figure
from analysis.valuation.concentration import Concentration
from analysis.valuation.contest import BOOSTING, RFM_SCORE
from analysis.valuation.holdout import LAST_PERIOD, SAME_RATE, Holdout, by_frequency

_BLUES = LinearSegmentedColormap.from_list("quiet to hero", ["#eef4f8", "#8fbcd4", PALETTE[0], "#063c55"])
_LIGHT_TEXT_ABOVE = 0.45
FORECAST_WORDS = {
    SAME_RATE: "same rate as before",
    LAST_PERIOD: "weeks before, repeated",
    RFM_SCORE: "RFM score",
    BOOSTING: "gradient boosting",
}


def concentration_curve(found: Concentration, fmt: Formatter, customers: str = "customers") -> Figure:
    """The Lorenz curve read from the best customer down, with the best ones and what they bring marked.

    Parameters
    ----------
    found : Concentration
    fmt : Formatter
    customers : str
        What the study calls its customers.
    """
    fig, ax = new_figure(height=4.4, grid="both")
    best_first = 1.0 - found.curve["customers_share"].to_numpy()[::-1]
    brought = 1.0 - found.curve["amount_share"].to_numpy()[::-1]
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1.2, linestyle="--")
    ax.plot(best_first, brought, color=PALETTE[0])
    ax.fill_between(best_first, best_first, brought, color=PALETTE[0], alpha=0.10, linewidth=0)
    top, share = found.top, found.top_share.value
    ax.plot([top, top, 0], [0, share, share], color=PALETTE[1], linewidth=1.2, linestyle=":")
    ax.plot([top], [share], "o", color=PALETTE[1], markersize=8)
    ax.plot([0.2], [0.8], "o", markerfacecolor="white", markeredgecolor=QUIET, markersize=8)
    above = 1.0 - np.interp(0.8, found.curve["customers_share"], found.curve["amount_share"]) < 0.8
    ax.annotate(
        "80/20 rule",
        (0.2, 0.8),
        xytext=(0, 9) if above else (12, -4),
        textcoords="offset points",
        ha="center" if above else "left",
        va="bottom" if above else "top",
        color=QUIET,
    )
    ax.text(0.98, 0.3, f"dashed: all {customers} alike", ha="right", va="top", color=QUIET)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=f"Share of {customers}, best first", ylabel="Share of sales")
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.yaxis.set_major_formatter(fmt.axis("share"))
    ax.set_title(f"The best {fmt.share(top, 0)} of {customers} bring {fmt.share(share, 0)} of sales")
    return fig


def rfm_heat_map(grid: pd.DataFrame, fmt: Formatter, customers: str = "customers") -> Figure:
    """Mean spend by recency and frequency score; groups whose money is hidden or that nobody is in stay blank.

    Parameters
    ----------
    grid : DataFrame
        From :func:`analysis.valuation.rfm_grid`.
    """
    scores = range(1, 6)
    money = grid.pivot(index="r_score", columns="f_score", values="mean_spend").reindex(index=scores, columns=scores)
    count = grid.pivot(index="r_score", columns="f_score", values="customers").reindex(index=scores, columns=scores)
    values = money.to_numpy(float)
    fig, ax = new_figure(height=4.8, grid="none")
    highest = np.nanmax(values) if np.isfinite(values).any() else 1.0
    ax.imshow(values, cmap=_BLUES, vmin=0, vmax=highest, origin="lower", aspect="auto")
    short = fmt.axis("money")
    flat = values.ravel()
    written = fmt.column(flat, "money") if highest < 10_000 else [short(float(f"{x:.3g}")) for x in flat]
    for row in range(5):
        for column in range(5):
            people = count.to_numpy(float)[row, column]
            if not people > 0:
                continue
            known = np.isfinite(values[row, column])
            dark = known and values[row, column] / highest > _LIGHT_TEXT_ABOVE
            colour = "white" if dark else INK if known else QUIET
            words = written[5 * row + column] if known else "few"
            ax.text(
                column,
                row + (0.12 if known else 0),
                words,
                ha="center",
                va="center",
                color=colour,
                fontweight="bold" if known else "normal",
            )
            if known:
                ax.text(
                    column,
                    row - 0.22,
                    fmt.count(people),
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=10.5,
                )
    ax.set_xticks(range(5), [str(s) for s in scores])
    ax.set_yticks(range(5), [str(s) for s in scores])
    ax.set_xticks(np.arange(-0.5, 5), minor=True)
    ax.set_yticks(np.arange(-0.5, 5), minor=True)
    ax.grid(which="minor", visible=True, color="white", linewidth=2)
    ax.set(xlabel="Frequency score (5 = most often)", ylabel="Recency score (5 = most recent)")
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(rfm_title(grid, fmt, customers))
    return fig


def rfm_title(grid: pd.DataFrame, fmt: Formatter, customers: str = "customers") -> str:
    """The finding of :func:`rfm_heat_map` in one line."""
    shown = grid.dropna(subset="sales_share")
    if shown.empty:
        return f"Too few {customers} in any group to show what they spent"
    best = shown.loc[shown["sales_share"].idxmax()]
    people, sales = fmt.share(best["customers"] / grid["customers"].sum(), 0), fmt.share(best["sales_share"], 0)
    group = f"recency {best['r_score']:.0f} and frequency {best['f_score']:.0f}"
    return f"The {people} of {customers} with {group} bring {sales} of sales"


def holdout_by_frequency(
    holdout: Holdout, fmt: Formatter, small_group: int = 10, customers: str = "customers"
) -> Figure:
    """What came in the holdout beside what the best model and the best heuristic foresaw, by past purchases.

    Below each point stands how many customers it speaks of: most of them decide which forecast comes closest.

    Parameters
    ----------
    holdout : Holdout
    fmt : Formatter
    small_group : int
        Groups of fewer customers are merged.
    customers : str
        What the study calls its customers.
    """
    table = by_frequency(holdout, small_group=small_group)
    fig, ax = new_figure(height=4.4)
    at = np.arange(len(table))
    shown = [name for name in (holdout.best_model, holdout.best_heuristic) if name is not None]
    for name, colour, marker in zip(
        shown, (PALETTE[0], PALETTE[1]) if len(shown) > 1 else PALETTE[1:2], "so", strict=False
    ):
        label = f"{name} model" if name == holdout.best_model else f"{FORECAST_WORDS[name]} (no model)"
        ax.plot(at, table[name], color=colour, marker=marker, label=label)
    ax.plot(at, table["actual"], color=INK, marker="D", linestyle="none", label="actual", zorder=5)
    ax.set_xticks(at, table["group"])
    ax.xaxis.remove_overlapping_locs = False  # a second line of labels, of its own size
    ax.set_xticks(at, [fmt.count(people) for people in table["customers"]], minor=True)
    small = 11 if table["customers"].max() < 100_000 else 8.5
    ax.tick_params(axis="x", which="minor", length=0, pad=26, labelsize=small, labelcolor=QUIET)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(fmt.axis("number"))
    ax.set(
        xlabel=f"Repeat purchases before the tested weeks;\nbelow, {customers}",
        ylabel=f"Purchases in {fmt.weeks(holdout.weeks)}, mean",
    )
    ax.legend(loc="upper left")
    words = {SAME_RATE: "Carrying on at the same rate", LAST_PERIOD: f"Repeating the {fmt.weeks(holdout.weeks)} before"}
    ax.set_title(f"{words.get(holdout.best, f'The {holdout.best} model')} came closest to the last weeks")
    return fig


def value_by_group(groups: pd.DataFrame, fmt: Formatter, horizon_weeks: int, words: Any = None) -> Figure:
    """Margin so far and expected margin per customer, by groups of equal size ranked by what is expected.

    Parameters
    ----------
    groups : DataFrame
        From :func:`analysis.valuation.value_groups`, with limits where :func:`analysis.valuation.with_group_limits` gave them.
        Without a margin, expected sales are drawn instead.
    words : object with `customer` and `customers`, optional
        What the study calls them.
    """
    customer, customers = (words.customer, words.customers) if words else ("customer", "customers")
    has_value = groups["residual_value"].notna().all()
    fig, ax = new_figure(height=4.4)
    at = np.arange(len(groups))
    if has_value:
        ax.bar(at - 0.2, groups["existing_value"], width=0.38, color=PALETTE[4], label="so far")
        ax.bar(
            at + 0.2,
            groups["residual_value"],
            width=0.38,
            color=PALETTE[0],
            label=f"next {horizon_weeks} weeks",
        )
        ax.legend(loc="upper right")
    else:
        ax.bar(at, groups["expected_sales"], width=0.7, color=PALETTE[0])
    if "group_low" in groups and groups["group_low"].notna().any():
        mean = groups["residual_value" if has_value else "expected_sales"]
        ends = [mean - groups["group_low"], groups["group_high"] - mean]
        ax.errorbar(
            at + (0.2 if has_value else 0.0), mean, yerr=ends, fmt="none", ecolor=INK, elinewidth=1.4, capsize=3
        )
    ax.set_xticks(at, [str(g) for g in groups["group"]])
    ax.yaxis.set_major_formatter(fmt.axis("money"))
    what = "Margin" if has_value else "Expected sales"
    ax.set(
        xlabel=f"{customers.capitalize()} in {len(groups)} equal groups, best first",
        ylabel=f"{what} per {customer}, mean",
    )
    share = groups["residual_share"].iloc[0]
    kind = "margin" if has_value else "sales"
    best = f"best {fmt.share(1 / len(groups), 0)}" if len(groups) > 1 else "whole base"
    ax.set_title(f"The {best} should bring {fmt.share(share, 0)} of the next {horizon_weeks} weeks’ {kind}")
    return fig
