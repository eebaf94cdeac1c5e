"""Figures of a randomised campaign and of the ledger: frames in, figures out, readable on a phone; titles say the finding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, MaxNLocator

from analysis.reporting import theme

EFFECT, DOUBT, FAILED = theme.PALETTE[0], theme.PALETTE[4], "#a4262c"
CLAIM = theme.PALETTE[1]


def _rows(ax: Axes, labels: list[str]) -> np.ndarray:
    """One line a label, the first on top."""
    places = np.arange(len(labels))[::-1]
    ax.set_yticks(places, labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    return places


def _intervals(ax: Axes, places: np.ndarray, rows: np.ndarray, colours: list[str]) -> None:
    """Points with their intervals; ``rows`` are estimate, low, high."""
    for place, (value, low, high), colour in zip(places, rows, colours, strict=True):
        ax.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
        ax.plot(value, place, "o", color=colour)


def _amounts(ax: Axes, axis: str, formatter: Formatter | None, label: str) -> None:
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_major_locator(MaxNLocator(5))
    if formatter is not None:
        which.set_major_formatter(formatter)
    which.set_label_text(label)


def effects_by_arm(
    table: pd.DataFrame, title: str, axis_label: str, formatter: Formatter | None = None, level: float = 0.05
) -> Figure:
    """Relative effect of each arm on each measure; grey where it could be chance after Holm's correction.

    ``table`` is that of :class:`experiment.ExperimentResults`; rows without finite limits are left out.
    """
    limits = table[["relative_effect", "relative_low", "relative_high"]].to_numpy(float)
    shown = table[np.isfinite(limits).all(axis=1)].reset_index(drop=True)
    limits = limits[np.isfinite(limits).all(axis=1)]
    several = shown["arm"].nunique() > 1
    labels = [f"{row.metric}, {row.arm}" if several else row.metric for row in shown.itertuples()]
    fig, ax = theme.new_figure(6.4, 1.9 + 0.42 * len(shown), grid="x")
    places = _rows(ax, labels)
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    _intervals(ax, places, limits, [EFFECT if p < level else DOUBT for p in shown["p_holm"]])
    _amounts(ax, "x", formatter, axis_label)
    ax.set_title(title)
    return fig


def looks(
    table: pd.DataFrame,
    title: str,
    axis_label: str,
    look_label: str,
    legend: tuple[str, str],
    formatter: Formatter | None = None,
) -> Figure:
    """The effect look by look, with the interval that peeking leaves valid and the usual one that it does not.

    ``table`` is from :func:`sequential.sequential_looks`; ``legend`` names the valid and the usual interval.
    """
    fig, ax = theme.new_figure(6.4, 4.0, grid="y")
    ax.axhline(0, color=theme.QUIET, linewidth=1)
    valid, usual = legend
    ax.fill_between(table["look"], table["low"], table["high"], color=EFFECT, alpha=0.16, linewidth=0, label=valid)
    for limit, name in (("fixed_low", usual), ("fixed_high", None)):
        ax.plot(table["look"], table[limit], color=CLAIM, linewidth=1.6, linestyle="--", label=name)
    ax.plot(table["look"], table["effect"], "o-", color=EFFECT)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(look_label)
    _amounts(ax, "y", formatter, axis_label)
    fig.legend(loc="outside lower right", ncols=2, columnspacing=1.2)
    ax.set_title(title)
    return fig


def ledger_rows(
    summary: pd.DataFrame, labels: Mapping[str, str], title: str, axis_label: str, formatter: Formatter | None = None
) -> Figure:
    """A year's profit by the universal holdout, what the campaigns claim, and the gap.

    ``summary`` is that of :class:`ledger.Ledger`; incremental sales, on another scale, are left out.
    """
    shown = summary[summary["row"] != "sales"].reset_index(drop=True)
    fig, ax = theme.new_figure(6.4, 1.9 + 0.55 * len(shown), grid="x")
    places = _rows(ax, [labels[row] for row in shown["row"]])
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    colours = [{"profit": EFFECT, "claimed": CLAIM}.get(row, theme.INK) for row in shown["row"]]
    _intervals(ax, places, shown[["value", "low", "high"]].to_numpy(float), colours)
    _amounts(ax, "x", formatter, axis_label)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_title(title)
    return fig
