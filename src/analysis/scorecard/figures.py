"""Figures of the scorecard: frames in, figures out, sized to be read on a phone; titles say the finding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.reporting import theme
from analysis.scorecard.card import NO, YES
from analysis.scorecard.words import Words

WIDTH = 5.4
HIT, MISS, OTHER, TRUTH = theme.PALETTE[0], theme.PALETTE[1], theme.PALETTE[4], theme.INK
_LONGEST = 38


def _rows(ax: Axes, labels: Sequence[str]) -> np.ndarray:
    """One line a label, the first on top."""
    places = np.arange(len(labels))[::-1]
    ax.set_yticks(places, [_short(label) for label in labels], fontsize=10.5)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    return places


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else label[: _LONGEST - 1].rstrip() + "…"


def _intervals(
    ax: Axes, y: np.ndarray, rows: pd.DataFrame, names: tuple[str, str, str], colours: Sequence[str]
) -> None:
    for place, (value, low, high), colour in zip(y, rows[list(names)].to_numpy(float), colours, strict=True):
        ax.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
        ax.plot(value, place, "o", color=colour)


def recall_bars(recall: pd.DataFrame, words: Words, title_facts: dict[str, object]) -> Figure:
    """Share of each kind of dirt that was dealt with as it should be, with Wilson's interval."""
    fig, ax = theme.new_figure(WIDTH, 2.2 + 0.3 * len(recall), grid="x")
    y = _rows(ax, recall["name"])
    colours = [HIT if share > 0 else MISS for share in recall["recall"]]
    _intervals(ax, y, recall, ("recall", "low", "high"), colours)
    for place, due, before in zip(y, recall["due"], [None, *recall["due"][:-1]], strict=True):
        if before is not None and due != before:
            ax.axhline(place + 0.5, color=theme.QUIET, linewidth=0.8)
    ax.set_xlim(-0.03, 1.03)
    ax.xaxis.set_major_formatter(words.format.axis("share"))
    ax.set_xlabel(words("axis_recall"))
    ax.set_title(words("recall.title", **title_facts))
    return fig


def calibration(alive: pd.DataFrame, words: Words, title_facts: dict[str, object]) -> Figure:
    """Share truly active against the probability said, group by group; on the line, both are the same."""
    fig, ax = theme.new_figure(WIDTH, 4.3, grid="both")
    ax.plot([0, 1], [0, 1], color=theme.QUIET, linewidth=1)
    for row in alive.to_dict("records"):
        colour = HIT if row["holds"] else MISS
        ax.plot([row["said"]] * 2, [row["low"], row["high"]], color=colour, linewidth=2.4, solid_capstyle="butt")
        ax.plot(row["said"], row["true"], "o", color=colour)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(words.format.axis("share"))
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel(words("axis_said"))
    ax.set_ylabel(words("axis_true"))
    ax.set_title(words("calibration.title", **title_facts))
    return fig


def tier_bars(tiers: dict[str, object], words: Words) -> Figure:
    """Share of next year's margin: of a random choice, of the protected, and of the best choice of as many."""
    fig, ax = theme.new_figure(WIDTH, 2.9, grid="x")
    shown = [("size", OTHER), ("brings", HIT), ("best", TRUTH)]
    y = _rows(ax, [words(f"tier_{name}") for name, _ in shown])
    ax.barh(y, [tiers[name] for name, _ in shown], color=[colour for _, colour in shown], height=0.6)
    for place, (name, _) in zip(y, shown, strict=True):
        inside = tiers[name] > 0.5
        ax.annotate(
            words.format.share(tiers[name]),
            (tiers[name], place),
            xytext=(-6 if inside else 6, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            color="white" if inside else theme.INK,
        )
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(words.format.axis("share"))
    ax.set_xlabel(words("axis_margin"))
    ax.set_title(words("tier.title", **tiers))
    return fig


def path_dots(paths: pd.DataFrame, words: Words, title_facts: dict[str, object]) -> Figure:
    """Paths as found with intervals, what plain PLS finds without chance, and the planted paths."""
    fig, ax = theme.new_figure(WIDTH, 2.6 + 0.42 * len(paths), grid="x")
    y = _rows(ax, paths["path"])
    holds = (paths["low"] <= paths["limit"]) & (paths["limit"] <= paths["high"])
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    _intervals(ax, y, paths, ("found", "low", "high"), [HIT if h else MISS for h in holds])
    hollow = {"markerfacecolor": "white", "markeredgewidth": 1.6, "linestyle": "none", "zorder": 5}
    ax.plot(paths["limit"], y + 0.22, "v", color=TRUTH, label=words("legend_limit"), **hollow)
    ax.plot(paths["latent"], y + 0.22, "D", color=TRUTH, markersize=5.5, linestyle="none", label=words("legend_latent"))
    fig.legend(loc="outside lower right", ncols=2, handletextpad=0.2, columnspacing=1.0)
    ax.set_xlabel(words("axis_path"))
    ax.set_title(words("paths.title", **title_facts))
    return fig


def effect_forest(rows: pd.DataFrame, words: Words, title_facts: dict[str, object]) -> Figure:
    """Effects on spend with intervals, and the true effects."""
    shown = rows[rows["low"].notna()].reset_index(drop=True)
    fig, ax = theme.new_figure(WIDTH, 2.6 + 0.42 * len(shown), grid="x")
    y = _rows(ax, shown["campaign"])
    holds = (shown["low"] <= shown["planted"]) & (shown["planted"] <= shown["high"])
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    _intervals(ax, y, shown, ("found", "low", "high"), [HIT if h else MISS for h in holds])
    marks = {"linestyle": "none", "zorder": 5}
    ax.plot(shown["planted"], y + 0.22, "D", color=TRUTH, markersize=5.5, label=words("legend_true"), **marks)
    naive = shown["naive"].notna().to_numpy()
    if naive.any():
        ax.plot(shown["naive"][naive], y[naive] + 0.22, "x", color=MISS, label=words("legend_naive"), **marks)
    fig.legend(loc="outside lower right", ncols=2, handletextpad=0.2, columnspacing=1.0)
    ax.xaxis.set_major_formatter(words.format.axis("money"))
    ax.set_xlabel(words("axis_effect"))
    ax.set_title(words("effects.title", **title_facts))
    return fig


def card_forest(card: pd.DataFrame, words: Words, title_facts: dict[str, object]) -> Figure:
    """Every interval on one scale: the planted value at 0, what was found in reaches of its interval."""
    shown = card[card["holds"].isin([YES, NO])].reset_index(drop=True)
    fig, ax = theme.new_figure(WIDTH, 2.2 + 0.27 * len(shown), grid="x")
    y = _rows(ax, shown["quantity"])
    half = (shown["high"] - shown["low"]) / 2
    scaled = shown[["found", "low", "high"]].sub(shown["planted"], axis=0).div(half.where(half > 0), axis=0)
    ax.axvline(0, color=TRUTH, linewidth=1.4)
    _intervals(ax, y, scaled, ("found", "low", "high"), [HIT if h == YES else MISS for h in shown["holds"]])
    ax.set_xlabel(words("axis_reach"))
    ax.set_title(words("card.title", **title_facts))
    return fig
