"""The pictures of high potential and of prospects: frames in, figures out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.reporting.theme import PALETTE, QUIET, new_figure
from analysis.segmentation.high_potential import METHODS, MODEL, RFM, AtAge
from analysis.segmentation.prospects import Lookalikes
from analysis.segmentation.words import Words

_COLOURS = {MODEL: PALETTE[0], RFM: PALETTE[1], METHODS[0]: PALETTE[2]}
_MARKERS = {MODEL: "o", RFM: "s", METHODS[0]: "^"}


def decile_lift_figure(at: AtAge, words: Words) -> Figure:
    """Lift by tenths of the tested customers, the model beside the RFM score, with intervals."""
    fig, ax = new_figure(height=4.2)
    ax.axhline(1.0, color=QUIET, linestyle="--", linewidth=1.2)
    for method, shift in ((MODEL, -0.12), (RFM, 0.12)):
        part = at.lifts.by_decile[at.lifts.by_decile["method"] == method]
        _points(ax, part["decile"] + shift, part["lift"], part["low"], part["high"], method, words)
    ax.set_xticks(np.arange(1, 11))
    ax.set_ylim(bottom=0)
    ax.set_xlabel(words("potential_lift.x", age=at.age))
    ax.set_ylabel(words("potential_lift.y"))
    ax.yaxis.set_major_formatter(words.format.axis("number"))
    ax.legend(loc="upper right")
    ax.set_title(words("potential_lift.title", **lift_facts(at)))
    return fig


def lift_facts(at: AtAge) -> dict[str, object]:
    """What the title, alt text and caption of the lift figure say: age, lift, rfm, verdict (against the RFM score)."""
    return {
        "age": at.age,
        "lift": at.lift(MODEL).value,
        "rfm": at.lift(RFM).value,
        "verdict": at.against(RFM)[1],
    }


def calibration_figure(at: AtAge | Lookalikes, words: Words) -> Figure:
    """What was foreseen against what came, by equal groups of the tested customers, with Wilson's intervals."""
    table = at.calibration.table
    fig, ax = new_figure(height=4.4, grid="both")
    limit = 1.06 * float(max(table["high"].max(), table["predicted"].max(), 0.05))
    ax.plot([0, limit], [0, limit], color=QUIET, linestyle="--", linewidth=1.2)
    error = np.maximum([table["observed"] - table["low"], table["high"] - table["observed"]], 0.0)
    ax.errorbar(table["predicted"], table["observed"], error, fmt="o", color=PALETTE[0], elinewidth=1.6, capsize=3)
    ax.set(xlim=(0, limit), ylim=(0, limit))
    ax.xaxis.set_major_formatter(words.format.axis("share"))
    ax.yaxis.set_major_formatter(words.format.axis("share"))
    ax.set_xlabel(words("potential_calibration.x"))
    ax.set_ylabel(words("potential_calibration.y"))
    error = at.calibration.error
    ax.set_title(words("potential_calibration.title", error=error.value if error.low is not None else None))
    return fig


def bands_figure(found: Lookalikes, words: Words) -> Figure:
    """Share of the best among tested customers in each band of resemblance, with Wilson's intervals."""
    table = found.bands
    fig, ax = new_figure(height=3.8)
    ax.axhline(found.top_share, color=QUIET, linestyle="--", linewidth=1.2)
    at = np.arange(len(table))
    error = np.maximum([table["observed"] - table["low"], table["high"] - table["observed"]], 0.0)
    ax.errorbar(at, table["observed"], error, fmt="o", color=PALETTE[0], elinewidth=1.8, capsize=3)
    ax.set_xticks(at, table["band"].astype(str))
    ax.set_xlim(-0.5, len(table) - 0.5)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(words.format.axis("share"))
    ax.set_xlabel(words("prospect_bands.x"))
    ax.set_ylabel(words("prospect_bands.y"))
    ax.set_title(words("prospect_bands.title", **bands_facts(found)))
    return fig


def bands_facts(found: Lookalikes) -> dict[str, object]:
    """What the words of the bands figure say: first and last (share of the best), top_share, bands, tells."""
    return {
        "first": float(found.bands["observed"].iloc[0]),
        "last": float(found.bands["observed"].iloc[-1]),
        "top_share": found.top_share,
        "bands": len(found.bands),
        "tells": found.tells,
    }


def _points(
    ax: Axes, at: np.ndarray, value: pd.Series, low: pd.Series, high: pd.Series, method: str, words: Words
) -> None:
    error = np.maximum([value - low, high - value], 0.0)
    label = words.name("method", method)
    ax.errorbar(at, value, error, fmt=_MARKERS[method], color=_COLOURS[method], elinewidth=1.6, capsize=3, label=label)
