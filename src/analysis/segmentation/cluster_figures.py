"""The pictures of segments through solutions, of the rules, and of tastes: frames in, figures out."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.reporting.theme import INK, PALETTE, QUIET, new_figure
from analysis.segmentation.cluster_facts import across_facts, threshold_words, variable_words
from analysis.segmentation.clusters import Segments
from analysis.segmentation.tree import Node, SegmentRules
from analysis.segmentation.words import Words

HERO, SECOND, MUTED = PALETTE[0], PALETTE[1], PALETTE[4]
_SHADES = LinearSegmentedColormap.from_list("does not last to lasts", ["#f3ddc6", "#cfd6da", HERO])
_LIFTS = LinearSegmentedColormap.from_list("less to more", [SECOND, "#f0c9a0", "#ffffff", "#8fbcd4", HERO])
_MOST_CATEGORIES = 12
_LINE = 16


def across_figure(segments: Segments, words: Words) -> Figure:
    """Segments through solutions with more and more of them (SLS_A plot, Dolnicar & Leisch 2017).

    A column is a solution, a block a segment as tall as it is large and as dark as it is steady, a ribbon the customers that it
    takes from a segment of the solution before. The solution that is used has a frame.
    """
    nodes, flows = segments.across.nodes, segments.across.flows
    solutions = sorted(nodes["segments"].unique())
    fig, ax = new_figure(height=4.6, grid="none")
    place = nodes.set_index(["segments", "segment"])
    before = dict(zip(solutions[1:], solutions, strict=False))
    for flow in flows.itertuples():
        if flow.share >= 0.02:
            x, y = before[flow.segments], place.loc[(before[flow.segments], flow.parent), "place"]
            end = place.loc[(flow.segments, flow.segment), "place"]
            width = 60 * flow.share * place.loc[(flow.segments, flow.segment), "share"]
            ax.plot([x + 0.25, flow.segments - 0.25], [1 - y, 1 - end], color=MUTED, linewidth=width, alpha=0.55,
                    solid_capstyle="butt", zorder=1)  # fmt: skip
    used = segments.search.n_clusters
    for node in nodes.itertuples():
        colour = "#dfe4e7" if np.isnan(node.stability) else _SHADES(node.stability)
        tall = max(node.share - 0.012, 0.004)
        ax.bar(node.segments, tall, width=0.5, bottom=1 - node.place - tall / 2, color=colour, zorder=2,
               edgecolor=INK if node.segments == used else "white", linewidth=1.4 if node.segments == used else 0.5)  # fmt: skip
        if node.share >= 0.045 and node.stability == node.stability:
            dark = node.stability > 0.75
            ax.text(node.segments, 1 - node.place, words.format.number(float(np.floor(node.stability * 100) / 100), 2),
                    ha="center", va="center", fontsize=9, color="white" if dark else INK, zorder=3)  # fmt: skip
    ax.set_xticks(solutions)
    ax.set_xlim(solutions[0] - 0.5, solutions[-1] + 0.5)
    ax.set_ylim(-0.02, 1.02)
    ax.yaxis.set_major_formatter(words.format.axis("share"))
    ax.set_xlabel(words("stability.x"))
    ax.set_ylabel(words("across.y"))
    ax.set_title(words("across.title", **across_facts(segments)))
    return fig


def tree_figure(rules: SegmentRules, words: Words) -> Figure:
    """The rules as a tree of questions; every leaf names its segment and how often it is right."""
    places: dict[int, tuple[float, int]] = {}
    leaves: list[Node] = []

    def settle(node: Node, depth: int) -> float:
        if node.feature is None:
            leaves.append(node)
            x = float(len(leaves) - 1)
        else:
            x = (settle(node.below, depth + 1) + settle(node.above, depth + 1)) / 2
        places[id(node)] = (x, depth)
        return x

    root = rules.tree.root_
    settle(root, 0)
    deepest = max(depth for _, depth in places.values())
    fig, ax = new_figure(width=max(6.4, 1.35 * len(leaves)), height=1.6 + 1.15 * (deepest + 1), grid="none")
    _draw_node(ax, root, places, words)
    ax.set_xlim(-0.6, len(leaves) - 0.4)
    ax.set_ylim(-deepest - 0.5, 0.4)
    ax.set_axis_off()
    ax.set_title(words("tree.title", rules=len(leaves), accuracy=rules.accuracy))
    return fig


def _draw_node(ax: Axes, node: Node, places: dict[int, tuple[float, int]], words: Words) -> None:
    x, depth = places[id(node)]
    if node.feature is None:
        text = words("tree.leaf", segment=node.segment, right=node.right / node.customers)
        box = {"boxstyle": "round,pad=0.4", "facecolor": HERO, "edgecolor": HERO}
        ax.text(x, -depth, text, ha="center", va="center", color="white", fontsize=10.5, bbox=box, linespacing=1.3)
        return
    cut = threshold_words(node.feature, node.threshold, words)
    question = words("tree.question", name=variable_words(node.feature, words), threshold=cut)
    for child, key in ((node.below, "tree.yes"), (node.above, "tree.no")):
        cx, cd = places[id(child)]
        ax.plot([x, cx], [-depth, -cd], color=MUTED, linewidth=1.6, zorder=0)
        ax.text((x + cx) / 2, -(depth + cd) / 2, words(key), ha="center", va="center", color=QUIET, fontsize=10.5,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "white"})  # fmt: skip
        _draw_node(ax, child, places, words)
    box = {"boxstyle": "round,pad=0.4", "facecolor": "#eef4f8", "edgecolor": MUTED}
    ax.text(x, -depth, "\n".join(textwrap.wrap(question, _LINE)), ha="center", va="center", color=INK, fontsize=10.5,
            bbox=box, linespacing=1.2)  # fmt: skip


def shown_affinity(affinity: pd.DataFrame, most: int = _MOST_CATEGORIES) -> pd.DataFrame:
    """Lifts of segment × category, the ``most`` categories in which segments differ most, in order of the base's share."""
    if affinity.empty:
        return pd.DataFrame()
    lifts = affinity.pivot(index="category", columns="segment", values="lift")
    base = affinity.groupby("category")["base"].first()
    differs = affinity.groupby("category")["differs"].sum()
    reach = np.log(lifts.clip(lower=0.05)).abs().max(axis=1)
    order = pd.DataFrame({"differs": differs, "reach": reach, "base": base}).reset_index()
    order = order[order["base"] > 0].sort_values(["differs", "reach", "category"], ascending=[False, False, True])
    names = order.head(most).sort_values(["base", "category"], ascending=[False, True])["category"]
    return lifts.loc[list(names)]


