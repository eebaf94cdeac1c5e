"""The figure of the season: results in, Figure out."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import PALETTE, QUIET, new_figure
from analysis.valuation.seasonality import Seasonality, season_facts


def season_title(found: Seasonality, fmt: Formatter, customers: str = "customers") -> str:
    """The finding of :func:`season_factor` in one line."""
    facts = season_facts(found, fmt)
    if not found.found:
        return "No season can be told from chance"
    return f"In {facts['peak']} {customers} buy {fmt.number(facts['factor'], 2)} times as often as on average"


def season_factor(found: Seasonality, fmt: Formatter, customers: str = "customers") -> Figure:
    """How often customers buy in each month against the year's average, with ranges that hold together."""
    fig, ax = new_figure(height=4.2)
    months = found.months
    error = np.array([months["factor"] - months["low"], months["high"] - months["factor"]])
    ax.errorbar(months["month"], months["factor"], yerr=error, fmt="o", color=PALETTE[0], elinewidth=1.8, capsize=3)
    ax.axhline(1.0, color=QUIET, linewidth=1.2, linestyle="--")
    names = fmt.locale.months["stand-alone"]["abbreviated"]
    ax.set_xticks(months["month"], [names[m] for m in months["month"]])
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(fmt.axis("ratio"))
    ax.set(xlabel="Month", ylabel="Purchases, average of the year = 1")
    ax.set_title(season_title(found, fmt, customers))
    return fig
