"""The pictures of stage probabilities, moves, hidden states and migration: frames in, figures out, every title a finding."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import NullLocator

from analysis.reporting.theme import INK, PALETTE, QUIET, new_figure
from analysis.segmentation.life_cycle_facts import chance_facts, migration_facts, validity_facts
from analysis.segmentation.migration import BEFORE, GROUPS, Migration
from analysis.segmentation.privacy import JOIN
from analysis.segmentation.transitions import TransitionMatrix, hide_in_rows
from analysis.segmentation.words import Words

HERO, SECOND, GOOD, MUTED = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[4]
_BLUES = LinearSegmentedColormap.from_list("quiet to hero", ["#eef4f8", "#8fbcd4", HERO, "#063c55"])
_FLOW_COLOURS = {"new": GOOD, "won_back": GOOD, "up": HERO, "same": MUTED, "down": SECOND, "lapsed": SECOND}


def expected_figure(table: pd.DataFrame, small_group: int, words: Words) -> Figure:
    """Expected customers in each stage with intervals, and beside them how many have it as most probable stage.

    Parameters
    ----------
    table : frame of ``expected_stages``. small_group : stages with fewer expected customers are left out.
    """
    shown = table[table["expected"] >= small_group].reset_index(drop=True)
    fig, ax = new_figure(height=1.9 + 0.62 * max(len(shown), 1), grid="x")
    rows = np.arange(len(shown))[::-1]
    fading = shown["life_stage"].isin(["decline", "ended"])
    ax.barh(
        rows, shown["expected"], height=0.5, color=np.where(fading, SECOND, HERO).tolist(), label=words("expected.bar")
    )
    ends = np.abs(np.vstack([shown["expected"] - shown["low"], shown["high"] - shown["expected"]]))
    known = np.isfinite(ends).all(axis=0)
    ax.errorbar(
        shown["expected"][known], rows[known], xerr=ends[:, known], fmt="none", ecolor=INK, elinewidth=1.8, capsize=4
    )
    told = (shown["likeliest"] == 0) | (shown["likeliest"] >= small_group)
    ax.plot(
        shown["likeliest"][told],
        rows[told],
        "D",
        color="white",
        markeredgecolor=INK,
        markersize=7,
        label=words("expected.likeliest"),
        zorder=4,
        clip_on=False,
    )
    ax.set_yticks(rows, words.names("stage", shown["life_stage"]))
    ax.set_xlim(left=0)
    ax.locator_params(axis="x", nbins=5)
    ax.xaxis.set_major_formatter(words.format.axis("count"))
    ax.set_xlabel(words("expected.x"))
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.24), ncols=2, handletextpad=0.5)
    ax.set_title(words("expected.title", **expected_facts(table, small_group)))
    return fig


def expected_facts(table: pd.DataFrame, small_group: int) -> dict[str, object]:
    """What the words of the expected figure say: fading (expected share in decline or ended), low, high, stages (shown)."""
    fading = table[table["life_stage"].isin(["decline", "ended"])]
    shown = bool((fading["expected"] >= small_group).all()) and len(fading) > 0
    return {
        "fading": float(fading["share"].sum()) if shown else None,
        "stages": int((table["expected"] >= small_group).sum()),
    }


def moves_figure(matrix: TransitionMatrix, small_group: int, period: str, words: Words) -> Figure:
    """Heat map of the shares that moved from stage to stage; hidden cells carry a dash.

    Parameters
    ----------
    matrix : TransitionMatrix. small_group : least customers in a shown cell. period : length of a period in words.
    """
    shown = hide_in_rows(matrix.counts, small_group)
    total = matrix.counts.sum(axis=1)
    rows = [s for s in matrix.counts.index if total[s] >= small_group]
    share = shown.loc[rows].div(total[rows], axis=0)
    fig, ax = new_figure(height=1.9 + 0.62 * max(len(rows), 1), grid="none")
    ax.imshow(np.nan_to_num(share.to_numpy(float)), cmap=_BLUES, vmin=0, vmax=1, aspect="auto")
    for i, before in enumerate(rows):
        for j, after in enumerate(share.columns):
            value = share.loc[before, after]
            text = "–" if np.isnan(value) else words.format.share(value, 0)
            dark = np.nan_to_num(value) > 0.45
            ax.text(j, i, text, ha="center", va="center", fontsize=11.5, color="white" if dark else INK)
    ax.set_xticks(range(len(share.columns)), words.names("stage", share.columns), fontsize=10.5)
    ax.set_yticks(range(len(rows)), words.names("stage", rows))
    ax.set_xlabel(words("moves.x", period=period))
    ax.set_ylabel(words("moves.y"))
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(words("moves.title", **moves_facts(matrix, small_group)))
    return fig


def moves_facts(matrix: TransitionMatrix, small_group: int) -> dict[str, object]:
    """What the words of the moves figure say: stays (share of all who were in the same stage a period later), n, back (share of
    the ended who came back, None where hidden), periods.
    """
    n = int(matrix.counts.to_numpy().sum())
    back = matrix.came_back
    ended = matrix.counts.loc["ended"] if "ended" in matrix.counts.index else pd.Series(dtype=float)
    returned = ended.sum() - ended.get("ended", 0)
    told = ended.sum() >= small_group and (returned == 0 or small_group <= returned <= ended.sum() - small_group)
    return {
        "stays": float(np.diag(matrix.counts).sum() / n) if n >= small_group else None,
        "n": n,
        "back": back.value if told else None,
        "periods": matrix.periods,
    }


def next_figure(table: pd.DataFrame, small_group: int, words: Words) -> Figure:
    """Share of each stage that bought in the next period, and spend a customer, with intervals.

    Parameters
    ----------
    table : frame of ``next_period``. small_group : stages of fewer customers are left out.
    """
    shown = table[table["customers"] >= small_group].reset_index(drop=True)
    fig, axes = new_figure(height=1.9 + 0.5 * max(len(shown), 1), grid="x", ncols=2, sharey=True)
    rows = np.arange(len(shown))[::-1]
    for ax, value, unit in zip(axes, ("buying", "spend"), ("share", "money"), strict=True):
        ends = np.abs(np.vstack([shown[value] - shown[f"{value}_low"], shown[f"{value}_high"] - shown[value]]))
        ax.errorbar(shown[value], rows, xerr=np.nan_to_num(ends), fmt="o", color=HERO, markersize=8, linewidth=2.2)
        ax.set_xlim(min(0.0, float(shown[f"{value}_low"].min())) if len(shown) else 0, None)
        ax.xaxis.set_major_formatter(words.format.axis(unit))
        ax.locator_params(axis="x", nbins=4)
        ax.set_xlabel(words(f"next.{value}"), fontsize=11)
        ax.set_ylim(-0.6, len(shown) - 0.4)
    axes[0].set_yticks(rows, words.names("stage", shown["life_stage"]))
    facts = validity_facts(table, small_group)
    named = {k: words.name("stage", facts[k]) if facts[k] else None for k in ("best", "worst")}
    fig.suptitle(words("next.title", **facts | named), x=0.01, ha="left", fontsize=14, fontweight="bold", wrap=True)
    return fig


def alluvial_figure(found: Migration, small_group: int, words: Words) -> Figure:
    """Flows from last period's groups (left) to this period's (right), as wide as they hold customers.

    Rising flows are blue, new and returning ones green, falling and lapsing ones orange; flows of a few are left out.

    Parameters
    ----------
    found : Migration. small_group : least customers in a flow that is drawn.
    """
    flows = found.shown_flows(small_group)
    fig, ax = new_figure(height=5.4, grid="none")
    ax.set_title(words("migration.title", **migration_facts(found, small_group)))
    ax.set(xlim=(-0.42, 1.34), ylim=(0, 1))
    ax.axis("off")
    if flows.empty:
        return fig
    # Heaviest on top on both sides, so that a flow that rises means more buying.
    sides = [("before", 0.0, BEFORE), ("after", 1.0, GROUPS)]
    total, gap = float(flows["customers"].sum()), 0.035
    moving = found.flows[found.flows["movement"] != "absent"]
    # A group is counted only where none of its flows is hidden.
    whole = {side: moving.groupby(side)["customers"].sum() for side, _, _ in sides}
    edges: dict[tuple[str, str], float] = {}
    for side, x, order in sides:
        sums = flows.groupby(side)["customers"].sum()
        there = [g for g in _stack(order) if g in sums.index]
        unit = (0.93 - gap * (len(there) - 1)) / total
        top = 0.94
        for group in there:
            height = unit * sums[group]
            ax.add_patch(Rectangle((x - 0.025 if x else x - 0.035, top - height), 0.06, height, color=INK, linewidth=0))
            edges[side, group] = top
            label = words.name("group", group)
            if sums[group] == whole[side].get(group, 0):
                label += f"\n{words.format.count(sums[group])}"
            at = (x - 0.05, "right") if x == 0.0 else (x + 0.05, "left")
            ax.text(at[0], top - height / 2, label, ha=at[1], va="center", fontsize=11.5, linespacing=1.15)
            top -= height + gap
    rank = {g: i for i, g in enumerate(_stack(BEFORE))}
    units = {side: (0.93 - gap * (flows[side].nunique() - 1)) / total for side, _, _ in sides}
    left, right = dict(edges), dict(edges)
    ordered = flows.assign(a=flows["before"].map(rank), b=flows["after"].map(rank))
    starts = {
        row.Index: _take(left, ("before", row.before), units["before"] * row.customers)
        for row in ordered.sort_values(["a", "b"]).itertuples()
    }
    ends = {
        row.Index: _take(right, ("after", row.after), units["after"] * row.customers)
        for row in ordered.sort_values(["b", "a"]).itertuples()
    }
    for row in flows.itertuples():
        ribbon = _ribbon(
            0.035,
            starts[row.Index],
            units["before"] * row.customers,
            0.965,
            ends[row.Index],
            units["after"] * row.customers,
        )
        strong = row.movement != "same"
        ax.add_patch(
            PathPatch(ribbon, facecolor=_FLOW_COLOURS[row.movement], alpha=0.62 if strong else 0.4, linewidth=0)
        )
    ax.text(0.0, 0.985, words("migration.before"), ha="center", color=QUIET, fontsize=12)
    ax.text(1.0, 0.985, words("migration.after"), ha="center", color=QUIET, fontsize=12)
    return fig


def _stack(order: tuple[str, ...]) -> list[str]:
    """From the top down: heavy, medium, light, none, new."""
    return [g for g in ("heavy", "medium", "light", "none", "new") if g in order]


def _take(tops: dict[tuple[str, str], float], key: tuple[str, str], height: float) -> float:
    top = tops[key]
    tops[key] = top - height
    return top


def _ribbon(x0: float, top0: float, height0: float, x1: float, top1: float, height1: float) -> Path:
    middle = (x0 + x1) / 2
    points = [
        (x0, top0), (middle, top0), (middle, top1), (x1, top1),
        (x1, top1 - height1), (middle, top1 - height1), (middle, top0 - height0), (x0, top0 - height0), (x0, top0),
    ]  # fmt: skip
    curve = [Path.CURVE4] * 3
    return Path(points, [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])


def movement_money_figure(found: Migration, small_group: int, words: Words) -> Figure:
    """Money of the last period, what each movement added or took away, and money of this period: a waterfall.

    Parameters
    ----------
    found : Migration. small_group : movements of fewer customers are joined.
    """
    table = found.shown(small_group)
    fig, ax = new_figure(height=1.6 + 0.5 * (len(table) + 2), grid="x")
    names = ["\n+ ".join(words.names("movement", m.split(JOIN))) for m in table["movement"]]
    labels = [words("migration.before"), *names, words("migration.after")]
    rows = np.arange(len(labels))[::-1]
    reached = float(found.previous) + np.concatenate([[0.0], np.cumsum(table["change"])])
    widths = np.concatenate([[float(found.previous)], table["change"], [float(found.current)]])
    begins = np.concatenate([[0.0], reached[:-1], [0.0]])
    colours = [MUTED, *np.where(table["change"] >= 0, HERO, SECOND), MUTED]
    ax.barh(rows, widths, left=begins, height=0.6, color=colours)
    low, high = min(0.0, *(begins + np.minimum(widths, 0))), max(begins + np.maximum(widths, 0))
    span = (high - low) or 1.0
    for row, begin, width, total in zip(rows, begins, widths, [True, *[False] * len(table), True], strict=True):
        sign = "" if total or width <= 0 else "+"
        ax.text(
            max(begin, begin + width) + 0.015 * span,
            row,
            sign + words.format.money(width),
            va="center",
            fontsize=11.5,
            color=INK,
        )
    ax.set_xlim(low, high + 0.26 * span)
    ax.set_yticks(rows, labels)
    ax.xaxis.set_major_locator(NullLocator())
    ax.spines["bottom"].set_visible(False)
    ax.set_title(words("movement_money.title", **migration_facts(found, small_group)))
    return fig


def chance_figure(found: Migration, small_group: int, words: Words) -> Figure:
    """Each move between groups: the range that a base without change would show, and what was observed.

    Parameters
    ----------
    found : Migration with a ``chance``. small_group : cells of fewer customers are hidden, and so are groups.
    """
    table = found.shown_chance(small_group)
    groups = [g for g in _stack(GROUPS) if (table["before"] == g).any()]
    fig, axes = new_figure(
        height=1.7 + 1.3 * max(len(groups), 1), grid="x", nrows=max(len(groups), 1), sharex=True, squeeze=False
    )
    for ax, before in zip(axes[:, 0], groups, strict=False):
        part = table[table["before"] == before].set_index("after")
        part = part.loc[_stack(GROUPS)]
        total, rows = float(part["total"].iloc[0]), np.arange(len(part))[::-1]
        ax.hlines(rows, part["low"] / total, part["high"] / total, color=MUTED, linewidth=7)
        seen = part["customers"].to_numpy(float)
        beyond = (part["beyond"] != "").to_numpy() & np.isfinite(seen)
        for mask, colour in ((beyond, SECOND), (~beyond, HERO)):
            ax.plot(seen[mask] / total, rows[mask], "o", color=colour, markersize=7)
        ax.set_yticks(rows, words.names("group", part.index), fontsize=10.5)
        ax.set_ylim(-0.6, 3.6)
        ax.set_title(words("chance.panel", group=words.name("group", before), n=int(total)), fontsize=11.5, pad=4)
    axes[-1, 0].xaxis.set_major_formatter(words.format.axis("share"))
    axes[-1, 0].set_xlim(left=0)
    axes[-1, 0].set_xlabel(words("chance.x"))
    fig.suptitle(
        words("chance.title", **chance_facts(found, small_group)),
        x=0.01,
        ha="left",
        fontsize=14,
        fontweight="bold",
        wrap=True,
    )
    return fig


def states_figure(table: pd.DataFrame, rates: np.ndarray, small_group: int, period: str, words: Words) -> Figure:
    """How the customers of each stage spread over the hidden states, as shares of the stage; hidden cells carry a dash.

    Parameters
    ----------
    table : counts of ``state_agreement``. rates : purchases a period of each state. period : its length in words.
    """
    shown = hide_in_rows(table, small_group)
    total = table.sum(axis=1)
    rows = [s for s in shown.index if total[s] >= small_group]
    fig, ax = new_figure(height=2.0 + 0.55 * max(len(rows), 1), grid="none")
    share = shown.loc[rows].div(total[rows], axis=0)
    ax.imshow(np.nan_to_num(share.to_numpy(float)), cmap=_BLUES, vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(share.to_numpy(float)):
        for j, value in enumerate(row):
            text = "–" if np.isnan(value) else words.format.share(value, 0)
            ax.text(j, i, text, ha="center", va="center", color="white" if np.nan_to_num(value) > 0.45 else INK)
    ax.set_xticks(range(len(share.columns)), [words.format.number(rates[s - 1], 1) for s in share.columns])
    ax.set_yticks(range(len(rows)), words.names("stage", rows))
    ax.set_xlabel(words("states.x", period=period))
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(words("states.title", n=len(rates)))
    return fig
