"""The pictures of the tiers by scores and by expected value: frames in, figures out, every title a finding."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.reporting.theme import INK, PALETTE, QUIET, new_figure
from analysis.segmentation.tier_contest import BEST_SHARE, RFM, VALUE, TierTest
from analysis.segmentation.value_tiers import agreement_told, crossed_tiers, shown_cells
from analysis.segmentation.words import Words

_BLUES = LinearSegmentedColormap.from_list("quiet to hero", ["#eef4f8", "#8fbcd4", PALETTE[0], "#063c55"])
_LIGHT_TEXT_ABOVE = 0.45


def crossed_figure(customers: pd.DataFrame, small_group: int, words: Words) -> Figure:
    """Customers by tier of R×F×M (rows) and tier by expected value (columns), as a heat map with counts.

    Parameters
    ----------
    customers : value_tier, expected_tier.
    small_group : smaller cells, and those that totals would tell, are left blank with a dash.
    words : for the names and the title.
    """
    cells = shown_cells(customers, small_group)
    fig, ax = new_figure(height=max(2.6, 1.9 + 0.72 * len(cells)), grid="none")
    counts = cells.to_numpy(dtype=float)
    total, highest = len(customers), max(np.nanmax(counts, initial=0.0), 1.0)
    if counts.size:
        ax.imshow(counts, cmap=_BLUES, vmin=0, vmax=highest, aspect="auto")
    for row, column in np.ndindex(counts.shape):
        count = counts[row, column]
        dark = np.isfinite(count) and count / highest > _LIGHT_TEXT_ABOVE
        text = (
            f"{words.format.count(int(count))}\n{words.format.share(count / total, 0)}" if np.isfinite(count) else "–"
        )
        colour = "white" if dark else INK if np.isfinite(count) else QUIET
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=11.5)
    ax.set_xticks(range(len(cells.columns)), _broken(words.names("tier", cells.columns)))
    ax.set_yticks(range(len(cells)), _broken(words.names("tier", cells.index)))
    ax.set_xlabel(words("crossed.x"))
    ax.set_ylabel(words("crossed.y"))
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(words("crossed.title", **crossed_facts(customers, small_group)))
    return fig


def crossed_facts(customers: pd.DataFrame, small_group: int) -> dict[str, Any]:
    """What the words of the heat map say: ``same``, the share of customers on the diagonal (None where it is hidden)."""
    cells = crossed_tiers(customers).to_numpy()
    return {"same": float(np.trace(cells) / cells.sum()) if agreement_told(cells, small_group) else None}


def capture_figure(found: TierTest, words: Words) -> Figure:
    """What the best and the last fifth by each brought of the tested weeks, with 95 % intervals, beside a fifth by lot.

    Parameters
    ----------
    found : from :func:`analysis.segmentation.tier_test`.
    words : for the names and the title.
    """
    fig, ax = new_figure(height=3.7, grid="x")
    table = found.contest.captures
    places = {("best", VALUE): 3.4, ("best", RFM): 2.6, ("last", VALUE): 1.4, ("last", RFM): 0.6}
    for method, colour in ((VALUE, PALETTE[0]), (RFM, PALETTE[1])):
        rows = table[table["method"] == method]
        at = np.array([places[part, method] for part in rows["part"]])
        share = rows["share"].to_numpy(dtype=float)
        known = rows["low"].notna().to_numpy()
        ax.barh(at, share, height=0.66, color=colour, label=words(f"capture.{method}"))
        reach = np.abs(np.vstack([share - rows["low"], rows["high"] - share]))[:, known]
        ax.errorbar(share[known], at[known], xerr=reach, fmt="none", ecolor=INK, elinewidth=1.6, capsize=4)
        ends = np.where(known, rows["high"].to_numpy(dtype=float), share)
        for x, y, value in zip(np.maximum(ends, 0.0), at, share, strict=True):
            ax.annotate(
                words.format.share(value), (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=11.5
            )
    ax.axvline(BEST_SHARE, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.annotate(
        words("capture.lot"), (BEST_SHARE, 2.0), xytext=(5, 0), textcoords="offset points", va="center", color=QUIET
    )
    ax.set_yticks([3.0, 1.0], [words("capture.best"), words("capture.last")])
    top = np.nanmax(table[["share", "high"]].to_numpy(dtype=float))
    ax.set_xlim(min(0.0, 1.1 * float(table["share"].min())), max(1.18 * top, 0.3))
    ax.xaxis.set_major_formatter(words.format.axis("share"))
    ax.set_xlabel(words("capture.x", kind=found.measure, weeks=found.weeks))
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.24), ncols=2, columnspacing=1.2, handletextpad=0.5)
    ax.set_title(words("capture.title", **capture_facts(found)))
    return fig


def capture_facts(found: TierTest) -> dict[str, Any]:
    """What the words of the bars say.

    Returns
    -------
    winner ("rfm", "value" or "tie"; None without an interval), value_share, rfm_share, kind, weeks.
    """
    best = found.contest.captures.query("part == 'best'").set_index("method")["share"]
    return {
        "winner": None if found.contest.difference["best"].low is None else found.contest.winner,
        "value_share": float(best[VALUE]),
        "rfm_share": float(best[RFM]),
        "kind": found.measure,
        "weeks": found.weeks,
    }


def _broken(names: list[str]) -> list[str]:
    return [fill(name, 11) for name in names]
