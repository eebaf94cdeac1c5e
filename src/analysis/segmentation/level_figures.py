"""Kotler's grid as a picture: how close a relationship the number of customers and their margin allow."""

from __future__ import annotations

import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.reporting.theme import INK, PALETTE, new_figure
from analysis.segmentation.relationship import GRID, LEVELS
from analysis.segmentation.words import Words

NUMBERS = ("many", "medium", "few")
MARGINS = ("low", "medium", "high")
_CLOSENESS = LinearSegmentedColormap.from_list("far to close", ["#f3f7fa", "#9cc4da", PALETTE[0]])


def kotler_figure(grid: pd.DataFrame, small_group: int, words: Words) -> Figure:
    """The nine cells of the grid with their levels; the tiers stand in the cells where they fall.

    Parameters
    ----------
    grid : second result of ``relationship_levels``; may be empty.
    small_group : a smaller tier is not drawn.
    words : names and title.
    """
    fig, ax = new_figure(height=4.6, grid="none")
    ranks = [[LEVELS.index(GRID[number, margin]) for margin in MARGINS] for number in NUMBERS]
    ax.imshow(ranks, cmap=_CLOSENESS, vmin=0, vmax=len(LEVELS) - 1, aspect="auto")
    tiers = _tiers(grid, small_group, words)
    for y, number in enumerate(NUMBERS):
        for x, margin in enumerate(MARGINS):
            colour = "white" if ranks[y][x] == len(LEVELS) - 1 else INK
            here = tiers.get((number, margin), "")
            ax.text(
                x, y - (0.14 if here else 0), words.name("level", GRID[number, margin]),
                ha="center", va="center", color=colour, fontsize=12.5, fontweight="bold",
            )  # fmt: skip
            if here:
                ax.text(x, y + 0.2, here, ha="center", va="center", color=colour, fontsize=11)
    ax.set_xticks(range(3), [words.name("band", band) for band in MARGINS])
    ax.set_yticks(range(3), [words.name("band", band) for band in NUMBERS])
    ax.set_xticks([0.5, 1.5], minor=True)
    ax.set_yticks([0.5, 1.5], minor=True)
    ax.grid(which="minor", color="white", linewidth=3)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(words("kotler.x"))
    ax.set_ylabel(words("kotler.y"))
    ax.set_title(words("kotler.title", **kotler_facts(grid, small_group, words)))
    return fig


def _tiers(grid: pd.DataFrame, small_group: int, words: Words) -> dict[tuple[str, str], str]:
    shown = grid[grid["customers"] >= small_group]
    found: dict[tuple[str, str], str] = {}
    for row in shown.itertuples():
        name = words("kotler.here", tier=words.name("tier", row.value_tier), n=row.customers)
        cell = (row.number_band, row.margin_band)
        found[cell] = f"{found[cell]}\n{name}" if cell in found else name
    return found


def kotler_facts(grid: pd.DataFrame, small_group: int, words: Words) -> dict[str, object]:
    """What the title, the alt text and the caption of the grid say: where the tiers fall.

    Returns
    -------
    protect, invest : name of the level that the grid gives the tier, in small letters; None where it is not graded or too small
        to show.
    """
    shown = grid[grid["customers"] >= small_group]
    levels = dict(zip(shown["value_tier"], shown["level"], strict=True))
    return {
        tier: words.name("level", levels[tier]).lower() if tier in levels else None for tier in ("protect", "invest")
    }
