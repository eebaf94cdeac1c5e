"""Figures of how much each driver counts: shares of explained variance, questions to work on, asymmetry, odds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import shorten

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

from .asymmetry import BASIC, EXCITEMENT, NOT_CLEAR, PERFORMANCE
from .figures import nothing_to_draw
from .names import called

BLUE, ORANGE, GREEN, PLUM = theme.PALETTE[:4]
_SIZE = 12
_SURE = 0.9  # share of the resamples from which a place is stated without reserve
_KINDS = {BASIC: ORANGE, PERFORMANCE: BLUE, EXCITEMENT: GREEN, NOT_CLEAR: theme.QUIET}


def importance_shares(importance: pd.DataFrame, fmt: Formatter) -> Figure:
    """Each driver's share of the explained variance beside its total effect, with intervals, largest share on top.

    Orange: the driver has another place by its total effect.
    """
    importance = called(importance)
    part = importance.iloc[::-1]
    target = part["target"].iloc[0].lower()
    fig, (left, right) = theme.new_figure(height=1.9 + 0.52 * len(part), grid="x", ncols=2, sharey=True)
    moved = (part["rank"] != part["effect_rank"]).to_numpy()
    colours = np.where(moved, ORANGE, BLUE)
    _dots(left, part, "share", colours, lambda value: fmt.share(value, 0))
    _dots(right, part, "effect", colours, lambda value: fmt.number(value, 2))
    left.set_yticks(np.arange(len(part)), part["driver"])
    left.set_ylim(-0.6, len(part) - 0.3)
    left.set_xlim(left=0)
    left.xaxis.set_major_formatter(fmt.axis("share"))
    right.xaxis.set_major_formatter(fmt.axis("number"))
    left.set_xlabel(
        "Share of the variance\nexplained (line: interval)" + ("\norange: place differs" if moved.any() else "")
    )
    right.set_xlabel("Total effect, standardised\n(line: interval)")
    top = importance.iloc[0]
    first = f"{top['driver']} accounts for {fmt.share(top['share'], 0)} of what the drivers explain of {target}"
    places = "; by total effect the order differs" if moved.any() else "; total effects give the same order"
    _title(fig, first + places)
    return fig


def item_priorities(items: pd.DataFrame, fmt: Formatter) -> Figure:
    """The questions of one driver: points of the target with 10 points of each, and its level; most room on top."""
    items = called(items)
    part = items.iloc[::-1].reset_index(drop=True)
    part[["points", "points_low", "points_high"]] *= 10
    driver, target = part["driver"].iloc[0].lower(), part["target"].iloc[0].lower()
    fig, (left, right) = theme.new_figure(height=2.0 + 0.78 * len(part), grid="x", ncols=2, sharey=True)
    top = np.arange(len(part)) == len(part) - 1
    colours = np.where(top, ORANGE, BLUE)
    _dots(left, part, "points", colours, lambda value: fmt.number(value, 2))
    _dots(right, part, "performance", colours, lambda value: fmt.number(value, 0))
    _row_names(left, part["label"], 0.56)
    left.set_xlabel(f"Points of {target} that go\nwith 10 (line: interval)")
    right.set_xlabel("Own score, 0–100\n(line: interval)")
    for ax in (left, right):
        ax.xaxis.set_major_formatter(fmt.axis("number"))
    first = items.iloc[0]
    stands = f"10 points on it go with {fmt.number(10 * first['points'], 1)} of {target}"
    if first["first_share"] >= _SURE:
        text = f"Within {driver}, “{first['label']}” has most room: {stands}"
    else:
        text = f"Within {driver} the questions differ little; “{first['label']}” may have most room: {stands}"
    _title(fig, text)
    return fig


def penalty_reward_bars(table: pd.DataFrame, target: str, fmt: Formatter) -> Figure:
    """What a point less costs below the middle (left) and a point more earns above it (right), with intervals.

    Attributes go from the most basic to the most exciting; those that too few rate low or high are named below.
    """
    judged = table[table["penalty_slope"].notna()]
    hidden = list(table.loc[table["penalty_slope"].isna(), "label"])
    if judged.empty:
        return nothing_to_draw(
            f"Too few customers rate any question low or high to tell penalty from reward for {target}"
        )
    gap = judged["reward_slope"] - judged["penalty_slope"]
    part = judged.loc[gap.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)
    fig, ax = theme.new_figure(height=2.3 + 0.64 * len(part), grid="x")
    y = np.arange(len(part))
    colours = [_KINDS[kind] for kind in part["kind"]]
    for side, sign in (("penalty_slope", -1), ("reward_slope", 1)):
        value, low, high = (10 * sign * part[f"{side}{end}"] for end in ("", "_low", "_high"))
        ax.barh(y, value, height=0.34, color=colours, alpha=0.75)
        ax.hlines(y, low, high, color=theme.INK, linewidth=1.4, zorder=3)
    ax.axvline(0, color=theme.INK, linewidth=1)
    _row_names(ax, [f"{name} · {kind}" for name, kind in zip(part["label"], part["kind"], strict=True)], 0.42)
    reach = 10 * np.nanmax(np.abs(part[["penalty_slope_high", "reward_slope_high"]].to_numpy()))
    ax.set_xlim(-1.08 * reach, 1.08 * reach)
    number = fmt.axis("number")
    ax.xaxis.set_major_formatter(lambda value, place: number(abs(value), place))
    ax.set_xlabel(
        f"Points of {target.lower()} that go with 10 points:\n← fewer, below the middle · more, above it →\n"
        "(thin line: interval)" + (f"\nnot shown, too few low or high: {len(hidden)} questions" if hidden else "")
    )
    _title(fig, _asymmetry_title(part, target))
    return fig


def _asymmetry_title(part: pd.DataFrame, target: str) -> str:
    uneven = part[part["kind"].isin([BASIC, EXCITEMENT])]
    if uneven.empty:
        return f"No question clearly costs more {target.lower()} when bad than it earns when good, or the reverse"
    row = uneven.loc[uneven["asymmetry"].abs().idxmax()]
    how = "costs more when bad than it earns when good" if row["kind"] == BASIC else "earns more than it costs"
    return f"“{row['label']}” {how}; {len(uneven)} of {len(part)} questions are clearly uneven"


def odds_ratio_dots(odds: pd.DataFrame, by_cut: pd.DataFrame, question: str, fmt: Formatter) -> Figure:
    """Odds ratios of a higher answer with intervals, strongest on top; small rings: at every cut of the scale.

    Parameters
    ----------
    odds : from `OrderedLogitResults.odds_ratios`
    by_cut : from `OrderedLogitResults.by_cut`
    question : what was asked, for the title
    """
    odds, by_cut = called(odds), called(by_cut)
    part = odds.iloc[::-1].reset_index(drop=True)
    fig, ax = theme.new_figure(height=2.0 + 0.6 * len(part), grid="x")
    ax.axvline(1, color=theme.QUIET, linewidth=1)
    ax.set_xscale("log")
    place = {name: k for k, name in enumerate(part["driver"])}
    rings = by_cut["driver"].map(place) - 0.24
    ax.scatter(by_cut["odds_ratio"], rings, s=26, facecolor="none", edgecolor=theme.QUIET, linewidth=1.2)
    _dots(ax, part.rename(columns={"low": "odds_ratio_low", "high": "odds_ratio_high"}), "odds_ratio",
          np.full(len(part), BLUE), lambda value: fmt.number(value, 2))  # fmt: skip
    ax.set_yticks(np.arange(len(part)), part["driver"])
    ax.set_ylim(-0.7, len(part) - 0.3)
    ends = np.concatenate([odds[["low", "high"]].to_numpy().ravel(), by_cut["odds_ratio"].to_numpy(), [1.0]])
    ax.set_xlim(0.93 * np.nanmin(ends), 1.07 * np.nanmax(ends))
    ticks = [tick for tick in (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8) if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
    ax.set_xticks(ticks, [fmt.number(tick, 2).rstrip("0").rstrip(".,") for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel(
        "Odds ratio of a higher answer, a standard deviation\nmore (line: interval; rings: each cut of the scale)"
    )
    top = odds.iloc[0]
    _title(
        fig,
        f"{top['driver']} multiplies the odds of a higher answer to “{question}” most: by {fmt.number(top['odds_ratio'], 1)}",
    )
    return fig


def _dots(ax: Axes, part: pd.DataFrame, column: str, colours: np.ndarray, written: Callable[[float], str]) -> None:
    """A dot with its interval and its number a row."""
    y = np.arange(len(part))
    ax.hlines(y, part[f"{column}_low"], part[f"{column}_high"], color=colours, linewidth=2.5)
    ax.scatter(part[column], y, s=60, color=list(colours), zorder=3)
    for at, value in zip(y, part[column], strict=True):
        ax.annotate(written(value), (value, at), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=_SIZE)


def _row_names(ax: Axes, names: Sequence[str], above: float) -> None:
    """Names above their rows, where long ones find room, in place of labels at the axis."""
    ax.set_yticks([])
    ax.set_ylim(-0.5, len(names) - 0.05)
    for at, name in enumerate(names):
        ax.text(
            0.0, at + above, shorten(name, 58, placeholder="…"), transform=ax.get_yaxis_transform(), fontsize=_SIZE,
            va="center", color=theme.INK, zorder=4,
        )  # fmt: skip


def _title(fig: Figure, text: str) -> None:
    """A title over the whole width, at the left of the figure."""
    first = fig.axes[0]
    first.set_title(text, loc="left", fontsize=13)
