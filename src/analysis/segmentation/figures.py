"""The pictures of the segmentation notebook: frames in, figures out, every title a finding."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.reporting.theme import INK, PALETTE, QUIET, new_figure
from analysis.segmentation.clusters import STABLE, Segments
from analysis.segmentation.words import Words

HERO, SECOND, MUTED = PALETTE[0], PALETTE[1], PALETTE[4]


def tiers_figure(table: pd.DataFrame, words: Words) -> Figure:
    """Share of customers beside share of sales, a pair of bars a tier.

    Parameters
    ----------
    table : frame of ``tier_table``, small groups merged: value_tier, share_customers, share_sales.
    """
    fig, ax = new_figure(height=1.6 + 0.95 * max(len(table), 1))
    rows = np.arange(len(table))[::-1]
    for shift, column, colour in ((0.2, "share_customers", MUTED), (-0.2, "share_sales", HERO)):
        label = words(f"axis_{column}")
        bars = ax.barh(rows + shift, table[column], height=0.36, color=colour, label=label)
        ax.bar_label(bars, [words.format.share(v) for v in table[column]], padding=4, color=INK, fontsize=11.5)
    ax.set_yticks(rows, _broken(words.names("tier", table["value_tier"])))
    ax.set_xlim(0, 1.16 * max(table[["share_customers", "share_sales"]].max().max(), 0.01) if len(table) else 1)
    _plain_bars(ax)
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.02), ncols=2)
    ax.set_title(words("tiers.title", **top_row(table)))
    return fig


def top_row(table: pd.DataFrame) -> dict[str, object]:
    """What the title, the alt text and the caption of the tiers figure say: the shares of the protected tier."""
    protect = table[table["value_tier"] == "protect"] if len(table) else table
    if protect.empty:
        return {"share_customers": None, "share_sales": None, "tiers": len(table)}
    row = protect.iloc[0]
    return {
        "share_customers": float(row["share_customers"]),
        "share_sales": float(row["share_sales"]),
        "tiers": len(table),
    }


def stability_figure(segments: Segments, words: Words) -> Figure:
    """How well bootstrap partitions agree, by number of segments, with the middle 90 % of pairs and the number used."""
    table, used = segments.search.table, segments.search.n_clusters
    fig, ax = new_figure(height=3.8)
    chosen = (table["segments"] == used).to_numpy()
    mean = table["global_stability"].to_numpy()
    reach = np.abs(np.vstack([mean - table["stability_low"], table["stability_high"] - mean]))
    for mask, colour, label in ((~chosen, MUTED, "stability.tried"), (chosen, HERO, "stability.used")):
        ax.errorbar(
            table["segments"][mask],
            mean[mask],
            reach[:, mask],
            fmt="o",
            color=colour,
            capsize=0,
            markersize=9,
            linewidth=2.4,
            label=words(label),
        )
    ax.axhline(STABLE, color=SECOND, linewidth=1.4, linestyle=(0, (4, 3)), label=words("stability.threshold"))
    ax.set_xticks(table["segments"])
    ax.set_ylim(min(0.0, float(table["stability_low"].min()) - 0.05), 1.04)
    ax.set_xlabel(words("stability.x"))
    ax.set_ylabel(words("stability.y"))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, columnspacing=1.2, handletextpad=0.5)
    ax.set_title(words("stability.title", found=segments.search.found, used=used))
    return fig


def profile_figure(segments: Segments, words: Words) -> Figure:
    """Segment profile plot (Dolnicar, Grün & Leisch 2018): each mean against all customers, marker variables filled.

    The axis is the ratio to the mean of all customers, on a log scale, so that twice and half stand equally
    far from it.
    """
    table = segments.profiles[segments.profiles["basis"]]
    letters, features = list(segments.sizes["segment"]), list(segments.basis)
    columns = 2 if len(letters) == 4 else min(len(letters), 3)
    lines = -(-len(letters) // columns)
    fig, axes = new_figure(
        height=1.5 + lines * (0.75 + 0.34 * len(features)),
        nrows=lines,
        ncols=columns,
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    limit = float(np.clip(np.abs(np.log2(table["ratio"].clip(lower=0.02))).max() * 1.12, 0.6, 4.5))
    for ax, letter in zip(axes.flat, letters, strict=False):
        _profile_panel(ax, table[table["segment"] == letter].set_index("feature").loc[features], limit)
        size = segments.sizes.set_index("segment").loc[letter, "share_customers"]
        ax.set_title(words("profile.panel", segment=letter, share=float(size)), fontsize=12)
    for ax in axes.flat[len(letters) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(len(letters) - columns, 0) : len(letters)]:
        ax.tick_params(labelbottom=True)
    axes[0, 0].set_yticks(np.arange(len(features)), words.names("feature", features))
    axes[0, 0].invert_yaxis()
    fig.supxlabel(words("profile.x"), fontsize=12, color=QUIET)
    fig.suptitle(
        words("profile.title", found=segments.search.found, n=len(letters)),
        x=0.01,
        ha="left",
        fontsize=14,
        fontweight="bold",
    )
    return fig


def _profile_panel(ax: Axes, rows: pd.DataFrame, limit: float) -> None:
    where = np.clip(np.log2(rows["ratio"].clip(lower=0.02).to_numpy()), -limit, limit)
    place = np.arange(len(rows))
    marker = rows["marker"].to_numpy()
    ax.axvline(0, color=QUIET, linewidth=1)
    ax.hlines(place, 0, where, color=np.where(marker, HERO, MUTED).tolist(), linewidth=2)
    ax.scatter(where[~marker], place[~marker], s=42, facecolor="white", edgecolor=MUTED, linewidth=1.6, zorder=3)
    ax.scatter(where[marker], place[marker], s=52, color=HERO, zorder=3)
    ax.set_xlim(-limit, limit)
    step = next(t for t in (8, 4, 2, 1.5) if np.log2(t) <= limit)
    ticks = [1 / step, 1, step]
    ax.xaxis.set_major_locator(FixedLocator(list(np.log2(ticks))))
    ax.set_xticklabels(["1" if t == 1 else f"×{t:g}" if t > 1 else f"÷{1 / t:g}" for t in ticks])
    ax.grid(axis="y", visible=False)


def _broken(names: list[str]) -> list[str]:
    return [name.replace(" + ", " +\n") for name in names]


def _plain_bars(ax: Axes) -> None:
    ax.xaxis.set_major_locator(NullLocator())
    ax.grid(visible=False)
    ax.spines["bottom"].set_visible(False)
