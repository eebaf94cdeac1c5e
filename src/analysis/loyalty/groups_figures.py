"""Figures of groups and waves: frames in, figures out; text of 12 points or more at 6.4 inches."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

from .figures import nothing_to_draw
from .groups import LEVEL
from .names import called_score

OTHERS = "All others"


def wave_changes(changes: pd.DataFrame, fmt: Formatter) -> Figure:
    """Change of every score between the last two waves, over all who answered and over those who answered both."""
    told = changes[changes["change"].notna()]
    if told.empty:
        return nothing_to_draw("There is no second wave to compare with")
    part = told[told["second"] == told["second"].iloc[-1]].iloc[::-1]
    fig, ax = theme.new_figure(height=1.9 + 0.55 * len(part), grid="x")
    y = np.arange(len(part))
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    sides = (
        ("All who answered", "change", "low", "high", 0.14, "o", theme.PALETTE[0]),
        ("Those who answered both", "repeater_change", "repeater_low", "repeater_high", -0.18, "D", theme.PALETTE[1]),
    )
    for label, value, low, high, shift, marker, colour in sides:
        if part[value].notna().any():
            ax.hlines(y + shift, part[low], part[high], color=colour, linewidth=2.4)
            face = colour if value == "change" else "white"
            ax.scatter(
                part[value], y + shift, s=52, marker=marker, facecolor=face, edgecolor=colour, zorder=3, label=label
            )
    ax.set_yticks(y, [_spoken(score) for score in part["score"]])
    for tick, p in zip(ax.get_yticklabels(), part["p_holm"], strict=True):
        tick.set_fontweight("bold" if p < LEVEL else "normal")
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.set_xlabel("Change of the mean score, points of 100 (line: interval)")
    ax.xaxis.set_major_formatter(fmt.axis("number"))
    fig.legend(loc="outside lower center", ncols=2, handletextpad=0.2, columnspacing=1.2)
    ax.set_title(_change_title(part, fmt))
    return fig


def _change_title(part: pd.DataFrame, fmt: Formatter) -> str:
    first, second = part.iloc[0][["first", "second"]]
    clear = part[part["p_holm"] < LEVEL]
    if clear.empty:
        return (
            f"From wave {first} to wave {second} no score moved beyond what chance brings among {fmt.count(len(part))}"
        )
    top = clear.loc[clear["change"].abs().idxmax()]
    verb = "rose" if top["change"] > 0 else "fell"
    return (
        f"From wave {first} to wave {second}, {_spoken(top['score']).lower()} {verb} by "
        f"{fmt.points(abs(top['change']))}, the most of {fmt.count(len(clear))} that moved"
    )


def group_scores(levels: pd.DataFrame, tests: pd.DataFrame, score: str, fmt: Formatter, trait: str = "group") -> Figure:
    """Mean of one score in every group with its interval, groups in their order.

    Parameters
    ----------
    levels, tests : from `group_levels` and `equal_levels`
    trait : what makes the groups, for the axis ("age band")
    """
    part = levels[levels["score"] == score].iloc[::-1]
    if part.empty:
        return nothing_to_draw(f"No group has enough answers to show its {_spoken(score).lower()}")
    fig, ax = theme.new_figure(height=1.7 + 0.5 * len(part), grid="x")
    y = np.arange(len(part))
    named = part["group"].notna().to_numpy()
    colours = np.where(named, theme.PALETTE[0], theme.PALETTE[4])
    ax.hlines(y, part["low"], part["high"], color=colours, linewidth=2.6)
    ax.scatter(part["mean"], y, s=64, c=colours, zorder=3)
    for at, row in zip(y, part.itertuples(), strict=True):
        place = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 12}
        ax.annotate(fmt.number(row.mean, 1), (row.high, at), **place)
    ax.set_yticks(y, part["group"].where(named, OTHERS))
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.set_xlim(*_room(part))
    ax.set_xlabel("Mean score, points of 100 (line: interval)")
    ax.set_ylabel(trait.capitalize())
    ax.xaxis.set_major_formatter(fmt.axis("number"))
    ax.set_title(_score_title(tests[tests["score"] == score], score, fmt))
    return fig


def _room(part: pd.DataFrame) -> tuple[float, float]:
    span = max(part["high"].max() - part["low"].min(), 5)
    return max(0, part["low"].min() - 0.1 * span), part["high"].max() + 0.2 * span


def _score_title(test: pd.DataFrame, score: str, fmt: Formatter) -> str:
    name = _spoken(score)
    if test.empty or test["reason"].iloc[0] is not None:
        return f"{name} by group: too few groups to compare"
    row = test.iloc[0]
    if not row["differs"]:
        return f"{name} does not differ between the groups beyond chance"
    return f"{name} is highest in {row['highest']}, {fmt.points(row['gap'])} above {row['lowest']}"


def _spoken(score: str) -> str:
    return called_score(score).capitalize()
