"""Figures of the link from satisfaction to behaviour and money: frames in, figures out, sized to be read on a phone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

from .link import BOUGHT, PURCHASES, SPEND, Shape
from .link_model import HAZARD, RATE
from .names import called

_NAMES: Mapping[str, str] = {
    RATE: "Buying, while a customer",
    HAZARD: "Leaving",
    BOUGHT: "Buying again at all (odds)",
    PURCHASES: "Purchases in the window",
    SPEND: "Spend a purchase",
}
_STEPS: Mapping[str, str] = {
    "driver": "Driver → satisfaction",
    "link": "Satisfaction → buying, staying, spend",
    "value": "Buying, staying, spend → money",
}


def link_dots(effects: pd.DataFrame, fmt: Formatter) -> Figure:
    """What ten points more of satisfaction go with: ratios with intervals, as seen (hollow) and corrected for error (full).

    Parameters
    ----------
    effects : rows of :func:`analysis.loyalty.link.effect_row`
    """
    part = effects.iloc[::-1].reset_index(drop=True)
    fig, ax = theme.new_figure(height=1.9 + 0.62 * len(part), grid="x")
    y = np.arange(len(part))
    ax.axvline(1, color=theme.QUIET, linewidth=1.2)
    for shift, form, colour, face in (
        (0.14, "true_ten", theme.PALETTE[0], theme.PALETTE[0]),
        (-0.14, "ten", theme.PALETTE[4], "white"),
    ):
        ax.hlines(y + shift, part[f"{form}_low"], part[f"{form}_high"], color=colour, linewidth=2.5)
        ax.scatter(part[form], y + shift, s=62, color=face, edgecolor=colour, linewidth=1.8, zorder=3)
    ax.set_xscale("log")
    ends = part[["ten_low", "true_ten_low", "ten_high", "true_ten_high"]].to_numpy()
    ticks = _ratio_ticks(ends.min(), ends.max())
    ax.set_xticks(ticks, [f"+{fmt.share(tick - 1, 0)}" if tick > 1 else fmt.share(tick - 1, 0) for tick in ticks])
    ax.minorticks_off()
    ax.set_yticks(y, [_NAMES[outcome] for outcome in part["outcome"]])
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.set_xlabel("Change with ten points more of satisfaction")
    marks = [
        Line2D([], [], color=theme.PALETTE[0], marker="o", markersize=8),
        Line2D([], [], color=theme.PALETTE[4], marker="o", markersize=8, markerfacecolor="white"),
    ]
    names = ["corrected for error of the answers", "as the answers show it"]
    fig.legend(marks, names, loc="outside lower center", ncols=1)
    ax.set_title(_link_title(effects, fmt))
    return fig


def _ratio_ticks(low: float, high: float) -> list[float]:
    """Round ratios between two ends, far enough from each other to be read; 1 always."""
    chosen = [1.0]
    room = np.log(high / low) / 6
    for step in (1.05, 1.1, 1.2, 1.4, 1.7, 2.0, 3.0, 4.0, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2):
        inside = low * 0.97 <= step <= high * 1.03
        if inside and min(abs(np.log(step / tick)) for tick in chosen) >= room:
            chosen.append(step)
    return sorted(chosen)


def _link_title(effects: pd.DataFrame, fmt: Formatter) -> str:
    known = effects.set_index("outcome")
    row = known.loc[RATE] if RATE in known.index else known.iloc[0]
    if row["true_ten_low"] <= 1 <= row["true_ten_high"]:
        return "Whether the satisfied buy more is not certain"
    more = "more" if row["true_ten"] > 1 else "less"
    change = fmt.share(abs(row["true_ten"] - 1), 0)
    return f"Ten points more satisfied, customers buy {change} {more} often in the time that follows"


def effect_curve(shape: Shape, fmt: Formatter) -> Figure:
    """How an outcome changes over the score, with a band: the line, or the bend where the data show one."""
    curve = shape.curve
    fig, ax = theme.new_figure(height=3.9)
    ax.axhline(1, color=theme.QUIET, linewidth=1)
    ax.fill_between(curve["score"], curve["low"], curve["high"], color=theme.PALETTE[0], alpha=0.18, linewidth=0)
    ax.plot(curve["score"], curve["ratio"], color=theme.PALETTE[0])
    ax.yaxis.set_major_formatter(fmt.axis("number"))
    ax.set_xlabel("Satisfaction, 0–100 points")
    ax.set_ylabel(f"{_NAMES[shape.outcome]},\n1 = at mean satisfaction")
    if shape.bent:
        title = "A point counts differently along the scale: the effect bends"
    else:
        title = "A straight line is enough: a point counts alike along the scale"
    ax.set_title(title)
    return fig


def what_if_bars(what_if: pd.DataFrame, fmt: Formatter, raised: float = 10.0, horizon_weeks: int = 52) -> Figure:
    """Margin that a raise of each driver would bring over the horizon, with intervals, largest on top."""
    part = called(what_if[what_if["raise"] == raised]).sort_values("money", kind="stable").reset_index(drop=True)
    fig, ax = theme.new_figure(height=1.6 + 0.5 * len(part), grid="x")
    y = np.arange(len(part))
    colour = np.where(part["money_low"] > 0, theme.PALETTE[0], theme.PALETTE[4])
    ax.axvline(0, color=theme.QUIET, linewidth=1.2)
    ax.hlines(y, part["money_low"], part["money_high"], color=list(colour), linewidth=3)
    ax.scatter(part["money"], y, s=70, color=list(colour), zorder=3)
    names = [
        f"{row.driver} (+{fmt.number(row.raised, 0)})" if row.raised < row.asked - 0.05 else row.driver
        for row in part.rename(columns={"raise": "asked"}).itertuples()
    ]
    ax.set_yticks(y, names)
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.xaxis.set_major_formatter(fmt.axis("money"))
    ax.xaxis.get_major_locator().set_params(nbins=5)
    ax.set_xlabel(f"Margin of {horizon_weeks} weeks with {fmt.number(raised, 0)} points more, if it is a cause")
    rest = part[part["driver"] != "Satisfaction"]
    top = (rest if len(rest) else part).iloc[-1]
    ax.set_title(
        f"{fmt.number(raised, 0)} points more of {top['driver'].lower()} would be worth {fmt.money(top['money'])}"
    )
    return fig


def sensitivity_dots(table: pd.DataFrame, fmt: Formatter) -> Figure:
    """How strong an unseen cause must be to undo an effect (dot), beside what the strongest seen control explains (cross)."""
    part = table.iloc[::-1].reset_index(drop=True)
    fig, ax = theme.new_figure(height=2.3 + 0.55 * len(part), grid="x")
    y = np.arange(len(part))
    seen = part[["benchmark_treatment", "benchmark_outcome"]].min(axis=1)
    ax.scatter(part["robustness"], y, s=80, color=theme.PALETTE[0], zorder=3, label="needed to undo the effect")
    ax.scatter(seen, y, s=80, color=theme.PALETTE[1], marker="X", zorder=3, label="as the control that takes most away")
    ax.hlines(y, seen, part["robustness"], color=theme.GRID, linewidth=2, zorder=1)
    ax.set_yticks(y, [_NAMES[outcome] for outcome in part["outcome"]])
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.set_xlabel("Share of what is left of both sides\nthat an unseen cause explains")
    fig.legend(loc="outside lower center", ncols=1)
    first = table.iloc[0] if PURCHASES not in set(table["outcome"]) else table.set_index("outcome").loc[PURCHASES]
    ax.set_title(
        f"An unseen cause would have to explain {fmt.share(first['robustness'], 0)} of both sides to undo the effect on purchases"
    )
    return fig
