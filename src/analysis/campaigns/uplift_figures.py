"""Figures of uplift: what each ranking is worth, gains against depth, predicted against observed effects, segments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

BLUE, ORANGE, GREEN, PLUM, GREY = theme.PALETTE[:5]


def _dots(ax: object, places: np.ndarray, part: pd.DataFrame, value: str, colours: list[str]) -> None:
    for place, (mid, low, high), colour in zip(places, part[[value, "low", "high"]].to_numpy(), colours, strict=True):
        ax.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
        ax.plot(mid, place, "o", color=colour)


def ranking_worth(
    table: pd.DataFrame, names: Mapping[str, str], chosen: str, fmt: Formatter, title: str, kind: str = "money"
) -> Figure:
    """Qini of each way of ranking customers with its interval, best on top; blue the chosen, orange the simple rules.

    Parameters
    ----------
    table : rows of one arm of :meth:`UpliftAnalysis.table`. names : score to words. chosen : the score drawn in blue.
    kind : of the axis, ``money`` or ``number``.
    """
    part = table.sort_values("qini", kind="stable").reset_index(drop=True)
    fig, ax = theme.new_figure(height=1.9 + 0.4 * len(part), grid="x")
    places = np.arange(len(part))
    colours = [
        BLUE if s == chosen else ORANGE if k == "rule" else GREY
        for s, k in zip(part["score"], part["kind"], strict=True)
    ]
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    _dots(ax, places, part, "qini", colours)
    ax.set_yticks(places, [names.get(s, s) for s in part["score"]])
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.xaxis.set_major_formatter(fmt.axis(kind))
    ax.locator_params(axis="x", nbins=4)
    ax.set_xlabel("Qini: gain a customer over a random order\n(line: interval; orange: simple rules)")
    ax.set_title(title)
    return fig


def gain_curves(
    curves: Mapping[str, pd.DataFrame], fmt: Formatter, title: str, kind: str = "money", customers: int = 1
) -> Figure:
    """Gain against the share of customers reached; the first curve with its band, the straight line is chance.

    Parameters
    ----------
    curves : label to frame of :func:`analysis.campaigns.qini.qini_curve`, the chosen ranking first.
    customers : size of the list, to draw totals rather than means a customer.
    """
    fig, ax = theme.new_figure(height=4.6, grid="y")
    (label, first), *others = curves.items()
    ax.fill_between(
        first["share"], customers * first["low"], customers * first["high"], color=BLUE, alpha=0.15, linewidth=0
    )
    ax.plot(first["share"], customers * first["random"], "--", color=theme.QUIET, linewidth=1.4, label="At random")
    for (name, curve), colour, style in zip(others, (ORANGE, GREEN, PLUM), ("-.", ":", "-"), strict=False):
        ax.plot(curve["share"], customers * curve["gain"], style, color=colour, label=name)
    ax.plot(first["share"], customers * first["gain"], color=BLUE, label=label)
    ax.axhline(0, color=theme.QUIET, linewidth=1)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.yaxis.set_major_formatter(fmt.axis(kind))
    ax.set_xlabel("Share of customers reached, the best first (band: interval)")
    ax.set_ylabel("Caused by the campaign" + (", in all" if customers > 1 else ", a customer"))
    ax.legend(loc="upper left")
    ax.set_title(title)
    return fig


def calibration_plot(table: pd.DataFrame, fmt: Formatter, title: str, kind: str = "money") -> Figure:
    """Observed effect with its interval, a group of customers, against the predicted one (orange diamonds)."""
    fig, ax = theme.new_figure(height=4.4, grid="y")
    ax.axhline(0, color=theme.QUIET, linewidth=1)
    ax.vlines(table["bin"], table["low"], table["high"], color=BLUE, linewidth=2.4)
    ax.plot(table["bin"], table["observed"], "o", color=BLUE, label="Observed (line: interval)")
    ax.plot(table["bin"], table["predicted"], "D", color=ORANGE, markerfacecolor="white", label="Predicted")
    ax.set_xticks(table["bin"])
    ax.yaxis.set_major_formatter(fmt.axis(kind))
    ax.set_xlabel(f"{len(table)} equal groups of customers, by predicted effect (1: lowest)")
    ax.set_ylabel("Effect a customer")
    # Room for the key above the tallest interval.
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.25 * (high - low))
    ax.legend(loc="upper left", ncols=2, columnspacing=1.2, handletextpad=0.3)
    ax.set_title(title)
    return fig