def affinity_figure(affinity: pd.DataFrame, words: Words, most: int = _MOST_CATEGORIES) -> Figure:
    """Heat map of how much more than all customers each segment goes for each category; what chance could do stays pale.

    Parameters
    ----------
    affinity : frame of ``segment_affinity``. most : categories shown.
    """
    lifts = shown_affinity(affinity, most)
    fig, ax = new_figure(height=1.7 + 0.4 * max(len(lifts), 1), grid="none")
    ax.set_title(words("affinity.title", **affinity_facts(affinity)))
    if lifts.empty:
        ax.set_axis_off()
        return fig
    differs = affinity.pivot(index="category", columns="segment", values="differs").loc[lifts.index]
    colour = np.log2(lifts.clip(lower=0.25, upper=4)).to_numpy(dtype=float)
    colour = np.where(differs.to_numpy(dtype=bool), colour, 0.0)
    limit = max(float(np.abs(colour).max()), 0.5)
    ax.imshow(colour, cmap=_LIFTS, vmin=-limit, vmax=limit, aspect="auto")
    for row, column in np.ndindex(*colour.shape):
        sure = bool(differs.iloc[row, column])
        dark = abs(colour[row, column]) / limit > 0.7
        ax.text(column, row, words("affinity.cell", lift=float(lifts.iloc[row, column])), ha="center", va="center",
                fontsize=11, color="white" if dark else INK if sure else QUIET)  # fmt: skip
    ax.set_xticks(range(lifts.shape[1]), [str(s) for s in lifts.columns])
    ax.set_yticks(range(len(lifts)), [textwrap.shorten(str(c), 34, placeholder="…") for c in lifts.index])
    ax.set_xlabel(words("affinity.x"))
    for spine in ax.spines.values():
        spine.set_visible(False)
    return fig


def affinity_facts(affinity: pd.DataFrame) -> dict[str, object]:
    """What the words of the heat map say: segments, categories, differing (cells that differ), cells, top (text or None)."""
    cells = len(affinity)
    differing = int(affinity["differs"].sum()) if cells else 0
    return {
        "segments": int(affinity["segment"].nunique()) if cells else 0,
        "categories": int(affinity["category"].nunique()) if cells else 0,
        "cells": cells,
        "differing": differing,
    }
