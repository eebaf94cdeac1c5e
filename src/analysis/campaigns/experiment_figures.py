"""Figures of a randomised campaign and of the ledger: frames in, figures out, readable on a phone; titles say the finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, MaxNLocator

from analysis.campaigns.checks import DesignVerdict
from analysis.campaigns.evaluation import BALANCED
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


def design_checks(
    verdict: DesignVerdict, labels: Mapping[str, str], answers: Callable[[object], str], title: str
) -> Figure:
    """Every check of the design with its answer; what fails is red.

    Parameters
    ----------
    labels : words of each check, by name. answers : words of an answer from the check.
    """
    shown = verdict.checks
    fig, ax = theme.new_figure(6.4, 1.2 + 0.5 * len(shown), grid="none")
    places = _rows(ax, [labels[check.name] for check in shown])
    for place, check in zip(places, shown, strict=True):
        mark, colour = {True: ("✓", EFFECT), False: ("✗", FAILED), None: ("–", theme.QUIET)}[check.passed]
        ax.annotate(mark, (0.01, place), va="center", color=colour, fontsize=15, fontweight="bold")
        ax.annotate(answers(check), (0.09, place), va="center", color=colour if check.passed is False else theme.INK)
    ax.set_xlim(0, 1)
    ax.xaxis.set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.set_title(title, color=theme.INK if verdict.passes else FAILED)
    return fig


def arm_balance(differences: pd.DataFrame, names: Mapping[str, str], title: str, axis_label: str) -> Figure:
    """Standardised differences of each arm from the control before the campaign; the grey band counts as alike.

    ``differences`` are those of :class:`checks.DesignVerdict`; ``names`` are the words of the covariates.
    """
    covariates = list(dict.fromkeys(differences["covariate"]))
    arms = list(dict.fromkeys(differences["arm"]))
    fig, ax = theme.new_figure(6.4, 1.9 + 0.4 * len(covariates), grid="x")
    places = _rows(ax, [names.get(c, str(c)) for c in covariates])
    ax.axvspan(-BALANCED, BALANCED, color=theme.GRID, zorder=0)
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    by_arm = differences.pivot(index="covariate", columns="arm", values="difference").loc[covariates]
    for arm, colour, marker in zip(arms, theme.PALETTE, "osD^v", strict=False):
        ax.plot(by_arm[arm], places, marker, color=colour, label=str(arm))
    reach = max(0.15, 1.15 * float(differences["difference"].abs().max()))
    ax.set_xlim(-reach, reach)
    ax.set_xlabel(axis_label)
    if len(arms) > 1:
        fig.legend(loc="outside lower right", ncols=min(3, len(arms)), handletextpad=0.2, columnspacing=1.0)
    ax.set_title(title)
    return fig


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
