"""The figure of traits: results in, Figure out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import PALETTE, QUIET, new_figure
from analysis.valuation.covariate_effects import CovariateEffects, clearest, words_of

_MOST_ROWS = 14  # levels that a phone shows; of more, those that differ most
_SIDE_WORDS = {"rate": "buys", "dropout": "leaves"}
_TICKS = np.array([0.1, 0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0, 10.0])


def covariate_title(found: CovariateEffects, fmt: Formatter, customers: str = "customers") -> str:
    """The finding of :func:`covariate_ratios` in one line."""
    for side, verb, how in (("rate", "buy", "often"), ("dropout", "leave", "readily")):
        row = clearest(found.effects, side)
        if row is not None:
            group = f"{words_of(row['trait']).capitalize()} {row['level']}"
            return f"{group}: {customers} {verb} {fmt.number(row[side], 2)} times as {how} as with {row['against']}"
    return f"No group of {customers} differs from the largest beyond chance"


def covariate_ratios(found: CovariateEffects, fmt: Formatter, customers: str = "customers") -> Figure:
    """Ratios of the buying rate, and of leaving where it is told, to the largest group of each trait, with intervals.

    Parameters
    ----------
    found : CovariateEffects
    fmt : Formatter
    customers : str
        What the study calls its customers.
    """
    effects = found.effects
    shown = effects["rate_p"].nsmallest(_MOST_ROWS).index
    rows: list[tuple[str, pd.Series | None]] = []
    for trait, part in effects.groupby("trait", sort=False):
        if part.index.isin(shown).any():
            rows.append((words_of(trait).capitalize(), None))
            rows.extend((row["level"], row) for k, row in part.iterrows() if row["reference"] or k in shown)
    told = pd.DataFrame([row for _, row in rows if row is not None])
    at = np.array([k for k, (_, row) in enumerate(rows) if row is not None])
    fig, ax = new_figure(height=2.2 + 0.34 * len(rows), grid="x")
    ax.axvline(1.0, color=QUIET, linewidth=1.2, linestyle="--")
    ends = []
    for k, side in enumerate(found.sides):
        value, low, high = (told[f"{side}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        low, high = np.where(told["reference"], 1.0, low), np.where(told["reference"], 1.0, high)
        apart = 0.32 * (k - (len(found.sides) - 1) / 2)
        error = [value - low, high - value]
        ax.errorbar(value, at + apart, xerr=error, fmt="os"[k], color=PALETTE[k], capsize=3, label=_SIDE_WORDS[side])
        ends += [low.min(), high.max()]
    limits = min(*ends, 0.8) * 0.95, max(*ends, 1.25) * 1.05
    ticks = _TICKS[(limits[0] <= _TICKS) & (limits[1] >= _TICKS)]
    ax.set(xscale="log", xlim=limits, xlabel="Ratio to the largest group of each trait")
    ax.set_xticks(ticks, [fmt.number(tick, 1) for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks(range(len(rows)), [words for words, _ in rows])
    for label, (_, row) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if row is not None else "bold")
    ax.invert_yaxis()
    ax.legend(loc="upper center", bbox_to_anchor=(0.3, -0.12 - 0.4 / len(rows)), ncols=2)
    ax.set_title(covariate_title(found, fmt, customers))
    return fig
